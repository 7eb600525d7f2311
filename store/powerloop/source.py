"""One layout of a database file, shared by readers and actions: the file, and its tables as they are now."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from sessionscope.store.io.sqlitefile import SqliteFile
from sessionscope.store.model.errors import NotAnArchive

from .format.layout import Layout, layouts, schema_version

T = TypeVar("T")


class PowerLoopSource:
    """A database file and one layout in it. `schema` is the schema version that the layout was read from."""

    def __init__(self, file: SqliteFile, layout: Layout, schema: int) -> None:
        self.file, self.layout, self._schema = file, layout, schema

    def probe(self, conn: sqlite3.Connection) -> None:
        """Read the tables again if the schema has changed, by a later release or another file.

        Raises NotAnArchive if the layout no longer exists.
        """
        version = schema_version(conn)
        if version == self._schema:
            return
        found = {layout.prefix: layout for layout in layouts(conn)}
        if self.layout.prefix not in found:
            raise NotAnArchive(f"{self.file.shown}: does not hold these sessions any more.")
        self.layout, self._schema = found[self.layout.prefix], version

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one burst of reads. `work` may run again if the file changed meanwhile."""

        def burst(conn: sqlite3.Connection) -> T:
            self.probe(conn)
            return work(conn)

        return self.file.read(burst)
