"""Scan of a session's file, line by line as nanobot reads it, for the bytes at which its rows begin.

A fast decoder reads only the type of each line. Lines that it refuses are decoded as nanobot decodes them. Neighbouring
lines that nanobot does not load either form a region, whose bytes are then searched for intact objects.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from sessionscope.store.io.jsonlines import scan
from sessionscope.store.io.spans import Span, SpanKind
from sessionscope.store.model.errors import Busy, Cancelled
from sessionscope.store.protocols import Cancel, never

from .file import OpenFile
from .file_head import METADATA, PROVIDER_STATE
from .lines import METADATA_AMONG_MESSAGES, STATE_AMONG_MESSAGES, FileOutline, UnloadedLine, seal_of

CHUNK = 1 << 20
"""How many bytes are read at once."""
REGION_BYTES = 1 << 23
"""A region of more bytes is split between two lines."""
MAX_INTEGER_DIGITS = 4_300
"""The digits of the longest integer that Python decodes."""

NO_UTF8 = "bytes that are not UTF-8"
"""A reason for which a release does not load the file at all. The next three are, too."""
TOO_LONG = "an integer of more than 4300 digits"
TOO_DEEP = "an object nested too deeply"
NO_OBJECT = "JSON that is no object"
UNLOADED = "nanobot does not load it"
"""Why a part of a region is a row without a seq if its bytes do not tell."""

_HUGE_INTEGER = re.compile(rb"[0-9]{%d}" % (MAX_INTEGER_DIGITS + 1))
_LONE_CR = re.compile(rb"\r(?!\n)")
_LINE_ENDS = (b"\n", b"\r")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BLANK = object()
"""The type of a line of white space."""
_NOT_LOADED = object()
"""The type of a line that nanobot does not load."""


class _TypeProbe(Struct, gc=False):
    """The one member of a line that is decoded; msgspec skips the others."""

    _type: Any = UNSET


_decode = msgspec.json.Decoder(_TypeProbe).decode
_DECODE_ERRORS = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)


class PrivateLine(Struct, frozen=True):
    """A whole line of nanobot's own: metadata or provider state."""

    record_type: str
    """METADATA or PROVIDER_STATE."""
    start: int
    stop: int
    line: int
    """Its number, from 1."""


class Region(Struct, frozen=True):
    """Neighbouring lines that nanobot does not load."""

    start: int
    stop: int
    line: int
    """The number of its first line, from 1."""

    @property
    def searched(self) -> bool:
        """Whether it is searched for intact objects.

        A line of many megabytes is not: no writer meant it, and the search could take longer than a user waits. Since
        regions are split between lines, only such a line (or UTF-16) makes a region this long.
        """
        return self.stop - self.start <= 2 * REGION_BYTES


