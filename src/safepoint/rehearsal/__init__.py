"""The migrations carried out on a proven copy: what they take, lock, change, and whether they can be undone."""
