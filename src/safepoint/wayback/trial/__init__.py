"""The way back tried on copies: the round trip of every row, and writes of every kind."""
