"""The known formats, and how a path is recognised as an archive of one of them."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from .io.readable import check_readable
from .model.errors import NotAnArchive
from .nanobot.registration import NANOBOT
from .powerloop.registration import POWER_LOOP
from .protocols import Archive, Format, Zone, machine_zone

HEAD_BYTES = 4_096
"""How many bytes of a file a format's `detect` is given."""
_formats: list[Format] = [POWER_LOOP, NANOBOT]


class Located(Struct, frozen=True):
    """What a place means: the file or folder, the named layout, and the format, None if no format recognises it."""

    path: Path
    layout: str | None
    format: Format | None


def formats() -> tuple[Format, ...]:
    """Return the formats in the order in which they are asked."""
    return tuple(_formats)


def register(new: Format) -> None:
    """Add a format. It is asked before those that are known."""
    _formats.insert(0, new)


def usual_places() -> list[Path]:
    """Return where agents keep their sessions by default, whether or not anything is there."""
    return [place for known in _formats for place in known.usual_places()]


def open_archive(place: str | os.PathLike[str], zone: Zone = machine_zone) -> list[Archive]:
    """Open the archives at `PATH` or `PATH#PREFIX`, one for each layout.

    An existing path that contains `#` is taken as it is. A path is whatever a format recognises: a database, a folder
    of session files, one such file, or an agent's home. `zone` is called for archives that store times without a time
    zone. Nothing is created or changed. Raises NotAnArchive if no archive is there, Busy if it is locked.
    """
    return open_located(locate(place), zone)


def open_located(located: Located, zone: Zone) -> list[Archive]:
    """Open what a place means. Raises NotAnArchive, Damaged, Busy."""
    try:
        archives = list(located.format.open(located.path, located.layout, zone)) if located.format is not None else []
    except PermissionError:
        raise NotAnArchive(f"{located.path}: you may not read this folder (permission denied).") from None
    if not archives:
        known = ", ".join(one.archives for one in _formats)
        raise NotAnArchive(f"{located.path}: holds no sessions of a known format ({known}).")
    return archives


def locate(place: str | os.PathLike[str]) -> Located:
    """Return what `PATH` or `PATH#PREFIX` means. Raises NotAnArchive if nothing is there or it may not be read."""
    path, layout = find_path(place)
    head = b"" if os.path.isdir(path) else _beginning(path)
    try:
        for known in _formats:
            if (detected := known.detect(path, head)) is not None:
                return Located(detected, layout, known)
    except PermissionError:
        raise NotAnArchive(f"{path}: you may not read this folder (permission denied).") from None
    if not head and not os.path.isdir(path):
        raise NotAnArchive(f"{path}: is empty.")
    return Located(path, layout, None)


def find_path(place: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Return the path and the prefix that `PATH#PREFIX` names.

    Both may contain `#`, so the longest path that exists wins. Raises NotAnArchive for an empty path.
    """
    shown = os.path.expanduser(place)
    if "\0" in shown:
        raise NotAnArchive("a path cannot contain a NUL character.")
    if os.path.lexists(shown) or "#" not in shown:
        return Path(shown), None
    cuts = [at for at, letter in enumerate(shown) if letter == "#"]
    cut = next((at for at in reversed(cuts) if os.path.lexists(shown[:at])), cuts[-1])
    return Path(shown[:cut]), shown[cut + 1 :]


def _beginning(path: Path) -> bytes:
    check_readable(path, str(path))
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise NotAnArchive(f"{path}: cannot be read ({error.strerror or error}).") from None
