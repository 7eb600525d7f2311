"""Safe reads and writes of files, databases and lines, used by every format."""
