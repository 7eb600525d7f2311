"""Sessions, messages, compactions and links, read from files."""
