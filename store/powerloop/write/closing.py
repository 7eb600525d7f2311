"""Closing sessions: the plan, the copy that goes to the trash, and the transaction that deletes."""

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

DESCRIBED_SESSIONS = 100
"""How many sessions of a plan are described with title, preview and unfinished work."""
SCAN_SHARE = 4
"""If more than one in this many sessions is closed, each table is scanned: that is faster than many look-ups."""
ROWS_FILE = "rows.db"
"""The database in a bundle that holds the rows of the closed sessions."""
CHANGED = "A session that would go has changed since this was planned; nothing was done. Look again."
"""The error for a session that is not as it was planned on."""
_KEYS_PARAMETER = "(SELECT value FROM json_each(?))"
"""SQL for the rowids in a JSON array that is bound to the statement."""


class CloseWork(Struct, frozen=True):
    """The work of a plan that closes sessions."""

    deleted: tuple[int, ...]
    """The rowids of the sessions that are deleted."""
    unlinked: tuple[int, ...]
    """The rowids of the sessions that are kept and lose their parent."""
    seal: str
    """The seal of the deleted sessions when the plan was made."""


# -- the plan


def plan(conn: sqlite3.Connection, layout: Layout, action: Close, now_ms: int) -> Plan:
    """Return the plan for closing sessions. Raises UnknownSession, and Refused if one could not be restored."""
    nodes = tree_nodes(conn, layout)
    steps = _steps(conn, layout, action, nodes)
    deleted = tuple(nodes[step.at].key for step in steps if step.fate is Fate.DELETED)
    unlinked = tuple(nodes[step.at].key for step in steps if step.fate is not Fate.DELETED)
    _refuse_unrestorable(conn, layout, deleted)
    members = tuple(_members(conn, layout, steps, nodes, now_ms))
    warnings = tuple(
        f"{member.ref.id}: {reason}" for member in members if member.fate is Fate.DELETED for reason in member.against
    )
    messages = sum(member.messages for member in members if member.fate is Fate.DELETED)
    return Plan(
        action,
        len(deleted) + len(unlinked),
        (_sentence(len(deleted), messages, len(unlinked)),),
        warnings,
        work=CloseWork(deleted, unlinked, seal(conn, layout, deleted)),
        members=members,
    )


def _steps(conn: sqlite3.Connection, layout: Layout, action: Close, nodes: Sequence[TreeNode]) -> list[Step]:
    """Return what becomes of each session that the action affects. Raises UnknownSession."""
    index_by_id: dict[Any, int] = {}
    for index, node in enumerate(nodes):
        index_by_id.setdefault(node.id, index)
    index_by_key = {node.key: index for index, node in enumerate(nodes)}
    parents = [index_by_id.get(node.parent, -1) if node.parent is not None else -1 for node in nodes]
    asked = []
    for ref in action.refs:
        key = sessions.rowid_of(conn, layout, ref.id)
        if key is None or key not in index_by_key:
            raise UnknownSession(wording.session_is_gone(ref.id))
        asked.append(index_by_key[key])
    lifecycles = _lifecycles(conn, layout)
    return close(parents, lambda index: lifecycles.get(nodes[index].key, ""), asked, action.cascade)


def _lifecycles(conn: sqlite3.Connection, layout: Layout) -> dict[int, str]:
    if not layout.has("sessions", "lifecycle"):
        return {}
    return {
        key: str(lifecycle)
        for key, lifecycle in conn.execute(
            f"SELECT rowid, lifecycle FROM {layout.table('sessions')} WHERE lifecycle IS NOT NULL"
        )
    }


