"""The commands: one file each, which parses, calls a room, and renders."""
