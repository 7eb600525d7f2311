"""Undo of row edits: each row becomes what the bundle holds, unless it has changed since the action."""

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

ROWS_FILE = "before.db"
"""The database in a bundle that holds the rows as they were before the action."""

_ADVANCING_COLUMNS = {
    "sessions": ("updated_at",),
    "session_state": ("next_seq", "last_compact_seq", "round_index"),
}
"""Columns by table that later appends and compactions change. A change in these alone does not block an undo."""


class _Counter(Struct, frozen=True):
    """A column of session_state that numbers the rows of a table."""

    name: str
    table: str
    column: str
    """The column of `table` that holds the numbers."""
    lead: int
    """By how much a sound counter is at least greater than the highest number."""


_COUNTERS = (
    _Counter("next_seq", "messages", "seq", 1),
    _Counter("last_compact_seq", "compactions", "compact_seq", 0),
)


class LeftRow(Struct, frozen=True):
    """A row as an action left it."""

    table: str
    rowid: int
    seal: str | None
    """The seal of all values except those in `advancing`; None for a row that was removed."""
    advancing: Mapping[str, Any]
    """The values of the advancing columns, by name."""


class UndoBundle(Struct, frozen=True):
    """A bundle of edited rows: a database of the rows before the action, and the seals of the rows after it."""

    database: Path
    layout: str
    """The table prefix of the layout that was edited."""
    reason: str
    rows: tuple[LeftRow, ...]


def undo_manifest(
    conn: sqlite3.Connection, layout: Layout, changed: Sequence[Touched], action: Action
) -> dict[str, Any]:
    """Return what the manifest of a bundle says of rows that an action has just changed."""
    rows = []
    for table, rowid in changed:
        rest, advancing = _split(table, read_row(conn, layout.table(table), rowid))
        rows.append([table, rowid, rest.seal() if rest else None, advancing])
    return {"archive": "power-loop", "layout": layout.prefix, "action": type(action).__name__.lower(), "rows": rows}


def read_undo_bundle(folder: Path) -> UndoBundle:
    """Read the manifest of a bundle of edited rows.

    Raises NotAnArchive if it cannot be read, Misused if it is not a backup of rows of a power-loop database.
    """
    manifest = read_manifest(folder)
    more = manifest.more
    if manifest.kind is not BundleKind.BACKUP or more.get("archive") != "power-loop":
        raise Misused(f"{folder}: was not kept from a power-loop database.")
    try:
        rows = tuple(
            LeftRow(str(table), int(rowid), None if seal is None else str(seal), dict(advancing))
            for table, rowid, seal, advancing in more["rows"]
        )
        return UndoBundle(folder / ROWS_FILE, str(more["layout"]), manifest.why, rows)
    except (KeyError, TypeError, ValueError) as error:
        raise NotAnArchive(wording.bad_manifest(folder, error)) from None


def check_restorable(conn: sqlite3.Connection, layout: Layout, bundle: UndoBundle) -> None:
    """Raise Refused if a row has changed since the action, a table is missing, or all rows are restored already."""
    all_restored = True
    with _rows_before(bundle) as before:
        for left in bundle.rows:
            if not layout.has(left.table):
                raise Refused(f"there is no table {left.table} here to put rows back into; nothing was done.")
            now = read_row(conn, layout.table(left.table), left.rowid)
            if _has_changed(conn, layout, left, now):
                raise Refused(
                    f"row {left.rowid} of {left.table} has changed since, or was put back already; nothing was done."
                )
            _, advancing = _split(left.table, now)
            restored = _restored_row(before, layout, left, advancing)
            all_restored = all_restored and _seal(now) == _seal(restored)
    if all_restored:
        raise Refused("everything was put back already; nothing was done.")


def _has_changed(conn: sqlite3.Connection, layout: Layout, left: LeftRow, now: StoredRow | None) -> bool:
    """Return whether a row is no longer what the action left, apart from advancing columns that may have advanced."""
    rest, advancing = _split(left.table, now)
    if _seal(rest) != left.seal or advancing.keys() != left.advancing.keys():
        return True
    if now is None or advancing == left.advancing:
        return False
    return _has_new_messages(conn, layout, left, now)


def _has_new_messages(conn: sqlite3.Connection, layout: Layout, left: LeftRow, now: StoredRow) -> bool:
    """Return whether messages were added to the session of a row after the action, or if that cannot be known.

    A note that is not in the context does not count: undoing a compaction leaves it behind.
    """
    if left.table == "sessions":
        limit_column, condition, column = "updated_at", "created_at > ?", "created_at"
    else:
        limit_column, condition, column = "next_seq", "seq >= ?", "seq"
    if limit_column not in left.advancing or not layout.has("messages", column):
        return True
    session_id = _by_column(now).get("session_id")
    name = "name" if layout.has("messages", "name") else "NULL"
    is_unused_note = f"ifnull({name}, '') = ? AND state IS NOT 'active'"
    new_message = conn.execute(
        f"SELECT 1 FROM {layout.table('messages')} "
        f"WHERE session_id = ? AND {condition} AND NOT ({is_unused_note}) LIMIT 1",
        (session_id, left.advancing[limit_column], NOTE_NAME),
    ).fetchone()
    return new_message is not None


