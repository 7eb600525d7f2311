"""The file: tables, layouts of every release, and stored values."""
