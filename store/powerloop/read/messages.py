"""Message rows: a window of a timeline, and one whole message. Bodies are read in bounded pieces."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionscope.store.io.sqlitefile import Read
from sessionscope.store.model.outline import Display, StretchKind
from sessionscope.store.model.rows import Count, Message, State, TimelineRow
from sessionscope.store.powerloop.format.decode import Cells, decode_bytes, note_span, number, text
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.rules.preview import preview
from sessionscope.store.rules.values import Damages, character_at, names_in, parse, parse_object, tool_calls, words_of

NAME_CHARS, HEAD_CHARS, HEAD_BYTES, CALLS_BYTES, META_BYTES = 2_000, 200, 4_096, 16_384, 65_536
_STATES = {State.ACTIVE, State.COMPACTED, State.DROPPED}
_COLUMNS = ("role", "name", "tool_call_id", "round_index", "state", "created_at", "send_index")
_BODIES = ("content", "tool_calls_json", "meta_json")
_KEY, _SEPARATOR = re.compile(r"@?-?[0-9]{1,19}"), re.compile(r"[\s,]*")


class Owner(Struct, frozen=True):
    """How a statement selects one session: a condition with one parameter."""

    condition: str
    value: str | int


def select(layout: Layout) -> str:
    """Return the beginning of every statement that reads message rows for `timeline_row` or `message`."""
    # Names are short. One that is not must not fill a page of rows.
    columns = [
        f"CASE WHEN typeof({column}) IN ('text', 'blob') THEN substr({column}, 1, {NAME_CHARS}) ELSE {column} END"
        if layout.has("messages", column)
        else "NULL"
        for column in _COLUMNS
    ]
    # Bodies are opened as BLOBs afterwards. Numbers in a TEXT column cannot be, and are small.
    for body in _BODIES:
        has = layout.has("messages", body)
        columns.append(f"typeof({body})" if has else "'null'")
        columns.append(f"CASE WHEN typeof({body}) IN ('integer', 'real') THEN {body} END" if has else "NULL")
    return f"SELECT rowid, seq, {', '.join(columns)} FROM {layout.table('messages')}"


def by_seqs(layout: Layout, owner: Owner, seqs: Sequence[int]) -> tuple[str, list[str | int]]:
    """Return a statement for the rows with these ascending seqs, by the primary key."""
    head = f"{select(layout)} WHERE {owner.condition} AND seq "
    if len(seqs) == seqs[-1] - seqs[0] + 1:
        return f"{head}BETWEEN ? AND ? ORDER BY seq", [owner.value, seqs[0], seqs[-1]]
    return f"{head}IN ({','.join('?' * len(seqs))})", [owner.value, *seqs]


def by_rowids(layout: Layout, rowids: Sequence[int]) -> tuple[str, list[str | int]]:
    """Return a statement for rows by their storage keys."""
    return f"{select(layout)} WHERE rowid IN ({','.join('?' * len(rowids))})", list(rowids)


def state_of(seq: object, stored: object) -> str:
    """Return the state in which a row is shown: as stored, unless its state or its seq has a type that is not valid."""
    return str(stored) if isinstance(stored, str) and isinstance(seq, int) else State.DAMAGED.value


def highest_seq(conn: sqlite3.Connection, layout: Layout, owner: Owner, lowest: bool = False) -> int:
    """Return the highest (or lowest) seq of a session that is a number, 0 if there is none."""
    row = conn.execute(
        f"SELECT seq FROM {layout.table('messages')} WHERE {owner.condition} AND seq < 1e300 "
        f"AND typeof(seq) = 'integer' ORDER BY seq {'ASC' if lowest else 'DESC'} LIMIT 1",
        (owner.value,),
    ).fetchone()
    return int(row[0]) if row else 0


class _Decoded:
    """The columns that every reader of a message row needs, decoded."""

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
        self.plain = dict(zip(_BODIES, row[10::2], strict=True))
        self.row = str(self.seq) if self.seq is not None else f"@{self.rowid}"

    def head(self, cells: Cells, column: str, limit: int) -> tuple[str, int]:
        """Return at most `limit` bytes of a body as text, and its size."""
        if self.plain[column] is not None:
            shown = text(self.plain[column], _spoken(column), self.damages) or ""
            return shown, len(shown)
        return cells.head(column, self.rowid, self.kinds[column], limit, _spoken(column), self.damages)

    def json(self, cells: Cells, column: str, limit: int) -> tuple[Any, int]:
        """Return a JSON body of at most `limit` bytes, decoded; a longer one is left undecoded."""
        stored, size = self.head(cells, column, limit)
        decode = parse_object if column == "meta_json" else parse
        return (decode(stored, _spoken(column), self.damages) if size <= limit else None), size


def _spoken(column: str) -> str:
    return column.removesuffix("_json")


def timeline_row(cells: Cells, row: tuple[Any, ...]) -> TimelineRow:
    """Return a row of a timeline from a row of `by_seqs` or `by_rowids`."""
    found = _Decoded(row)
    meta, _ = found.json(cells, "meta_json", META_BYTES)
    head, size = found.head(cells, "content", HEAD_BYTES)
    if _encoded(meta):
        parts = parse(head, "content", found.damages) if size <= HEAD_BYTES else _first_blocks(head)
        head = words_of(parts) or head
    calls, calls_size = found.json(cells, "tool_calls_json", CALLS_BYTES)
    if calls_size > CALLS_BYTES:
        data, _ = cells.read("tool_calls_json", found.rowid, found.kinds["tool_calls_json"], 0, CALLS_BYTES)
        tools: tuple[str, ...] = (*names_in(data), "…")
    else:
        tools = tuple(call.name or "?" for call in tool_calls(calls, found.damages))
    return TimelineRow(
        row=found.row,
        seq=found.seq,
        state=found.state,
        role=found.role,
        name=found.name,
        round_index=found.round_index,
        tools=tools,
        calls=calls_size > 0,
        tool_call_id=found.tool_call_id,
        size=size + calls_size,
        head=head[:HEAD_CHARS],
        created_at=found.created_at,
        note=note_span(found.name, meta),
        damage=tuple(found.damages),
    )


def _encoded(meta: Any) -> bool:
    """Return whether the content column holds a multimodal list as JSON (power-loop 3.5.0 and later)."""
    return isinstance(meta, dict) and meta.get("content_encoding") == "json"


def _first_blocks(stored: str) -> list[Any]:
    """Return the whole blocks in the beginning of an encoded content, and a sign that there are more."""
    blocks: list[Any] = []
    # Imported only here: few contents are lists too long to be read whole.
    import json

    decoder, at = json.JSONDecoder(), stored.find("[") + 1
    while at:
        try:
            separated = _SEPARATOR.match(stored, at)
            block, at = decoder.raw_decode(stored, separated.end() if separated else at)
        except (ValueError, RecursionError):
            break
        blocks.append(block)
    return [*blocks, {"type": "…"}]


def preview_line(cells: Cells, row: tuple[Any, ...]) -> str:
    """Return the preview of a message from a row of `select`."""
    found = _Decoded(row)
    content: Any
    content, size = found.head(cells, "content", HEAD_BYTES)
    if content.startswith("[") and _encoded(found.json(cells, "meta_json", META_BYTES)[0]):
        content = parse(content, "", found.damages) if size <= HEAD_BYTES else _first_blocks(content)
    return preview(content)


class MessageTimeline:
    """A `Timeline` of message rows. A display tells which seq is at which index; one statement reads a window."""

    def __init__(self, read: Read, layout: Layout, owner: Owner, display: Display, exact: bool, about: str) -> None:
        self._read, self._layout, self._owner, self._display = read, layout, owner, display
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
            found: dict[str, TimelineRow] = {}
            statements = [by_seqs(self._layout, self._owner, seqs)] if seqs else []
            statements += [by_rowids(self._layout, rows_without_seq)] if rows_without_seq else []
            for statement, values in statements:
                for stored in conn.execute(statement, values).fetchall():
                    row = timeline_row(cells, stored)
                    found[row.row or ""] = row
            return found

        rows: dict[str, TimelineRow] = self._read(work) if seqs or rows_without_seq else {}
        lines: list[TimelineRow] = []
        for kind, first, last in stretches:
            if kind is StretchKind.HOLE:
                lines.append(_hole(first, last))
            elif kind is StretchKind.WITHOUT_SEQ:
                lines.append(rows.get(f"@{first}") or _hole(first, first))
            else:
                lines.extend(rows.get(str(seq)) or _hole(seq, seq) for seq in range(first, last + 1))
        return lines


def _hole(first: int, last: int) -> TimelineRow:
    return TimelineRow(row=None, seq=None, state=State.HOLE.value, hole=(first, last))


def key_of(row: str) -> int | None:
    """Return the number in a row's identity, a seq or (after `@`) a storage key; None if it is neither."""
    if not _KEY.fullmatch(row):
        return None
    key = int(row.removeprefix("@"))
    return key if -(2**63) <= key < 2**63 else None


