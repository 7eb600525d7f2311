"""Changes of files: compactions, closing, repair, settling, and their undo."""
