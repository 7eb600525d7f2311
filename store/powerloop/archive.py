"""The `Archive` of a power-loop database: one for each layout in it."""

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
"""What the format offers; limits of the context belong to other formats."""
NOT_WRITABLE = "You do not have permission to write this power-loop database or its folder."
"""Why nothing may be changed if the file or its folder cannot be written."""
NOT_LOADABLE = "no release loads this layout: it was stamped as newer than it is"
"""The warning about a layout that is stamped as newer than it is."""


def open_powerloop(path: Path, prefix: str | None = None) -> list[PowerLoopArchive]:
    """Return an archive for each layout in a database, or for the one with `prefix`.

    Raises NotAnArchive if the file is not a power-loop database or has no such layout, Busy if it is locked.
    """
    file = SqliteFile(path)
    all_layouts, schema = file.read(lambda conn: (layouts(conn), schema_version(conn)))
    if not all_layouts:
        raise NoSessions(f"{path}: is a SQLite database, but holds no power-loop sessions that we know.")
    if prefix is None:
        show_prefix = len(all_layouts) > 1
        return [PowerLoopArchive(PowerLoopSource(file, layout, schema), show_prefix) for layout in all_layouts]
    for layout in all_layouts:
        if layout.prefix == prefix:
            return [PowerLoopArchive(PowerLoopSource(file, layout, schema), show_prefix=True)]
    names = ", ".join(f"{path}#{layout.prefix}" for layout in all_layouts)
    raise NotAnArchive(f"{path}: has no tables with prefix {prefix!r}; there is {names}.")


class PowerLoopArchive:
    """One layout of a power-loop database. Implements `Archive`."""

    def __init__(self, source: PowerLoopSource, show_prefix: bool) -> None:
        self.source = source
        self._show_prefix = show_prefix
        """Whether the archive's name needs the layout's prefix, because the file has several layouts."""

    @property
    def file(self) -> SqliteFile:
        return self.source.file

    @property
    def layout(self) -> Layout:
        return self.source.layout

    @property
    def info(self) -> ArchiveInfo:
        name = Path(self.file.shown).name
        if self._show_prefix:
            name += f"#{self.layout.prefix}"
        obstacle = reason(self.layout.obstacles)
        return ArchiveInfo(
            location=self.file.shown,
            name=name,
            format=f"power-loop {self.layout.release}",
            layout=self.layout.prefix,
            sessions="power-loop sessions",
            capabilities=CAPABILITIES,
            warning=NOT_LOADABLE if self.layout.stamped_too_new else obstacle or None,
            read_only=obstacle or ("" if self._writable else NOT_WRITABLE),
            root=self.file.path,
        )

    def reader(self) -> PowerLoopReader:
        return PowerLoopReader(self.source)

    @property
    def actions(self) -> Actions | None:
        if self.layout.obstacles or not self._writable:
            return None
        # Imported only when something is written: readers need none of it.
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
        """Return why a private copy is read instead of the file, None if the file itself is read."""
        return self.file.aside

    def close(self) -> None:
        self.file.close()
