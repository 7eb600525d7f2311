"""What is wrong in a database, and the edits that put it right."""
