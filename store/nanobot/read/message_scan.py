"""Scan of a whole session's file for the doctor and the repairs: its messages, private lines and damaged parts.

Of a message that is intact, only a few members and a checksum are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

from msgspec import Struct

from sessionscope.store.io.jsontokens import has_lone_surrogate
from sessionscope.store.io.spans import Fidelity, Span, Trouble
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.file_head import METADATA, PROVIDER_STATE
from sessionscope.store.nanobot.format.lines import UnloadedLine
from sessionscope.store.protocols import Cancel, never

from .byte_spans import Piece, Sort, find_spans, pieces
from .record import RowId, decode

MARK = "_sessionscope"
"""The member by which a message is marked that a repair could save only in part."""
PENDING = "pending_from"
"""The member of the metadata line that an unfinished save leaves: the byte from which on lines do not count yet."""
CODES = {
    Trouble.TRUNCATED: "truncated-line",
    Trouble.TORN: "torn-line",
    Trouble.GLUED: "glued-objects",
    Trouble.SPREAD: "spread-object",
    Trouble.CONTROL: "bare-control-characters",
    Trouble.ESCAPE: "unknown-escape",
    Trouble.BAD_UTF8: "invalid-utf8",
    Trouble.UTF16: "utf-16",
    Trouble.BOM: "byte-order-mark",
    Trouble.NUL: "nul-bytes",
    Trouble.NOT_AN_OBJECT: "not-an-object",
    Trouble.SURROGATE: "lone-surrogate",
    Trouble.HUGE_NUMBER: "huge-integer",
    Trouble.NESTED: "nested-too-deeply",
    Trouble.GARBAGE: "no-json",
}
"""The finding code of each kind of damage."""
BESIDE = "beside-damage"
"""The finding code of an intact part that shares its line with damage."""
_CUT_OBJECT = {Trouble.TRUNCATED, Trouble.TORN, Trouble.NESTED}
"""The kinds of damage that are what is left of an object."""


class ScannedMessage(Struct, gc=False):
    """The facts about a message that the doctor checks."""

    role: Any
    """The role as stored, or None."""
    calls: tuple[tuple[str, str], ...] | None
    """The tool calls of an assistant's message as (id, name), or None if `tool_calls` is not a list."""
    answers: str
    """The id of the call of which it is the result, or ""."""
    name: str
    timestamp: Any
    mark: Any
    """The value of MARK, or None."""
    type: Any
    """The value of `_type`, or None."""
    surrogate: bool
    """Whether it contains half of a surrogate pair."""


class Item(Struct, gc=False):
    """A piece of the file, bytes `start` to `stop`, with what is known of its content."""

    sort: Sort
    start: int
    stop: int
    line: int
    """The number of the line on which it begins, from 1."""
    row: ScannedMessage | None = None
    """The facts about a message that nanobot loads."""
    seq: int | None = None
    value: dict[str, Any] | None = None
    """The members of any other piece, as far as they could be decoded."""
    fidelity: Fidelity = Fidelity.EXACT
    troubles: tuple[Trouble, ...] = ()
    print: int = 0
    """A checksum by which repeated messages are found."""
    id: str | None = None
    """The id of the row in a timeline."""

    @property
    def code(self) -> str:
        """The finding code of its damage, empty if nanobot loads it."""
        if self.sort is not Sort.PART:
            return ""
        if not self.troubles:
            return BESIDE
        return CODES[Trouble.UTF16 if Trouble.UTF16 in self.troubles else self.troubles[0]]

    @property
    def metadata(self) -> bool:
        """Whether it is a metadata line or a part of one, by its `_type`."""
        return self.sort is Sort.METADATA or (self.value is not None and self.value.get("_type") == METADATA)

    @property
    def state(self) -> bool:
        """Whether it is the provider state or a part of it, by its `_type`."""
        return self.sort is Sort.STATE or (self.value is not None and self.value.get("_type") == PROVIDER_STATE)

    @property
    def message(self) -> bool:
        """Whether it is a message or can be repaired to be one. A message whose `_type` is that of metadata counts."""
        if self.sort is Sort.PART:
            return self.value is not None and isinstance(self.value.get("role"), str) and not self.state
        return self.sort is Sort.MESSAGE or (self.sort is Sort.METADATA and self.claims_metadata)

    @property
    def claims_metadata(self) -> bool:
        """Whether it is a message whose `_type` is that of metadata."""
        return self.metadata and self.value is not None and "role" in self.value

    @property
    def was_message(self) -> bool:
        """Whether it was a message before the file was damaged, even if nothing of it can be decoded."""
        if self.message:
            return True
        return self.sort is Sort.PART and self.value is None and not _CUT_OBJECT.isdisjoint(self.troubles)


class MessageScan(Struct):
    """The pieces of a file, in order."""

    items: list[Item]
    head: Item | None
    """The metadata that counts."""
    size: int
    """The bytes of the file."""
    lost: tuple[tuple[str, int], ...]
    """The reasons for which nanobot does not load the file at all, each with its line."""
    blank_before: bool
    """Whether there is white space before the first piece."""

    @property
    def rows(self) -> list[Item]:
        """The messages that nanobot loads."""
        return [item for item in self.items if item.sort is Sort.MESSAGE]

    @property
    def values(self) -> Mapping[str, Any]:
        """The members of the metadata that counts, empty if there is none."""
        return self.head.value or {} if self.head is not None else {}