def changes(conn: sqlite3.Connection, layout: Layout, bundle: UndoBundle, limit: int) -> Iterator[Change]:
    """Yield the first `limit` rows that an undo changes, as a diff."""
    with _rows_before(bundle) as before:
        for left in bundle.rows[:limit]:
            now = read_row(conn, layout.table(left.table), left.rowid)
            then = read_row(before, layout.table(left.table), left.rowid)
            yield Change(Spot(), left.table, _text(now), _text(then))


def _text(row: StoredRow | None) -> str | None:
    if row is None:
        return None
    return cut(", ".join(str(value) for value in row.values if value is not None))


def restore_rows(conn: sqlite3.Connection, layout: Layout, bundle: UndoBundle) -> None:
    """Write the rows as they were before the action, in the open transaction.

    Counters that have advanced since keep their values.
    """
    with _rows_before(bundle) as before:
        restored: list[tuple[LeftRow, StoredRow | None]] = []
        # All rows are deleted first, since a restored row may have a unique value that another one has now.
        for left in bundle.rows:
            table = layout.table(left.table)
            _, advancing = _split(left.table, read_row(conn, table, left.rowid))
            restored.append((left, _restored_row(before, layout, left, advancing)))
            conn.execute(f"DELETE FROM {table} WHERE rowid = ?", (left.rowid,))
        for left, row in restored:
            if row is not None:
                _insert(conn, layout.name(left.table), left.rowid, row)


def _restored_row(
    before: sqlite3.Connection, layout: Layout, left: LeftRow, advancing: Mapping[str, Any]
) -> StoredRow | None:
    """Return what a row becomes again; `advancing` are the values of its advancing columns now.

    The row becomes what it was, except for columns that have advanced since the action: to set these back would damage
    a sound session. Only a counter that was too low before the action is set back: then the action itself raised it.
    """
    then = read_row(before, layout.table(left.table), left.rowid)
    if then is None:
        return None
    values = _by_column(then)
    too_low = _counters_too_low(before, layout, values)
    for name, value in advancing.items():
        if value != left.advancing.get(name) and name not in too_low:
            values[name] = value
    return StoredRow(then.columns, tuple(values[name] for name in then.columns))


def _counters_too_low(before: sqlite3.Connection, layout: Layout, values: Mapping[str, Any]) -> set[str]:
    """Return the counters of a row of session_state, given by column, that are too low for the rows they number."""
    too_low: set[str] = set()
    for counter in _COUNTERS:
        value = values.get(counter.name)
        if type(value) is not int:
            continue
        table = layout.name(counter.table)
        if before.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is None:
            continue
        (highest,) = before.execute(
            f"SELECT max({counter.column}) FROM {layout.table(counter.table)} WHERE session_id = ?",
            (values.get("session_id"),),
        ).fetchone()
        if type(highest) is int and value < highest + counter.lead:
            too_low.add(counter.name)
    return too_low


def back_up_rows(conn: sqlite3.Connection, layout: Layout, edits: Sequence[Edit], target: Path) -> None:
    """Copy the rows that edits will change into an empty database, in tables with the same definitions."""
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # A row that violates a CHECK of its table is backed up as it is.
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
    """Insert a row into a table, given by its full name, without the columns that SQLite computes."""
    writable = set(all_columns(conn, "main", table))
    stored = {name: value for name, value in _by_column(row).items() if name in writable}
    names = ", ".join(map(quoted, stored))
    marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, BrokenText) else "?" for value in stored.values())
    parameters = [value.raw if isinstance(value, BrokenText) else value for value in stored.values()]
    conn.execute(f"INSERT INTO {quoted(table)} (rowid, {names}) VALUES (?, {marks})", (rowid, *parameters))


def _split(table: str, row: StoredRow | None) -> tuple[StoredRow | None, dict[str, Any]]:
    """Return a row without its advancing columns, and the values of these by name."""
    if row is None:
        return None, {}
    stored = _by_column(row)
    # Only whole numbers advance. Any other value is damage, and belongs to the row.
    advancing = {name: stored[name] for name in _ADVANCING_COLUMNS.get(table, ()) if type(stored.get(name)) is int}
    columns = tuple(name for name in row.columns if name not in advancing)
    return StoredRow(columns, tuple(stored[name] for name in columns)), advancing


def _by_column(row: StoredRow) -> dict[str, Any]:
    return dict(zip(row.columns, row.values, strict=True))


def _seal(row: StoredRow | None) -> str | None:
    return None if row is None else row.seal()


@contextmanager
def _rows_before(bundle: UndoBundle) -> Iterator[sqlite3.Connection]:
    """Open the database of the rows as they were before the action. Raises Refused if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{uri_of(str(bundle.database))}?immutable=1", uri=True)) as conn:
            conn.text_factory = decode_text
            distrust_schema(conn)
            yield conn
    except sqlite3.Error as error:
        raise Refused(f"{bundle.database}: what was kept cannot be read ({error}); nothing was done.") from None
