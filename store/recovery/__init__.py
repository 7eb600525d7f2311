"""What is left of a damaged database, page by page and without SQLite, and the new database that it goes into."""
