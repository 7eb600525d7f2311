"""A note that could not be used stays in a file of the user's."""

from __future__ import annotations

import os
import tempfile


def keep_note(data: bytes) -> str:
    """The path of a new file, which only the user may read, that holds a note from now on. Raises OSError."""
    fd, path = tempfile.mkstemp(prefix="sessionscope-note-", suffix=".md")
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    return path
