"""Quoted SQL identifiers."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return an SQL identifier for a name from a file, whatever characters are in it."""
    return '"' + name.replace('"', '""') + '"'
