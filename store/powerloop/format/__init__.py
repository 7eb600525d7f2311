"""The database file: its tables, the layouts of every release, and stored values."""
