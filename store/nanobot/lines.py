"""Which rows a session's file has and where each begins: a line index that gives any row without parsing the others.

A row is a message that nanobot loads, which has a seq, or a stray: damage, what was saved from it, or a private line
in the wrong place. Lines are told apart by a decoder that steps over their bodies; only a line that it refuses is
looked at closely, together with what belongs to it.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import msgspec
from msgspec import UNSET, Struct

from ..archive import Cancel, never
from ..errors import Cancelled
from ..jsonlines import Fidelity, Kind, Span, Trouble, scan
from ..outline import Outline
from .file import Opened, Stat
from .head import METADATA, PROVIDER_STATE

CHUNK, WINDOW, SEALED = 1 << 20, 1 << 22, 256
"""Bytes that are read at once, that are looked at closely around damage unless an object goes on behind them, and that
tell whether a file is still the same."""
LONG = 4_300
"""The longest integer that Python reads; a line no longer than that cannot hold a longer one."""
SHARED = "damage on the same line"
ODD_METADATA, ODD_STATE = "a metadata line among the messages", "provider state among the messages"
_LONE_CR = re.compile(rb"\r(?!\n)")
_HUGE = re.compile(rb"[0-9]{%d}" % (LONG + 1))
_ENDS, _PRIVATE = (b"\n", b"\r"), (METADATA, PROVIDER_STATE)
_FINE = {Trouble.SURROGATE}
_FATAL = {
    Trouble.BAD_UTF8: "bytes that are not UTF-8", Trouble.HUGE_NUMBER: "an integer of more than 4300 digits",
    Trouble.NESTED: "an object nested too deeply",
}


class Stray(Struct, frozen=True):
    """A row without a seq: on which line (from 1) it stands, and why nanobot does not load it."""

    line: int
    why: tuple[str, ...]


class FileOutline(Outline, frozen=True, kw_only=True):
    """The rows of one file. Row i, from 0, begins at byte `starts[i]` and ends where the next one begins.

    `strays` are the rows without a seq, ascending, and `odd` says of each why. `metadata` and `provider` are the bytes
    (start, stop) of the metadata lines that nanobot loads, in order, and of its provider's state.
    """

    starts: array[int]
    end: int
    odd: tuple[Stray, ...] = ()
    metadata: tuple[tuple[int, int], ...] = ()
    provider: tuple[int, int] | None = None
    lost: tuple[tuple[str, int], ...] = ()
    """Why releases give the whole file up, each with its line."""
    breaks: int = 0
    """How many lines end before `end`."""
    stat: Stat | None = None
    seal: tuple[int, int] = (0, 0)
    """Checks of the first bytes of the file and of its last row: both stay where it is only appended to."""

    @property
    def messages(self) -> int:
        """How many messages nanobot loads, unless it gives the file up."""
        return len(self.starts) - len(self.strays)

    def holds(self, file: Opened) -> bool:
        """Whether the rows still stand where they did: in the same file, to which at most something was appended."""
        return file.stat == self.stat or (
            self.stat is not None and file.stat.inode == self.stat.inode and file.size >= self.end
            and _seal(file, self.starts, self.end) == self.seal)

    def row_of(self, seq: int) -> int:
        """The row of a seq from 1 to `messages`."""
        low, high = seq - 1, seq - 1 + len(self.strays)
        while low < high:
            middle = (low + high) // 2
            if middle + 1 - bisect_left(self.strays, middle + 1) < seq:
                low = middle + 1
            else:
                high = middle
        return low

    def seq_of(self, row: int) -> int:
        """The seq of a row that is no stray."""
        return row + 1 - bisect_left(self.strays, row)

    def span(self, row: int) -> tuple[int, int]:
        """Where a row's bytes begin and end."""
        return self.starts[row], self.starts[row + 1] if row + 1 < len(self.starts) else self.end

    def stray(self, row: int) -> Stray | None:
        """What is wrong with a row, None where it is a message."""
        at = bisect_left(self.strays, row)
        return self.odd[at] if at < len(self.strays) and self.strays[at] == row else None


