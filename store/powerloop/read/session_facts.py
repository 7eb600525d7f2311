"""The facts of one session that the doctor and a compaction need, read at once. Message bodies stay on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionscope.store.model.outline import Outline, runs_of
from sessionscope.store.model.rows import Audit, Ref, Spot, State
from sessionscope.store.powerloop.format.layout import NOTE_NAME, Layout
from sessionscope.store.rules.values import Damages, calls_made, parse

from . import audit
from .messages import HEAD_CHARS, Owner
from .sessions import id_text, owner_of

_MESSAGE_COLUMNS = (
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
"""The columns in which later releases name a message by its seq, as (table, column)."""
_ACTIVE = State.ACTIVE.value
_COMPACTED = State.COMPACTED.value


class CallFacts(Struct, frozen=True):
    """A tool call of a message."""

    message_index: int
    """The position of the message that makes it, in `SessionFacts.rows`."""
    call_index: int
    """Its position among the calls of that message."""
    id: str | None
    name: str | None


class MessageFacts(Struct, gc=False):
    """A message whose seq is an integer. Fields of type Any are as they are stored, so they may have any type."""

    rowid: int
    seq: int
    role: Any
    name: Any
    state: Any
    tool_call_id: Any
    """The id of the call that this message is the result of."""
    calls: tuple[tuple[str | None, str | None], ...]
    """The id and the name of each tool call that it makes."""
    meta: Any
    """The decoded meta of a compaction note, None for other messages."""
    round_index: Any
    created_at: Any
    send_index: Any
    invalid_json: tuple[str, ...]
    """The columns whose value is not valid JSON."""
    wrong_type: tuple[str, ...]
    """The columns whose JSON is not of the expected type: an object, or a list of tool calls."""
    size: int = 0
    """The characters of its content and its tool calls; 0 unless read with `bodies`."""
    head: Any = None
    """The beginning of its content; None unless read with `bodies`."""

    @property
    def active(self) -> bool:
        """Return whether the message is in the context."""
        return bool(self.state == _ACTIVE)

    @property
    def note(self) -> bool:
        """Return whether the message is a compaction note."""
        return bool(self.name == NOTE_NAME)


class AuditRow(Struct, frozen=True):
    """An audit row, which records one compaction, with its values as they are stored."""

    rowid: int
    number: Any
    note_seq: Any
    from_seq: Any
    to_seq: Any
    before_tokens: Any
    after_tokens: Any
    round_index: Any


class SessionFacts(Struct):
    """The facts of a session."""

    ref: Ref
    key: int
    """The storage key (rowid) of the session."""
    stored_id: Any
    """The session's id as it is stored."""
    session: dict[str, Any]
    """The session's row: column to stored value."""
    state_rowid: int | None
    """The rowid of its bookkeeping in session_state, None if that has no row."""
    state: dict[str, Any] | None
    """Its bookkeeping in session_state: column to stored value, None if that has no row."""
    rows: list[MessageFacts]
    """Its messages in the order of their seqs."""
    rows_without_seq: list[int]
    """The rowids of messages whose seq is not an integer."""
    audit_rows: list[AuditRow]
    audit: Audit
    mentions: list[tuple[str, int, str, int]]
    """Seqs in other tables (`SEQ_COLUMNS`), as (table, rowid, column, seq)."""

    def spot(self, row: MessageFacts | None = None) -> Spot:
        """Return the spot of the session, or of one of its messages."""
        return Spot(self.ref, str(row.seq), row.seq) if row is not None else Spot(self.ref)

    @property
    def highest(self) -> int:
        """Return the highest seq, 0 if there are no messages."""
        return self.rows[-1].seq if self.rows else 0

    @property
    def highest_audit_number(self) -> int:
        """Return the highest number of an audit row, 0 if there are none."""
        return max((audit_row.number for audit_row in self.audit_rows if type(audit_row.number) is int), default=0)


def session_keys(conn: sqlite3.Connection, layout: Layout) -> list[int]:
    """Return the storage keys of all sessions, in ascending order."""
    return [key for (key,) in conn.execute(f"SELECT rowid FROM {layout.table('sessions')} ORDER BY rowid")]


def read_facts(conn: sqlite3.Connection, layout: Layout, key: int, bodies: bool = False) -> SessionFacts | None:
    """Read one session by its storage key; None if it no longer exists.

    With `bodies`, messages have their `size` and `head` too.
    """
    session = _read_record(conn, f"SELECT * FROM {layout.table('sessions')} WHERE rowid = ?", key)
    if session is None:
        return None
    stored_id = session["session_id"]
    owner = owner_of(layout, key, stored_id)
    # The space in its name keeps the rowid apart from any real column.
    state = _read_record(
        conn, f'SELECT rowid AS " rowid", * FROM {layout.table("session_state")} WHERE {owner.condition}', owner.value
    )
    rows, rows_without_seq = _read_messages(conn, layout, owner, bodies)
    audit_rows = _read_audit_rows(conn, layout, owner)
    return SessionFacts(
        ref=Ref(layout.prefix, id_text(key, stored_id)),
        key=key,
        stored_id=stored_id,
        session=session,
        state_rowid=state.pop(" rowid") if state else None,
        state=state,
        rows=rows,
        rows_without_seq=rows_without_seq,
        audit_rows=audit_rows,
        audit=_audit(conn, layout, owner, rows, bool(audit_rows)),
        mentions=_read_mentions(conn, layout, owner),
    )


