"""How a power-loop database is recognised, opened and examined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sessionscope.store.model.errors import StoreError
from sessionscope.store.model.findings import Finding
from sessionscope.store.protocols import Archive, Format, Zone

DEFAULT_NAME = "power_loop_sessions.db"
_MAGIC = b"SQLite format 3\0"


def _detect(path: Path, head: bytes) -> Path | None:
    default = path / DEFAULT_NAME
    if path.is_dir():
        return default if default.is_file() else None
    return path if head.startswith(_MAGIC) else None


def _open(path: Path, prefix: str | None, _zone: Zone) -> Sequence[Archive]:
    # Imported only once there is a database.
    from .archive import open_powerloop

    return open_powerloop(path, prefix)


def _examine(path: Path, archives: Sequence[Archive], error: StoreError | None) -> Iterator[Finding]:
    from .doctor import file_checks

    return file_checks.examine(path, archives, error)


POWER_LOOP = Format("power-loop databases", _detect, _open, lambda: (Path(DEFAULT_NAME),), _examine)
