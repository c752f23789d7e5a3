"""Where snapshots are kept: any fsspec URL."""