class _Probe(Struct, gc=False):
    """All that is decoded of a line that is only to be told apart."""

    _type: Any = UNSET


_decode = msgspec.json.Decoder(_Probe).decode
_REFUSED = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)


class Walk:
    """Goes over a file from byte `at` on, and gathers what an outline is made of."""

    def __init__(self, file: Opened, cancel: Cancel, at: int = 0) -> None:
        self._file, self._cancel, self.at = file, cancel, at
        self.line = 1
        self.starts: array[int] = array("q")
        self.strays: list[int] = []
        self.odd: list[Stray] = []
        self.metadata: list[tuple[int, int]] = []
        self.provider: tuple[int, int] | None = None
        self.lost: dict[str, int] = {}
        self._spoken = False
        """Whether a message was met: what nanobot keeps for itself stands before all of them."""

    def resume(self, outline: FileOutline) -> None:
        """Goes on behind all rows of an outline but those on its last line, which may have been cut off then."""
        last = len(outline.starts) - 1
        while last and self._file.read(outline.starts[last] - 1, outline.starts[last]) not in _ENDS:
            last -= 1
        self.at = outline.starts[last]
        self.line = 1 + outline.breaks - _breaks(self._file.read(self.at, outline.end))
        self.starts = outline.starts[:last]
        self.strays = [row for row in outline.strays if row < last]
        self.odd = list(outline.odd[:len(self.strays)])
        self.metadata = [span for span in outline.metadata if span[0] < self.at]
        self.provider = outline.provider if outline.provider and outline.provider[0] < self.at else None
        self.lost = {why: line for why, line in outline.lost if line < self.line}
        self._spoken = last > len(self.strays)

    def run(self) -> None:
        """Goes to the end. Raises Cancelled."""
        size = self._file.size
        while self.at < size:
            if self._cancel():
                raise Cancelled("stopped")
            if not self._lines(self._chunk()):
                self._closely()

    def _chunk(self) -> bytes:
        """Whole lines from here on: the last one too where it ends with the file."""
        step = CHUNK
        while True:
            data = self._file.read(self.at, self.at + step)
            if self.at + len(data) >= self._file.size:
                return data
            cut = data.rfind(b"\n") + 1
            if cut:
                return data[:cut]
            step *= 4

    def _lines(self, data: bytes) -> bool:
        """Takes lines as they are; False where one needs a closer look."""
        valid = _is_utf8(data)
        at, line, starts = self.at, self.line, self.starts
        try:
            for text in data.splitlines(True):
                try:
                    kind = _decode(text)._type
                except _REFUSED:
                    if text.strip():
                        return False
                    kind = ""
                if (len(text) > LONG and _HUGE.search(text)) or not (valid or _is_utf8(text)):
                    return False
                if kind in _PRIVATE:
                    self._private(kind, at, at + len(text), line)
                elif kind != "":
                    starts.append(at)
                    self._spoken = True
                at += len(text)
                line += 1
        finally:
            self.at, self.line = at, line
        # The last line of the file may not have ended.
        self.line -= not data.endswith(_ENDS)
        return True

    def _private(self, kind: str, start: int, stop: int, line: int) -> None:
        """A line of nanobot's own: no row, unless it stands among the messages."""
        if kind == METADATA:
            first = not self.metadata
            self.metadata.append((start, stop))
        else:
            first = self.provider is None
            self.provider = (start, stop)
        if self._spoken or not first:
            self._stray(start, line, (ODD_METADATA if kind == METADATA else ODD_STATE,))

    def _message(self, start: int) -> None:
        self.starts.append(start)
        self._spoken = True

    def _stray(self, start: int, line: int, why: tuple[str, ...]) -> None:
        self.strays.append(len(self.starts))
        self.starts.append(start)
        self.odd.append(Stray(line, why))

    # -- around damage

    def _closely(self) -> None:
        """Takes what begins here span by span, up to the next line that is as it should be."""
        base = self.at
        size, step = self._file.size, WINDOW
        while True:
            data = self._file.read(base, base + step)
            if base + len(data) < size:
                data = data[:data.rfind(b"\n") + 1] or data
            spans, rest = self._damaged(data)
            if spans and (base + rest >= size or spans[-1].stop < len(data)):
                break
            # Whatever reaches the end of what was read may go on behind it.
            step *= 4
        before = 0
        for span in spans:
            self.line += _breaks(data, before, span.start)
            before = span.start
            self._span(data, span, base)
        self.at = base + rest
        self.line += _breaks(data, before, rest)

    @staticmethod
    def _damaged(data: bytes) -> tuple[list[Span], int]:
        """The spans up to the first good line behind damage, and where that begins."""
        spans: list[Span] = []
        # To nanobot, which reads text, a CR alone ends a line too.
        for span in scan(_LONE_CR.sub(b"\n", data)):
            if Trouble.UTF16 not in span.troubles and spans and _alone(data, span):
                return spans, span.start
            spans.append(span)
        return spans, len(data)

    def _span(self, data: bytes, span: Span, base: int) -> None:
        if span.kind is Kind.BLANK:
            return
        start, at = base + span.start, self.line
        for trouble in span.troubles:
            if trouble in _FATAL:
                self.lost.setdefault(_FATAL[trouble], at)
        if span.kind is Kind.DAMAGE and span.troubles == (Trouble.NOT_AN_OBJECT,):
            self.lost.setdefault("JSON that is no object", at)
        if not _alone(data, span):
            self._stray(start, at, tuple(str(trouble) for trouble in span.troubles) or (SHARED,))
        elif span.value and (kind := span.value.get("_type")) in _PRIVATE:
            self._private(kind, start, base + span.stop, at)
        else:
            self._message(start)


