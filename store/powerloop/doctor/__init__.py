"""Findings in a database, and the edits that repair them."""
