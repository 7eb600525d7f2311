"""Taking back what was changed, row by row: each becomes what the bundle kept, unless somebody changed it meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from sessionscope.store.bundle import Kind, read_manifest
from sessionscope.store.errors import Misused, NotAnArchive, Refused
from sessionscope.store.plans import Action
from sessionscope.store.repair import Change, cut
from sessionscope.store.rows import Spot
from sessionscope.store.sqlitefile import BrokenText, decode_text, uri_of

from .edits import Edit, Touched, read_row, touched
from .layout import Layout

ROWS = "before.db"
"""The database in a bundle that holds the rows as they were."""


class Kept(Struct, frozen=True):
    """What a bundle can put back: (table, rowid, what the row was left as, None where it was removed)."""

    database: Path
    layout: str
    what: str
    rows: tuple[tuple[str, int, str | None], ...]


def manifest(conn: sqlite3.Connection, layout: Layout, changed: Sequence[Touched], action: Action) -> dict[str, Any]:
    """What a bundle has to remember of rows that have just been changed."""
    rows = []
    for table, rowid in changed:
        row = read_row(conn, layout.table(table), rowid)
        rows.append([table, rowid, row.seal() if row else None])
    return {"archive": "power-loop", "layout": layout.prefix, "action": type(action).__name__.lower(), "rows": rows}


def read_kept(folder: Path) -> Kept:
    """What a bundle keeps. Raises NotAnArchive where it is none, Misused where it is none of a power-loop database."""
    found = read_manifest(folder)
    more = found.more
    if found.kind is not Kind.BACKUP or more.get("archive") != "power-loop":
        raise Misused(f"{folder}: was not kept from a power-loop database.")
    try:
        rows = tuple(
            (str(table), int(rowid), None if seal is None else str(seal)) for table, rowid, seal in more["rows"]
        )
        return Kept(folder / ROWS, str(more["layout"]), found.why, rows)
    except (KeyError, TypeError, ValueError) as error:
        raise NotAnArchive(f"{folder}: its manifest cannot be read ({error}).") from None


def check(conn: sqlite3.Connection, layout: Layout, kept: Kept) -> None:
    """Raises Refused where a row is not what it was left as, or a table is gone."""
    for table, rowid, seal in kept.rows:
        if not layout.has(table):
            raise Refused(f"there is no table {table} here to put rows back into; nothing was done.")
        row = read_row(conn, layout.table(table), rowid)
        if (row.seal() if row else None) != seal:
            raise Refused(f"row {rowid} of {table} has changed since, or was put back already; nothing was done.")


def changes(conn: sqlite3.Connection, layout: Layout, kept: Kept, many: int) -> Iterator[Change]:
    """The first rows that change, as a diff."""
    with _kept(kept) as before:
        for table, rowid, _ in kept.rows[:many]:
            now = read_row(conn, layout.table(table), rowid)
            then = read_row(before, layout.table(table), rowid)
            yield Change(Spot(), table, _text(now.values) if now else None, _text(then.values) if then else None)


def _text(values: tuple[Any, ...]) -> str:
    return cut(", ".join(str(value) for value in values if value is not None))


def put_back(conn: sqlite3.Connection, layout: Layout, kept: Kept) -> None:
    """Makes the rows what they were, in a transaction that is open already."""
    with _kept(kept) as before:
        for table, rowid, _ in kept.rows:
            conn.execute(f"DELETE FROM {layout.table(table)} WHERE rowid = ?", (rowid,))
        for table, rowid, _ in kept.rows:
            row = read_row(before, layout.table(table), rowid)
            if row is not None:
                _insert(conn, layout.table(table), rowid, row.columns, row.values)


def keep_rows(conn: sqlite3.Connection, layout: Layout, edits: Sequence[Edit], target: Path) -> None:
    """Writes the rows that edits change as they are into a database of the same tables."""
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        copy.execute("BEGIN")
        for table in dict.fromkeys(edit.table for edit in edits):
            (sql,) = conn.execute(
                "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (layout.name(table),)
            ).fetchone()
            copy.execute(sql)
        for table, rowid in touched(edits):
            row = read_row(conn, layout.table(table), rowid)
            if row is not None:
                _insert(copy, layout.table(table), rowid, row.columns, row.values)
        copy.execute("COMMIT")


def _insert(conn: sqlite3.Connection, table: str, rowid: int, columns: Sequence[str], values: Sequence[Any]) -> None:
    names = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
    marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, BrokenText) else "?" for value in values)
    plain = [value.raw if isinstance(value, BrokenText) else value for value in values]
    conn.execute(f"INSERT INTO {table} (rowid, {names}) VALUES (?, {marks})", (rowid, *plain))


@contextmanager
def _kept(kept: Kept) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{uri_of(str(kept.database))}?immutable=1", uri=True)) as conn:
            conn.text_factory = decode_text
            conn.execute("PRAGMA trusted_schema=OFF")
            yield conn
    except sqlite3.Error as error:
        raise Refused(f"{kept.database}: what was kept cannot be read ({error}); nothing was done.") from None
