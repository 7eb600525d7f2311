"""The registration of the power-loop format: how a database is recognised, opened and examined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sessionscope.store.model.errors import StoreError
from sessionscope.store.model.findings import Finding
from sessionscope.store.protocols import Archive, Format, Zone

DEFAULT_NAME = "power_loop_sessions.db"
"""The file that power-loop writes in its working folder unless it is given a path."""
_MAGIC = b"SQLite format 3\0"
"""The first bytes of every SQLite database."""


def _detect(path: Path, head: bytes) -> Path | None:
    """Return the database at a path, or the default one in a folder; None if there is none."""
    if path.is_dir():
        default = path / DEFAULT_NAME
        return default if default.is_file() else None
    return path if head.startswith(_MAGIC) else None


def _open(path: Path, prefix: str | None, _zone: Zone) -> Sequence[Archive]:
    # Imported only when a database is opened: this module is loaded for archives of every format.
    from .archive import open_powerloop

    return open_powerloop(path, prefix)


def _examine(path: Path, archives: Sequence[Archive], error: StoreError | None) -> Iterator[Finding]:
    from .doctor import file_checks

    return file_checks.examine(path, archives, error)


POWER_LOOP = Format("power-loop databases", _detect, _open, lambda: (Path(DEFAULT_NAME),), _examine)
