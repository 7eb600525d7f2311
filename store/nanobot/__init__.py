"""nanobot's session files: what is in them, and what its model would be sent."""
