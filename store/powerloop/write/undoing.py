"""Undoing a change row by row: each becomes what the bundle holds, unless it was changed again meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from sessionscope.store.io.bundle import BundleKind, read_manifest
from sessionscope.store.io.sql import quoted
from sessionscope.store.io.sqlitefile import BrokenText, decode_text, distrust_schema, uri_of
from sessionscope.store.model import wording
from sessionscope.store.model.errors import Misused, NotAnArchive, Refused
from sessionscope.store.model.findings import Change, cut
from sessionscope.store.model.plans import Action
from sessionscope.store.model.rows import Spot
from sessionscope.store.powerloop.doctor.edits import Edit, StoredRow, Touched, read_row, touched
from sessionscope.store.powerloop.format.layout import NOTE_NAME, Layout
from sessionscope.store.powerloop.format.tables import all_columns

ROWS = "before.db"
"""The database in a bundle that holds the rows as they were."""


_MOVING = {
    "sessions": ("updated_at",),
    "session_state": ("next_seq", "last_compact_seq", "round_index"),
}
"""Columns that later appends and compactions change. A change in these alone does not block an undo."""


_COUNTED = (("next_seq", "messages", "seq", 1), ("last_compact_seq", "compactions", "compact_seq", 0))
"""A counter of session_state, the table and column that it counts, and by how much it is at least ahead of them."""


class LeftRow(Struct, frozen=True):
    """A row as an action left it: the seal of its values, except for the moving ones, which are in `moving`.

    `seal` is None for a row that was removed.
    """

    table: str
    rowid: int
    seal: str | None
    moving: Mapping[str, Any]


class UndoBundle(Struct, frozen=True):
    """What a bundle can restore: a database of the rows as they were, and the rows as they were left."""

    database: Path
    layout: str
    what: str
    rows: tuple[LeftRow, ...]


def _split(table: str, row: StoredRow | None) -> tuple[StoredRow | None, dict[str, Any]]:
    """Return a row without its moving columns, and the values of these."""
    if row is None:
        return None, {}
    stored = dict(zip(row.columns, row.values, strict=True))
    # Only numbers move. Anything else there is damage, and counts.
    moving = {name: stored[name] for name in _MOVING.get(table, ()) if type(stored.get(name)) is int}
    columns = tuple(name for name in row.columns if name not in moving)
    return StoredRow(columns, tuple(stored[name] for name in columns)), moving


def manifest(conn: sqlite3.Connection, layout: Layout, changed: Sequence[Touched], action: Action) -> dict[str, Any]:
    """Return what a bundle must record of rows that have just been changed."""
    rows = []
    for table, rowid in changed:
        rest, moving = _split(table, read_row(conn, layout.table(table), rowid))
        rows.append([table, rowid, rest.seal() if rest else None, moving])
    return {"archive": "power-loop", "layout": layout.prefix, "action": type(action).__name__.lower(), "rows": rows}


def read_kept(folder: Path) -> UndoBundle:
    """Return what a bundle keeps.

    Raises NotAnArchive if it is no bundle, Misused if it is not of a power-loop database.
    """
    found = read_manifest(folder)
    more = found.more
    if found.kind is not BundleKind.BACKUP or more.get("archive") != "power-loop":
        raise Misused(f"{folder}: was not kept from a power-loop database.")
    try:
        rows = tuple(
            LeftRow(str(table), int(rowid), None if seal is None else str(seal), dict(moving))
            for table, rowid, seal, moving in more["rows"]
        )
        return UndoBundle(folder / ROWS, str(more["layout"]), found.why, rows)
    except (KeyError, TypeError, ValueError) as error:
        raise NotAnArchive(wording.bad_manifest(folder, error)) from None


def check(conn: sqlite3.Connection, layout: Layout, kept: UndoBundle) -> None:
    """Raise Refused if a row is not as it was left, or a table no longer exists."""
    restored = True
    with _kept(kept) as before:
        for left in kept.rows:
            if not layout.has(left.table):
                raise Refused(f"there is no table {left.table} here to put rows back into; nothing was done.")
            now = read_row(conn, layout.table(left.table), left.rowid)
            rest, moving = _split(left.table, now)
            same = (rest.seal() if rest else None) == left.seal and moving.keys() == left.moving.keys()
            if not same or (moving != left.moving and now is not None and _went_on(conn, layout, left, now)):
                raise Refused(
                    f"row {left.rowid} of {left.table} has changed since, or was put back already; nothing was done."
                )
            then = _restored(before, layout, left, moving)
            restored = restored and (now.seal() if now else None) == (then.seal() if then else None)
    if restored:
        raise Refused("everything was put back already; nothing was done.")


def changes(conn: sqlite3.Connection, layout: Layout, kept: UndoBundle, many: int) -> Iterator[Change]:
    """Yield the first rows that change, as a diff."""
    with _kept(kept) as before:
        for left in kept.rows[:many]:
            now = read_row(conn, layout.table(left.table), left.rowid)
            then = read_row(before, layout.table(left.table), left.rowid)
            yield Change(Spot(), left.table, _text(now.values) if now else None, _text(then.values) if then else None)


def _text(values: tuple[Any, ...]) -> str:
    return cut(", ".join(str(value) for value in values if value is not None))


def put_back(conn: sqlite3.Connection, layout: Layout, kept: UndoBundle) -> None:
    """Restore the rows, in a transaction that is open already. What has moved since keeps its value."""
    with _kept(kept) as before:
        rows: list[tuple[LeftRow, StoredRow | None]] = []
        for left in kept.rows:
            table = layout.table(left.table)
            _, moving = _split(left.table, read_row(conn, table, left.rowid))
            rows.append((left, _restored(before, layout, left, moving)))
            conn.execute(f"DELETE FROM {table} WHERE rowid = ?", (left.rowid,))
        for left, row in rows:
            if row is not None:
                _insert(conn, layout.name(left.table), left.rowid, row)


def _went_on(conn: sqlite3.Connection, layout: Layout, left: LeftRow, now: StoredRow) -> bool:
    """Return whether a session has got messages since a row of it was left, notes of undone compactions aside."""
    column, since = ("created_at", "updated_at") if left.table == "sessions" else ("seq", "next_seq")
    if since not in left.moving or not layout.has("messages", column):
        return True
    owner = dict(zip(now.columns, now.values, strict=True)).get("session_id")
    mark = ">" if left.table == "sessions" else ">="
    note = f"ifnull({'name' if layout.has('messages', 'name') else 'NULL'}, '') = ? AND state IS NOT 'active'"
    found = conn.execute(
        f"SELECT 1 FROM {layout.table('messages')} WHERE session_id = ? AND {column} {mark} ? AND NOT ({note}) LIMIT 1",
        (owner, left.moving[since], NOTE_NAME),
    )
    return found.fetchone() is not None


def _restored(before: sqlite3.Connection, layout: Layout, left: LeftRow, moving: Mapping[str, Any]) -> StoredRow | None:
    """Return what a row becomes again: as it was, except for counters that have moved since the action.

    Such a counter is restored only if it was behind its rows before the action: then the action repaired it. Elsewhere
    that would damage what is sound.
    """
    then = read_row(before, layout.table(left.table), left.rowid)
    if then is None:
        return None
    stored = dict(zip(then.columns, then.values, strict=True))
    behind = _behind(before, layout, stored)
    moved = {name: now for name, now in moving.items() if now != left.moving.get(name) and name not in behind}
    stored |= moved
    return StoredRow(then.columns, tuple(stored[name] for name in then.columns))


def _behind(before: sqlite3.Connection, layout: Layout, stored: Mapping[str, Any]) -> set[str]:
    """Return the counters of a row of session_state that were behind the rows that they count."""
    found: set[str] = set()
    for counter, table, column, least in _COUNTED:
        known = before.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (layout.name(table),)).fetchone()
        if known is None or type(stored.get(counter)) is not int:
            continue
        (highest,) = before.execute(
            f"SELECT max({column}) FROM {layout.table(table)} WHERE session_id = ?", (stored.get("session_id"),)
        ).fetchone()
        if type(highest) is int and stored[counter] < highest + least:
            found.add(counter)
    return found


def keep_rows(conn: sqlite3.Connection, layout: Layout, edits: Sequence[Edit], target: Path) -> None:
    """Write the rows that edits change, as they are, into a database of the same tables."""
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # A row that breaks a rule of its table is backed up as it is.
        copy.execute("PRAGMA ignore_check_constraints=ON")
        copy.execute("BEGIN")
        for table in dict.fromkeys(edit.table for edit in edits):
            (sql,) = conn.execute(
                "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (layout.name(table),)
            ).fetchone()
            copy.execute(sql)
        for table, rowid in touched(edits):
            row = read_row(conn, layout.table(table), rowid)
            if row is not None:
                _insert(copy, layout.name(table), rowid, row)
        copy.execute("COMMIT")


def _insert(conn: sqlite3.Connection, table: str, rowid: int, row: StoredRow) -> None:
    """Insert a row into a table, named in full, without the columns that SQLite computes."""
    writable = set(all_columns(conn, "main", table))
    stored = {name: value for name, value in zip(row.columns, row.values, strict=True) if name in writable}
    names = ", ".join(map(quoted, stored))
    marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, BrokenText) else "?" for value in stored.values())
    plain = [value.raw if isinstance(value, BrokenText) else value for value in stored.values()]
    conn.execute(f"INSERT INTO {quoted(table)} (rowid, {names}) VALUES (?, {marks})", (rowid, *plain))


@contextmanager
def _kept(kept: UndoBundle) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{uri_of(str(kept.database))}?immutable=1", uri=True)) as conn:
            conn.text_factory = decode_text
            distrust_schema(conn)
            yield conn
    except sqlite3.Error as error:
        raise Refused(f"{kept.database}: what was kept cannot be read ({error}); nothing was done.") from None
