"""Restoring closed sessions from the trash: same values, types and order, nothing overwritten, links set again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from msgspec import Struct

from sessionscope.store.io.bundle import BundleKind, Manifest, read_manifest
from sessionscope.store.io.sql import quoted
from sessionscope.store.model import wording
from sessionscope.store.model.errors import NotAnArchive, Refused
from sessionscope.store.model.plans import Fate, Member, Plan, Restore
from sessionscope.store.model.rows import Ref
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.format.tables import OWNERS, all_columns, has_rowid, key_column

from .closing import ROWS_FILE, attached


class TrashBundle(Struct, frozen=True):
    """A bundle of closed sessions."""

    folder: Path
    layout: str
    """The table prefix of the layout that the sessions were in."""
    tables: tuple[str, ...]
    """The names, without prefix, of the tables in the bundle."""
    members: tuple[dict[str, Any], ...]
    """What the manifest says of each session of the plan that closed them."""
    links: tuple[tuple[int, Any, Any], ...]
    """[rowid, id, id of the parent] of each session that was kept and lost its parent."""

    def table(self, name: str) -> str:
        """Return the quoted name of a table in the bundle."""
        return quoted(self.layout + name)


def read_trash_bundle(folder: Path) -> TrashBundle | None:
    """Read the manifest of a bundle of closed sessions. Return None if the bundle is of another kind.

    Raises NotAnArchive if the manifest cannot be read.
    """
    manifest = read_manifest(folder)
    if manifest.kind is not BundleKind.TRASH or manifest.more.get("archive") != "power-loop":
        return None
    return _trash_bundle(folder, manifest)


def _trash_bundle(folder: Path, manifest: Manifest) -> TrashBundle:
    more = manifest.more
    try:
        links = tuple((int(key), id_, parent) for key, id_, parent in more["links"])
        return TrashBundle(folder, str(more["layout"]), tuple(map(str, more["tables"])), tuple(more["sessions"]), links)
    except (KeyError, TypeError, ValueError) as error:
        raise NotAnArchive(wording.bad_manifest(folder, error)) from None


def plan(conn: sqlite3.Connection, layout: Layout, action: Restore, bundle: TrashBundle) -> Plan:
    """Return the plan for restoring the sessions of a bundle. Raises Refused if all of them exist already."""
    existing = {id_ for (id_,) in conn.execute(f"SELECT session_id FROM {layout.table('sessions')}")}
    members = [_member(layout, entry) for entry in bundle.members if entry.get("fate") == Fate.DELETED]
    restored = tuple(member for member in members if member.ref.id not in existing)
    if not restored:
        raise Refused(f"{bundle.folder}: all of its sessions are there already, and none is overwritten.")
    warnings = tuple(
        wording.is_not_overwritten(f"session {member.ref.id!r}") for member in members if member.ref.id in existing
    )
    messages = sum(member.messages for member in restored)
    subject = "session comes" if len(restored) == 1 else "sessions come"
    return Plan(
        action,
        len(restored),
        (f"{len(restored):,} {subject} back with {messages:,} messages.",),
        warnings,
        work=bundle,
        members=restored,
    )


def _member(layout: Layout, entry: dict[str, Any]) -> Member:
    title = entry.get("title")
    return Member(
        Ref(layout.prefix, str(entry.get("id"))),
        Fate.DELETED,
        "comes back",
        int(entry.get("depth", 0)),
        str(entry.get("lifecycle", "")),
        str(entry.get("kind", "")),
        title if isinstance(title, str) else None,
        str(entry.get("preview", "")),
        int(entry.get("messages", 0)),
    )


def attached_bundle(conn: sqlite3.Connection, bundle: TrashBundle) -> AbstractContextManager[None]:
    """Attach the database of a bundle as `kept`. Raises NotAnArchive if it no longer exists."""
    database = bundle.folder / ROWS_FILE
    if not database.is_file():
        raise NotAnArchive(f"{database}: is gone, so nothing can be given back.")
    return attached(conn, database, "immutable=1")


def restore_sessions(conn: sqlite3.Connection, layout: Layout, bundle: TrashBundle) -> tuple[int, list[str]]:
    """Insert the sessions of an attached bundle in the open transaction. Raises sqlite3.Error.

    Return how many sessions were restored, and a sentence for each thing that could not be.
    """
    conn.execute(
        f"CREATE TEMP TABLE restored AS SELECT session_id AS id FROM kept.{bundle.table('sessions')} "
        f"WHERE session_id NOT IN (SELECT session_id FROM main.{layout.table('sessions')})"
    )
    (restored,) = conn.execute("SELECT count(*) FROM temp.restored").fetchone()
    notes: list[str] = []
    for table in bundle.tables:
        notes += _restore_table(conn, layout, bundle, table)
    notes += _relink_children(conn, layout, bundle)
    notes += _missing_parents(conn, layout)
    conn.execute("DROP TABLE temp.restored")
    return int(restored), notes


# -- rows


class _TableCopy(Struct, frozen=True):
    """SQL names for copying rows of one table from the bundle into the archive."""

    table: str
    """The name without prefix, for people."""
    source: str
    target: str
    columns: tuple[str, ...]
    """The columns that both tables have."""
    owner: str
    """The column that holds the session id."""
    condition: str
    """Selects the rows of `source` that belong to restored sessions."""
    rows: int
    """How many rows of `source` that are."""

    def existing_rows_note(self, count: int) -> str:
        """Return the sentence for rows that the archive has already."""
        return f"{count} rows of {self.table} were there already and are not overwritten"


def _restore_table(conn: sqlite3.Connection, layout: Layout, bundle: TrashBundle, table: str) -> list[str]:
    """Insert the rows of restored sessions into one table. Return a sentence for each thing that is left out."""
    source = f"kept.{bundle.table(table)}"
    if not layout.has(table):
        (rows,) = conn.execute(f"SELECT count(*) FROM {source}").fetchone()
        return [f"{rows} rows of {table} are left in the trash: there is no such table here"] if rows else []
    notes: list[str] = []
    bundle_columns = all_columns(conn, "kept", bundle.layout + table)
    archive_columns = all_columns(conn, "main", layout.name(table))
    if missing := [column for column in bundle_columns if column not in archive_columns]:
        notes.append(f"{table} has no {', '.join(missing)} here, so that is left out")
    owner = next((column for column in OWNERS if column in bundle_columns), None)
    if owner is None:
        return [*notes, f"the rows of {table} do not say whose they are, and are left in the trash"]
    # A column may compare without regard to case, so that a row belongs to a session whose id is spelled differently.
    # Such a row matches no id of the bundle exactly, and is taken too.
    condition = (
        f"({owner} IN (SELECT id FROM temp.restored) "
        f"OR {owner} NOT IN (SELECT session_id FROM kept.{bundle.table('sessions')}))"
    )
    (rows,) = conn.execute(f"SELECT count(*) FROM {source} WHERE {condition}").fetchone()
    if not rows:
        # Even an INSERT of no rows would change SQLite's table of counters, sqlite_sequence.
        return notes
    columns = tuple(column for column in bundle_columns if column in archive_columns)
    table_copy = _TableCopy(table, source, f"main.{layout.table(table)}", columns, owner, condition, rows)
    key = key_column(conn, "main", layout.name(table))
    if key is None and has_rowid(conn, "main", layout.name(table)):
        return notes + _insert_by_key(conn, table_copy, "rowid", ("rowid", *map(quoted, columns)))
    if key is None:
        return notes + _insert_without_key(conn, table_copy)
    return notes + _insert_by_key(conn, table_copy, key, tuple(map(quoted, columns)))


def _insert_without_key(conn: sqlite3.Connection, copy: _TableCopy) -> list[str]:
    listed = ", ".join(map(quoted, copy.columns))
    inserted = _insert(conn, copy, listed, copy.condition)
    if inserted < copy.rows:
        return [copy.existing_rows_note(copy.rows - inserted)]
    return []


def _insert_by_key(conn: sqlite3.Connection, copy: _TableCopy, key: str, columns: tuple[str, ...]) -> list[str]:
    """Insert rows with the keys they had; those whose key is taken by now get new keys after all others.

    A row that the archive has already, with the same key and session, is not inserted.
    """
    inserted = _insert(
        conn,
        copy,
        ", ".join(columns),
        f"{copy.condition} AND {key} NOT IN (SELECT {key} FROM {copy.target}) ORDER BY {key}",
    )
    if inserted >= copy.rows:
        return []
    moved = _insert(
        conn,
        copy,
        ", ".join(quoted(column) for column in copy.columns if column != key),
        f"{copy.condition} AND {key} IN (SELECT {key} FROM {copy.target}) AND NOT EXISTS "
        f"(SELECT 1 FROM {copy.target} m WHERE m.{key} = k.{key} AND m.{copy.owner} = k.{copy.owner}) ORDER BY {key}",
    )
    notes = []
    if moved:
        notes.append(f"{moved} rows of {copy.table} stand behind later ones now, as their places were taken")
    if inserted + moved < copy.rows:
        notes.append(copy.existing_rows_note(copy.rows - inserted - moved))
    return notes


def _insert(conn: sqlite3.Connection, copy: _TableCopy, columns: str, condition: str) -> int:
    """Insert the rows of the source, called `k`, that meet a condition. Return how many were inserted."""
    before = conn.total_changes
    conn.execute(
        f"INSERT OR IGNORE INTO {copy.target} ({columns}) SELECT {columns} FROM {copy.source} k WHERE {condition}"
    )
    return conn.total_changes - before


# -- links


def _relink_children(conn: sqlite3.Connection, layout: Layout, bundle: TrashBundle) -> Iterator[str]:
    """Set the parent of each session that lost it, if it still has none. Yield a sentence for each that has one."""
    for _, id_, parent in bundle.links:
        if conn.execute("SELECT 1 FROM temp.restored WHERE id = ?", (parent,)).fetchone() is None:
            continue
        updated = conn.execute(
            f"UPDATE main.{layout.table('sessions')} SET parent_session_id = ? "
            "WHERE session_id = ? AND parent_session_id IS NULL",
            (parent, id_),
        )
        if not updated.rowcount:
            yield f"session {str(id_)!r} is not linked to its parent again: it is gone, or has another by now"


def _missing_parents(conn: sqlite3.Connection, layout: Layout) -> Iterator[str]:
    """Yield a sentence for each restored session whose parent does not exist."""
    if not layout.has("sessions", "parent_session_id"):
        return
    sessions = f"main.{layout.table('sessions')}"
    for id_, parent in conn.execute(
        f"SELECT session_id, parent_session_id FROM {sessions} WHERE session_id IN (SELECT id FROM temp.restored) "
        f"AND parent_session_id IS NOT NULL AND parent_session_id NOT IN (SELECT session_id FROM {sessions})"
    ).fetchall():
        yield f"the parent {str(parent)!r} of session {str(id_)!r} is not there any more"
