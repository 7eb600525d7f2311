"""Changes of rows as plain data. The same edits are shown to the user, applied to the database, and undone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from sessionscope.store.io.sqlitefile import BrokenText
from sessionscope.store.model.findings import Change, cut
from sessionscope.store.model.rows import Spot
from sessionscope.store.powerloop.format.layout import Layout

Touched = tuple[str, int]
"""A table by its plain name (without prefix), and a row of it by its rowid."""


class Edit(Struct, frozen=True):
    """One change of one row: an insertion, an update or a deletion."""

    table: str
    """The table's plain name (without prefix)."""
    rowid: int | None
    """The row, None to insert one."""
    values: dict[str, Any] | None
    """The new value of each column that gets one, None to delete the row."""
    spot: Spot


class StoredRow(Struct, frozen=True):
    """A row as it is stored."""

    columns: tuple[str, ...]
    values: tuple[Any, ...]

    def seal(self) -> str:
        """Return a hash of the row's column names, and of the types and bytes of its values."""
        seal = blake2b(digest_size=16)
        for name, value in zip(self.columns, self.values, strict=True):
            data = _bytes_of(value)
            kind = "str" if isinstance(value, str) else type(value).__name__
            seal.update(f"{name} {kind} {len(data)} ".encode() + data)
        return seal.hexdigest()


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, BrokenText):
        return value.raw
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    return repr(value).encode()


def read_row(conn: sqlite3.Connection, table: str, rowid: int) -> StoredRow | None:
    """Return a row of a table, which is given by its quoted full name; None if there is no such row."""
    cursor = conn.execute(f"SELECT * FROM {table} WHERE rowid = ?", (rowid,))
    row = cursor.fetchone()
    if row is None:
        return None
    return StoredRow(tuple(column[0] for column in cursor.description), tuple(row))


def basis_of(conn: sqlite3.Connection, layout: Layout, edits: Iterable[Edit]) -> str:
    """Return a hash of the current contents of the rows that edits change or delete."""
    basis = blake2b(digest_size=16)
    for table, rowid in touched(edits):
        row = read_row(conn, layout.table(table), rowid)
        basis.update(f"{table} {rowid} {row.seal() if row else ''}\n".encode())
    return basis.hexdigest()


def touched(edits: Iterable[Edit]) -> list[Touched]:
    """Return the rows that edits change or delete, each once."""
    return list(dict.fromkeys((edit.table, edit.rowid) for edit in edits if edit.rowid is not None))


def count(edits: Sequence[Edit]) -> int:
    """Return how many rows edits insert, change or delete."""
    return len(touched(edits)) + sum(edit.rowid is None for edit in edits)


def apply(conn: sqlite3.Connection, layout: Layout, edits: Sequence[Edit]) -> list[Touched]:
    """Apply edits in order and return the rows that they inserted, changed or deleted. Raises sqlite3.Error."""
    rows: dict[Touched, None] = {}
    for edit in edits:
        rows[edit.table, _apply(conn, layout.table(edit.table), edit)] = None
    return list(rows)


def _apply(conn: sqlite3.Connection, table: str, edit: Edit) -> int:
    """Apply an edit to a table, given by its quoted full name, and return the rowid of the row."""
    if edit.rowid is None:
        values = edit.values or {}
        names = ", ".join(f'"{name}"' for name in values)
        parameters = ", ".join("?" * len(values))
        cursor = conn.execute(f"INSERT INTO {table} ({names}) VALUES ({parameters})", list(values.values()))
        return int(cursor.lastrowid or 0)
    if edit.values is None:
        conn.execute(f"DELETE FROM {table} WHERE rowid = ?", (edit.rowid,))
    else:
        assignments = ", ".join(f'"{name}" = ?' for name in edit.values)
        conn.execute(f"UPDATE {table} SET {assignments} WHERE rowid = ?", (*edit.values.values(), edit.rowid))
    return edit.rowid


def changes(conn: sqlite3.Connection, layout: Layout, edits: Iterable[Edit]) -> Iterator[Change]:
    """Yield edits as a diff: a line for each inserted or deleted row, and one for each value that changes."""
    for edit in edits:
        if edit.rowid is None:
            yield Change(edit.spot, f"{edit.table}, a new row", None, _listed(edit.values or {}))
            continue
        row = read_row(conn, layout.table(edit.table), edit.rowid)
        stored = dict(zip(row.columns, row.values, strict=True)) if row else {}
        if edit.values is None:
            yield Change(edit.spot, f"{edit.table}, a row", _listed(stored), None)
            continue
        for name, value in edit.values.items():
            if stored.get(name) != value:
                yield Change(edit.spot, f"{edit.table}.{name}", _shown(stored.get(name)), _shown(value))


def _listed(values: dict[str, Any]) -> str:
    """Return the values of a row that are not NULL, each after its column's name."""
    return cut(", ".join(f"{name} {_shown(value)}" for name, value in values.items() if value is not None))


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return cut(value.decode("utf-8", "backslashreplace"))
    return cut(str(value)) if value != "" else "''"
