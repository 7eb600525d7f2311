"""Closing sessions: its plan, the copy for the trash, and one short transaction that deletes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from msgspec import Struct

from sessionscope.store.io.sql import quoted
from sessionscope.store.io.sqlitefile import uri_of
from sessionscope.store.model import wording
from sessionscope.store.model.errors import Refused, UnknownSession
from sessionscope.store.model.plans import Close, Fate, Member, Plan
from sessionscope.store.model.rows import Ref
from sessionscope.store.powerloop.doctor.tree_checks import TreeNode, tree_nodes
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.format.tables import OWNERS, all_columns, has_rowid, key_column
from sessionscope.store.powerloop.read import sessions
from sessionscope.store.powerloop.read.messages import highest_seq
from sessionscope.store.rules.closing import Step, close

DESCRIBED, MOST, ROWS = 100, 4, "rows.db"
CHANGED = "A session that would go has changed since this was planned; nothing was done. Look again."
"""Sessions of a plan that are described with titles, previews and open calls; of how many one has to go before a pass
over all rows is less than looking each up; and the database in a bundle."""


class CloseWork(Struct, frozen=True):
    """Storage keys of the sessions that are deleted and of those that lose their parent, and a seal of what the plan
    saw.
    """

    keys: tuple[int, ...]
    cut: tuple[int, ...]
    seal: str


def plan(conn: sqlite3.Connection, layout: Layout, action: Close, now_ms: int) -> Plan:
    """Return what closing sessions would do. Raises UnknownSession, and Refused for what could not be restored."""
    found = tree_nodes(conn, layout)
    position = {one.id: at for at, one in reversed(list(enumerate(found)))}
    by_key = {one.key: at for at, one in enumerate(found)}
    parents = [position.get(one.parent, -1) if one.parent is not None else -1 for one in found]
    asked = []
    for ref in action.refs:
        key = sessions.rowid_of(conn, layout, ref.id)
        if key is None or key not in by_key:
            raise UnknownSession(wording.session_is_gone(ref.id))
        asked.append(by_key[key])
    lifecycles = _column(conn, layout, "lifecycle")
    steps = close(parents, lambda at: lifecycles.get(found[at].key, ""), asked, action.cascade)
    keys = tuple(found[step.at].key for step in steps if step.fate is Fate.DELETED)
    cut = tuple(found[step.at].key for step in steps if step.fate is not Fate.DELETED)
    _refuse_unrestorable(conn, layout, keys)
    members = tuple(_members(conn, layout, steps, found, now_ms))
    warnings = tuple(
        f"{member.ref.id}: {text}" for member in members if member.fate is Fate.DELETED for text in member.against
    )
    messages = sum(member.messages for member in members if member.fate is Fate.DELETED)
    stays = f", {_many(len(cut), 'session')} {'stays' if len(cut) == 1 else 'stay'} as a root" if cut else ""
    said = f"{_many(len(keys), 'session')} and {_many(messages, 'message')} go to the trash{stays}."
    return Plan(
        action,
        len(keys) + len(cut),
        (said,),
        warnings,
        work=CloseWork(keys, cut, seal(conn, layout, keys)),
        members=members,
    )


def _refuse_unrestorable(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int]) -> None:
    """Raise Refused if a session has a row without a value that its table requires, which no INSERT accepts."""
    owners = [("sessions", "session_id"), *_filled(conn, layout)]
    for table, owner in owners:
        required = [
            quoted(str(name))
            for name, is_key in conn.execute(
                'SELECT name, pk FROM pragma_table_info(?) WHERE "notnull"', (layout.name(table),)
            )
            if not is_key
        ]
        if not required:
            continue
        # SQLite assumes that a required column is never NULL, and does not look.
        missing = " OR ".join(f"typeof({name}) = 'null'" for name in required)
        row = conn.execute(
            f"SELECT {owner} FROM {layout.table(table)} WHERE {owner} IN {_owned(layout)} AND ({missing}) LIMIT 1",
            (json.dumps(keys),),
        ).fetchone()
        if row is not None:
            raise Refused(
                f"session {str(row[0])[:60]!r} has a row of {table} without a required value, so it could not be "
                "restored; repair it first."
            )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _column(conn: sqlite3.Connection, layout: Layout, column: str) -> dict[int, str]:
    if not layout.has("sessions", column):
        return {}
    return {
        key: str(value)
        for key, value in conn.execute(
            f"SELECT rowid, {column} FROM {layout.table('sessions')} WHERE {column} IS NOT NULL"
        )
    }


def _members(
    conn: sqlite3.Connection, layout: Layout, steps: Sequence[Step], found: Sequence[TreeNode], now_ms: int
) -> Iterator[Member]:
    keys = [found[step.at].key for step in steps]
    counts = dict(
        conn.execute(
            f"SELECT s.rowid, count(*) FROM {layout.table('messages')} m JOIN {layout.table('sessions')} s "
            f"ON s.session_id = m.session_id WHERE s.rowid IN {_LIST} GROUP BY s.rowid",
            (json.dumps(keys),),
        )
    )
    leased = _leased(conn, layout, keys, now_ms)
    for at, (step, key) in enumerate(zip(steps, keys, strict=True)):
        if at >= DESCRIBED:
            id_ = found[step.at].id
            shown = id_ if type(id_) is str else sessions.id_text(key, id_)
            yield Member(
                Ref(layout.prefix, shown),
                step.fate,
                step.why,
                step.depth,
                messages=counts.get(key, 0),
                against=leased.get(key, ()),
            )
            continue
        row = next(iter(sessions.rows_by_key(conn, layout, [key])))
        owner = sessions.owner_of(layout, row[0], row[1])
        summary = sessions.summary(conn, layout, row, owner)
        against = list(leased.get(key, ()))
        pending = conn.execute(
            f"SELECT {layout.column('session_state', 'pending_json')} FROM {layout.table('session_state')} "
            f"WHERE {owner.condition}",
            (owner.value,),
        ).fetchone()
        calls = sessions.unanswered(conn, layout, owner, highest_seq(conn, layout, owner))
        if pending and pending[0]:
            against.append(wording.TURN_IS_OPEN)
        if calls:
            against.append(wording.calls_without_result(len(calls)))
        yield Member(
            summary.ref,
            step.fate,
            step.why,
            step.depth,
            summary.lifecycle,
            summary.kind,
            summary.title,
            summary.preview,
            counts.get(key, 0),
            tuple(against),
        )


def _leased(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int], now_ms: int) -> dict[int, tuple[str, ...]]:
    """Return the sessions that an agent holds at this moment, with why that speaks against closing."""
    if not layout.has("session_leases", "expires_at"):
        return {}
    return {
        key: ("an agent holds it at this moment",)
        for (key,) in conn.execute(
            f"SELECT s.rowid FROM {layout.table('session_leases')} l JOIN {layout.table('sessions')} s "
            f"ON s.session_id = l.session_id WHERE l.expires_at > ? AND s.rowid IN {_LIST}",
            (now_ms, json.dumps(keys)),
        )
    }


_LIST = "(SELECT value FROM json_each(?))"


def _owned(layout: Layout) -> str:
    """Return a statement for the ids of the sessions with some keys."""
    return f"(SELECT session_id FROM {layout.table('sessions')} WHERE rowid IN {_LIST})"


def owned_tables(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield every table with rows of sessions except their own, and the column that says whose."""
    for table in layout.tables:
        column = next((name for name in OWNERS if layout.has(table, name)), None)
        if table != "sessions" and column is not None:
            yield table, column