def _sentence(deleted: int, messages: int, unlinked: int) -> str:
    kept = ""
    if unlinked:
        kept = f", {_counted(unlinked, 'session')} {'stays' if unlinked == 1 else 'stay'} as a root"
    return f"{_counted(deleted, 'session')} and {_counted(messages, 'message')} go to the trash{kept}."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _refuse_unrestorable(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int]) -> None:
    """Raise Refused if a session has a row without a value that its table requires, which no INSERT accepts."""
    for table, owner in [("sessions", "session_id"), *_filled_tables(conn, layout)]:
        required = [
            quoted(str(name))
            for name, is_key in conn.execute(
                'SELECT name, pk FROM pragma_table_info(?) WHERE "notnull"', (layout.name(table),)
            )
            if not is_key
        ]
        if not required:
            continue
        # SQLite takes IS NULL to be false for a NOT NULL column without reading the value.
        is_missing = " OR ".join(f"typeof({name}) = 'null'" for name in required)
        row = conn.execute(
            f"SELECT {owner} FROM {layout.table(table)} WHERE {owner} IN {_session_ids(layout)} AND ({is_missing}) "
            "LIMIT 1",
            (json.dumps(keys),),
        ).fetchone()
        if row is not None:
            raise Refused(
                f"session {str(row[0])[:60]!r} has a row of {table} without a required value, so it could not be "
                "restored; repair it first."
            )


def _members(
    conn: sqlite3.Connection, layout: Layout, steps: Sequence[Step], nodes: Sequence[TreeNode], now_ms: int
) -> Iterator[Member]:
    """Yield the sessions of a plan, the first DESCRIBED_SESSIONS in full, the others without what must be read."""
    keys = [nodes[step.at].key for step in steps]
    message_counts: dict[int, int] = dict(
        conn.execute(
            f"SELECT s.rowid, count(*) FROM {layout.table('messages')} m JOIN {layout.table('sessions')} s "
            f"ON s.session_id = m.session_id WHERE s.rowid IN {_KEYS_PARAMETER} GROUP BY s.rowid",
            (json.dumps(keys),),
        )
    )
    leased = _leased(conn, layout, keys, now_ms)
    for index, (step, key) in enumerate(zip(steps, keys, strict=True)):
        messages = message_counts.get(key, 0)
        against = ["an agent holds it at this moment"] if key in leased else []
        if index < DESCRIBED_SESSIONS:
            yield _described_member(conn, layout, step, key, messages, against)
        else:
            stored_id = nodes[step.at].id
            ref = Ref(layout.prefix, sessions.id_text(key, stored_id))
            yield Member(ref, step.fate, step.why, step.depth, messages=messages, against=tuple(against))


def _described_member(
    conn: sqlite3.Connection, layout: Layout, step: Step, key: int, messages: int, against: list[str]
) -> Member:
    row = next(iter(sessions.rows_by_key(conn, layout, [key])))
    owner = sessions.owner_of(layout, row[0], row[1])
    summary = sessions.summary(conn, layout, row, owner)
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
    return Member(
        summary.ref,
        step.fate,
        step.why,
        step.depth,
        summary.lifecycle,
        summary.kind,
        summary.title,
        summary.preview,
        messages,
        tuple(against),
    )


def _leased(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int], now_ms: int) -> set[int]:
    """Return the rowids of those sessions on which an agent holds an unexpired lease."""
    if not layout.has("session_leases", "expires_at"):
        return set()
    rows = conn.execute(
        f"SELECT s.rowid FROM {layout.table('session_leases')} l JOIN {layout.table('sessions')} s "
        f"ON s.session_id = l.session_id WHERE l.expires_at > ? AND s.rowid IN {_KEYS_PARAMETER}",
        (now_ms, json.dumps(keys)),
    )
    return {key for (key,) in rows}


# -- tables and seals


def _session_ids(layout: Layout) -> str:
    """Return SQL for the ids of the sessions whose rowids are bound as a JSON array."""
    return f"(SELECT session_id FROM {layout.table('sessions')} WHERE rowid IN {_KEYS_PARAMETER})"


