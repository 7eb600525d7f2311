"""Conversion of the bytes of one row to its line in a timeline and to a message. Of very long rows only a part is read.

The id of a row holds the position of its bytes and a checksum, and for a row without a seq the reasons why it is not
loaded. By its id a row is read again without an outline, and is not confused with another one after the file was
rewritten.
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

ROW_BYTES = 16_384
"""A row of at most so many bytes is read whole for its line in the timeline."""
LONG_ROW_BYTES = 4_096
"""How many bytes are read of a longer row."""
MESSAGE_BYTES = 1 << 23
"""A row of at most so many bytes is read whole for the inspector."""
PIECE_BYTES = 65_536
"""How many bytes are read of a longer row, and at most shown of a value as it is stored."""
CHECKED_BYTES = 256
"""How many first bytes of a row its checksum covers."""
LOOK_BACK_BYTES = 64
"""How many bytes before a position are read to find where the character at it begins."""
HEAD_CHARS = 200
"""How many characters of the content a line of the timeline has."""
NAME_CHARS = 2_000
"""How many characters of a role, name or id are kept."""
MAX_TOOLS = 50
"""How many tools a line of the timeline names."""
_UNICODE_ESCAPE_BYTES = 6
"""The length of an escape such as \\u00e9, the longest that JSON has."""
_SHORT_ESCAPE_BYTES = 2
"""The length of all other escapes."""

_FIDELITY_DAMAGE = {Fidelity.LOSSY: "some of it is lost", Fidelity.PARTIAL: "only its first fields were saved"}
_REASONS = [str(trouble) for trouble in Trouble] + [UNLOADED, METADATA_AMONG_MESSAGES, STATE_AMONG_MESSAGES]
"""All reasons why a row may not be loaded. An id has one bit for each."""
_OWN_FIELDS = {"role", "content", "name", "tool_calls", "tool_call_id", "timestamp"}
"""The members that are fields of `Message`. The others are its `meta`."""
_LABELS = {
    "_command": "command",
    "_hidden_history": "hidden",
    "_automation_turn": "automation",
    "_channel_delivery": "delivery",
}
"""The label of a message that has such a member, unless its value is empty."""
_ROW_ID = re.compile(
    r"(?P<start>\d{1,18})-(?P<stop>\d{1,18})-(?P<check>[0-9a-f]{8})"
    r"(?:-(?P<seq>\d{1,18})|@(?P<line>\d{1,18})\.(?P<reasons>[0-9a-f]{1,16}))"
)
_DAMAGED = State.DAMAGED.value
_COMPACTED = State.COMPACTED.value
_ACTIVE = State.ACTIVE.value
_decode = msgspec.json.Decoder().decode
_DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class RowId(Struct, frozen=True):
    """The id of a row: bytes `start` to `stop` of the file."""

    start: int
    stop: int
    seq: int | None
    """Its seq, or None if it has none or it is not known."""
    unloaded: UnloadedLine | None = None
    """Why nanobot does not load it, or None if it is a message."""
    check: int = 0
    """A checksum of its first bytes, in an id that was parsed."""

    def spelled(self, data: bytes) -> str:
        """Return the id as text, given the first bytes of the row."""
        if self.unloaded is None:
            return f"{self.start}-{self.stop}-{crc32(data[:CHECKED_BYTES]):08x}-{self.seq or 0}"
        reasons = sum(1 << bit for bit, reason in enumerate(_REASONS) if reason in self.unloaded.why)
        return f"{self.start}-{self.stop}-{crc32(data[:CHECKED_BYTES]):08x}@{self.unloaded.line}.{reasons:x}"

    @classmethod
    def parse(cls, text: str) -> RowId | None:
        """Return the id that a text spells, or None if it is not an id."""
        match = _ROW_ID.fullmatch(text)
        if match is None:
            return None
        start, stop, check = int(match["start"]), int(match["stop"]), int(match["check"], 16)
        if match["line"] is None:
            return cls(start, stop, int(match["seq"]) or None, None, check)
        bits = int(match["reasons"], 16)
        reasons = tuple(reason for bit, reason in enumerate(_REASONS) if bits >> bit & 1)
        return cls(start, stop, None, UnloadedLine(int(match["line"]), reasons), check)


def row_at(file: OpenFile, outline: FileOutline, seq: int) -> str:
    """Return the id of the row with a seq, as text. Reads its first bytes."""
    start, stop = outline.span(outline.row_of(seq))
    return RowId(start, stop, seq).spelled(file.read(start, min(stop, start + CHECKED_BYTES)))


class Record(Struct, frozen=True):
    """The members of a row that could be decoded, and what is wrong with it."""

    value: Mapping[str, Any]
    damage: tuple[str, ...]
    partial: Leading | None = None
    """The beginning of the object, if only the first bytes of the row were decoded."""


def decode(data: bytes, complete: bool = True, unloaded: UnloadedLine | None = None) -> Record:
    """Return the record in a row's bytes. `complete` says that these are all its bytes."""
    damage = _reasons_with_line(unloaded) if unloaded is not None else []
    if not complete:
        partial = leading(data)
        cut_text = {partial.key: partial.text} if partial.key is not None else {}
        return Record(partial.fields | cut_text, tuple(damage), partial)
    try:
        value = _decode(data)
    except _DECODE_ERRORS:
        value = None
    if type(value) is dict:
        return Record(value, tuple(damage))
    for span in scan(data):
        if span.kind is SpanKind.RECORD and span.value is not None:
            if unloaded is None:
                damage += [str(trouble) for trouble in span.troubles]
            if span.fidelity in _FIDELITY_DAMAGE:
                damage.append(_FIDELITY_DAMAGE[span.fidelity])
            return Record(span.value, tuple(damage))
    return Record({}, tuple(damage))


