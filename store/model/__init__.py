"""Plain data: what crosses every border of the store."""