def _alone(data: bytes, span: Span) -> bool:
    """Whether nanobot loads a record: whole, undamaged, and the only thing on its line."""
    return (
        span.kind is Kind.RECORD and span.fidelity is Fidelity.EXACT and _FINE.issuperset(span.troubles)
        and (not span.start or data[span.start - 1:span.start] in _ENDS)
        and (span.stop == len(data) or data[span.stop - 1:span.stop] in _ENDS)
    )


def _breaks(data: bytes, start: int = 0, stop: int | None = None) -> int:
    """How many lines end in a part of some bytes, as a text file counts them; CR and LF together end one."""
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


def _seal(file: Opened, starts: array[int], end: int) -> tuple[int, int]:
    last = starts[-1] if starts else 0
    return crc32(file.read(0, min(SEALED, end))), crc32(file.read(last, min(last + SEALED, end)))


def outline_rows(file: Opened, cancel: Cancel, before: FileOutline | None = None) -> FileOutline:
    """The rows of a file, states left to whoever knows the offset. Only what comes behind `before` is read, if given.

    Raises Cancelled.
    """
    walk = Walk(file, cancel)
    if before is not None and len(before.starts):
        walk.resume(before)
    return _walked(file, walk)


def outline_tail(file: Opened, size: int) -> FileOutline:
    """The rows in the last `size` bytes of a file, as if it had no others."""
    start = max(0, file.size - size)
    walk = Walk(file, never, start + file.read(start, file.size).find(b"\n") + 1)
    return _walked(file, walk)


def _walked(file: Opened, walk: Walk) -> FileOutline:
    walk.run()
    return FileOutline(
        states={}, strays=walk.strays, starts=walk.starts, end=file.size, odd=tuple(walk.odd),
        metadata=tuple(walk.metadata), provider=walk.provider, lost=tuple(walk.lost.items()), breaks=walk.line - 1,
        stat=file.stat, seal=_seal(file, walk.starts, file.size),
    )


def stretches(outline: FileOutline) -> Iterator[tuple[bool, int, int]]:
    """All rows in order, as (whether they have seqs, first, last): seqs of messages, or twice the row of a stray."""
    seq, before = 1, 0
    for row in outline.strays:
        if row > before:
            yield True, seq, seq + row - before - 1
            seq += row - before
        yield False, row, row
        before = row + 1
    if len(outline.starts) > before:
        yield True, seq, outline.messages
