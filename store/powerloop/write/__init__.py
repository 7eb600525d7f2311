"""Writes to a database: compactions, closing, settling and repairs, and their undo."""
