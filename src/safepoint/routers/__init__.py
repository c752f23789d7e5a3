"""What lets traffic through, holds it, or splits it."""
