"""Messages read from a database: a window of a timeline, or one message. Bodies are read in bounded pieces."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionscope.store.io.sqlitefile import Read
from sessionscope.store.model.outline import Display, StretchKind
from sessionscope.store.model.rows import Count, Message, State, TimelineRow
from sessionscope.store.powerloop.format.decode import HIGHEST, LOWEST, Cells, decode_bytes, note_span, number, text
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.rules.preview import preview
from sessionscope.store.rules.values import Damages, character_at, names_in, parse, parse_object, tool_calls, words_of

NAME_CHARS = 2_000
"""How many characters of a short column, such as a name, are read."""
HEAD_CHARS = 200
"""How many characters of its content a timeline shows of a message."""
HEAD_BYTES = 4_096
"""How many bytes of content are read for a timeline or a preview."""
CALLS_BYTES = 16_384
"""The longest tool calls that a timeline decodes, in bytes; of longer ones it shows the first names."""
META_BYTES = 65_536
"""The longest meta that a timeline decodes, in bytes."""
_STATES = {State.ACTIVE, State.COMPACTED, State.DROPPED}
_COLUMNS = ("role", "name", "tool_call_id", "round_index", "state", "created_at", "send_index")
"""The short columns, which are read with the row."""
_BODIES = ("content", "tool_calls_json", "meta_json")
"""The long columns, which are read in pieces."""
_KEY = re.compile(r"@?-?[0-9]{1,19}")
_SEPARATOR = re.compile(r"[\s,]*")


class Owner(Struct, frozen=True):
    """The condition of a statement that selects the rows of one session, with its one parameter."""

    condition: str
    value: str | int


def select(layout: Layout) -> str:
    """Return the beginning of every statement that reads message rows for `timeline_row`, `message`, `preview_line`."""
    # Names are short, but a damaged one of many megabytes must not be loaded for every row.
    columns = [
        f"CASE WHEN typeof({column}) IN ('text', 'blob') THEN substr({column}, 1, {NAME_CHARS}) ELSE {column} END"
        if layout.has("messages", column)
        else "NULL"
        for column in _COLUMNS
    ]
    # Bodies are opened as BLOBs later. Numbers in a TEXT column cannot be opened, but they are small.
    for body in _BODIES:
        if layout.has("messages", body):
            columns.append(f"typeof({body})")
            columns.append(f"CASE WHEN typeof({body}) IN ('integer', 'real') THEN {body} END")
        else:
            columns += ["'null'", "NULL"]
    return f"SELECT rowid, seq, {', '.join(columns)} FROM {layout.table('messages')}"


def by_seqs(layout: Layout, owner: Owner, seqs: Sequence[int]) -> tuple[str, list[str | int]]:
    """Return a statement, with its parameters, for the rows with these ascending seqs."""
    head = f"{select(layout)} WHERE {owner.condition} AND seq "
    if len(seqs) == seqs[-1] - seqs[0] + 1:
        return f"{head}BETWEEN ? AND ? ORDER BY seq", [owner.value, seqs[0], seqs[-1]]
    return f"{head}IN ({','.join('?' * len(seqs))})", [owner.value, *seqs]


def by_rowids(layout: Layout, rowids: Sequence[int]) -> tuple[str, list[str | int]]:
    """Return a statement, with its parameters, for rows by their rowids."""
    return f"{select(layout)} WHERE rowid IN ({','.join('?' * len(rowids))})", list(rowids)


def state_of(seq: object, stored: object) -> str:
    """Return the state to show: "damaged" if the stored state is not text or the seq is not an integer."""
    return str(stored) if isinstance(stored, str) and isinstance(seq, int) else State.DAMAGED.value


def highest_seq(conn: sqlite3.Connection, layout: Layout, owner: Owner, lowest: bool = False) -> int:
    """Return the highest integer seq of a session, or with `lowest` the lowest; 0 if there is none."""
    row = conn.execute(
        f"SELECT seq FROM {layout.table('messages')} WHERE {owner.condition} AND seq < 1e300 "
        f"AND typeof(seq) = 'integer' ORDER BY seq {'ASC' if lowest else 'DESC'} LIMIT 1",
        (owner.value,),
    ).fetchone()
    return int(row[0]) if row else 0


class _MessageRow:
    """A row of `select`, decoded but for its bodies."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.damages = damages = Damages()
        self.rowid: int = row[0]
        self.seq = row[1] if isinstance(row[1], int) else None
        if self.seq is None:
            damages.note("seq is not a whole number")
        self.role = text(row[2], "role", damages) or ""
        self.name = text(row[3], "name", damages)
        self.tool_call_id = text(row[4], "tool_call_id", damages)
        self.round_index = number(row[5], "round_index", damages)
        self.state = state_of(row[1], row[6])
        if text(row[6], "state", damages) not in _STATES:
            damages.note(f"state {self.state[:40]!r} is unknown")
        self.created_at = number(row[7], "created_at", damages)
        self.send_index = number(row[8], "send_index", damages)
        self.kinds = dict(zip(_BODIES, row[9::2], strict=True))
        """The SQLite type of each body."""
        self.numbers = dict(zip(_BODIES, row[10::2], strict=True))
        """The value of each body that is stored as a number, else None."""
        self.row = str(self.seq) if self.seq is not None else f"@{self.rowid}"

    def head(self, cells: Cells, column: str, limit: int) -> tuple[str, int]:
        """Return the first `limit` bytes of a body as text, and its whole size in bytes."""
        if self.numbers[column] is not None:
            shown = text(self.numbers[column], _label(column), self.damages) or ""
            return shown, len(shown)
        return cells.head(column, self.rowid, self.kinds[column], limit, _label(column), self.damages)

    def json(self, cells: Cells, column: str, limit: int) -> tuple[Any, int]:
        """Return a decoded JSON body, None if it is longer than `limit` bytes, and its whole size in bytes."""
        stored, size = self.head(cells, column, limit)
        if size > limit:
            return None, size
        decode = parse_object if column == "meta_json" else parse
        return decode(stored, _label(column), self.damages), size