class LineScan:
    """A scan of a file from byte `position` on. Raises Busy if the file shrinks meanwhile."""

    def __init__(self, file: OpenFile, cancel: Cancel, position: int = 0) -> None:
        self._file, self._cancel = file, cancel
        self.position = position
        self.line = 1
        """The number of the line at `position`."""
        self.starts: array[int] = array("q")
        self.rows_without_seq: list[int] = []
        self.unloaded_lines: list[UnloadedLine] = []
        self.metadata: list[tuple[int, int]] = []
        self.provider: tuple[int, int] | None = None
        self.lost: dict[str, int] = {}
        self.private_lines: list[PrivateLine] = []
        """The private lines that this scan read, not those before the row at which it resumed. The same for regions."""
        self.regions: list[Region] = []
        self._message_seen = False
        """Whether a message was read. nanobot writes its own lines before all messages."""
        self._region_lines: list[bytes] = []
        self._region_start = 0
        self._region_line = 0
        self._region_size = 0

    def resume(self, outline: FileOutline) -> None:
        """Continue after the rows of an outline that appended bytes cannot change."""
        kept_rows = outline.resumes + 1
        if not kept_rows:
            return
        self.position = outline.starts[kept_rows]
        self.line = 1 + outline.breaks - _count_line_ends(self._file.read(self.position, outline.end))
        self.starts = outline.starts[:kept_rows]
        self.rows_without_seq = [row for row in outline.rows_without_seq if row < kept_rows]
        self.unloaded_lines = list(outline.unloaded_lines[: len(self.rows_without_seq)])
        self.metadata = [span for span in outline.metadata if span[0] < self.position]
        if outline.provider is not None and outline.provider[0] < self.position:
            self.provider = outline.provider
        self.lost = {why: line for why, line in outline.lost if line < self.line}
        self._message_seen = True

    def run(self) -> None:
        """Scan to the end of the file. Raises Cancelled."""
        while self.position < self._file.size:
            if self._cancel():
                raise Cancelled("stopped")
            self._scan_lines(self._read_chunk())
        self._end_region()

    def _read_chunk(self) -> bytes:
        """Return whole lines from the current position on. Only the last line of the file may lack its end."""
        step = CHUNK
        while True:
            stop = min(self.position + step, self._file.size)
            data = self._file.read(self.position, stop)
            if len(data) < stop - self.position:
                raise Busy("the file was cut short while it was read; try again.")
            if stop == self._file.size:
                return data
            if lines_end := data.rfind(b"\n") + 1:
                return data[:lines_end]
            step *= 4

    def _scan_lines(self, data: bytes) -> None:
        # msgspec checks neither the encoding nor the integers of members that it skips, so both are checked here.
        is_utf8 = _is_utf8(data)
        for text in data.splitlines(True):
            try:
                record_type = _decode(text)._type
                if not (is_utf8 or _is_utf8(text)) or (len(text) > MAX_INTEGER_DIGITS and _HUGE_INTEGER.search(text)):
                    record_type = self._type_for_nanobot(text)
            except _DECODE_ERRORS:
                record_type = self._type_for_nanobot(text)
            start = self.position
            self.position += len(text)
            if record_type is _NOT_LOADED or (record_type is _BLANK and self._region_lines):
                self._add_to_region(text, start)
            elif record_type is not _BLANK:
                if self._region_lines:
                    self._end_region()
                if record_type in (METADATA, PROVIDER_STATE):
                    self._add_private_line(record_type, start)
                else:
                    self.starts.append(start)
                    self._message_seen = True
            self.line += 1
        if not data.endswith(_LINE_ENDS):
            # The last line of the file has not ended.
            self.line -= 1

    def _type_for_nanobot(self, line: bytes) -> Any:
        """Return the type of a line as nanobot decodes it, _BLANK or _NOT_LOADED. Fatal damage is noted in `lost`."""
        try:
            text = line.decode().strip()
            if not text:
                return _BLANK
            value = json.loads(text)
        except json.JSONDecodeError:
            return _NOT_LOADED
        except UnicodeDecodeError:
            return self._fatal(NO_UTF8)
        except RecursionError:
            return self._fatal(TOO_DEEP)
        except ValueError:
            return self._fatal(TOO_LONG)
        return value.get("_type", UNSET) if isinstance(value, dict) else self._fatal(NO_OBJECT)

    def _fatal(self, why: str) -> object:
        self.lost.setdefault(why, self.line)
        return _NOT_LOADED

    def _add_private_line(self, record_type: str, start: int) -> None:
        """Add a line of nanobot's own. It is a row only if it is repeated or follows a message."""
        self.private_lines.append(PrivateLine(record_type, start, self.position, self.line))
        if record_type == METADATA:
            repeated, why = bool(self.metadata), METADATA_AMONG_MESSAGES
            self.metadata.append((start, self.position))
        else:
            repeated, why = self.provider is not None, STATE_AMONG_MESSAGES
            self.provider = start, self.position
        if repeated or self._message_seen:
            self._add_row_without_seq(start, self.line, (why,))

    def _add_row_without_seq(self, start: int, line: int, why: tuple[str, ...]) -> None:
        self.rows_without_seq.append(len(self.starts))
        self.starts.append(start)
        self.unloaded_lines.append(UnloadedLine(line, why))

    # -- regions

    def _add_to_region(self, text: bytes, start: int) -> None:
        """Add a line that nanobot does not load to the current region."""
        if not self._region_lines:
            self._region_start, self._region_line, self._region_size = start, self.line, 0
        self._region_lines.append(text)
        self._region_size += len(text)
        # UTF-16 is not split: its first bytes tell that it is UTF-16, and its lines do not end where a line ends here.
        if self._region_size > REGION_BYTES and not _may_begin_utf16(self._region_lines[0]):
            self._end_region()

    def _end_region(self) -> None:
        """Add a row for each part of the current region, if there is one."""
        if not self._region_lines:
            return
        region = Region(self._region_start, self._region_start + self._region_size, self._region_line)
        data = b"".join(self._region_lines)
        self._region_lines = []
        self.regions.append(region)
        if not region.searched:
            self._add_row_without_seq(region.start, region.line, (UNLOADED,))
            return
        for line, span in spans_of(data, region.line):
            if span.kind is not SpanKind.BLANK:
                why = tuple(str(trouble) for trouble in span.troubles) or (UNLOADED,)
                self._add_row_without_seq(region.start + span.start, line, why)


