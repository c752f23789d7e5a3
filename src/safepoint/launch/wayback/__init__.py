"""The way back as launches have it: proven, kept level, followed, and where its twin is."""
