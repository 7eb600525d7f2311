"""How a folder of nanobot's session files is recognised and opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sessionscope.store.protocols import Archive, Format, Zone

_USUAL = (Path(".nanobot", "workspace", "sessions"), Path(".nanobot", "sessions"))


def _detect(path: Path, head: bytes) -> Path | None:
    # Imported only once there is a file or folder to check.
    from .format.discovery import any_folder, is_session_file

    known = any_folder(path) if path.is_dir() else is_session_file(path)
    return path if known else None


def _open(path: Path, layout: str | None, zone: Zone) -> Sequence[Archive]:
    from .archive import open_nanobot

    return open_nanobot(path, layout, zone())


def _usual_places() -> Sequence[Path]:
    return tuple(Path.home() / place for place in _USUAL)


NANOBOT = Format("nanobot session folders", _detect, _open, _usual_places)