def _reasons_with_line(unloaded: UnloadedLine) -> list[str]:
    """Return why a row is not loaded. The first reason says on which line, if that is known."""
    reasons = list(unloaded.why)
    if reasons and unloaded.line:
        reasons[0] = f"line {unloaded.line}: {reasons[0]}"
    return reasons


def state_of(row: RowId, offset: int | None) -> str:
    """Return the state of a row, or "" if that is not known. Consolidated messages, up to the offset, are compacted."""
    if row.unloaded is not None:
        return _DAMAGED
    if row.seq is None or offset is None:
        return ""
    return _COMPACTED if row.seq <= offset else _ACTIVE


class _Members:
    """The members of a row that both its line and its message have. Values of the wrong type are noted as damage."""

    def __init__(self, row: RowId, record: Record, clock: Clock) -> None:
        self.value = record.value
        self.damages = Damages()
        for damage in record.damage:
            self.damages.note(damage)
        get = self.value.get
        role = get("role")
        self.role = role[:NAME_CHARS] if type(role) is str else self._text("role") or ""
        if not self.role and self.value and record.partial is None and not _is_private(row.unloaded):
            self.damages.note("role is missing")
        self.name = self._text("name") if "name" in self.value else None
        self.tool_call_id = self._text("tool_call_id") if "tool_call_id" in self.value else None
        timestamp, calls = get("timestamp"), get("tool_calls")
        self.created_at = clock.ms(timestamp)
        if self.created_at is None and timestamp is not None:
            self.damages.note("timestamp is no date")
        self.calls = tool_calls(calls, self.damages) if calls else ()

    def _text(self, key: str) -> str | None:
        value = self.value.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            return value[:NAME_CHARS]
        self.damages.note(f"{key} is no text")
        return plain(value)[:NAME_CHARS]


def _is_private(unloaded: UnloadedLine | None) -> bool:
    """Return whether a row is a line of nanobot's own among the messages."""
    if unloaded is None:
        return False
    return METADATA_AMONG_MESSAGES in unloaded.why or STATE_AMONG_MESSAGES in unloaded.why


# -- lines of a timeline


def bytes_for_line(start: int, stop: int) -> int:
    """Return the byte up to which a row is read for its line in the timeline."""
    return stop if stop - start <= ROW_BYTES else start + LONG_ROW_BYTES


def timeline_row(row: RowId, offset: int, data: bytes, clock: Clock) -> TimelineRow:
    """Return a line of a timeline, given the bytes of the row up to `bytes_for_line`."""
    complete = len(data) >= row.stop - row.start
    record = decode(data, complete, row.unloaded)
    members = _Members(row, record, clock)
    if record.value:
        head = words_in(without_runtime_context(record.value))
    else:
        head = data[: 4 * HEAD_CHARS].decode("utf-8", "backslashreplace")
    tools = tuple(call.name or "?" for call in members.calls[:MAX_TOOLS]) if members.calls else ()
    if not complete and not tools and members.role == "assistant":
        tools = names_in(data)
    return TimelineRow(
        row=row.spelled(data),
        seq=row.seq,
        state=state_of(row, offset),
        role=members.role,
        name=members.name,
        tools=tools,
        calls=bool(members.calls or tools),
        tool_call_id=members.tool_call_id,
        size=_size(record.value) if complete and record.value else row.stop - row.start,
        head=head[:HEAD_CHARS],
        created_at=members.created_at,
        damage=tuple(members.damages),
        label=label_of(record.value),
        line=(row.unloaded.line or None) if row.unloaded is not None else None,
    )


def label_of(value: Mapping[str, Any]) -> str:
    """Return the kind of a message beyond its role, in one word; empty for a plain message."""
    if value.get("injected_event") == "subagent_result":
        return "subagent"
    if _LABELS.keys().isdisjoint(value):
        return ""
    return next((label for key, label in _LABELS.items() if value.get(key)), "")


def words_in(content: Any) -> str:
    """Return the text of a content, or JSON if it is neither text nor a list of blocks."""
    if isinstance(content, (str, list)):
        return words_of(content)
    return plain(content) if content is not None else ""


