"""Restoring sessions from the trash: the same values, types and order, nothing overwritten, links as they were."""

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

from .closing import ROWS, attached


class ClosedBundle(Struct, frozen=True):
    """A bundle of closed sessions. `members` are those of its plan, `links` are [key, id, parent] that were cut."""

    folder: Path
    layout: str
    what: str
    tables: tuple[str, ...]
    members: tuple[dict[str, Any], ...]
    links: tuple[tuple[int, Any, Any], ...]


def read_kept(folder: Path) -> ClosedBundle | None:
    """Return what a bundle keeps, None if it is of another kind. Raises NotAnArchive if it cannot be read."""
    found = read_manifest(folder)
    return (
        kept_of(folder, found) if found.kind is BundleKind.TRASH and found.more.get("archive") == "power-loop" else None
    )


def kept_of(folder: Path, found: Manifest) -> ClosedBundle:
    """Return the same for a manifest that was read already."""
    try:
        more = found.more
        links = tuple((int(key), id_, parent) for key, id_, parent in more["links"])
        return ClosedBundle(
            folder, str(more["layout"]), found.what, tuple(map(str, more["tables"])), tuple(more["sessions"]), links
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NotAnArchive(wording.bad_manifest(folder, error)) from None


def plan(conn: sqlite3.Connection, layout: Layout, action: Restore, kept: ClosedBundle) -> Plan:
    """Return what would be restored. Raises Refused if nothing can be."""
    there = {id_ for (id_,) in conn.execute(f"SELECT session_id FROM {layout.table('sessions')}")}
    members = tuple(_member(layout, one) for one in kept.members if one.get("fate") == Fate.DELETED)
    coming = tuple(member for member in members if member.ref.id not in there)
    if not coming:
        raise Refused(f"{kept.folder}: all of its sessions are there already, and none is overwritten.")
    notes = tuple(
        wording.is_not_overwritten(f"session {member.ref.id!r}") for member in members if member.ref.id in there
    )
    messages = sum(member.messages for member in coming)
    word = "session comes" if len(coming) == 1 else "sessions come"
    return Plan(
        action,
        len(coming),
        (f"{len(coming):,} {word} back with {messages:,} messages.",),
        notes,
        work=kept,
        members=coming,
    )


def _member(layout: Layout, one: dict[str, Any]) -> Member:
    title = one.get("title")
    return Member(
        Ref(layout.prefix, str(one.get("id"))),
        Fate.DELETED,
        "comes back",
        int(one.get("depth", 0)),
        str(one.get("lifecycle", "")),
        str(one.get("kind", "")),
        title if isinstance(title, str) else None,
        str(one.get("preview", "")),
        int(one.get("messages", 0)),
    )


def attached_bundle(conn: sqlite3.Connection, kept: ClosedBundle) -> AbstractContextManager[None]:
    """Attach the database of a bundle. Raises NotAnArchive if it no longer exists."""
    database = kept.folder / ROWS
    if not database.is_file():
        raise NotAnArchive(f"{database}: is gone, so nothing can be given back.")
    return attached(conn, database, "immutable=1")


def put_back(conn: sqlite3.Connection, layout: Layout, kept: ClosedBundle) -> tuple[int, list[str]]:
    """Insert the sessions of an attached bundle, in a transaction that is open already. Raises sqlite3.Error.

    Return how many there are, and in words what could not be restored.
    """
    notes: list[str] = []
    conn.execute(
        f"CREATE TEMP TABLE coming AS SELECT session_id AS id FROM kept.{_name(kept, 'sessions')} "
        f"WHERE session_id NOT IN (SELECT session_id FROM main.{layout.table('sessions')})"
    )
    (many,) = conn.execute("SELECT count(*) FROM temp.coming").fetchone()
    for table in kept.tables:
        notes += _table(conn, layout, kept, table)
    notes += _relink(conn, layout, kept)
    notes += _parents(conn, layout)
    conn.execute("DROP TABLE temp.coming")
    return int(many), notes


def _name(kept: ClosedBundle, table: str) -> str:
    return quoted(kept.layout + table)


def _table(conn: sqlite3.Connection, layout: Layout, kept: ClosedBundle, table: str) -> Iterator[str]:
    if not layout.has(table):
        (rows,) = conn.execute(f"SELECT count(*) FROM kept.{_name(kept, table)}").fetchone()
        if rows:
            yield f"{rows} rows of {table} are left in the trash: there is no such table here"
        return
    own = all_columns(conn, "main", layout.name(table))
    theirs = all_columns(conn, "kept", kept.layout + table)
    shared = [column for column in theirs if column in own]
    if missing := [column for column in theirs if column not in own]:
        yield f"{table} has no {', '.join(missing)} here, so that is left out"
    owner = next((column for column in OWNERS if column in theirs), None)
    if owner is None:
        yield f"the rows of {table} do not say whose they are, and are left in the trash"
        return
    name = layout.name(table)
    key = key_column(conn, "main", name) or ("rowid" if has_rowid(conn, "main", name) else None)
    source, target = f"kept.{_name(kept, table)}", f"main.{layout.table(table)}"
    # A column may be compared without regard to case, so a row may belong to a session whose id is spelled otherwise.
    condition = (
        f"({owner} IN (SELECT id FROM temp.coming) "
        f"OR {owner} NOT IN (SELECT session_id FROM kept.{_name(kept, 'sessions')}))"
    )
    (rows,) = conn.execute(f"SELECT count(*) FROM {source} WHERE {condition}").fetchone()
    if not rows:
        # Inserting none would leave a trace in SQLite's own counters.
        return
    listed = ", ".join(map(quoted, shared))
    before = conn.total_changes
    if key is None:
        conn.execute(f"INSERT OR IGNORE INTO {target} ({listed}) SELECT {listed} FROM {source} WHERE {condition}")
        if (left := rows - (conn.total_changes - before)) > 0:
            yield f"{left} rows of {table} were there already and are not overwritten"
        return
    keyed = listed if key != "rowid" else f"rowid, {listed}"
    conn.execute(
        f"INSERT OR IGNORE INTO {target} ({keyed}) SELECT {keyed} FROM {source} WHERE {condition} "
        f"AND {key} NOT IN (SELECT {key} FROM {target}) ORDER BY {key}"
    )
    there = conn.total_changes - before
    if there < rows:
        # Their rowids are taken by now, so they come after all others.
        others = ", ".join(quoted(column) for column in shared if column != key)
        conn.execute(
            f"INSERT OR IGNORE INTO {target} ({others}) SELECT {others} FROM {source} k WHERE {condition} "
            f"AND {key} IN (SELECT {key} FROM {target}) AND NOT EXISTS (SELECT 1 FROM {target} m WHERE "
            f"m.{key} = k.{key} AND m.{owner} = k.{owner}) ORDER BY {key}"
        )
        moved = conn.total_changes - before - there
        if moved:
            yield f"{moved} rows of {table} stand behind later ones now, as their places were taken"
        if there + moved < rows:
            yield f"{rows - there - moved} rows of {table} were there already and are not overwritten"


def _relink(conn: sqlite3.Connection, layout: Layout, kept: ClosedBundle) -> Iterator[str]:
    for _, id_, parent in kept.links:
        if conn.execute("SELECT 1 FROM temp.coming WHERE id = ?", (parent,)).fetchone() is None:
            continue
        done = conn.execute(
            f"UPDATE main.{layout.table('sessions')} SET parent_session_id = ? "
            "WHERE session_id = ? AND parent_session_id IS NULL",
            (parent, id_),
        )
        if not done.rowcount:
            yield f"session {str(id_)!r} is not linked to its parent again: it is gone, or has another by now"


def _parents(conn: sqlite3.Connection, layout: Layout) -> Iterator[str]:
    if not layout.has("sessions", "parent_session_id"):
        return
    sessions = f"main.{layout.table('sessions')}"
    for id_, parent in conn.execute(
        f"SELECT session_id, parent_session_id FROM {sessions} WHERE session_id IN (SELECT id FROM temp.coming) "
        f"AND parent_session_id IS NOT NULL AND parent_session_id NOT IN (SELECT session_id FROM {sessions})"
    ).fetchall():
        yield f"the parent {str(parent)!r} of session {str(id_)!r} is not there any more"