def scan_messages(file: OpenFile, cancel: Cancel = never) -> MessageScan:
    """Read a file twice, in windows. Raises Cancelled, and Busy if the file shrinks meanwhile."""
    spans = find_spans(file, cancel)
    items = [_item(file, piece) for piece in pieces(file, spans, cancel)]
    blank_before = bool(items) and items[0].start > 0 and file.read(0, 1) != b"{"
    return MessageScan(items, _metadata_item(items), file.size, spans.outline.lost, blank_before)


def _item(file: OpenFile, piece: Piece) -> Item:
    if piece.sort is Sort.MESSAGE:
        return _message_item(piece)
    if piece.sort is Sort.PART and piece.span is not None:
        return _part_item(piece, piece.span)
    data = piece.data if piece.whole else file.read(piece.start, piece.stop)
    return Item(piece.sort, piece.start, piece.stop, piece.line, value=dict(decode(data).value))


def _message_item(piece: Piece) -> Item:
    value = decode(piece.data, piece.whole).value
    has_surrogate = piece.whole and b"\\u" in piece.data and has_lone_surrogate(piece.data)
    return Item(
        piece.sort,
        piece.start,
        piece.stop,
        piece.line,
        row=row_of(value, has_surrogate),
        seq=piece.seq,
        print=crc32(piece.data.strip()),
        id=RowId(piece.start, piece.stop, piece.seq).spelled(piece.data),
    )


def _part_item(piece: Piece, span: Span) -> Item:
    unloaded = UnloadedLine(piece.line, tuple(str(trouble) for trouble in span.troubles))
    return Item(
        piece.sort,
        piece.start,
        piece.stop,
        piece.line,
        value=span.value,
        fidelity=span.fidelity,
        troubles=span.troubles,
        id=RowId(piece.start, piece.stop, None, unloaded).spelled(piece.data),
    )


def row_of(value: Mapping[str, Any], surrogate: bool = False) -> ScannedMessage:
    """Return the facts about a message that the doctor checks."""
    calls: tuple[tuple[str, str], ...] | None = ()
    stored_calls = value.get("tool_calls")
    if stored_calls and not isinstance(stored_calls, list):
        calls = None
    elif stored_calls and value.get("role") == "assistant":
        calls = tuple(
            (str(call["id"]), _tool_name(call)) for call in stored_calls if isinstance(call, dict) and call.get("id")
        )
    answered_id, name = value.get("tool_call_id"), value.get("name")
    return ScannedMessage(
        value.get("role"),
        calls,
        str(answered_id) if answered_id else "",
        name if isinstance(name, str) else "",
        value.get("timestamp"),
        value.get(MARK),
        value.get("_type"),
        surrogate,
    )


def _tool_name(call: Mapping[str, Any]) -> str:
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else call.get("name")
    return name if isinstance(name, str) else ""


def _metadata_item(items: Sequence[Item]) -> Item | None:
    """Return the metadata that counts: the last line that nanobot loads, else the last of those best preserved."""
    candidates = [item for item in items if item.metadata and not item.claims_metadata]
    loaded = [item for item in candidates if item.sort is Sort.METADATA]
    if loaded:
        return loaded[-1]
    best_first = list(Fidelity)
    return min(reversed(candidates), key=lambda item: best_first.index(item.fidelity), default=None)


class UnansweredCall(Struct, frozen=True):
    """A tool call without a result."""

    at: int
    """The index of its message."""
    id: str
    name: str


def pair(rows: Sequence[ScannedMessage]) -> tuple[list[UnansweredCall], list[int]]:
    """Return the calls that have no result, and the indexes of results that no earlier call asked for.

    Source: nanobot 0.2.0, `find_legal_message_start`: a result without an id is legal, and so is a second one.
    """
    unanswered: dict[str, UnansweredCall] = {}
    call_ids: set[str] = set()
    orphans: list[int] = []
    for index, row in enumerate(rows):
        for id_, name in row.calls or ():
            unanswered[id_] = UnansweredCall(index, id_, name)
            call_ids.add(id_)
        if row.role == "tool" and row.answers:
            if row.answers not in call_ids:
                orphans.append(index)
            unanswered.pop(row.answers, None)
    return sorted(unanswered.values(), key=lambda call: call.at), orphans


def dumps(value: Any) -> bytes:
    """Return a line as nanobot writes it. A value with half of a surrogate pair is written in ASCII, with escapes."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"


def readable(value: Any) -> Any:
    """Return a value with a replacement character for each half of a surrogate pair, which nanobot cannot write."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value)
    if isinstance(value, list):
        return [readable(item) for item in value]
    if isinstance(value, dict):
        return {readable(key): readable(item) for key, item in value.items()}
    return value


def rows_without_seq(scanned: MessageScan) -> Iterator[Item]:
    """Yield the parts of regions, which nanobot does not load."""
    return (item for item in scanned.items if item.sort is Sort.PART)
