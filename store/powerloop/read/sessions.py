"""Session rows: summaries for lists, entries of the session table, and one session in full."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from sessionscope.store.model.rows import Count, Ref, SessionDetail, SessionSummary, State
from sessionscope.store.model.session_table import TableEntry
from sessionscope.store.powerloop.format.decode import Cells, number, text
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.rules.compaction_history import CompactionRecord, undone_compactions
from sessionscope.store.rules.values import Damages, parse, parse_object, tool_calls

from .extras import extras
from .messages import Owner, highest_seq, preview_line
from .messages import select as select_messages

COUNT_LIMIT, COMPACTIONS_LIMIT, PREVIEW_ROWS, JSON_BYTES, PROMPT_BYTES, NEWEST_ROWS = (
    500,
    1_000,
    50,
    262_144,
    65_536,
    200,
)
_KINDS = {"root", "subagent"}
_LIFECYCLES = {"ephemeral", "linked", "detached"}
_STATUSES = {"active", "archived"}
_COLUMNS = (
    "created_at",
    "updated_at",
    "status",
    "kind",
    "parent_session_id",
    "lifecycle",
    "spawn_depth",
    "spawn_tool_call_id",
    "model",
)
_BODIES = ("metadata_json", "config_json", "system_prompt")
_ID_WITH_ROWID = re.compile(r".*@(-?[0-9]{1,19})", re.DOTALL)
_COUNTERS = ("next_seq", "round_index", "last_compact_seq")
_SPAN = ("from_seq", "to_seq", "note_seq", "before_tokens", "after_tokens")


def owner_of(layout: Layout, rowid: int, stored: object) -> Owner:
    """Return how statements select the session: by its id, or by its row if the id is no plain text."""
    if type(stored) is str:
        return Owner("session_id = ?", stored)
    return Owner(f"session_id = (SELECT session_id FROM {layout.table('sessions')} WHERE rowid = ?)", rowid)


def id_text(rowid: int, stored: object) -> str:
    """Return a session's id for people. A damaged one includes the row, so that it stays unique."""
    if type(stored) is str:
        return stored
    return f"{text(stored, '', Damages()) or 'null'}@{rowid}"


def rowid_of(conn: sqlite3.Connection, layout: Layout, id_: str) -> int | None:
    """Return the storage key of the session that is shown with this id, None if there is none."""
    sessions = layout.table("sessions")
    try:
        row = conn.execute(f"SELECT rowid FROM {sessions} WHERE session_id = ?", (id_,)).fetchone()
    except UnicodeEncodeError:
        return None
    id_with_rowid = _ID_WITH_ROWID.fullmatch(id_)
    if row is None and id_with_rowid and int(id_with_rowid[1]) < 2**63:
        row = conn.execute(
            f"SELECT rowid, session_id FROM {sessions} WHERE rowid = ?", (int(id_with_rowid[1]),)
        ).fetchone()
        if row and (type(row[1]) is str or id_text(*row) != id_):
            row = None
    return int(row[0]) if row else None


def title_of(metadata: Any) -> str | None:
    """Return `metadata.title`, then `metadata.name`, whichever is a non-empty string."""
    values = metadata if isinstance(metadata, dict) else {}
    for key in ("title", "name"):
        value = values.get(key)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _select(layout: Layout) -> str:
    columns = ", ".join(layout.column("sessions", column) for column in _COLUMNS)
    kinds = ", ".join(f"typeof({body})" if layout.has("sessions", body) else "'null'" for body in _BODIES)
    return f"SELECT rowid, session_id, {columns}, {kinds} FROM {layout.table('sessions')}"


