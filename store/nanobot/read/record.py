"""From the bytes of one row to what a timeline and the inspector show of it. Bounded: a row may be longer than memory.

A row's identity holds its position, a checksum and, for a row without seq, what is wrong with it. So a row can be read
again without an outline, and is not mistaken for another once the file is rewritten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec
from msgspec import Struct

from sessionscope.store.io.jsonlines import Leading, leading, scan
from sessionscope.store.io.jsontokens import unescape
from sessionscope.store.io.spans import Fidelity, SpanKind, Trouble
from sessionscope.store.model.rows import Message, State, TimelineRow
from sessionscope.store.nanobot.format.clock import Clock
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.line_scan import UNLOADED
from sessionscope.store.nanobot.format.lines import (
    METADATA_AMONG_MESSAGES,
    STATE_AMONG_MESSAGES,
    FileOutline,
    UnloadedLine,
)
from sessionscope.store.nanobot.format.message_preview import without_runtime_context
from sessionscope.store.rules.values import Damages, character_at, names_in, tool_calls, words_of

ROW_BYTES, LONG_ROW_BYTES, MESSAGE_BYTES, CHECKED, BACK = 16_384, 4_096, 8_388_608, 256, 64
"""The longest row, in bytes, that is decoded for a timeline, how much is decoded of a longer one, the longest that
is decoded for the inspector, how many bytes a checksum covers, and how many bytes to look back for the beginning of a
character.
"""
HEAD_CHARS, NAME_CHARS, CALLS, PIECE = 200, 2_000, 50, 65_536
_LIES = {Fidelity.LOSSY: "some of it is lost", Fidelity.PARTIAL: "only its first fields were saved"}
_WHYS = [str(trouble) for trouble in Trouble] + [UNLOADED, METADATA_AMONG_MESSAGES, STATE_AMONG_MESSAGES]
_SHOWN = {"role", "content", "name", "tool_calls", "tool_call_id", "timestamp"}
_LABELS = {
    "_command": "command",
    "_hidden_history": "hidden",
    "_automation_turn": "automation",
    "_channel_delivery": "delivery",
    "injected_event": "",
}
_ID = re.compile(r"(\d{1,18})-(\d{1,18})-([0-9a-f]{8})(?:-(\d{1,18})|@(\d{1,18})\.([0-9a-f]{1,16}))")
_DAMAGED, _COMPACTED, _ACTIVE = State.DAMAGED.value, State.COMPACTED.value, State.ACTIVE.value
_decode = msgspec.json.Decoder().decode
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class RowId(Struct, frozen=True):
    """The position of a row, its seq or why it has none, and a checksum of its first bytes once it was read."""

    start: int
    stop: int
    seq: int | None
    unloaded: UnloadedLine | None = None
    check: int = 0

    def spelled(self, data: bytes) -> str:
        """Return the identity as text, given the first bytes of the row."""
        place = f"{self.start}-{self.stop}-{crc32(data[:CHECKED]):08x}"
        if self.unloaded is None:
            return f"{place}-{self.seq or 0}"
        return (
            f"{place}@{self.unloaded.line}.{sum(1 << at for at, why in enumerate(_WHYS) if why in self.unloaded.why):x}"
        )

    @classmethod
    def parse(cls, text: str) -> RowId | None:
        """Return a row's identity from its text, None if it is none."""
        found = _ID.fullmatch(text)
        if found is None:
            return None
        start, stop, check, seq, line, marks = found.groups()
        if line is None:
            return cls(int(start), int(stop), int(seq) or None, None, int(check, 16))
        whys = tuple(why for at, why in enumerate(_WHYS) if int(marks, 16) >> at & 1)
        return cls(int(start), int(stop), None, UnloadedLine(int(line), whys), int(check, 16))


def row_at(file: OpenFile, outline: FileOutline, seq: int) -> str:
    """Return the identity of the row with a seq, as text. Reads its first bytes."""
    start, stop = outline.span(outline.row_of(seq))
    return RowId(start, stop, seq).spelled(file.read(start, min(stop, start + CHECKED)))


class Record(Struct, frozen=True):
    """What could be decoded of a row, and what is wrong with it. `rest` is a value that was not read to its end."""

    value: Mapping[str, Any]
    damage: tuple[str, ...]
    rest: Leading | None = None


