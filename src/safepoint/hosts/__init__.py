"""Where commands run: here, inside a Compose service, or over SSH."""
