"""The facts of one session that the doctor and a compaction need, read at once and without bodies."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionscope.store.io.sqlitefile import BrokenText
from sessionscope.store.model.outline import Outline, runs_of
from sessionscope.store.model.rows import Audit, Ref, Spot, State
from sessionscope.store.powerloop.format.decode import note_span
from sessionscope.store.powerloop.format.layout import NOTE_NAME, Layout
from sessionscope.store.rules.values import Damages, calls_made, parse

from . import audit
from .messages import HEAD_CHARS, Owner
from .sessions import id_text, owner_of

_MESSAGE = (
    "seq",
    "role",
    "name",
    "state",
    "tool_call_id",
    "tool_calls_json",
    "meta_json",
    "round_index",
    "created_at",
    "send_index",
)
_AUDIT_COLUMNS = ("compact_seq", "note_seq", "from_seq", "to_seq", "before_tokens", "after_tokens", "round_index")
SEQ_COLUMNS = (
    ("project_messages", "source_seq_lo"),
    ("project_messages", "source_seq_hi"),
    ("hook_events", "message_seq"),
    ("follow_up_queue", "delivered_seq"),
)
"""The columns in which later releases name a message by its seq."""
_ACTIVE, _COMPACTED = State.ACTIVE.value, State.COMPACTED.value


class CallFacts(Struct, frozen=True):
    """A tool call, by the position of its row and its own position in that row."""

    row: int
    at: int
    id: str | None
    name: str | None


class MessageFacts(Struct, gc=False):
    """A message.

    `bad` are columns whose JSON does not parse, `odd` those in which it is not of the expected kind. If bodies were
    asked for, `size` counts the characters of its content and its calls, and `head` is how the content begins.
    """

    rowid: int
    seq: int
    role: Any
    name: Any
    state: Any
    answers: Any
    calls: tuple[tuple[str | None, str | None], ...]
    stored_calls: Any
    meta: Any
    round_index: Any
    created_at: Any
    send_index: Any
    bad: tuple[str, ...]
    unusual: tuple[str, ...]
    size: int = 0
    head: Any = None

    @property
    def active(self) -> bool:
        return bool(self.state == _ACTIVE)

    @property
    def note(self) -> bool:
        return bool(self.name == NOTE_NAME)


class AuditRow(Struct, frozen=True):
    """An audit row."""

    rowid: int
    number: Any
    note_seq: Any
    from_seq: Any
    to_seq: Any
    before: Any
    after: Any
    round_index: Any


class SessionFacts(Struct):
    """The facts of a session.

    `session` and `state` are columns as they are stored; `state` is None if it has no row. `rows_without_seq` are the
    rowids of messages whose seq is no whole number. `mentions` are (table, rowid, column, seq) of other tables.
    """

    ref: Ref
    key: int
    stored_id: Any
    session: dict[str, Any]
    state_rowid: int | None
    state: dict[str, Any] | None
    rows: list[MessageFacts]
    rows_without_seq: list[int]
    audit_rows: list[AuditRow]
    audit: Audit
    mentions: list[tuple[str, int, str, int]]

    def spot(self, row: MessageFacts | None = None) -> Spot:
        """Return the place of the session, or of a row of it."""
        return Spot(self.ref, str(row.seq), row.seq) if row is not None else Spot(self.ref)

    @property
    def highest(self) -> int:
        return self.rows[-1].seq if self.rows else 0


def keys(conn: sqlite3.Connection, layout: Layout) -> list[int]:
    """Return the storage keys of all sessions."""
    return [key for (key,) in conn.execute(f"SELECT rowid FROM {layout.table('sessions')} ORDER BY rowid")]


def read_facts(conn: sqlite3.Connection, layout: Layout, key: int, bodies: bool = False) -> SessionFacts | None:
    """Return one session by its storage key, None if it no longer exists; with `bodies` also their lengths and
    beginnings.
    """
    session = _one(conn, f"SELECT * FROM {layout.table('sessions')} WHERE rowid = ?", key)
    if session is None:
        return None
    stored = session["session_id"]
    owner = owner_of(layout, key, stored)
    state = _one(
        conn, f'SELECT rowid AS " rowid", * FROM {layout.table("session_state")} WHERE {owner.condition}', owner.value
    )
    rows, rows_without_seq = _rows(conn, layout, owner, bodies)
    audit_rows = _audit_rows(conn, layout, owner)
    return SessionFacts(
        ref=Ref(layout.prefix, id_text(key, stored)),
        key=key,
        stored_id=stored,
        session=session,
        state_rowid=state.pop(" rowid") if state else None,
        state=state,
        rows=rows,
        rows_without_seq=rows_without_seq,
        audit_rows=audit_rows,
        audit=_audit(conn, layout, owner, rows, rows_without_seq, bool(audit_rows)),
        mentions=_mentions(conn, layout, owner),
    )


def _one(conn: sqlite3.Connection, statement: str, value: Any) -> dict[str, Any] | None:
    cursor = conn.execute(statement, (value,))
    found = cursor.fetchone()
    return {column[0]: value for column, value in zip(cursor.description, found, strict=True)} if found else None


def _rows(conn: sqlite3.Connection, layout: Layout, owner: Owner, bodies: bool) -> tuple[list[MessageFacts], list[int]]:
    rows, rows_without_seq = [], []
    columns = ", ".join(layout.column("messages", column) for column in _MESSAGE)
    head_column = f"substr(content, 1, {HEAD_CHARS})" if layout.has("messages", "content") else "NULL"
    body = f"{layout.chars}, {head_column}" if bodies else "0, NULL"
    for rowid, seq, role, name, state, answers, calls, meta, round_index, created_at, send, size, head in conn.execute(
        f"SELECT rowid, {columns}, {body} FROM {layout.table('messages')} WHERE {owner.condition} ORDER BY seq",
        (owner.value,),
    ):
        if type(seq) is not int:
            rows_without_seq.append(rowid)
            continue
        if not calls and (not meta or meta == "{}"):
            # Most rows: nothing in them needs to be parsed.
            rows.append(
                MessageFacts(
                    rowid,
                    seq,
                    role,
                    name,
                    state,
                    answers,
                    (),
                    None,
                    None,
                    round_index,
                    created_at,
                    send,
                    (),
                    (),
                    size,
                    head,
                )
            )
            continue
        bad: list[str] = []
        unusual: list[str] = []
        called = _value(calls, "tool_calls_json", bad) if calls else None
        named = Damages()
        made = calls_made(called, named)
        if named and not bad:
            unusual.append("tool_calls_json")
        values = _object(meta, "meta_json", bad, unusual) if meta and meta != "{}" else None
        rows.append(
            MessageFacts(
                rowid,
                seq,
                role,
                name,
                state,
                answers,
                made,
                called,
                values if name == NOTE_NAME else None,
                round_index,
                created_at,
                send,
                tuple(bad),
                tuple(unusual),
                size,
                head,
            )
        )
    return rows, rows_without_seq


def _value(stored: Any, column: str, bad: list[str]) -> Any:
    """Return what a JSON column holds, None if it does not parse."""
    damages = Damages()
    plain = type(stored) is str and not isinstance(stored, BrokenText)
    value = parse(stored, column, damages) if plain else None
    if damages or not plain:
        bad.append(column)
        return None
    return value


def _object(stored: Any, column: str, bad: list[str], unusual: list[str]) -> Any:
    value = _value(stored, column, bad)
    if value is not None and not isinstance(value, dict):
        unusual.append(column)
    return value


def troubles(values: dict[str, Any], columns: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns whose JSON does not parse, and those that hold no object."""
    bad: list[str] = []
    unusual: list[str] = []
    for column in columns:
        if values.get(column):
            _object(values[column], column, bad, unusual)
    return tuple(bad), tuple(unusual)


