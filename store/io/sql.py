"""SQL text: identifiers in quotes."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return an SQL identifier for a name that a file holds, whatever characters are in it."""
    return '"' + name.replace('"', '""') + '"'
