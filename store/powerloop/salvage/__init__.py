"""Salvage: the readable rows of a damaged database, written into a new one."""
