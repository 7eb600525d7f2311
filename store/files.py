"""Folders and files that only their owner can read."""

from __future__ import annotations

import os
import weakref
from pathlib import Path


class PrivateFolder:
    """A folder of mode 0700 that is gone when it is closed, forgotten, or when the process ends."""

    def __init__(self) -> None:
        # Rarely needed, and costlier to import than the rest of a read.
        import shutil
        import tempfile

        self.path = Path(tempfile.mkdtemp(prefix="sessionscope-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def close(self) -> None:
        """Removes the folder and what is in it. Idempotent."""
        self._remove()


def write_private(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600, making its folder (0700) if need be. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A link that somebody put there must not lead the write elsewhere; where the system has no such flag, so be it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        path.chmod(0o600)
        file.write(data)
