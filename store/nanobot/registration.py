"""Registration of nanobot's format: how its folders are recognised and opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sessionscope.store.protocols import Archive, Format, Zone

_USUAL_FOLDERS = (Path(".nanobot", "workspace", "sessions"), Path(".nanobot", "sessions"))
"""Where nanobot keeps its sessions unless it is configured otherwise, in the user's home."""


def _detect(path: Path, head: bytes) -> Path | None:
    # Imported here, since opening another kind of archive does not need it.
    from .format.discovery import any_folder, is_session_file

    is_known = any_folder(path) if path.is_dir() else is_session_file(path)
    return path if is_known else None


def _open(path: Path, layout: str | None, zone: Zone) -> Sequence[Archive]:
    from .archive import open_nanobot

    return open_nanobot(path, layout, zone())


def _usual_places() -> Sequence[Path]:
    return tuple(Path.home() / folder for folder in _USUAL_FOLDERS)


NANOBOT = Format("nanobot session folders", _detect, _open, _usual_places)