def message(conn: sqlite3.Connection, layout: Layout, owner: Owner, row: str, start: int, stop: int) -> Message | None:
    """Return one message with bytes `start` to `stop` of its content, None if it no longer exists."""
    key = key_of(row)
    if key is None:
        return None
    statement, values = by_rowids(layout, [key]) if row.startswith("@") else by_seqs(layout, owner, [key])
    stored = conn.execute(statement, values).fetchone()
    if stored is None:
        return None
    cells = Cells(conn, layout.name("messages"))
    found = _Decoded(stored)
    bound = max(META_BYTES, stop - start)
    meta, _ = found.json(cells, "meta_json", bound)
    calls, _ = found.json(cells, "tool_calls_json", bound)
    content, start, stop, size, parts = _content(cells, found, meta, start, stop)
    raw = {
        "seq": str(stored[1]),
        **{name: _plain(stored[2 + at]) for at, name in enumerate(_COLUMNS)},
        "content": content,
        "tool_calls_json": _body(cells, found, "tool_calls_json", bound),
        "meta_json": _body(cells, found, "meta_json", bound),
    }
    return Message(
        row=found.row,
        seq=found.seq,
        state=found.state,
        role=found.role,
        name=found.name,
        content=content,
        start=start,
        stop=stop,
        size=size,
        parts=parts,
        tool_calls=tool_calls(calls, found.damages),
        tool_call_id=found.tool_call_id,
        round_index=found.round_index,
        send_index=found.send_index,
        meta=meta,
        created_at=found.created_at,
        raw={name: value for name, value in raw.items() if name == "seq" or layout.has("messages", name)},
        note=note_span(found.name, meta),
        damage=tuple(found.damages),
    )


