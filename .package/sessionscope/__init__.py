"""A terminal browser for the sessions that AI agents leave on disk, and the library below it.

`sessionscope.store` reads, writes and repairs the sessions; `sessionscope.tui` is the browser and the command line.
"""
