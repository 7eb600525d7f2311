"""Writes to session files: compactions, closing, repairs and settling, and their undo."""
