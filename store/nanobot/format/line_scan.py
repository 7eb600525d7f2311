"""Scans a session's file line by line, as nanobot does, and collects where each row begins.

A decoder that skips the bodies tells lines apart. A line that it refuses is read as nanobot reads it. Lines that
nanobot would not load either are analysed together, up to the next one that it would load.
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

CHUNK, REGION = 1 << 20, 1 << 23
"""How many bytes are read at once, and how many bytes of consecutive damage are analysed together at most."""
LONG = 4_300
"""The longest integer, in digits, that Python reads. A line that is no longer cannot hold a longer one."""
NO_UTF8, TOO_LONG, TOO_DEEP, NO_OBJECT = (
    "bytes that are not UTF-8",
    "an integer of more than 4300 digits",
    "an object nested too deeply",
    "JSON that is no object",
)
"""Why a release gives up the whole file."""
UNLOADED = "nanobot does not load it"
_HUGE, _LONE_CR = re.compile(rb"[0-9]{%d}" % (LONG + 1)), re.compile(rb"\r(?!\n)")
_ENDS, _WIDE = (b"\n", b"\r"), (b"\xff\xfe", b"\xfe\xff")
_BLANK, _BAD = object(), object()


class _Probe(Struct, gc=False):
    """What is decoded of a line to tell what it is."""

    _type: Any = UNSET


_decode = msgspec.json.Decoder(_Probe).decode
_REFUSED = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)


class LineScan:
    """A scan of a file from byte `at` on. Raises Busy if the file shrinks meanwhile."""

    def __init__(self, file: OpenFile, cancel: Cancel, at: int = 0) -> None:
        self._file, self._cancel, self.at = file, cancel, at
        self.line = 1
        self.starts: array[int] = array("q")
        self.rows_without_seq: list[int] = []
        self.unloaded_lines: list[UnloadedLine] = []
        self.metadata: list[tuple[int, int]] = []
        self.provider: tuple[int, int] | None = None
        self.lost: dict[str, int] = {}
        self._spoken = False
        """Whether there was a message: nanobot's private lines come before all messages."""
        self._region: list[bytes] = []
        self._region_at = self._region_line = self._region_size = 0

    def resume(self, outline: FileOutline) -> None:
        """Continue after the rows of an outline that nothing appended can change."""
        last = outline.resumes + 1
        if not last:
            return
        self.at = outline.starts[last]
        self.line = 1 + outline.breaks - _breaks(self._file.read(self.at, outline.end))
        self.starts = outline.starts[:last]
        self.rows_without_seq = [row for row in outline.rows_without_seq if row < last]
        self.unloaded_lines = list(outline.unloaded_lines[: len(self.rows_without_seq)])
        self.metadata = [span for span in outline.metadata if span[0] < self.at]
        self.provider = outline.provider if outline.provider and outline.provider[0] < self.at else None
        self.lost = {why: line for why, line in outline.lost if line < self.line}
        self._spoken = True

    def run(self) -> None:
        """Scan to the end. Raises Cancelled."""
        while self.at < self._file.size:
            if self._cancel():
                raise Cancelled("stopped")
            self._lines(self._chunk())
        self._flush()

    def _chunk(self) -> bytes:
        """Return whole lines from here on, including the last one of the file."""
        step = CHUNK
        while True:
            stop = min(self.at + step, self._file.size)
            data = self._file.read(self.at, stop)
            if len(data) < stop - self.at:
                raise Busy("the file was cut short while it was read; try again.")
            if stop == self._file.size:
                return data
            if cut := data.rfind(b"\n") + 1:
                return data[:cut]
            step *= 4

    def _lines(self, data: bytes) -> None:
        valid = _is_utf8(data)
        for text in data.splitlines(True):
            try:
                kind = _decode(text)._type
                if (len(text) > LONG and _HUGE.search(text)) or not (valid or _is_utf8(text)):
                    kind = self._as_nanobot(text)
            except _REFUSED:
                kind = self._as_nanobot(text)
            start = self.at
            self.at += len(text)
            if kind is _BAD or (kind is _BLANK and self._region):
                self._refused(text, start)
            elif kind is not _BLANK:
                if self._region:
                    self._flush()
                if kind in (METADATA, PROVIDER_STATE):
                    self._private(kind, start)
                else:
                    self.starts.append(start)
                    self._spoken = True
            self.line += 1
        # The last line of the file may have no line break.
        self.line -= not data.endswith(_ENDS)

    def _as_nanobot(self, line: bytes) -> Any:
        """Return what nanobot makes of a line: the type of its record, or whether it is blank or no record.

        Note what is fatal.
        """
        try:
            text = line.decode().strip()
            if not text:
                return _BLANK
            value = json.loads(text)
        except json.JSONDecodeError:
            return _BAD
        except UnicodeDecodeError:
            return self._fatal(NO_UTF8)
        except RecursionError:
            return self._fatal(TOO_DEEP)
        except ValueError:
            return self._fatal(TOO_LONG)
        return value.get("_type", UNSET) if isinstance(value, dict) else self._fatal(NO_OBJECT)

    def _fatal(self, why: str) -> object:
        self.lost.setdefault(why, self.line)
        return _BAD

    def _private(self, kind: str, start: int) -> None:
        """Count a private line of nanobot. It is a row only if it comes after a message."""
        if kind == METADATA:
            first = not self.metadata
            self.metadata.append((start, self.at))
        else:
            first = self.provider is None
            self.provider = start, self.at
        if self._spoken or not first:
            self._unloaded(start, self.line, (METADATA_AMONG_MESSAGES if kind == METADATA else STATE_AMONG_MESSAGES,))

    def _unloaded(self, start: int, line: int, why: tuple[str, ...]) -> None:
        self.rows_without_seq.append(len(self.starts))
        self.starts.append(start)
        self.unloaded_lines.append(UnloadedLine(line, why))

    # -- damage

    def _refused(self, text: bytes, start: int) -> None:
        """Add a line that nanobot does not load to those before it."""
        if not self._region:
            self._region_at, self._region_line, self._region_size = start, self.line, 0
        self._region.append(text)
        self._region_size += len(text)
        # Cut between two lines, UTF-16 would become another text.
        if self._region_size > REGION and not self._region[0].startswith(_WIDE) and b"\0" not in self._region[0][:4]:
            self._flush()

    def _flush(self) -> None:
        """Add the rows that can be saved of the lines that nanobot does not load."""
        data = b"".join(self._region)
        self._region = []
        if self.too_long(len(data)):
            self._unloaded(self._region_at, self._region_line, (UNLOADED,))
            return
        for line, span in spans_of(data, self._region_line):
            if span.kind is not SpanKind.BLANK:
                self._unloaded(self._region_at + span.start, line, tuple(map(str, span.troubles)) or (UNLOADED,))

    @staticmethod
    def too_long(size: int) -> bool:
        """Return whether damage is a line that no writer meant, and that would take too long to analyse."""
        return size > 2 * REGION


