"""Changes of a database: compactions, closing, settling, and their undo."""
