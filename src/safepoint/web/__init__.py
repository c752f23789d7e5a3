"""Mission control: the live page over the ledger (planned)."""
