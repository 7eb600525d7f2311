"""A folder of nanobot's session files as an `Archive`."""

from __future__ import annotations

import os
from datetime import tzinfo
from pathlib import Path

from sessionscope.store.model.archive_info import ArchiveInfo, Capability
from sessionscope.store.model.errors import NotAnArchive
from sessionscope.store.protocols import Actions, Stamp

from .format.clock import Clock
from .format.discovery import Folder, folders
from .read.listing import Listing
from .read.release import release_of
from .reader import NanobotReader
from .source import NanobotSource

CAPABILITIES = frozenset(Capability) - {Capability.ARCHIVE}
"""nanobot cannot archive a session."""
FORBIDDEN = "You do not have permission to write this folder of nanobot sessions."
"""Why a folder is read-only."""


def open_nanobot(path: Path, layout: str | None, zone: tzinfo | None) -> list[NanobotArchive]:
    """Return an archive for each folder of sessions that a path stands for, or only for the one with `layout`.

    Raises NotAnArchive if there is none, or none with that layout.
    """
    all_folders = folders(path)
    chosen = [folder for folder in all_folders if layout is None or folder.layout == layout]
    if not chosen:
        names = ", ".join(f"{path}#{folder.layout}" for folder in all_folders)
        raise NotAnArchive(f"{path}: has no sessions of {layout!r}; there is {names}.")
    return [NanobotArchive(folder, Clock(zone)) for folder in chosen]


class NanobotArchive:
    """One folder of session files. The methods are documented in `sessionscope.store.protocols.Archive`."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self.folder = folder
        self._source = NanobotSource(folder, clock)
        self._listing = Listing(folder, clock)
        self._format = release_of(folder)

    @property
    def info(self) -> ArchiveInfo:
        return ArchiveInfo(
            location=self.folder.path if self.folder.only is None else os.path.join(self.folder.path, self.folder.only),
            name=self.folder.name,
            format=self._format,
            layout=self.folder.layout,
            sessions="nanobot sessions",
            capabilities=CAPABILITIES,
            read_only="" if self._writable else FORBIDDEN,
            root=os.path.realpath(self.folder.path),
        )

    @property
    def actions(self) -> Actions | None:
        if not self._writable:
            return None
        # Imported here, since reading does not need it.
        from .actions import NanobotActions

        return NanobotActions(self.folder, self.reader)

    @property
    def _writable(self) -> bool:
        return os.access(self.folder.path, os.W_OK)

    def reader(self) -> NanobotReader:
        return NanobotReader(self._source, self._listing)

    def stamp(self) -> Stamp:
        return self._listing.stamp()

    @property
    def aside(self) -> str | None:
        """None: session files are read in place, without a private copy."""
        return None

    def close(self) -> None:
        """Do nothing, since there is no private copy to remove."""
