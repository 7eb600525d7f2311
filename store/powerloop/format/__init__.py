"""The file: tables, the layouts of every release, and stored values."""
