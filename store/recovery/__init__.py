"""What can be read of a damaged database, page by page and without SQLite, and the new database for it."""
