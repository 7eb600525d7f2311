"""Checks of a database, and the edits that repair it."""