def spans_of(data: bytes, line: int) -> Iterator[tuple[int, Span]]:
    """Yield the spans of lines that nanobot does not load, each with the line that it begins on.

    The first is `line`.
    """
    before = 0
    # nanobot reads text, in which a CR alone ends a line too.
    for span in scan(_LONE_CR.sub(b"\n", data) if b"\r" in data else data):
        line += _breaks(data, before, span.start)
        before = span.start
        yield line, span


def _breaks(data: bytes, start: int = 0, stop: int | None = None) -> int:
    """Return how many lines end in some bytes, as a text file counts them: CR and LF together end one."""
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
    """Return the rows of a file, without states, which depend on the offset. With `before`, only what follows it is
    read.

    Raises Cancelled, and Busy if the file shrinks meanwhile.
    """
    line_scan = LineScan(file, cancel)
    if before is not None:
        line_scan.resume(before)
    return outlined(file, line_scan, before is None)


def outline_tail(file: OpenFile, size: int) -> FileOutline:
    """Return the rows in the last `size` bytes of a file, as if it had no others."""
    start = file.size - size
    if start <= 0:
        return outlined(file, LineScan(file, never), False)
    outline = outlined(file, LineScan(file, never, start + file.read(start, file.size).find(b"\n") + 1), False)
    return replace(outline, unloaded_lines=tuple(UnloadedLine(0, unloaded.why) for unloaded in outline.unloaded_lines))


def outlined(file: OpenFile, line_scan: LineScan, certain: bool = True) -> FileOutline:
    """Return the outline that a scan makes. It is `certain` unless only what was appended was read."""
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
