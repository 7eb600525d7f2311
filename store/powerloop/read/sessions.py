"""Sessions read from a database: summaries for lists, entries of the session table, and one session in full."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from sessionscope.store.model.rows import Count, Ref, SessionDetail, SessionSummary, State
from sessionscope.store.model.session_table import TableEntry
from sessionscope.store.powerloop.format.decode import HIGHEST, Cells, number, text
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.rules.compaction_history import CompactionRecord, undone_compactions
from sessionscope.store.rules.values import Damages, parse, parse_object, tool_calls

from .extras import extras
from .messages import Owner, highest_seq, preview_line
from .messages import select as select_messages

COUNT_LIMIT = 500
"""Messages up to which a summary counts exactly."""
MAX_COMPACTIONS = 1_000
"""How many compactions a summary counts."""
PREVIEW_ROWS = 50
"""How many messages are searched for a preview."""
JSON_BYTES = 262_144
"""The longest JSON value that is decoded, in bytes."""
PROMPT_BYTES = 65_536
"""How many bytes of a system prompt are read."""
NEWEST_SEQS = 200
"""How many of the newest seqs are searched for calls without a result."""
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
"""The short columns, which are read with the row."""
_BODIES = ("metadata_json", "config_json", "system_prompt")
"""The long columns, which are read in pieces."""
_ID_WITH_ROWID = re.compile(r".*@(-?[0-9]{1,19})", re.DOTALL)
_COUNTERS = ("next_seq", "round_index", "last_compact_seq")
_COMPACTION_COLUMNS = ("from_seq", "to_seq", "note_seq", "before_tokens", "after_tokens")


def owner_of(layout: Layout, rowid: int, stored: object) -> Owner:
    """Return the condition for a session's rows: by its stored id, or by its rowid if that id is not plain text."""
    if type(stored) is str:
        return Owner("session_id = ?", stored)
    return Owner(f"session_id = (SELECT session_id FROM {layout.table('sessions')} WHERE rowid = ?)", rowid)


def id_text(rowid: int, stored: object) -> str:
    """Return a session's id as it is shown. One that is not plain text gets its rowid, so that it stays unique."""
    if type(stored) is str:
        return stored
    return f"{text(stored, '', Damages()) or 'null'}@{rowid}"


def rowid_of(conn: sqlite3.Connection, layout: Layout, id_: str) -> int | None:
    """Return the rowid of the session that is shown with this id, None if there is none."""
    sessions = layout.table("sessions")
    try:
        row = conn.execute(f"SELECT rowid FROM {sessions} WHERE session_id = ?", (id_,)).fetchone()
    except UnicodeEncodeError:
        return None
    if row is not None:
        return int(row[0])
    id_with_rowid = _ID_WITH_ROWID.fullmatch(id_)
    if id_with_rowid is None or int(id_with_rowid[1]) > HIGHEST:
        return None
    row = conn.execute(f"SELECT rowid, session_id FROM {sessions} WHERE rowid = ?", (int(id_with_rowid[1]),)).fetchone()
    if row is None:
        return None
    rowid, stored = row
    return int(rowid) if type(stored) is not str and id_text(rowid, stored) == id_ else None


def title_of(metadata: Any) -> str | None:
    """Return `metadata.title`, else `metadata.name`, skipping values that are not strings or blank; else None."""
    values = metadata if isinstance(metadata, dict) else {}
    for key in ("title", "name"):
        value = values.get(key)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _select(layout: Layout) -> str:
    """Return the beginning of every statement that reads session rows."""
    columns = ", ".join(layout.column("sessions", column) for column in _COLUMNS)
    kinds = ", ".join(f"typeof({body})" if layout.has("sessions", body) else "'null'" for body in _BODIES)
    return f"SELECT rowid, session_id, {columns}, {kinds} FROM {layout.table('sessions')}"