def _label(column: str) -> str:
    """Return the name of a column in notes about damage."""
    return column.removesuffix("_json")


def timeline_row(cells: Cells, row: tuple[Any, ...]) -> TimelineRow:
    """Return one row of a timeline from a row of `by_seqs` or `by_rowids`."""
    decoded = _MessageRow(row)
    meta, _ = decoded.json(cells, "meta_json", META_BYTES)
    head, size = decoded.head(cells, "content", HEAD_BYTES)
    if _is_encoded(meta):
        blocks = parse(head, "content", decoded.damages) if size <= HEAD_BYTES else _first_blocks(head)
        head = words_of(blocks) or head
    calls, calls_size = decoded.json(cells, "tool_calls_json", CALLS_BYTES)
    if calls_size > CALLS_BYTES:
        data, _ = cells.read("tool_calls_json", decoded.rowid, decoded.kinds["tool_calls_json"], 0, CALLS_BYTES)
        tools: tuple[str, ...] = (*names_in(data), "…")
    else:
        tools = tuple(call.name or "?" for call in tool_calls(calls, decoded.damages))
    return TimelineRow(
        row=decoded.row,
        seq=decoded.seq,
        state=decoded.state,
        role=decoded.role,
        name=decoded.name,
        round_index=decoded.round_index,
        tools=tools,
        calls=calls_size > 0,
        tool_call_id=decoded.tool_call_id,
        size=size + calls_size,
        head=head[:HEAD_CHARS],
        created_at=decoded.created_at,
        note=note_span(decoded.name, meta),
        damage=tuple(decoded.damages),
    )


def _is_encoded(meta: Any) -> bool:
    """Return whether the content column holds a multimodal list as JSON (power-loop 3.5.0 and later)."""
    return isinstance(meta, dict) and meta.get("content_encoding") == "json"


def _first_blocks(stored: str) -> list[Any]:
    """Return the complete blocks in the beginning of an encoded content, and one that stands for the rest."""
    # Imported only here: few contents are lists too long to be read whole.
    import json

    decoder = json.JSONDecoder()
    blocks: list[Any] = []
    position = stored.find("[") + 1
    while position:
        separator = _SEPARATOR.match(stored, position)
        start = separator.end() if separator else position
        try:
            block, position = decoder.raw_decode(stored, start)
        except (ValueError, RecursionError):
            break
        blocks.append(block)
    return [*blocks, {"type": "…"}]


def preview_line(cells: Cells, row: tuple[Any, ...]) -> str:
    """Return the preview of a message from a row of `select`."""
    decoded = _MessageRow(row)
    content: Any
    content, size = decoded.head(cells, "content", HEAD_BYTES)
    if content.startswith("[") and _is_encoded(decoded.json(cells, "meta_json", META_BYTES)[0]):
        content = parse(content, "", decoded.damages) if size <= HEAD_BYTES else _first_blocks(content)
    return preview(content)


class MessageTimeline:
    """A `Timeline` of messages: a display maps positions to seqs, and one statement reads a window of them."""

    def __init__(self, read: Read, layout: Layout, owner: Owner, display: Display, exact: bool, about: str) -> None:
        self._read = read
        self._layout = layout
        self._owner = owner
        self._display = display
        self.length = Count(len(display), exact)
        self.highest = display.highest
        self.digits = len(str(self.highest))
        self.about = about

    def locate(self, seq: int) -> int | None:
        return self._display.locate(seq)

    def nearest(self, seq: int) -> int:
        return self._display.nearest(seq)

    def window(self, start: int, stop: int) -> list[TimelineRow]:
        stretches = self._display.slice(start, stop)
        seqs = sorted(
            seq for kind, first, last in stretches if kind is StretchKind.ROWS for seq in range(first, last + 1)
        )
        rows_without_seq = [first for kind, first, _ in stretches if kind is StretchKind.WITHOUT_SEQ]

        def work(conn: sqlite3.Connection) -> dict[str, TimelineRow]:
            cells = Cells(conn, self._layout.name("messages"))
            statements = []
            if seqs:
                statements.append(by_seqs(self._layout, self._owner, seqs))
            if rows_without_seq:
                statements.append(by_rowids(self._layout, rows_without_seq))
            rows: dict[str, TimelineRow] = {}
            for statement, values in statements:
                for stored in conn.execute(statement, values).fetchall():
                    row = timeline_row(cells, stored)
                    rows[row.row or ""] = row
            return rows

        rows: dict[str, TimelineRow] = self._read(work) if seqs or rows_without_seq else {}
        # A row may have been deleted since the display was made; it is then shown as a hole.
        timeline_rows: list[TimelineRow] = []
        for kind, first, last in stretches:
            if kind is StretchKind.HOLE:
                timeline_rows.append(_hole(first, last))
            elif kind is StretchKind.WITHOUT_SEQ:
                timeline_rows.append(rows.get(f"@{first}") or _hole(first, first))
            else:
                timeline_rows.extend(rows.get(str(seq)) or _hole(seq, seq) for seq in range(first, last + 1))
        return timeline_rows


