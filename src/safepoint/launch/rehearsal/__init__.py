"""The launch rehearsed on a copy of the data, and the rehearsals that were made."""