def _content(
    cells: Cells, found: _Decoded, meta: Any, start: int, stop: int
) -> tuple[str | None, int, int, int, list[Any] | None]:
    """Return the piece of content with whole characters, where it starts and stops, the size of all, and its blocks."""
    kind = found.kinds["content"]
    if found.plain["content"] is not None or kind == "null":
        shown = text(found.plain["content"], "content", found.damages)
        return shown, 0, len(shown or ""), len(shown or ""), None
    # The three bytes before show whether a character is cut. No character has more than four, so each piece holds one.
    before = max(0, start - 3)
    data, size = cells.read("content", found.rowid, kind, before, max(stop, start + 4))
    if kind == "blob":
        found.damages.note("content is a BLOB, not text")
    first = character_at(data, min(start - before, len(data)))
    last = len(data) if before + len(data) == size else character_at(data, len(data))
    content = decode_bytes(data[first:last], "content", found.damages)
    whole = before + first == 0 and last == size
    parts = parse(content, "content", found.damages) if whole and _encoded(meta) else None
    return content, before + first, before + last, size, parts if isinstance(parts, list) else None


def _plain(value: object) -> str | None:
    return text(value, "", Damages()) if value is not None else None


def _body(cells: Cells, found: _Decoded, column: str, limit: int) -> str | None:
    if found.kinds[column] == "null":
        return None
    stored, size = found.head(cells, column, limit)
    return stored if size <= limit else f"{stored}… ({size} bytes)"
