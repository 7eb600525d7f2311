"""power-loop's session database, every release of it."""