def owned_tables(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield each table with rows of sessions, except `sessions`, and its column that holds the session id."""
    for table in layout.tables:
        column = next((name for name in OWNERS if layout.has(table, name)), None)
        if table != "sessions" and column is not None:
            yield table, column


def _filled_tables(conn: sqlite3.Connection, layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield the owned tables that are not empty."""
    for table, column in owned_tables(layout):
        if conn.execute(f"SELECT 1 FROM main.{layout.table(table)} LIMIT 1").fetchone():
            yield table, column


def seal(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int]) -> str:
    """Return a digest of sessions that changes if one of them is written to.

    It covers their rows of `sessions` and `session_state`, the seqs and states of their messages, and the number of
    their rows in every other table.
    """
    # Every change of another column of a session sets `updated_at` too.
    columns = [name for name in ("updated_at", "status", "parent_session_id") if layout.has("sessions", name)]
    statements = [
        _joined_rows(
            ["rowid", *columns], f"{layout.table('sessions')} WHERE rowid IN {_KEYS_PARAMETER} ORDER BY rowid"
        ),
        _joined_rows(
            sorted(layout.tables["session_state"]),
            f"{layout.table('session_state')} WHERE session_id IN {_session_ids(layout)} ORDER BY rowid",
        ),
    ]
    for table, owner in _filled_tables(conn, layout):
        if table == "session_state":
            continue
        figures = ["count(*)"]
        if table == "messages":
            figures += ["max(seq)", "sum(seq)", "sum(state = 'active')"]
        statements.append(
            _joined_rows(
                [owner, *figures],
                f"{layout.table(table)} WHERE {owner} IN {_session_ids(layout)} GROUP BY {owner} ORDER BY {owner}",
            )
        )
    digest = blake2b(digest_size=16)
    text_factory, conn.text_factory = conn.text_factory, bytes
    try:
        for statement in statements:
            digest.update(conn.execute(statement, (json.dumps(list(keys)),)).fetchone()[0] or b"")
    finally:
        conn.text_factory = text_factory
    return digest.hexdigest()


def _joined_rows(columns: Sequence[str], rest: str) -> str:
    """Return a statement that selects all rows as one text, which is faster than an object for each row."""
    line = " || ',' || ".join(f"quote({column})" for column in columns)
    return f"SELECT group_concat(line, ';') FROM (SELECT {line} AS line FROM {rest})"


# -- the copy


@contextmanager
def attached(conn: sqlite3.Connection, path: Path, query: str) -> Iterator[None]:
    """Attach another database as `kept`; `query` is that of its URI. Not within a transaction."""
    conn.execute("ATTACH ? AS kept", (f"{uri_of(str(path))}?{query}",))
    try:
        yield
    finally:
        # Closing the connection detaches it too, and the outcome of the action does not depend on it.
        with suppress(sqlite3.Error):
            conn.execute("DETACH kept")


def copy(
    conn: sqlite3.Connection, layout: Layout, work: CloseWork, target: Path, may_have_changed: Callable[[], bool]
) -> int:
    """Copy all rows of the deleted sessions from one snapshot into an empty database.

    Return the data version of the snapshot, for `delete`. In WAL mode no writer has to wait for the copy.
    `may_have_changed` is called once the snapshot is taken. It returns whether the file may have been written since the
    plan was made. Raises Refused if the rows are not as planned.
    """
    with attached(conn, target, "mode=rwc"):
        conn.execute("PRAGMA kept.journal_mode=OFF")
        conn.execute("PRAGMA kept.synchronous=OFF")
        conn.execute("BEGIN")
        try:
            # The first read takes the snapshot.
            conn.execute(f"SELECT 1 FROM main.{layout.table('sessions')} LIMIT 1").fetchone()
            check_seal = may_have_changed()
            parameters = (json.dumps(work.deleted),)
            _copy_table(conn, layout, "sessions", f"rowid IN {_KEYS_PARAMETER}", parameters)
            no_index = "+" if _is_scan_faster(conn, layout, work) else ""
            for table, owner in owned_tables(layout):
                _copy_table(conn, layout, table, f"{no_index}{owner} IN {_session_ids(layout)}", parameters)
            if check_seal and seal(conn, layout, work.deleted) != work.seal:
                raise Refused(CHANGED)
            version = _data_version(conn)
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
    return version


