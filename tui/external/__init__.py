"""Programs of the user's own, and the clipboard."""
