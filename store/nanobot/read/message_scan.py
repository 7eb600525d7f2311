"""One pass over a session's file: each message, private line and piece of damage, with what the doctor needs of it.

Of a sound message, only a few words and a checksum are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

from msgspec import Struct

from sessionscope.store.io.jsontokens import has_lone_surrogate
from sessionscope.store.io.spans import Fidelity, Trouble
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.file_head import METADATA, PROVIDER_STATE
from sessionscope.store.nanobot.format.lines import UnloadedLine
from sessionscope.store.protocols import Cancel, never

from .byte_spans import Piece, Sort, find_spans, pieces
from .record import RowId, decode

MARK = "_sessionscope"
"""The member by which a message says that a repair saved only a part of it."""
PENDING = "pending_from"
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
"""A code for each kind of damage that the codec tells apart."""
BESIDE = "beside-damage"
"""The code of a whole record that shares its line with damage."""
_LOSES_A_ROW = {Trouble.TRUNCATED, Trouble.TORN, Trouble.NESTED}


class ScannedMessage(Struct, gc=False):
    """A message, as far as the doctor needs it. `calls` is None if they are no list; `role` is None without one."""

    role: Any
    calls: tuple[tuple[str, str], ...] | None
    answers: str
    name: str
    timestamp: Any
    mark: Any
    type: Any
    surrogate: bool


class Item(Struct, gc=False):
    """A piece of the file.

    `value` is what could be saved of a piece that nanobot does not load. `print` is a checksum that tells rows apart.
    """

    sort: Sort
    start: int
    stop: int
    line: int
    row: ScannedMessage | None = None
    seq: int | None = None
    value: dict[str, Any] | None = None
    fidelity: Fidelity = Fidelity.EXACT
    troubles: tuple[Trouble, ...] = ()
    print: int = 0
    id: str | None = None
    """The identity of the row in a timeline."""

    @property
    def code(self) -> str:
        """What is wrong with it, empty for what nanobot loads."""
        if self.sort is not Sort.PART:
            return ""
        trouble = Trouble.UTF16 if Trouble.UTF16 in self.troubles else self.troubles[0] if self.troubles else None
        return CODES[trouble] if trouble else BESIDE

    @property
    def metadata(self) -> bool:
        """Whether it is a metadata line, or what is left of one."""
        return self.sort is Sort.METADATA or (self.value is not None and self.value.get("_type") == METADATA)

    @property
    def state(self) -> bool:
        """Whether it is the state of nanobot's provider."""
        return self.sort is Sort.STATE or (self.value is not None and self.value.get("_type") == PROVIDER_STATE)

    @property
    def message(self) -> bool:
        """Whether it is a message, or one can be made of it. A message that only claims to be metadata counts."""
        if self.sort is Sort.PART:
            return self.value is not None and isinstance(self.value.get("role"), str) and not self.state
        return self.sort is Sort.MESSAGE or (self.sort is Sort.METADATA and self.poses)

    @property
    def poses(self) -> bool:
        """Whether a message claims to be metadata."""
        return self.metadata and self.value is not None and "role" in self.value

    @property
    def once_a_row(self) -> bool:
        """Whether it was a message when the file was whole, whatever is left of it."""
        lost = self.value is None and bool(_LOSES_A_ROW & {*self.troubles})
        return self.message or (self.sort is Sort.PART and lost)


class MessageScan(Struct):
    """The items of a file in order. `head` is the metadata line that counts, `lost` why nanobot loads nothing of it."""

    items: list[Item]
    head: Item | None
    size: int
    lost: tuple[tuple[str, int], ...]
    blank_before: bool

    @property
    def rows(self) -> list[Item]:
        return [item for item in self.items if item.sort is Sort.MESSAGE]

    @property
    def values(self) -> Mapping[str, Any]:
        """Return the metadata line that counts, empty without one."""
        return self.head.value or {} if self.head is not None else {}


def scan_messages(file: OpenFile, cancel: Cancel = never) -> MessageScan:
    """Read a file twice, in windows. Raises Cancelled, and Busy if the file shrinks meanwhile."""
    found = find_spans(file, cancel)
    items = [_item(file, piece) for piece in pieces(file, found, cancel)]
    first = file.read(0, min(file.size, 64))
    return MessageScan(
        items,
        _head(items),
        file.size,
        found.outline.lost,
        bool(items) and items[0].start > 0 and not first.startswith(b"{"),
    )