def _hole(first: int, last: int) -> TimelineRow:
    """Return the row that represents missing seqs."""
    return TimelineRow(row=None, seq=None, state=State.HOLE.value, hole=(first, last))


def key_of(row: str) -> int | None:
    """Return the number in a row's identity, a seq or (after `@`) a rowid; None if the identity is invalid."""
    if not _KEY.fullmatch(row):
        return None
    key = int(row.removeprefix("@"))
    return key if LOWEST <= key <= HIGHEST else None


def message(conn: sqlite3.Connection, layout: Layout, owner: Owner, row: str, start: int, stop: int) -> Message | None:
    """Return one message with bytes `start` to `stop` of its content; None if it no longer exists."""
    key = key_of(row)
    if key is None:
        return None
    statement, values = by_rowids(layout, [key]) if row.startswith("@") else by_seqs(layout, owner, [key])
    stored = conn.execute(statement, values).fetchone()
    if stored is None:
        return None
    cells = Cells(conn, layout.name("messages"))
    decoded = _MessageRow(stored)
    json_limit = max(META_BYTES, stop - start)
    meta, _ = decoded.json(cells, "meta_json", json_limit)
    calls, _ = decoded.json(cells, "tool_calls_json", json_limit)
    content, start, stop, size, parts = _content(cells, decoded, meta, start, stop)
    raw = {
        "seq": str(stored[1]),
        **{column: _as_text(value) for column, value in zip(_COLUMNS, stored[2:9], strict=True)},
        "content": content,
        "tool_calls_json": _raw_body(cells, decoded, "tool_calls_json", json_limit),
        "meta_json": _raw_body(cells, decoded, "meta_json", json_limit),
    }
    return Message(
        row=decoded.row,
        seq=decoded.seq,
        state=decoded.state,
        role=decoded.role,
        name=decoded.name,
        content=content,
        start=start,
        stop=stop,
        size=size,
        parts=parts,
        tool_calls=tool_calls(calls, decoded.damages),
        tool_call_id=decoded.tool_call_id,
        round_index=decoded.round_index,
        send_index=decoded.send_index,
        meta=meta,
        created_at=decoded.created_at,
        raw={column: value for column, value in raw.items() if column == "seq" or layout.has("messages", column)},
        note=note_span(decoded.name, meta),
        damage=tuple(decoded.damages),
    )


def _content(
    cells: Cells, decoded: _MessageRow, meta: Any, start: int, stop: int
) -> tuple[str | None, int, int, int, list[Any] | None]:
    """Read bytes `start` to `stop` of a content, moved to the boundaries of characters.

    Returns the piece as text, the bytes at which it starts and stops, the size of the whole content in bytes, and its
    blocks if the piece is a whole multimodal content.
    """
    kind = decoded.kinds["content"]
    if decoded.numbers["content"] is not None or kind == "null":
        shown = text(decoded.numbers["content"], "content", decoded.damages)
        size = len(shown or "")
        return shown, 0, size, size, None
    # A character has at most four bytes. The three bytes before `start` show whether it lies within a character, and
    # four bytes after it are enough for each piece to hold a character.
    read_start = max(0, start - 3)
    data, size = cells.read("content", decoded.rowid, kind, read_start, max(stop, start + 4))
    if kind == "blob":
        decoded.damages.note("content is a BLOB, not text")
    first = character_at(data, min(start - read_start, len(data)))
    last = len(data)
    if read_start + len(data) < size:
        last = character_at(data, len(data))
    content = decode_bytes(data[first:last], "content", decoded.damages)
    is_whole = read_start + first == 0 and last == size
    blocks = parse(content, "content", decoded.damages) if is_whole and _is_encoded(meta) else None
    return content, read_start + first, read_start + last, size, blocks if isinstance(blocks, list) else None


def _as_text(value: object) -> str | None:
    return text(value, "", Damages())


def _raw_body(cells: Cells, decoded: _MessageRow, column: str, limit: int) -> str | None:
    """Return a body as it is stored, cut after `limit` bytes with a note of its size; None for NULL."""
    if decoded.kinds[column] == "null":
        return None
    stored, size = decoded.head(cells, column, limit)
    return stored if size <= limit else f"{stored}… ({size} bytes)"