def _size(value: Mapping[str, Any]) -> int:
    """Return the bytes of content and tool calls together."""
    content, calls = value.get("content"), value.get("tool_calls")
    size = 0
    if content is not None:
        size += _utf8_size(plain(content))
    if calls is not None:
        size += _utf8_size(plain(calls))
    return size


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def plain(value: Any) -> str:
    """Return a text unchanged, and any other value as JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "…"


# -- messages


class _ContentPiece(Struct, frozen=True):
    """Bytes `start` to `stop` of a content of `size` bytes, as text."""

    text: str
    start: int
    stop: int
    size: int


def message(file: OpenFile, row: RowId, offset: int | None, clock: Clock, start: int, stop: int) -> Message | None:
    """Return a message with bytes `start` to `stop` of its content, or None if its row has changed.

    Bytes of the content are those of its text in UTF-8. If the row is longer than MESSAGE_BYTES, they are those of the
    JSON string as stored.
    """
    complete = row.stop - row.start <= MESSAGE_BYTES
    data = file.read(row.start, row.stop if complete else row.start + PIECE_BYTES)
    if crc32(data[:CHECKED_BYTES]) != row.check:
        return None
    record = decode(data, complete, row.unloaded)
    members = _Members(row, record, clock)
    content = record.value.get("content")
    piece = _content_piece(file, row, record, data, start, stop)
    is_whole_list = isinstance(content, list) and piece.start == 0 and piece.stop == piece.size
    return Message(
        row=row.spelled(data),
        seq=row.seq,
        state=state_of(row, offset),
        role=members.role,
        name=members.name,
        content=piece.text if piece.text or content is not None else None,
        start=piece.start,
        stop=piece.stop,
        size=piece.size,
        parts=content if is_whole_list else None,
        tool_calls=members.calls,
        tool_call_id=members.tool_call_id,
        round_index=None,
        send_index=None,
        meta={key: value for key, value in record.value.items() if key not in _OWN_FIELDS},
        created_at=members.created_at,
        raw=_raw(row, record, data),
        damage=tuple(members.damages),
    )


def _content_piece(file: OpenFile, row: RowId, record: Record, data: bytes, start: int, stop: int) -> _ContentPiece:
    """Return about bytes `start` to `stop` of the content, cut between two characters.

    Of a row that could not be decoded, it is the beginning of the row.
    """
    if not record.value:
        text = data[:PIECE_BYTES].decode("utf-8", "backslashreplace")
        return _ContentPiece(text, 0, len(data), len(data))
    if record.partial is not None and record.partial.key == "content":
        return _stored_piece(file, row, record.partial, start, stop)
    content = record.value.get("content")
    encoded = plain(content).encode("utf-8", "surrogatepass") if content is not None else b""
    size = len(encoded)
    start = character_at(encoded, min(start, size))
    # A character has at most four bytes, so the piece has at least one character.
    stop = max(stop, start + 4)
    stop = character_at(encoded, stop) if stop < size else size
    return _ContentPiece(encoded[start:stop].decode("utf-8", "surrogatepass"), start, stop, size)


def _stored_piece(file: OpenFile, row: RowId, partial: Leading, start: int, stop: int) -> _ContentPiece:
    """Return a piece of a string that is too long to be decoded whole. Its end is found if the piece reaches it."""
    content_start = row.start + partial.at
    read_from = max(0, start - LOOK_BACK_BYTES)
    read_to = min(content_start + max(stop, start + LOOK_BACK_BYTES), row.stop)
    data = file.read(content_start + read_from, read_to)
    skipped = _character_start(data, start - read_from)
    text, used, closed = unescape(data[skipped:])
    start = read_from + skipped
    stop = start + used
    return _ContentPiece(text, start, stop, stop if closed or not used else row.stop - content_start)


def _character_start(data: bytes, position: int) -> int:
    """Return where the character or escape that includes byte `position` of a stored string begins."""
    for start in range(max(0, position - _UNICODE_ESCAPE_BYTES + 1), position):
        if _begins_escape(data, start):
            is_unicode = data[start + 1 : start + 2] == b"u"
            if start + (_UNICODE_ESCAPE_BYTES if is_unicode else _SHORT_ESCAPE_BYTES) > position:
                return start
    return character_at(data, position)


def _begins_escape(data: bytes, position: int) -> bool:
    """Return whether an escape begins at a byte: a backslash with an even number of backslashes before it."""
    if data[position : position + 1] != b"\\":
        return False
    before = data[:position]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 0


def _raw(row: RowId, record: Record, data: bytes) -> dict[str, str | None]:
    """Return the position of the row and its members as text. Include its bytes if it is damaged."""
    raw: dict[str, str | None] = {"bytes": f"{row.start} to {row.stop}"}
    if row.unloaded is not None and row.unloaded.line:
        raw["line"] = str(row.unloaded.line)
    if row.unloaded is not None or not record.value:
        raw["as stored"] = data[:PIECE_BYTES].decode("utf-8", "backslashreplace").rstrip("\r\n")
    return raw | {key: None if value is None else plain(value)[:PIECE_BYTES] for key, value in record.value.items()}
