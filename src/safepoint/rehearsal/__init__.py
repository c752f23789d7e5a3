"""The launch carried out on a proven copy (planned)."""