def _read_record(conn: sqlite3.Connection, statement: str, value: Any) -> dict[str, Any] | None:
    """Return the first row that a statement with one parameter selects, as column to value; None if there is none."""
    cursor = conn.execute(statement, (value,))
    row = cursor.fetchone()
    if row is None:
        return None
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def _read_messages(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, bodies: bool
) -> tuple[list[MessageFacts], list[int]]:
    """Return the messages of a session in the order of their seqs, and the rowids of those without an integer seq."""
    rows: list[MessageFacts] = []
    rows_without_seq: list[int] = []
    columns = ", ".join(layout.column("messages", column) for column in _MESSAGE_COLUMNS)
    body_columns = "0, NULL"
    if bodies:
        head_column = f"substr(content, 1, {HEAD_CHARS})" if layout.has("messages", "content") else "NULL"
        body_columns = f"{layout.chars}, {head_column}"
    for rowid, seq, role, name, state, answers, calls, meta, round_index, created_at, send, size, head in conn.execute(
        f"SELECT rowid, {columns}, {body_columns} FROM {layout.table('messages')} WHERE {owner.condition} ORDER BY seq",
        (owner.value,),
    ):
        if type(seq) is not int:
            rows_without_seq.append(rowid)
            continue
        if calls or (meta and meta != "{}"):
            made_calls, note_meta, invalid_json, wrong_type = _decode_json(name, calls, meta)
        else:
            # Most messages have neither tool calls nor meta, so there is nothing to decode.
            made_calls, note_meta, invalid_json, wrong_type = (), None, (), ()
        rows.append(
            MessageFacts(
                rowid,
                seq,
                role,
                name,
                state,
                answers,
                made_calls,
                note_meta,
                round_index,
                created_at,
                send,
                invalid_json,
                wrong_type,
                size,
                head,
            )
        )
    return rows, rows_without_seq


def _decode_json(
    name: Any, stored_calls: Any, stored_meta: Any
) -> tuple[tuple[tuple[str | None, str | None], ...], Any, tuple[str, ...], tuple[str, ...]]:
    """Decode the JSON columns of a message to the fields of `MessageFacts`: calls, meta, invalid_json, wrong_type."""
    invalid_json: list[str] = []
    wrong_type: list[str] = []
    calls: tuple[tuple[str | None, str | None], ...] = ()
    if stored_calls:
        call_damages = Damages()
        calls = calls_made(_decode(stored_calls, "tool_calls_json", invalid_json), call_damages)
        if call_damages and not invalid_json:
            wrong_type.append("tool_calls_json")
    meta = None
    if stored_meta and stored_meta != "{}":
        meta = _decode_object(stored_meta, "meta_json", invalid_json, wrong_type)
    note_meta = meta if name == NOTE_NAME else None
    return calls, note_meta, tuple(invalid_json), tuple(wrong_type)


def _decode(stored: Any, column: str, invalid_json: list[str]) -> Any:
    """Decode a JSON column. If it is not valid JSON in valid text, return None and add the column to `invalid_json`."""
    if type(stored) is str:
        damages = Damages()
        value = parse(stored, column, damages)
        if not damages:
            return value
    invalid_json.append(column)
    return None


def _decode_object(stored: Any, column: str, invalid_json: list[str], wrong_type: list[str]) -> Any:
    """Decode a JSON column that should hold an object. If it holds another value, add the column to `wrong_type`."""
    value = _decode(stored, column, invalid_json)
    if value is not None and not isinstance(value, dict):
        wrong_type.append(column)
    return value


def json_problems(values: dict[str, Any], columns: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return those of the JSON columns whose value is not valid JSON, and those whose value is not an object."""
    invalid_json: list[str] = []
    wrong_type: list[str] = []
    for column in columns:
        if values.get(column):
            _decode_object(values[column], column, invalid_json, wrong_type)
    return tuple(invalid_json), tuple(wrong_type)


def _read_audit_rows(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> list[AuditRow]:
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
    conn: sqlite3.Connection, layout: Layout, owner: Owner, rows: list[MessageFacts], has_audit_rows: bool
) -> Audit:
    """Return the compactions of a session whose messages were read already."""
    if not has_audit_rows and not any(row.state == _COMPACTED for row in rows):
        return Audit([])
    seqs_by_state: dict[str, list[int]] = {}
    for row in rows:
        seqs_by_state.setdefault(str(row.state), []).append(row.seq)
    # An audit needs only the states of an outline, not the order of its notes.
    outline = Outline({state: runs_of(seqs) for state, seqs in seqs_by_state.items()})
    return audit.audit(lambda work: work(conn), layout, owner, outline)


def _read_mentions(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> list[tuple[str, int, str, int]]:
    return [
        (table, rowid, column, seq)
        for table, column in SEQ_COLUMNS
        if layout.has(table, column)
        for rowid, seq in conn.execute(
            f"SELECT rowid, {column} FROM {layout.table(table)} WHERE {owner.condition}", (owner.value,)
        )
        if type(seq) is int
    ]
