"""From a path to archives: what is there, and which kind of it."""

from __future__ import annotations

import os
from pathlib import Path

from .archive import Archive
from .errors import NotAnArchive
from .powerloop.reader import open_powerloop

DEFAULT_NAME = "power_loop_sessions.db"


def usual_places() -> list[Path]:
    """Where agents keep their sessions unless told otherwise, whether or not anything is there."""
    return [Path(DEFAULT_NAME)]


def open_archive(place: str | os.PathLike[str]) -> list[Archive]:
    """The archives at `PATH` or `PATH#PREFIX`, one a layout; an existing path that contains `#` is taken as it is.

    Nothing is created or changed. Raises NotAnArchive where nothing of the kind is there, Busy where it is locked.
    """
    shown = os.path.expanduser(place)
    if "\0" in shown:
        raise NotAnArchive("a path cannot contain a NUL character.")
    before, prefix = _split(shown)
    path = Path(before)
    if os.path.isdir(path):
        if not os.path.isfile(path / DEFAULT_NAME):
            raise NotAnArchive(f"{path}: is a folder that holds no sessions (no {DEFAULT_NAME} in it).")
        path = path / DEFAULT_NAME
    return list(open_powerloop(path, prefix))


def _split(shown: str) -> tuple[str, str | None]:
    """The path and the prefix that `PATH#PREFIX` names; both may contain `#`, so the longest path that exists wins."""
    if os.path.lexists(shown) or "#" not in shown:
        return shown, None
    cuts = [at for at, letter in enumerate(shown) if letter == "#"]
    cut = next((at for at in reversed(cuts) if os.path.lexists(shown[:at])), cuts[-1])
    return shown[:cut], shown[cut + 1 :]