def decode(data: bytes, complete: bool, unloaded: UnloadedLine | None) -> Record:
    """Decode a row from its bytes. `complete` says that these are all of them."""
    damage: list[str] = []
    if unloaded is not None:
        place = f"line {unloaded.line}: " if unloaded.line else ""
        damage += [why if at else place + why for at, why in enumerate(unloaded.why)]
    if not complete:
        rest = leading(data)
        more = {rest.key: rest.text} if rest.key is not None else {}
        return Record(rest.fields | more, tuple(damage), rest)
    try:
        value = _decode(data)
    except _REFUSED:
        value = None
    if type(value) is dict:
        return Record(value, tuple(damage))
    for span in scan(data):
        if span.kind is SpanKind.RECORD and span.value is not None:
            damage += [str(trouble) for trouble in span.troubles if unloaded is None]
            damage += [_LIES[span.fidelity]] if span.fidelity in _LIES else []
            return Record(span.value, tuple(damage))
    return Record({}, tuple(damage))


def state_of(row: RowId, offset: int | None) -> str:
    """Return the state in which a row is shown: a consolidated one has left the context. Empty if that is not known."""
    if row.unloaded is not None:
        return _DAMAGED
    if row.seq is None or offset is None:
        return ""
    return _COMPACTED if row.seq <= offset else _ACTIVE


class _Read:
    """The members that every reader of a row needs, read leniently."""

    def __init__(self, record: Record, private: bool, clock: Clock) -> None:
        self.value, self.damages = record.value, Damages()
        for what in record.damage:
            self.damages.note(what)
        get = self.value.get
        role = get("role")
        self.role = role[:NAME_CHARS] if type(role) is str else self._text("role") or ""
        if not self.role and self.value and not private and record.rest is None:
            self.damages.note("role is missing")
        self.name = self._text("name") if "name" in self.value else None
        self.tool_call_id = self._text("tool_call_id") if "tool_call_id" in self.value else None
        stamp, calls = get("timestamp"), get("tool_calls")
        self.created_at = clock.ms(stamp)
        if self.created_at is None and stamp is not None:
            self.damages.note("timestamp is no date")
        self.calls = tool_calls(calls, self.damages) if calls else ()

    def _text(self, key: str) -> str | None:
        found = self.value.get(key)
        if found is None or isinstance(found, str):
            return found[:NAME_CHARS] if found else found
        self.damages.note(f"{key} is no text")
        return plain(found)[:NAME_CHARS]


def bytes_for_line(start: int, stop: int) -> int:
    """Return where the bytes end that are read of a row for a timeline."""
    return stop if stop - start <= ROW_BYTES else start + LONG_ROW_BYTES


def timeline_row(row: RowId, offset: int, data: bytes, clock: Clock) -> TimelineRow:
    """Return a row of a timeline from the first bytes of a row, at most `ROW_BYTES` of them."""
    complete = len(data) >= row.stop - row.start
    record = decode(data, complete, row.unloaded)
    found = _Read(record, _private(row.unloaded), clock)
    head = words_in(without_runtime_context(record.value))
    if not record.value:
        head = data[: 4 * HEAD_CHARS].decode("utf-8", "backslashreplace")
    tools = tuple(call.name or "?" for call in found.calls[:CALLS]) if found.calls else ()
    if not complete and not tools and found.role == "assistant":
        tools = names_in(data)
    return TimelineRow(
        row=row.spelled(data),
        seq=row.seq,
        state=state_of(row, offset),
        role=found.role,
        name=found.name,
        tools=tools,
        calls=bool(found.calls or tools),
        tool_call_id=found.tool_call_id,
        size=_size(record.value) if complete and record.value else row.stop - row.start,
        head=head[:HEAD_CHARS],
        created_at=found.created_at,
        damage=tuple(found.damages),
        label=label_of(record.value),
        line=(row.unloaded.line or None) if row.unloaded is not None else None,
    )


def _private(unloaded: UnloadedLine | None) -> bool:
    return unloaded is not None and (METADATA_AMONG_MESSAGES in unloaded.why or STATE_AMONG_MESSAGES in unloaded.why)


def label_of(value: Mapping[str, Any]) -> str:
    """Return what kind of a message it is beyond its role, in a word; empty for a plain one."""
    if _LABELS.keys().isdisjoint(value):
        return ""
    if value.get("injected_event") == "subagent_result":
        return "subagent"
    return next((label for key, label in _LABELS.items() if label and value.get(key)), "")


