"""Sessions, messages, compactions and links, read from a database."""
