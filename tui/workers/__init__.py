"""The bodies of background workers. Each posts its results as messages."""
