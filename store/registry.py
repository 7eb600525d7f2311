"""From a path to archives: what is there, and which kind of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path

from .model.errors import NotAnArchive
from .protocols import Archive

DEFAULT_NAME = "power_loop_sessions.db"
_SQLITE = b"SQLite format 3\0"
_NANOBOT = (Path(".nanobot", "workspace", "sessions"), Path(".nanobot", "sessions"))
Zone = Callable[[], tzinfo | None]


def machine_zone() -> None:
    """The time zone of the machine."""


def usual_places() -> list[Path]:
    """Where agents keep their sessions unless told otherwise, whether or not anything is there."""
    return [Path(DEFAULT_NAME), *(Path.home() / place for place in _NANOBOT)]


def open_archive(place: str | os.PathLike[str], zone: Zone = machine_zone) -> list[Archive]:
    """The archives at `PATH` or `PATH#PREFIX`, one a layout; an existing path that contains `#` is taken as it is.

    A path is a power-loop database or a folder that holds one, a folder of nanobot's session files, one such file, a
    workspace or nanobot's home. `zone` is asked where times are stored without one. Nothing is created or changed.
    Raises NotAnArchive where nothing of the kind is there, Busy where it is locked.
    """
    path, prefix = find_place(place)
    head = _beginning(path)
    if os.path.isdir(path) or (head is not None and head != _SQLITE and _is_session_file(path)):
        return _nanobot(path, prefix, zone)
    if head not in (None, b"", _SQLITE):
        raise NotAnArchive(f"{path}: is neither a SQLite database nor a session file of nanobot's.")
    from .powerloop.archive import open_powerloop

    return list(open_powerloop(path, prefix))


def find_place(place: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The file or folder that `PATH` or `PATH#PREFIX` means, and the prefix. Raises NotAnArchive for no path at all."""
    shown = os.path.expanduser(place)
    if "\0" in shown:
        raise NotAnArchive("a path cannot contain a NUL character.")
    before, prefix = _split(shown)
    path = Path(before)
    if os.path.isdir(path) and os.path.isfile(path / DEFAULT_NAME):
        path = path / DEFAULT_NAME
    return path, prefix


def _beginning(path: Path) -> bytes | None:
    """What a file begins with, by which SQLite knows its own; None where that cannot be read."""
    if not os.path.isfile(path):
        return None
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE))
    except OSError:
        return None


def _is_session_file(path: Path) -> bool:
    # Each kind of archive is imported where there is one.
    from .nanobot.format.places import is_session_file

    return is_session_file(path)


def _nanobot(path: Path, prefix: str | None, zone: Zone) -> list[Archive]:
    from .nanobot.archive import open_nanobot

    try:
        return list(open_nanobot(path, prefix, zone()))
    except PermissionError:
        raise NotAnArchive(f"{path}: you may not read this folder (permission denied).") from None


def _split(shown: str) -> tuple[str, str | None]:
    """The path and the prefix that `PATH#PREFIX` names; both may contain `#`, so the longest path that exists wins."""
    if os.path.lexists(shown) or "#" not in shown:
        return shown, None
    cuts = [at for at, letter in enumerate(shown) if letter == "#"]
    cut = next((at for at in reversed(cuts) if os.path.lexists(shown[:at])), cuts[-1])
    return shown[:cut], shown[cut + 1 :]
