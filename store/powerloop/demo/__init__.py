"""The sample database of `sessionscope demo`."""