class _Session:
    """A row of `_select`, decoded but for its bodies."""

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
        """The SQLite type of each body."""

    def _enum(self, value: object, column: str, known: set[str]) -> str:
        """Return a value as text, and note it as damage if it is not a known one."""
        shown = text(value, column, self.damages) or ""
        if shown not in known:
            self.damages.note(f"{column} {shown[:40]!r} is unknown")
        return shown

    def body(self, cells: Cells, column: str, limit: int) -> tuple[str | None, int]:
        """Return the first `limit` bytes of a body as text, None for NULL, and its whole size in bytes."""
        if self.kinds[column] == "null":
            return None, 0
        return cells.head(column, self.key, self.kinds[column], limit, column.removesuffix("_json"), self.damages)

    def json(self, cells: Cells, column: str) -> Any:
        """Return a decoded JSON body; its beginning as text if it is longer than JSON_BYTES.

        A value that is not an object is returned too, and noted as damage.
        """
        stored, size = self.body(cells, column, JSON_BYTES)
        if size > JSON_BYTES:
            return stored
        return parse_object(stored, column.removesuffix("_json"), self.damages)


def origin(row: tuple[Any, ...]) -> tuple[str | None, int]:
    """Return the parent's id that a row of `rows_by_key` names, and when the session was created, in milliseconds."""
    session = _Session(row)
    return session.parent_id, session.created_at or 0


def summary(
    conn: sqlite3.Connection, layout: Layout, row: tuple[Any, ...], owner: Owner, exact: bool = False
) -> SessionSummary:
    """Return a session's summary for a list. Reads at most a few hundred index entries and PREVIEW_ROWS messages.

    With `exact`, every message is counted, which reads all index entries of the session.
    """
    session = _Session(row)
    metadata = session.json(Cells(conn, layout.name("sessions")), "metadata_json")
    limit = 2**62 if exact else COUNT_LIMIT
    messages = layout.table("messages")
    counts = [
        conn.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {messages} WHERE {owner.condition}{state_condition} LIMIT ?)",
            (owner.value, limit + 1),
        ).fetchone()[0]
        for state_condition in ("", f" AND state = '{State.ACTIVE}'")
    ]
    # Above the limit messages are not counted; the highest seq is an estimate of their number.
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
    """Return how many compactions were not undone, of the first MAX_COMPACTIONS audit rows."""
    if not layout.has("compactions"):
        return 0
    rows = conn.execute(
        f"SELECT {', '.join(layout.column('compactions', column) for column in _COMPACTION_COLUMNS)} "
        f"FROM {layout.table('compactions')} WHERE {owner.condition} ORDER BY compact_seq LIMIT ?",
        (owner.value, MAX_COMPACTIONS),
    ).fetchall()
    if not rows:
        return 0
    undone, undoing = undone_compactions([CompactionRecord(0, *row) for row in rows])
    return len(rows) - len(undone) - len(undoing)


def preview_of(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> str:
    """Return the preview of the first user message that has one, else of the first assistant message that has one."""
    cells = Cells(conn, layout.name("messages"))
    fallback = ""
    for row in conn.execute(
        f"{select_messages(layout)} WHERE {owner.condition} ORDER BY seq LIMIT ?", (owner.value, PREVIEW_ROWS)
    ):
        role = row[2]
        if role not in ("user", "assistant"):
            continue
        line = preview_line(cells, row)
        if line and role == "user":
            return line
        fallback = fallback or line
    return fallback


def rows_by_key(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int]) -> list[tuple[Any, ...]]:
    """Return the rows of sessions by their keys (rowids), as `origin`, `summary` and `detail` take them."""
    return conn.execute(f"{_select(layout)} WHERE rowid IN ({','.join('?' * len(keys))})", list(keys)).fetchall()


def newest_keys(conn: sqlite3.Connection, layout: Layout, limit: int) -> list[int]:
    """Return the keys of sessions without a parent, the last created first."""
    where = "WHERE parent_session_id IS NULL " if layout.has("sessions", "parent_session_id") else ""
    return [
        key
        for (key,) in conn.execute(
            f"SELECT rowid FROM {layout.table('sessions')} {where}ORDER BY rowid DESC LIMIT ?", (limit,)
        )
    ]


