"""What was written since the launch, whose it was, and what became of it."""