def _item(file: OpenFile, piece: Piece) -> Item:
    data = piece.data
    if piece.sort is Sort.MESSAGE:
        return Item(
            piece.sort,
            piece.start,
            piece.stop,
            piece.line,
            _row(data, piece.whole),
            piece.seq,
            print=crc32(data.strip()),
            id=RowId(piece.start, piece.stop, piece.seq).spelled(data),
        )
    if piece.sort is Sort.PART and piece.span is not None:
        span = piece.span
        unloaded = UnloadedLine(piece.line, tuple(map(str, span.troubles)))
        return Item(
            piece.sort,
            piece.start,
            piece.stop,
            piece.line,
            None,
            None,
            span.value,
            span.fidelity,
            span.troubles,
            id=RowId(piece.start, piece.stop, None, unloaded).spelled(data),
        )
    return Item(
        piece.sort, piece.start, piece.stop, piece.line, None, None, dict(decode(_whole(file, piece), True, None).value)
    )


def _whole(file: OpenFile, piece: Piece) -> bytes:
    return piece.data if piece.whole else file.read(piece.start, piece.stop)


def _row(data: bytes, whole: bool) -> ScannedMessage:
    value = decode(data, whole, None).value
    return row_of(value, whole and b"\\u" in data and has_lone_surrogate(data))


def row_of(value: Mapping[str, Any], surrogate: bool = False) -> ScannedMessage:
    """Return what the doctor needs to know of a message."""
    calls: tuple[tuple[str, str], ...] | None = ()
    stored = value.get("tool_calls")
    if stored and not isinstance(stored, list):
        calls = None
    elif stored and value.get("role") == "assistant":
        calls = tuple((str(call["id"]), _name(call)) for call in stored if isinstance(call, dict) and call.get("id"))
    answers, name = value.get("tool_call_id"), value.get("name")
    return ScannedMessage(
        value.get("role") if "role" in value else None,
        calls,
        str(answers) if answers else "",
        name if isinstance(name, str) else "",
        value.get("timestamp"),
        value.get(MARK),
        value.get("_type"),
        surrogate,
    )


def _name(call: Mapping[str, Any]) -> str:
    function = call.get("function")
    name = function.get("name") if isinstance(function, dict) else call.get("name")
    return name if isinstance(name, str) else ""


def _head(items: Sequence[Item]) -> Item | None:
    """Return the metadata that counts: the last line that nanobot loads, else the last of those that are saved best."""
    own = [item for item in items if item.metadata and not item.poses]
    for fidelity in Fidelity:
        for loaded in (True, False):
            fitting = [item for item in own if item.fidelity is fidelity and (item.sort is Sort.METADATA) is loaded]
            if fitting:
                return fitting[-1]
    return None


class Opening(Struct, frozen=True):
    """A call without a result: the position of its row among the rows, its id and its name."""

    at: int
    id: str
    name: str


def pair(rows: Sequence[ScannedMessage]) -> tuple[list[Opening], list[int]]:
    """Return the calls without a result, and the positions of results without a call before them.

    Source: nanobot 0.2.0, `find_legal_message_start`: a result without an id is legal, and so is a second one.
    """
    waiting: dict[str, Opening] = {}
    known: set[str] = set()
    orphans: list[int] = []
    for at, row in enumerate(rows):
        for id_, name in row.calls or ():
            waiting[id_] = Opening(at, id_, name)
            known.add(id_)
        if row.role == "tool" and row.answers:
            if row.answers not in known:
                orphans.append(at)
            waiting.pop(row.answers, None)
    return sorted(waiting.values(), key=lambda one: one.at), orphans


def dumps(value: Any) -> bytes:
    """Return a line as nanobot writes it. Half a surrogate pair stays the escape that it was."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"


def readable(value: Any) -> Any:
    """Return a value in which half a surrogate pair, which nanobot cannot write, is a replacement character."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in value)
    if isinstance(value, list):
        return [readable(one) for one in value]
    if isinstance(value, dict):
        return {readable(key): readable(one) for key, one in value.items()}
    return value


def rows_without_seq(scanned: MessageScan) -> Iterator[Item]:
    """Yield the pieces that nanobot does not load."""
    return (item for item in scanned.items if item.sort is Sort.PART)
