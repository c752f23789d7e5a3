"""The fence, the safe point, the twin, the capture, and the rollback over them."""