def spans_of(data: bytes, line: int) -> Iterator[tuple[int, Span]]:
    """Yield the spans of a region, each with the number of the line on which it begins. The region begins on `line`."""
    counted_to = 0
    # nanobot reads the file as text, in which a lone CR ends a line, too.
    for span in scan(_LONE_CR.sub(b"\n", data) if b"\r" in data else data):
        line += _count_line_ends(data, counted_to, span.start)
        counted_to = span.start
        yield line, span


def _may_begin_utf16(line: bytes) -> bool:
    return line.startswith(_UTF16_MARKS) or b"\0" in line[:4]


def _count_line_ends(data: bytes, start: int = 0, stop: int | None = None) -> int:
    """Return how many lines end in bytes `start` to `stop`, as in a text file: at CR, LF, or CR LF."""
    stop = len(data) if stop is None else stop
    return data.count(b"\n", start, stop) + data.count(b"\r", start, stop) - data.count(b"\r\n", start, stop + 1)


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def outline_rows(file: OpenFile, cancel: Cancel, before: FileOutline | None = None) -> FileOutline:
    """Return the rows of a file, without states, which depend on the offset. Continue from `before`, if given.

    Raises Cancelled, and Busy if the file shrinks meanwhile.
    """
    line_scan = LineScan(file, cancel)
    if before is not None:
        line_scan.resume(before)
    return outlined(file, line_scan, before is None)


def outline_tail(file: OpenFile, size: int) -> FileOutline:
    """Return the rows in the last `size` bytes of a file, as if it had no others. Their lines are not known."""
    start = file.size - size
    if start <= 0:
        return outlined(file, LineScan(file, never), False)
    # The scan begins with the first whole line.
    start += file.read(start, file.size).find(b"\n") + 1
    outline = outlined(file, LineScan(file, never, start), False)
    return replace(outline, unloaded_lines=tuple(UnloadedLine(0, unloaded.why) for unloaded in outline.unloaded_lines))


def outlined(file: OpenFile, line_scan: LineScan, certain: bool = True) -> FileOutline:
    """Run a scan and return its outline. `certain` says that it covers the whole file."""
    line_scan.run()
    return FileOutline(
        states={},
        rows_without_seq=line_scan.rows_without_seq,
        starts=line_scan.starts,
        end=file.size,
        unloaded_lines=tuple(line_scan.unloaded_lines),
        metadata=tuple(line_scan.metadata),
        provider=line_scan.provider,
        lost=tuple(line_scan.lost.items()),
        breaks=line_scan.line - 1,
        stat=file.stat,
        seal=seal_of(file, line_scan.starts, file.size),
        certain=certain,
    )