class _Session:
    """A row of `_select`, decoded."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.damages = damages = Damages()
        self.key: int = row[0]
        self.id = id_text(row[0], row[1])
        if type(row[1]) is not str:
            damages.note("session_id is not plain text")
        values = dict(zip(_COLUMNS, row[2:11], strict=True))
        self.created_at = number(values["created_at"], "created_at", damages)
        self.updated_at = number(values["updated_at"], "updated_at", damages)
        self.depth = number(values["spawn_depth"], "spawn_depth", damages)
        self.parent_id, self.spawn_call, self.model = (
            text(values[name], name, damages) for name in ("parent_session_id", "spawn_tool_call_id", "model")
        )
        self.status, self.kind, self.lifecycle = (
            self._enum(values[name], name, known)
            for name, known in (("status", _STATUSES), ("kind", _KINDS), ("lifecycle", _LIFECYCLES))
        )
        self.kinds = dict(zip(_BODIES, row[11:14], strict=True))

    def _enum(self, value: object, what: str, known: set[str]) -> str:
        shown = text(value, what, self.damages) or ""
        if shown not in known:
            self.damages.note(f"{what} {shown[:40]!r} is unknown")
        return shown

    def body(self, cells: Cells, column: str, limit: int) -> tuple[str | None, int]:
        if self.kinds[column] == "null":
            return None, 0
        return cells.head(column, self.key, self.kinds[column], limit, column.removesuffix("_json"), self.damages)

    def json(self, cells: Cells, column: str) -> Any:
        """Return an object if the column holds one, else whatever it is; the beginning as text if it is too long."""
        stored, size = self.body(cells, column, JSON_BYTES)
        if size > JSON_BYTES:
            return stored
        return parse_object(stored, column.removesuffix("_json"), self.damages)


def origin(row: tuple[Any, ...]) -> tuple[str | None, int]:
    """Return the parent that a raw session row names, and when the session was created."""
    session = _Session(row)
    return session.parent_id, session.created_at or 0


def summary(
    conn: sqlite3.Connection, layout: Layout, row: tuple[Any, ...], owner: Owner, exact: bool = False
) -> SessionSummary:
    """Return the summary of a session.

    Reads at most a few hundred index entries and fifty messages. `exact` counts every message, which costs a pass over
    the session's index entries.
    """
    session = _Session(row)
    metadata = session.json(Cells(conn, layout.name("sessions")), "metadata_json")
    limit = 2**62 if exact else COUNT_LIMIT
    messages = layout.table("messages")
    counts = [
        conn.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {messages} WHERE {owner.condition}{more} LIMIT ?)",
            (owner.value, limit + 1),
        ).fetchone()[0]
        for more in ("", f" AND state = '{State.ACTIVE}'")
    ]
    highest = highest_seq(conn, layout, owner) if max(counts) > limit else 0
    total, active = (Count(n) if n <= limit else Count(max(n, highest), False) for n in counts)
    return SessionSummary(
        ref=Ref(layout.prefix, session.id),
        key=session.key,
        parent_id=session.parent_id,
        kind=session.kind,
        lifecycle=session.lifecycle,
        status=session.status,
        title=title_of(metadata),
        preview=preview_of(conn, layout, owner),
        message_count=total,
        active_count=active,
        compaction_count=_compactions_in_force(conn, layout, owner),
        created_at=session.created_at,
        updated_at=session.updated_at,
        damage=tuple(session.damages),
    )


def _compactions_in_force(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> int:
    if not layout.has("compactions"):
        return 0
    rows = conn.execute(
        f"SELECT {', '.join(layout.column('compactions', column) for column in _SPAN)} "
        f"FROM {layout.table('compactions')} WHERE {owner.condition} ORDER BY compact_seq LIMIT ?",
        (owner.value, COMPACTIONS_LIMIT),
    ).fetchall()
    if not rows:
        return 0
    undone, undoing = undone_compactions([CompactionRecord(0, *row) for row in rows])
    return len(rows) - len(undone) - len(undoing)


def preview_of(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> str:
    """Return the first user message that has something to show, else the first assistant message."""
    cells = Cells(conn, layout.name("messages"))
    fallback = ""
    for row in conn.execute(
        f"{select_messages(layout)} WHERE {owner.condition} ORDER BY seq LIMIT ?", (owner.value, PREVIEW_ROWS)
    ):
        if row[2] not in ("user", "assistant"):
            continue
        line = preview_line(cells, row)
        if line and row[2] == "user":
            return line
        fallback = fallback or line
    return fallback


def rows_by_key(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return raw session rows by their storage keys."""
    return conn.execute(f"{_select(layout)} WHERE rowid IN ({','.join('?' * len(keys))})", list(keys)).fetchall()


def newest_keys(conn: sqlite3.Connection, layout: Layout, limit: int) -> list[int]:
    """Return the storage keys of the newest created sessions without a parent, newest first."""
    where = "WHERE parent_session_id IS NULL " if layout.has("sessions", "parent_session_id") else ""
    return [
        key
        for (key,) in conn.execute(
            f"SELECT rowid FROM {layout.table('sessions')} {where}ORDER BY rowid DESC LIMIT ?", (limit,)
        )
    ]


