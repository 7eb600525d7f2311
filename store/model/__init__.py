"""Plain data that the store passes across its borders."""
