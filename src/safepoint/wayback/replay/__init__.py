"""The spool carried back into the twin: staged, compacted, fitted, written, and accounted for."""
