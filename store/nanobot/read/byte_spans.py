"""Pieces of a session's file: messages, private lines, and the parts of regions that nanobot does not load.

The doctor and the repairs work on them. White space between two pieces belongs to neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct

from sessionscope.store.io.spans import Span, SpanKind
from sessionscope.store.model.errors import Busy, Cancelled
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.file_head import METADATA, PROVIDER_STATE
from sessionscope.store.nanobot.format.line_scan import CHUNK, LineScan, PrivateLine, Region, outlined, spans_of
from sessionscope.store.nanobot.format.lines import FileOutline
from sessionscope.store.protocols import Cancel

from .record import MESSAGE_BYTES


class Sort(StrEnum):
    """The kind of a piece."""

    MESSAGE = "message"
    METADATA = "metadata"
    STATE = "provider state"
    PART = "part"
    """An intact or damaged part of a region."""


_PRIVATE_SORTS = {METADATA: Sort.METADATA, PROVIDER_STATE: Sort.STATE}


class ByteSpans(Struct, frozen=True):
    """The rows of a file, its private lines, and its regions."""

    outline: FileOutline
    private_lines: tuple[PrivateLine, ...]
    regions: tuple[Region, ...]


class Piece(Struct, gc=False):
    """Bytes `start` to `stop` of a file."""

    sort: Sort
    start: int
    stop: int
    line: int
    """The number of the line on which it begins, from 1."""
    data: bytes
    """Its bytes, or the first ones if it is very long."""
    seq: int | None = None
    """The seq of a message."""
    span: Span | None = None
    """What was found in a part of a region."""

    @property
    def whole(self) -> bool:
        """Whether `data` is the whole piece."""
        return len(self.data) == self.stop - self.start


def find_spans(file: OpenFile, cancel: Cancel) -> ByteSpans:
    """Read a file once. Raises Cancelled, and Busy if the file shrinks meanwhile."""
    line_scan = LineScan(file, cancel)
    outline = outlined(file, line_scan)
    return ByteSpans(outline, tuple(line_scan.private_lines), tuple(line_scan.regions))


def pieces(file: OpenFile, spans: ByteSpans, cancel: Cancel) -> Iterator[Piece]:
    """Yield all pieces of a file in order. Raises Cancelled, and Busy if the file shrinks meanwhile."""
    outline = spans.outline
    others: list[PrivateLine | Region] = [*spans.private_lines, *spans.regions]
    other_lines = deque(sorted(others, key=lambda lines: lines.start))
    rows_without_seq = frozenset(outline.rows_without_seq)
    window = _Window(file, cancel)
    seq, line = 0, 1
    if not other_lines and outline.starts:
        line += _count_line_ends(file.read(0, outline.starts[0]))
    for row, start in enumerate(outline.starts):
        while other_lines and other_lines[0].start <= start:
            lines = other_lines.popleft()
            yield from _pieces_of(file, lines)
            line = lines.line + 1
        if row in rows_without_seq:
            # It belongs to a private line or a region.
            continue
        seq += 1
        _, row_stop = outline.span(row)
        if other_lines:
            row_stop = min(row_stop, other_lines[0].start)
        data = window.read(start, row_stop)
        message = _first_line(data)
        is_whole = len(data) == row_stop - start
        yield Piece(Sort.MESSAGE, start, start + len(message) if is_whole else row_stop, line, message, seq)
        line += max(1, _count_line_ends(data))
    for lines in other_lines:
        yield from _pieces_of(file, lines)


def _pieces_of(file: OpenFile, lines: PrivateLine | Region) -> Iterator[Piece]:
    """Yield the piece that a private line is, or the parts of a region."""
    if isinstance(lines, Region):
        yield from _parts(file, lines)
    else:
        data = file.read(lines.start, min(lines.stop, lines.start + MESSAGE_BYTES))
        yield Piece(_PRIVATE_SORTS[lines.record_type], lines.start, lines.stop, lines.line, data)


def _parts(file: OpenFile, region: Region) -> Iterator[Piece]:
    """Yield the parts of a region, without those of white space. A region that is not searched is one part."""
    if not region.searched:
        data = file.read(region.start, region.start + CHUNK)
        span = Span(region.start, region.stop, region.line, SpanKind.DAMAGE)
        yield Piece(Sort.PART, region.start, region.stop, region.line, data, span=span)
        return
    data = _read_all(file, region.start, region.stop)
    for line, span in spans_of(data, region.line):
        if span.kind is not SpanKind.BLANK:
            start, stop = region.start + span.start, region.start + span.stop
            yield Piece(Sort.PART, start, stop, line, data[span.start : span.stop], span=span)


def _first_line(data: bytes) -> bytes:
    """Return the first line with its end. Like a text file's, it ends at CR, LF, or CR LF."""
    stop = data.find(b"\n") + 1 or len(data)
    if b"\r" in data[:stop]:
        return data.splitlines(True)[0]
    return data[:stop]


def _count_line_ends(data: bytes) -> int:
    """Return how many lines end in some bytes, as in a text file: at CR, LF, or CR LF."""
    line_ends = data.count(b"\n")
    if b"\r" in data:
        line_ends += data.count(b"\r") - data.count(b"\r\n")
    return line_ends


def _read_all(file: OpenFile, start: int, stop: int) -> bytes:
    data = file.read(start, stop)
    if len(data) < stop - start:
        raise Busy("the file was cut short while it was read; try again.")
    return data


class _Window:
    """A buffer for reading ranges of a file in ascending order, of each at most its first MESSAGE_BYTES."""

    def __init__(self, file: OpenFile, cancel: Cancel) -> None:
        self._file, self._cancel = file, cancel
        self._start, self._data = 0, b""

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes `start` to `stop`. Raises Cancelled, and Busy if the file ends before that."""
        stop = min(stop, start + MESSAGE_BYTES)
        if start < self._start or stop > self._start + len(self._data):
            if self._cancel():
                raise Cancelled("stopped")
            self._start = start
            self._data = _read_all(self._file, start, min(max(stop, start + CHUNK), self._file.size))
        return self._data[start - self._start : stop - self._start]
