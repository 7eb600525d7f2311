"""Rules without I/O that every format shares."""