def _audit_rows(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> list[AuditRow]:
    if not layout.has("compactions"):
        return []
    columns = ", ".join(layout.column("compactions", column) for column in _AUDIT_COLUMNS)
    return [
        AuditRow(*row)
        for row in conn.execute(
            f"SELECT rowid, {columns} FROM {layout.table('compactions')} WHERE {owner.condition} ORDER BY compact_seq",
            (owner.value,),
        )
    ]


def _audit(
    conn: sqlite3.Connection,
    layout: Layout,
    owner: Owner,
    rows: list[MessageFacts],
    rows_without_seq: list[int],
    audit_rows: bool,
) -> Audit:
    if not audit_rows and not any(row.state == _COMPACTED for row in rows):
        return Audit([])
    seqs: dict[str, list[int]] = {}
    for row in rows:
        seqs.setdefault(str(row.state), []).append(row.seq)
    spans = ((row.seq, note_span(NOTE_NAME, row.meta)) for row in rows if layout.by_ord and row.note and row.active)
    notes = [(span.ord, seq) for seq, span in spans if span and span.ord is not None and span.ord != seq]
    outline = Outline({state: runs_of(some) for state, some in seqs.items()}, notes, rows_without_seq)
    return audit.audit(lambda work: work(conn), layout, owner, outline)


def _mentions(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> list[tuple[str, int, str, int]]:
    return [
        (table, rowid, column, seq)
        for table, column in SEQ_COLUMNS
        if layout.has(table, column)
        for rowid, seq in conn.execute(
            f"SELECT rowid, {column} FROM {layout.table(table)} WHERE {owner.condition}", (owner.value,)
        )
        if type(seq) is int
    ]
