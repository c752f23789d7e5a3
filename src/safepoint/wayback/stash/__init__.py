"""What a rollback could not carry, kept, and re-attached by the next launch."""