def _filled(conn: sqlite3.Connection, layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield the owned tables that are not empty."""
    for table, column in owned_tables(layout):
        if conn.execute(f"SELECT 1 FROM main.{layout.table(table)} LIMIT 1").fetchone():
            yield table, column


def seal(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int]) -> str:
    """Return a value that differs once anything that matters has changed in these sessions: their rows, bookkeeping,
    or how many rows they have in any table.
    """
    found, values = blake2b(digest_size=16), (json.dumps(list(keys)),)
    # Whatever changes a session's other columns sets its time too.
    shown = [name for name in ("updated_at", "status", "parent_session_id") if layout.has("sessions", name)]
    statements = [
        _as_text(["rowid", *shown], f"{layout.table('sessions')} WHERE rowid IN {_LIST} ORDER BY rowid"),
        _as_text(
            sorted(layout.tables["session_state"]),
            f"{layout.table('session_state')} WHERE session_id IN {_owned(layout)} ORDER BY rowid",
        ),
    ]
    for table, column in _filled(conn, layout):
        if table == "session_state":
            continue
        more = ("max(seq)", "sum(seq)", "sum(state = 'active')") if table == "messages" else ()
        statements.append(
            _as_text(
                [column, "count(*)", *more],
                f"{layout.table(table)} WHERE {column} IN {_owned(layout)} GROUP BY {column} ORDER BY {column}",
            )
        )
    decode, conn.text_factory = conn.text_factory, bytes
    try:
        for statement in statements:
            found.update(conn.execute(statement, values).fetchone()[0] or b"")
    finally:
        conn.text_factory = decode
    return found.hexdigest()


def _as_text(columns: Sequence[str], rest: str) -> str:
    """Return a statement that returns all rows as one text, so that no row becomes an object."""
    shown = " || ',' || ".join(f"quote({column})" for column in columns)
    return f"SELECT group_concat(line, ';') FROM (SELECT {shown} AS line FROM {rest})"


# -- the trash


@contextmanager
def attached(conn: sqlite3.Connection, path: Path, mode: str) -> Iterator[None]:
    """Attach another database under the name `kept`. Not within a transaction."""
    conn.execute("ATTACH ? AS kept", (f"{uri_of(str(path))}?{mode}",))
    try:
        yield
    finally:
        # It is detached with the connection anyway, and what was done does not depend on it.
        with suppress(sqlite3.Error):
            conn.execute("DETACH kept")


def copy(conn: sqlite3.Connection, layout: Layout, work: CloseWork, target: Path, changed: Callable[[], bool]) -> int:
    """Copy all rows of the sessions that are deleted into an empty database, as one snapshot. Return its data version.

    No writer has to wait for it, if there is a WAL. `changed` says whether the database may have been written since the
    plan was made; it is called once later writes no longer matter. Raises Refused if the rows are not as planned.
    """
    with attached(conn, target, "mode=rwc"):
        conn.execute("PRAGMA kept.journal_mode=OFF")
        conn.execute("PRAGMA kept.synchronous=OFF")
        conn.execute("BEGIN")
        try:
            values = (json.dumps(work.keys),)
            conn.execute(f"SELECT 1 FROM main.{layout.table('sessions')} LIMIT 1").fetchone()
            doubtful = changed()
            _copy_table(conn, layout, "sessions", f"rowid IN {_LIST}", values)
            for table, column in owned_tables(layout):
                _copy_table(conn, layout, table, f"{_mostly(conn, layout, work)}{column} IN {_owned(layout)}", values)
            if doubtful and seal(conn, layout, work.keys) != work.seal:
                raise Refused(CHANGED)
            state = data_version(conn)
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
    return state


def data_version(conn: sqlite3.Connection) -> int:
    """Return a number that changes for this connection once another one has changed the database."""
    return int(conn.execute("PRAGMA main.data_version").fetchone()[0])


def _copy_table(conn: sqlite3.Connection, layout: Layout, table: str, condition: str, values: tuple[str]) -> None:
    """Copy rows into a table of the same columns without an index, which would cost as much as the rows."""
    name = layout.name(table)
    columns, key = all_columns(conn, "main", name), key_column(conn, "main", name)
    types = dict(conn.execute("SELECT name, type FROM pragma_table_xinfo(?, 'main')", (name,)))
    made = ", ".join(f"{quoted(column)} {types[column]}{' PRIMARY KEY' if column == key else ''}" for column in columns)
    conn.execute(f"CREATE TABLE kept.{quoted(name)} ({made})")
    numbered = not key and has_rowid(conn, "main", name)
    shown = ", ".join([*(["rowid"] if numbered else []), *map(quoted, columns)])
    conn.execute(
        f"INSERT INTO kept.{quoted(name)} ({shown}) SELECT {shown} FROM main.{quoted(name)} WHERE {condition}", values
    )


def _mostly(conn: sqlite3.Connection, layout: Layout, work: CloseWork) -> str:
    """Return "+" if most of a table is deleted, so that SQLite makes one pass instead of looking up each session's
    rows.
    """
    (sessions,) = conn.execute(f"SELECT count(*) FROM main.{layout.table('sessions')}").fetchone()
    return "+" if len(work.keys) * MOST > sessions else ""


def links(conn: sqlite3.Connection, layout: Layout, work: CloseWork) -> list[list[Any]]:
    """Return [storage key, id, id of its parent] of each session that loses its parent, if its ids are plain text."""
    return (
        [
            list(row)
            for row in conn.execute(
                f"SELECT rowid, session_id, parent_session_id FROM {layout.table('sessions')} WHERE rowid IN {_LIST} "
                "AND typeof(session_id) = 'text' AND typeof(parent_session_id) = 'text'",
                (json.dumps(work.cut),),
            )
        ]
        if work.cut
        else []
    )


def delete(conn: sqlite3.Connection, layout: Layout, work: CloseWork, state: int) -> None:
    """Delete the sessions, in a transaction that is open already. Raises Refused if anything is not as planned.

    If nobody wrote since the `state` that was copied, the check of everything is skipped.
    """
    if data_version(conn) != state and seal(conn, layout, work.keys) != work.seal:
        raise Refused(CHANGED)
    values = (json.dumps(work.keys),)
    children: set[int] = set()
    if layout.has("sessions", "parent_session_id"):
        children = {
            key
            for (key,) in conn.execute(
                f"SELECT rowid FROM {layout.table('sessions')} WHERE parent_session_id IN {_owned(layout)}", values
            )
        }
    if children - set(work.keys) != set(work.cut):
        raise Refused("A session got another child since this was planned; nothing was done. Look again.")
    if work.cut:
        conn.execute(
            f"UPDATE {layout.table('sessions')} SET parent_session_id = NULL WHERE rowid IN {_LIST}",
            (json.dumps(work.cut),),
        )
    for table, column in _filled(conn, layout):
        conn.execute(f"DELETE FROM {layout.table(table)} WHERE {column} IN {_owned(layout)}", values)
    conn.execute(f"DELETE FROM {layout.table('sessions')} WHERE rowid IN {_LIST}", values)
