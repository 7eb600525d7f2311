"""A folder of nanobot's session files as an `Archive`."""

from __future__ import annotations

import os
from datetime import tzinfo
from pathlib import Path

from sessionscope.store.archive import Stamp
from sessionscope.store.errors import NotAnArchive
from sessionscope.store.rows import ArchiveInfo, Ref

from .actions import NanobotActions
from .clock import Clock
from .lines import FileOutline
from .listing import Listing
from .places import Folder, folders
from .reader import NanobotReader
from .release import release_of

OUTLINES = 8
"""How many outlines of files are kept."""


def open_nanobot(path: Path, layout: str | None, zone: tzinfo | None) -> list[NanobotArchive]:
    """An archive for each folder of sessions that a path means, or for the one with `layout`.

    Raises NotAnArchive where there is none, or none of that layout.
    """
    found = folders(path)
    if layout is not None:
        names = ", ".join(f"{path}#{folder.layout}" for folder in found)
        found = [folder for folder in found if folder.layout == layout]
        if not found:
            raise NotAnArchive(f"{path}: has no sessions of {layout!r}; there is {names}.")
    return [NanobotArchive(folder, Clock(zone)) for folder in found]


class NanobotArchive:
    """One folder of session files."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.listing = Listing(folder, clock)
        self.outlines: dict[str, FileOutline] = {}
        """The outlines that were made last, by file. Shared: a worker makes those that the screen reads by."""
        self._format = release_of(folder)

    def keep(self, name: str, outline: FileOutline) -> None:
        """Keeps an outline for the next question about its file, and just the newest few of all."""
        others = [(known, one) for known, one in self.outlines.items() if known != name]
        self.outlines = dict([*others, (name, outline)][-OUTLINES:])

    @property
    def info(self) -> ArchiveInfo:
        return ArchiveInfo(
            location=self.folder.path if self.folder.only is None else os.path.join(self.folder.path, self.folder.only),
            name=self.folder.name,
            format=self._format,
            layout=self.folder.layout,
            capabilities=frozenset({"browse", "limits", "repair", "settle", "close", "compact"}),
            root=os.path.realpath(self.folder.path),
        )

    @property
    def actions(self) -> NanobotActions | None:
        return NanobotActions(self) if os.access(self.folder.path, os.W_OK) else None

    def file_of(self, ref: Ref) -> str | None:
        """The file of a session, None where it is gone."""
        return self.reader().file_of(ref)

    def reader(self) -> NanobotReader:
        return NanobotReader(self)

    def stamp(self) -> Stamp:
        return self.listing.stamp()

    @property
    def aside(self) -> str | None:
        """Never: reading a file needs no copy of it."""
        return None

    def close(self) -> None:
        """Nothing was put aside."""
