"""A power-loop database as an `Archive`."""

from __future__ import annotations

import os
from pathlib import Path

from sessionscope.store.io.sqlitefile import SqliteFile
from sessionscope.store.model.archive_info import ArchiveInfo, Capability
from sessionscope.store.model.errors import NotAnArchive
from sessionscope.store.protocols import Actions, Stamp

from .format.layout import Layout, NoSessions, layouts, schema_version
from .format.obstacles import reason
from .reader import PowerLoopReader
from .source import PowerLoopSource

CAPABILITIES = frozenset(Capability) - {Capability.LIMITS}
FORBIDDEN = "You do not have permission to write this power-loop database or its folder."


def open_powerloop(path: Path, prefix: str | None = None) -> list[PowerLoopArchive]:
    """Return an archive for each layout in a database, or for the one with `prefix`.

    Raises NotAnArchive if the file is no power-loop database or has no such layout, Busy if it is locked.
    """
    file = SqliteFile(path)
    found, schema = file.read(lambda conn: (layouts(conn), schema_version(conn)))
    if not found:
        raise NoSessions(f"{path}: is a SQLite database, but holds no power-loop sessions that we know.")
    if prefix is not None:
        chosen = [layout for layout in found if layout.prefix == prefix]
        if not chosen:
            names = ", ".join(f"{path}#{layout.prefix}" for layout in found)
            raise NotAnArchive(f"{path}: has no tables with prefix {prefix!r}; there is {names}.")
        found = chosen
    many = len(found) > 1 or prefix is not None
    return [PowerLoopArchive(PowerLoopSource(file, layout, schema), many) for layout in found]


class PowerLoopArchive:
    """One layout of a power-loop database."""

    def __init__(self, source: PowerLoopSource, many: bool) -> None:
        self.source, self._many = source, many

    @property
    def file(self) -> SqliteFile:
        return self.source.file

    @property
    def layout(self) -> Layout:
        return self.source.layout

    @property
    def info(self) -> ArchiveInfo:
        poisoned = "no release loads this layout: it was stamped as newer than it is"
        obstacle = reason(self.layout.obstacles)
        return ArchiveInfo(
            location=self.file.shown,
            name=Path(self.file.shown).name + (f"#{self.layout.prefix}" if self._many else ""),
            format=f"power-loop {self.layout.release}",
            layout=self.layout.prefix,
            sessions="power-loop sessions",
            capabilities=CAPABILITIES,
            warning=poisoned if self.layout.poisoned else obstacle or None,
            read_only=obstacle or ("" if self._writable else FORBIDDEN),
            root=self.file.path,
        )

    def reader(self) -> PowerLoopReader:
        return PowerLoopReader(self.source)

    @property
    def actions(self) -> Actions | None:
        if self.layout.obstacles or not self._writable:
            return None
        # Imported only when something is written: a read needs none of it.
        from .actions import PowerLoopActions

        return PowerLoopActions(self.source)

    @property
    def _writable(self) -> bool:
        path = self.file.path
        return os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)

    def stamp(self) -> Stamp:
        return self.file.parts()

    @property
    def aside(self) -> str | None:
        """Why a private copy is read instead of the file, None if it is not."""
        return self.file.aside

    def close(self) -> None:
        self.file.close()