def words_in(content: Any) -> str:
    """Return a content as text: itself, or JSON if it is neither text nor blocks."""
    if isinstance(content, (str, list)):
        return words_of(content)
    return plain(content) if content is not None else ""


def _size(value: Mapping[str, Any]) -> int:
    """Return the bytes of content and tool calls together."""
    content, calls = value.get("content"), value.get("tool_calls")
    size = _bytes(plain(content)) if content is not None else 0
    return size + _bytes(plain(calls)) if calls is not None else size


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def plain(value: Any) -> str:
    """Return a value as text: itself, or as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "…"


def message(file: OpenFile, row: RowId, offset: int | None, clock: Clock, start: int, stop: int) -> Message | None:
    """Return a message with bytes `start` to `stop` of its content, None if its bytes are no longer there.

    In a row longer than `MESSAGE_BYTES`, positions in the content are counted in bytes as they are stored.
    """
    complete = row.stop - row.start <= MESSAGE_BYTES
    data = file.read(row.start, row.stop if complete else row.start + PIECE)
    if crc32(data[:CHECKED]) != row.check:
        return None
    record = decode(data, complete, row.unloaded)
    found = _Read(record, _private(row.unloaded), clock)
    value, parts = record.value.get("content"), None
    if not record.value:
        text, begin, end, size = data[:PIECE].decode("utf-8", "backslashreplace"), 0, len(data), len(data)
    elif record.rest is not None and record.rest.key == "content":
        text, begin, end, size = _as_stored(file, row, record.rest, start, stop)
    else:
        whole = plain(value).encode("utf-8", "surrogatepass") if value is not None else b""
        size = len(whole)
        begin = character_at(whole, min(start, size))
        # No character has more than four bytes, so each piece holds at least one.
        end = character_at(whole, max(stop, begin + 4)) if max(stop, begin + 4) < size else size
        text = whole[begin:end].decode("utf-8", "surrogatepass")
        parts = value if isinstance(value, list) and (begin, end) == (0, size) else None
    return Message(
        row=row.spelled(data),
        seq=row.seq,
        state=state_of(row, offset),
        role=found.role,
        name=found.name,
        content=text if text or value is not None else None,
        start=begin,
        stop=end,
        size=size,
        parts=parts,
        tool_calls=found.calls,
        tool_call_id=found.tool_call_id,
        round_index=None,
        send_index=None,
        meta={key: inner for key, inner in record.value.items() if key not in _SHOWN},
        created_at=found.created_at,
        raw=_raw(row, record, data),
        damage=tuple(found.damages),
    )


def _as_stored(file: OpenFile, row: RowId, rest: Leading, start: int, stop: int) -> tuple[str, int, int, int]:
    """Return a piece of a string too long to be decoded whole, where it begins and ends, and the size of all."""
    base = row.start + rest.at
    size = row.stop - base
    before = max(0, start - BACK)
    data = file.read(base + before, min(base + max(stop, start + BACK), row.stop))
    begin = before + _boundary(data, start - before)
    text, used, closed = unescape(data[begin - before :])
    end = begin + used
    return text, begin, end, end if closed or not used else size


def _boundary(data: bytes, at: int) -> int:
    """Return where the character or escape begins that continues at byte `at` of a string as stored."""
    for slash in range(max(0, at - 5), at):
        escapes = data[slash : slash + 1] == b"\\" and (slash - len(data[:slash].rstrip(b"\\"))) % 2 == 0
        if escapes and slash + (6 if data[slash + 1 : slash + 2] == b"u" else 2) > at:
            return slash
    return character_at(data, at)


def _raw(row: RowId, record: Record, data: bytes) -> dict[str, str | None]:
    raw: dict[str, str | None] = {"bytes": f"{row.start} to {row.stop}"}
    if row.unloaded is not None and row.unloaded.line:
        raw["line"] = str(row.unloaded.line)
    if row.unloaded is not None or not record.value:
        raw["as stored"] = data[:PIECE].decode("utf-8", "backslashreplace").rstrip("\r\n")
    return raw | {key: None if value is None else plain(value)[:PIECE] for key, value in record.value.items()}