def entries(conn: sqlite3.Connection, layout: Layout, after: int, limit: int) -> Iterator[TableEntry]:
    """Yield the table entries of the next `limit` sessions after a key."""
    columns = ", ".join(
        layout.column("sessions", column) for column in ("parent_session_id", "created_at", "updated_at", "kind")
    )
    metadata = "NULL"
    if layout.has("sessions", "metadata_json"):
        metadata = f"CASE WHEN length(metadata_json) <= {JSON_BYTES} THEN metadata_json END"
    last_compact = "last_compact_seq" if layout.has("session_state", "last_compact_seq") else "NULL"
    sessions, states = layout.table("sessions"), layout.table("session_state")
    found = conn.execute(
        f"SELECT rowid, session_id, {columns}, {metadata}, "
        f"(SELECT next_seq FROM {states} WHERE session_id = {sessions}.session_id), "
        f"(SELECT {last_compact} FROM {states} WHERE session_id = {sessions}.session_id) "
        f"FROM {sessions} WHERE rowid > ? ORDER BY rowid LIMIT ?",
        (after, limit),
    )
    ignored = Damages()
    for key, id_, parent, created, updated, kind, stored, next_seq, compact_seq in found:
        titled = isinstance(stored, str) and ('"title"' in stored or '"name"' in stored)
        yield TableEntry(
            key,
            id_text(key, id_),
            text(parent, "", ignored),
            number(created, "", ignored) or 0,
            number(updated, "", ignored) or 0,
            max(0, (number(next_seq, "", ignored) or 1) - 1),
            number(compact_seq, "", ignored) or 0,
            kind == "subagent",
            title_of(parse(stored, "", ignored)) if titled else None,
        )


def detail(conn: sqlite3.Connection, layout: Layout, row: tuple[Any, ...], owner: Owner) -> SessionDetail:
    """Return everything about a session that is not a message, with bodies up to their bounds."""
    session, cells = _Session(row), Cells(conn, layout.name("sessions"))
    prompt, prompt_size = session.body(cells, "system_prompt", PROMPT_BYTES)
    columns = ", ".join(layout.column("session_state", column) for column in _COUNTERS)
    kind = "typeof(pending_json)" if layout.has("session_state", "pending_json") else "'null'"
    state = conn.execute(
        f"SELECT {columns}, rowid, {kind} FROM {layout.table('session_state')} WHERE {owner.condition}", (owner.value,)
    ).fetchone()
    if state is None:
        session.damages.note("its bookkeeping (session_state) is missing")
    values = state or (None, None, None, 0, "null")
    next_seq, round_index, compact_seq = (
        number(value, name, session.damages) for value, name in zip(values[:3], _COUNTERS, strict=True)
    )
    pending, pending_size = Cells(conn, layout.name("session_state")).head(
        "pending_json", values[3], values[4], JSON_BYTES, "pending", session.damages
    )
    highest = highest_seq(conn, layout, owner)
    if next_seq is not None and next_seq <= highest:
        session.damages.note(f"next_seq {next_seq} is not above the newest message {highest}: appends will fail")
    return SessionDetail(
        summary=summary(conn, layout, row, owner, exact=True),
        prompt=prompt,
        prompt_size=prompt_size,
        model=session.model,
        config=session.json(cells, "config_json"),
        metadata=session.json(cells, "metadata_json"),
        spawn_tool_call_id=session.spawn_call,
        stored_depth=session.depth,
        next_seq=next_seq,
        round_index=round_index,
        last_compact_seq=compact_seq,
        pending=parse_object(pending, "pending", session.damages) if pending_size <= JSON_BYTES else pending,
        unanswered=unanswered(conn, layout, owner, highest),
        extras=extras(conn, layout, owner),
        damage=tuple(session.damages),
    )


def unanswered(conn: sqlite3.Connection, layout: Layout, owner: Owner, highest: int) -> tuple[tuple[int, str], ...]:
    """Return the calls without a result among the newest rows in the context."""
    if not layout.has("messages", "tool_calls_json") or not layout.has("messages", "tool_call_id"):
        return ()
    cells, damages = Cells(conn, layout.name("messages")), Damages()
    open_calls: dict[str, tuple[int, str]] = {}
    for rowid, seq, role, state, answers, kind in conn.execute(
        f"SELECT rowid, seq, role, state, tool_call_id, typeof(tool_calls_json) FROM {layout.table('messages')} "
        f"WHERE {owner.condition} AND seq BETWEEN ? AND ? ORDER BY seq",
        (owner.value, highest - NEWEST_ROWS, highest),
    ):
        if role == "tool":
            # A call without an id is answered by a result without one.
            answered = answers or next((key for key in open_calls if key.startswith("\0")), "")
            open_calls.pop(answered, None)
        if kind != "null" and state == State.ACTIVE and isinstance(seq, int):
            stored, size = cells.head("tool_calls_json", rowid, kind, JSON_BYTES, "tool_calls", damages)
            if size <= JSON_BYTES:
                for at, call in enumerate(tool_calls(parse(stored, "tool_calls", damages), damages)):
                    open_calls[call.id or f"\0{seq} {at}"] = (seq, call.name or call.id or "?")
    return tuple(open_calls.values())
