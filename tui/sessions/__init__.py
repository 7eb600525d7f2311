"""The sessions of the open archives, and the one that is open."""
