"""The twin: chosen, copied or kept level, on this server or on another one, and swapped in."""
