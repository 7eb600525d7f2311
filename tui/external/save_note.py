"""Saving a note that could not be used, so that it is not lost."""

from __future__ import annotations

import os
import tempfile


def save_note(data: bytes) -> str:
    """Write a note to a new file that only the user may read, and return its path. Raises OSError."""
    fd, path = tempfile.mkstemp(prefix="sessionscope-note-", suffix=".md")
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    return path