def _data_version(conn: sqlite3.Connection) -> int:
    """Return a number that changes for this connection if another connection changes the database."""
    return int(conn.execute("PRAGMA main.data_version").fetchone()[0])


def _copy_table(conn: sqlite3.Connection, layout: Layout, table: str, condition: str, parameters: tuple[str]) -> None:
    """Copy rows into a new table with the same columns. It gets no index, which would cost as much as the rows."""
    name = layout.name(table)
    columns = all_columns(conn, "main", name)
    key = key_column(conn, "main", name)
    types = dict(conn.execute("SELECT name, type FROM pragma_table_xinfo(?, 'main')", (name,)))
    definitions = ", ".join(
        f"{quoted(column)} {types[column]}{' PRIMARY KEY' if column == key else ''}" for column in columns
    )
    conn.execute(f"CREATE TABLE kept.{quoted(name)} ({definitions})")
    copied = list(map(quoted, columns))
    if key is None and has_rowid(conn, "main", name):
        copied.insert(0, "rowid")
    listed = ", ".join(copied)
    conn.execute(
        f"INSERT INTO kept.{quoted(name)} ({listed}) SELECT {listed} FROM main.{quoted(name)} WHERE {condition}",
        parameters,
    )


def _is_scan_faster(conn: sqlite3.Connection, layout: Layout, work: CloseWork) -> bool:
    """Return whether so many sessions are deleted that one scan of a table is faster than a look-up of each."""
    (count,) = conn.execute(f"SELECT count(*) FROM main.{layout.table('sessions')}").fetchone()
    return len(work.deleted) * SCAN_SHARE > int(count)


def links(conn: sqlite3.Connection, layout: Layout, work: CloseWork) -> list[list[Any]]:
    """Return [rowid, id, id of the parent] of each session that loses its parent, if both ids are text."""
    if not work.unlinked:
        return []
    rows = conn.execute(
        f"SELECT rowid, session_id, parent_session_id FROM {layout.table('sessions')} WHERE rowid IN {_KEYS_PARAMETER} "
        "AND typeof(session_id) = 'text' AND typeof(parent_session_id) = 'text'",
        (json.dumps(work.unlinked),),
    )
    return [list(row) for row in rows]


# -- the transaction


def delete(conn: sqlite3.Connection, layout: Layout, work: CloseWork, copied_version: int) -> None:
    """Delete the sessions of a plan in the open transaction. Raises Refused if anything is not as planned.

    If the data version is still `copied_version`, nothing was written since the copy. The seal is not computed again
    then, so that other writers wait less.
    """
    if _data_version(conn) != copied_version and seal(conn, layout, work.deleted) != work.seal:
        raise Refused(CHANGED)
    surviving_children = _children(conn, layout, work.deleted) - set(work.deleted)
    if surviving_children != set(work.unlinked):
        raise Refused("A session got another child since this was planned; nothing was done. Look again.")
    if work.unlinked:
        conn.execute(
            f"UPDATE {layout.table('sessions')} SET parent_session_id = NULL WHERE rowid IN {_KEYS_PARAMETER}",
            (json.dumps(work.unlinked),),
        )
    parameters = (json.dumps(work.deleted),)
    for table, owner in _filled_tables(conn, layout):
        conn.execute(f"DELETE FROM {layout.table(table)} WHERE {owner} IN {_session_ids(layout)}", parameters)
    conn.execute(f"DELETE FROM {layout.table('sessions')} WHERE rowid IN {_KEYS_PARAMETER}", parameters)


def _children(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int]) -> set[int]:
    """Return the rowids of the direct children of sessions."""
    if not layout.has("sessions", "parent_session_id"):
        return set()
    rows = conn.execute(
        f"SELECT rowid FROM {layout.table('sessions')} WHERE parent_session_id IN {_session_ids(layout)}",
        (json.dumps(keys),),
    )
    return {key for (key,) in rows}
