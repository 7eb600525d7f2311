"""Salvage: what can be read of a damaged database, written into a new one."""