def entries(conn: sqlite3.Connection, layout: Layout, after: int, limit: int) -> Iterator[TableEntry]:
    """Yield the session table's entries of the next `limit` sessions after a key."""
    columns = ", ".join(
        layout.column("sessions", column) for column in ("parent_session_id", "created_at", "updated_at", "kind")
    )
    metadata = "NULL"
    if layout.has("sessions", "metadata_json"):
        metadata = f"CASE WHEN length(metadata_json) <= {JSON_BYTES} THEN metadata_json END"
    last_compact = "last_compact_seq" if layout.has("session_state", "last_compact_seq") else "NULL"
    sessions, states = layout.table("sessions"), layout.table("session_state")
    rows = conn.execute(
        f"SELECT rowid, session_id, {columns}, {metadata}, "
        f"(SELECT next_seq FROM {states} WHERE session_id = {sessions}.session_id), "
        f"(SELECT {last_compact} FROM {states} WHERE session_id = {sessions}.session_id) "
        f"FROM {sessions} WHERE rowid > ? ORDER BY rowid LIMIT ?",
        (after, limit),
    )
    ignored = Damages()
    for key, id_, parent, created, updated, kind, stored, next_seq, compact_seq in rows:
        # Parsing the metadata of every session would be slow, and few have a title.
        may_have_title = isinstance(stored, str) and ('"title"' in stored or '"name"' in stored)
        yield TableEntry(
            key,
            id_text(key, id_),
            text(parent, "", ignored),
            number(created, "", ignored) or 0,
            number(updated, "", ignored) or 0,
            max(0, (number(next_seq, "", ignored) or 1) - 1),
            number(compact_seq, "", ignored) or 0,
            kind == "subagent",
            title_of(parse(stored, "", ignored)) if may_have_title else None,
        )


def detail(conn: sqlite3.Connection, layout: Layout, row: tuple[Any, ...], owner: Owner) -> SessionDetail:
    """Return everything about a session except its messages. Long values are cut."""
    session = _Session(row)
    cells = Cells(conn, layout.name("sessions"))
    prompt, prompt_size = session.body(cells, "system_prompt", PROMPT_BYTES)
    columns = ", ".join(layout.column("session_state", column) for column in _COUNTERS)
    pending_kind = "typeof(pending_json)" if layout.has("session_state", "pending_json") else "'null'"
    state = conn.execute(
        f"SELECT rowid, {pending_kind}, {columns} FROM {layout.table('session_state')} WHERE {owner.condition}",
        (owner.value,),
    ).fetchone()
    if state is None:
        session.damages.note("its bookkeeping (session_state) is missing")
        state = (0, "null", None, None, None)
    state_rowid, kind, *counters = state
    next_seq, round_index, compact_seq = (
        number(value, name, session.damages) for value, name in zip(counters, _COUNTERS, strict=True)
    )
    pending, pending_size = Cells(conn, layout.name("session_state")).head(
        "pending_json", state_rowid, kind, JSON_BYTES, "pending", session.damages
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
    """Return (seq, name) of each call without a result in the active ones of the newest messages.

    The name of a call that has none is its id. `highest` is the session's highest seq.
    """
    if not layout.has("messages", "tool_calls_json") or not layout.has("messages", "tool_call_id"):
        return ()
    cells, damages = Cells(conn, layout.name("messages")), Damages()
    open_calls: dict[str, tuple[int, str]] = {}
    for rowid, seq, role, state, answers, kind in conn.execute(
        f"SELECT rowid, seq, role, state, tool_call_id, typeof(tool_calls_json) FROM {layout.table('messages')} "
        f"WHERE {owner.condition} AND seq BETWEEN ? AND ? ORDER BY seq",
        (owner.value, highest - NEWEST_SEQS, highest),
    ):
        if role == "tool":
            # A result without an id answers the oldest call without one.
            answered_key = answers or next((key for key in open_calls if key.startswith("\0")), "")
            open_calls.pop(answered_key, None)
        if kind == "null" or state != State.ACTIVE or not isinstance(seq, int):
            continue
        stored, size = cells.head("tool_calls_json", rowid, kind, JSON_BYTES, "tool_calls", damages)
        if size > JSON_BYTES:
            continue
        for index, call in enumerate(tool_calls(parse(stored, "tool_calls", damages), damages)):
            # The key of a call without an id begins with NUL, so that it equals no id.
            open_calls[call.id or f"\0{seq} {index}"] = (seq, call.name or call.id or "?")
    return tuple(open_calls.values())
