"""The source of one layout: the database file and its tables, shared by readers and actions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from sessionscope.store.io.sqlitefile import SqliteFile
from sessionscope.store.model.errors import NotAnArchive

from .format.layout import Layout, layouts, schema_version

T = TypeVar("T")


class PowerLoopSource:
    """A database file and one layout in it. `schema` is the schema version that the layout was detected from."""

    def __init__(self, file: SqliteFile, layout: Layout, schema: int) -> None:
        self.file = file
        self.layout = layout
        self._schema = schema

    def probe(self, conn: sqlite3.Connection) -> None:
        """Detect the layout again if the schema version has changed: by a migration, or with another file.

        Raises NotAnArchive if the layout no longer exists.
        """
        version = schema_version(conn)
        if version == self._schema:
            return
        by_prefix = {layout.prefix: layout for layout in layouts(conn)}
        if self.layout.prefix not in by_prefix:
            raise NotAnArchive(f"{self.file.shown}: does not hold these sessions any more.")
        self.layout = by_prefix[self.layout.prefix]
        self._schema = version

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one burst of reads and return its result. `work` may run again if the file changed meanwhile."""

        def burst(conn: sqlite3.Connection) -> T:
            self.probe(conn)
            return work(conn)

        return self.file.read(burst)
