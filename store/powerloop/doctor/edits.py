"""Changes of rows as plain data: a plan shows them, an action applies them, and a restore reverses them."""

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
"""A row: the plain name of its table, and its rowid."""


class Edit(Struct, frozen=True):
    """A change of one row. It is inserted if `rowid` is None, deleted if `values` is None, and else these columns
    change.
    """

    table: str
    rowid: int | None
    values: dict[str, Any] | None
    place: Spot


class StoredRow(Struct, frozen=True):
    """A row as it is stored."""

    columns: tuple[str, ...]
    values: tuple[Any, ...]

    def seal(self) -> str:
        """Return a value that differs for every other row. The type of each value counts."""
        seal = blake2b(digest_size=16)
        for name, value in zip(self.columns, self.values, strict=True):
            data = value.raw if isinstance(value, BrokenText) else value
            data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
            data = data if isinstance(data, bytes) else repr(data).encode()
            kind = "str" if isinstance(value, str) else type(value).__name__
            seal.update(f"{name} {kind} {len(data)} ".encode() + data)
        return seal.hexdigest()


def read_row(conn: sqlite3.Connection, table: str, rowid: int) -> StoredRow | None:
    """Return a row of a table, given its full name in quotes; None if it does not exist."""
    cursor = conn.execute(f"SELECT * FROM {table} WHERE rowid = ?", (rowid,))
    found = cursor.fetchone()
    return StoredRow(tuple(column[0] for column in cursor.description), tuple(found)) if found else None


def basis_of(conn: sqlite3.Connection, layout: Layout, edits: Iterable[Edit]) -> str:
    """Return a value that identifies the rows that edits change, as they are now."""
    basis = blake2b(digest_size=16)
    for table, rowid in touched(edits):
        row = read_row(conn, layout.table(table), rowid)
        basis.update(f"{table} {rowid} {row.seal() if row else ''}\n".encode())
    return basis.hexdigest()


def touched(edits: Iterable[Edit]) -> list[Touched]:
    """Return the rows that edits change, each once."""
    return list(dict.fromkeys((edit.table, edit.rowid) for edit in edits if edit.rowid is not None))


def count(edits: Sequence[Edit]) -> int:
    """Return how many rows edits change or insert."""
    return len(touched(edits)) + sum(edit.rowid is None for edit in edits)


def apply(conn: sqlite3.Connection, layout: Layout, edits: Sequence[Edit]) -> list[Touched]:
    """Apply edits in order, and return all rows that changed. Raises sqlite3.Error."""
    changed: dict[Touched, None] = {}
    for edit in edits:
        table, values = layout.table(edit.table), edit.values
        if edit.rowid is None:
            names = ", ".join(f'"{name}"' for name in values or ())
            marks = ", ".join("?" * len(values or ()))
            cursor = conn.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list((values or {}).values()))
            changed[edit.table, int(cursor.lastrowid or 0)] = None
            continue
        if values is None:
            conn.execute(f"DELETE FROM {table} WHERE rowid = ?", (edit.rowid,))
        else:
            names = ", ".join(f'"{name}" = ?' for name in values)
            conn.execute(f"UPDATE {table} SET {names} WHERE rowid = ?", (*values.values(), edit.rowid))
        changed[edit.table, edit.rowid] = None
    return list(changed)


def changes(conn: sqlite3.Connection, layout: Layout, edits: Iterable[Edit]) -> Iterator[Change]:
    """Yield edits as a diff, a line for each value."""
    for edit in edits:
        old = read_row(conn, layout.table(edit.table), edit.rowid) if edit.rowid is not None else None
        if edit.rowid is None:
            yield Change(edit.place, f"{edit.table}, a new row", None, _listed(edit.values or {}))
        elif edit.values is None:
            stored = dict(zip(old.columns, old.values, strict=True)) if old else {}
            yield Change(edit.place, f"{edit.table}, a row", _listed(stored), None)
        else:
            stored = dict(zip(old.columns, old.values, strict=True)) if old else {}
            for name, value in edit.values.items():
                if stored.get(name) != value:
                    yield Change(edit.place, f"{edit.table}.{name}", _shown(stored.get(name)), _shown(value))


def _listed(values: dict[str, Any]) -> str:
    return cut(", ".join(f"{name} {_shown(value)}" for name, value in values.items() if value is not None))


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return cut(value.decode("utf-8", "backslashreplace"))
    return cut(str(value)) if value != "" else "''"
