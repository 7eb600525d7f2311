"""Every byte of a session's file as a piece: messages, private lines, and parts of lines that nanobot does not load.

The doctor and the repair work on these. White space between two pieces belongs to neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct

from sessionscope.store.io.spans import Span, SpanKind
from sessionscope.store.model.errors import Busy, Cancelled
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.file_head import METADATA
from sessionscope.store.nanobot.format.line_scan import CHUNK, LineScan, outlined, spans_of
from sessionscope.store.nanobot.format.lines import FileOutline
from sessionscope.store.protocols import Cancel

from .record import MESSAGE_BYTES

_BREAKS = (b"\n", b"\r")


class Sort(StrEnum):
    """The kind of a piece."""

    MESSAGE = "message"
    METADATA = "metadata"
    STATE = "provider state"
    PART = "part"


class Private(Struct, frozen=True):
    """A whole private line of nanobot, and its line number."""

    sort: Sort
    start: int
    stop: int
    line: int


class Region(Struct, frozen=True):
    """Consecutive lines that nanobot does not load. `whole` says that they are too long to be analysed."""

    start: int
    stop: int
    line: int
    whole: bool


class ByteSpans(Struct, frozen=True):
    """The rows of a file, and what is between them."""

    outline: FileOutline
    privates: tuple[Private, ...]
    regions: tuple[Region, ...]


class Piece(Struct, gc=False):
    """Bytes `start` to `stop` of a file. `data` are these bytes, or the beginning of a very long message.

    `seq` is that of a message, `span` what a part is.
    """

    sort: Sort
    start: int
    stop: int
    line: int
    data: bytes
    seq: int | None = None
    span: Span | None = None

    @property
    def whole(self) -> bool:
        return len(self.data) == self.stop - self.start


class _SpanScan(LineScan):
    """A scan that keeps what an outline does not need."""

    def __init__(self, file: OpenFile, cancel: Cancel) -> None:
        super().__init__(file, cancel)
        self.privates: list[Private] = []
        self.regions: list[Region] = []

    def _private(self, kind: str, start: int) -> None:
        sort = Sort.METADATA if kind == METADATA else Sort.STATE
        self.privates.append(Private(sort, start, self.at, self.line))
        super()._private(kind, start)

    def _flush(self) -> None:
        start, line, size = self._region_at, self._region_line, sum(map(len, self._region))
        before = len(self.starts)
        super()._flush()
        if size:
            whole = self.starts[before:].tolist() == [start] and self.too_long(size)
            self.regions.append(Region(start, start + size, line, whole))


def find_spans(file: OpenFile, cancel: Cancel) -> ByteSpans:
    """Read a file once. Raises Cancelled, and Busy if the file shrinks meanwhile."""
    line_scan = _SpanScan(file, cancel)
    return ByteSpans(outlined(file, line_scan), tuple(line_scan.privates), tuple(line_scan.regions))


def parts(file: OpenFile, region: Region) -> Iterator[Piece]:
    """Yield the parts of lines that nanobot does not load."""
    data = _all(file, region.start, region.stop) if not region.whole else b""
    if region.whole:
        span = Span(region.start, region.stop, region.line, SpanKind.DAMAGE)
        yield Piece(
            Sort.PART, region.start, region.stop, region.line, file.read(region.start, region.start + CHUNK), span=span
        )
        return
    for line, span in spans_of(data, region.line):
        if span.kind is not SpanKind.BLANK:
            yield Piece(
                Sort.PART,
                region.start + span.start,
                region.start + span.stop,
                line,
                data[span.start : span.stop],
                span=span,
            )


def pieces(file: OpenFile, found: ByteSpans, cancel: Cancel) -> Iterator[Piece]:
    """Yield all pieces in order. Raises Cancelled, and Busy if the file shrinks meanwhile."""
    outline = found.outline
    others: list[Private | Region] = sorted((*found.privates, *found.regions), key=lambda one: one.start)
    at, window, seq, line = 0, _Window(file, cancel), 0, 1
    for row, start in enumerate(outline.starts):
        while at < len(others) and others[at].start <= start:
            other = others[at]
            yield from _special(file, other)
            line, at = other.line + 1, at + 1
        if outline.unloaded(row) is not None:
            continue
        seq += 1
        end = outline.span(row)[1]
        if at < len(others):
            end = min(end, others[at].start)
        data = window.read(start, end)
        text = first_line(data)
        stop = start + len(text) if len(data) == end - start else end
        if seq == 1 and not others:
            line += breaks(file.read(0, start))
        yield Piece(Sort.MESSAGE, start, stop, line, text, seq)
        line += max(1, breaks(data))
    for other in others[at:]:
        yield from _special(file, other)


def _special(file: OpenFile, other: Private | Region) -> Iterator[Piece]:
    if isinstance(other, Region):
        yield from parts(file, other)
    else:
        yield Piece(
            other.sort,
            other.start,
            other.stop,
            other.line,
            file.read(other.start, min(other.stop, other.start + MESSAGE_BYTES)),
        )


def first_line(data: bytes) -> bytes:
    """Return the first line of some bytes, with its line break."""
    cut = data.find(b"\n") + 1
    if b"\r" in data[: cut or None]:
        return data.splitlines(True)[0]
    return data[:cut] if cut else data


def breaks(data: bytes) -> int:
    """Return how many lines end in some bytes, as a text file counts them."""
    return data.count(b"\n") + (data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0)


def _all(file: OpenFile, start: int, stop: int) -> bytes:
    data = file.read(start, stop)
    if len(data) < stop - start:
        raise Busy("the file was cut short while it was read; try again.")
    return data


class _Window:
    """Reads a file forwards, a large window at a time. Of something very long, only the beginning is kept."""

    def __init__(self, file: OpenFile, cancel: Cancel) -> None:
        self._file, self._cancel = file, cancel
        self._at, self._data = 0, b""

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, start + MESSAGE_BYTES)
        if start < self._at or stop > self._at + len(self._data):
            if self._cancel():
                raise Cancelled("stopped")
            self._at, self._data = start, _all(self._file, start, min(max(stop, start + CHUNK), self._file.size))
        return self._data[start - self._at : stop - self._at]
