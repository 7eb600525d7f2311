"""A power-loop database as an `Archive`."""

from __future__ import annotations

import os
from pathlib import Path

from sessionscope.store.io.sqlitefile import SqliteFile
from sessionscope.store.model.errors import NotAnArchive
from sessionscope.store.model.rows import ArchiveInfo
from sessionscope.store.protocols import Stamp

from .actions import PowerLoopActions
from .format.layout import Layout, layouts, schema_version
from .format.obstacles import reason
from .reader import PowerLoopReader
from .source import PowerLoopSource


def open_powerloop(path: Path, prefix: str | None = None) -> list[PowerLoopArchive]:
    """An archive for each layout in a database, or for the one with `prefix`.

    Raises NotAnArchive where the file is no power-loop database or has no such layout, Busy where it is locked.
    """
    file = SqliteFile(path)
    found, schema = file.read(lambda conn: (layouts(conn), schema_version(conn)))
    if not found:
        raise NotAnArchive(f"{path}: is a SQLite database, but holds no power-loop sessions that we know.")
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
        read_only = reason(self.layout.obstacles)
        return ArchiveInfo(
            location=self.file.shown,
            name=Path(self.file.shown).name + (f"#{self.layout.prefix}" if self._many else ""),
            format=f"power-loop {self.layout.release}",
            layout=self.layout.prefix,
            capabilities=frozenset({"browse", "repair", "settle", "close", "archive", "compact"}),
            warning=poisoned if self.layout.poisoned else read_only or None,
            read_only=read_only,
            root=self.file.path,
        )

    def reader(self) -> PowerLoopReader:
        return PowerLoopReader(self.source)

    @property
    def actions(self) -> PowerLoopActions | None:
        path = self.file.path
        writable = not self.layout.obstacles and os.access(path, os.W_OK) and os.access(os.path.dirname(path), os.W_OK)
        return PowerLoopActions(self.source) if writable else None

    def stamp(self) -> Stamp:
        return self.file.parts()

    @property
    def aside(self) -> str | None:
        """Why a private copy is read instead of the file, None while it is not."""
        return self.file.aside

    def close(self) -> None:
        self.file.close()
