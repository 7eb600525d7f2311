"""The sample database that `sessionscope demo` writes."""
