"""The user's own programs, and the clipboard."""
