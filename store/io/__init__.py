"""Files, databases and lines, read and written safely: what every format is built on."""
