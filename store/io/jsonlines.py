"""Splits the bytes of a JSON-lines file into records and damage. Works for any bytes; every byte belongs to one span.

A line that is an object is a record. On any other line, whole objects are still records, an object that breaks off
gives its complete leading fields, and the rest is damage. The spans in order are the file. Lines are decoded by
msgspec, else by the standard json; only lines that both refuse are analysed. All of it takes time in proportion to the
size of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from . import jsontokens as tokens
from .jsontokens import Extent, Form, ParsedObject, unescape

AHEAD = 4
"""How many times the file's size may be scanned beyond line ends without finding an object there."""


class SpanKind(StrEnum):
    """Whether a span is a record, blank, or damage."""

    RECORD = "record"
    BLANK = "blank"
    DAMAGE = "damage"


class Fidelity(StrEnum):
    """How much of a record is as it was written: everything, all but some characters or numbers, or only leading
    fields.
    """

    EXACT = "exact"
    LOSSY = "lossy"
    PARTIAL = "partial"


class Trouble(StrEnum):
    """What is wrong with a span, in words."""

    TRUNCATED = "the object breaks off"
    TORN = "another object begins before this one ends"
    GLUED = "more than one object on the line"
    SPREAD = "the object goes over several lines"
    CONTROL = "control characters stand bare in a string"
    ESCAPE = "an escape that JSON does not know, kept as it stands"
    BAD_UTF8 = "bytes that are not UTF-8"
    UTF16 = "UTF-16 instead of UTF-8"
    BOM = "a byte order mark"
    NUL = "NUL bytes"
    NOT_AN_OBJECT = "JSON, but no object"
    SURROGATE = "half of a surrogate pair"
    HUGE_NUMBER = "an integer of more than 4300 digits, kept as text"
    NESTED = "nested too deeply"
    GARBAGE = "no JSON"


class Span(Struct, frozen=True, gc=False):
    """Bytes `start` to `stop` of a file, beginning on `line` (from 1). Only a record has a `value`."""

    start: int
    stop: int
    line: int
    kind: SpanKind
    value: dict[str, Any] | None = None
    fidelity: Fidelity = Fidelity.EXACT
    troubles: tuple[Trouble, ...] = ()


class Leading(Struct, frozen=True, gc=False):
    """What the beginning of an object holds: its complete leading fields, and the string in which it breaks off.

    `text` is as much as there is of the string that is the value of `key`. It begins at byte `at`, after its quote.
    """

    fields: dict[str, Any]
    key: str | None
    text: str
    at: int


_decode = msgspec.json.Decoder().decode
_decode_lines = msgspec.json.Decoder().decode_lines
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_BRACE, _NUL = b"{\0"
_BREAKS = {Trouble.TRUNCATED, Trouble.TORN, Trouble.NESTED}
_SPACE = re.compile(rb"[ \t\n\r]*")
_BREAK = re.compile(rb"[\r\n]")
_NULS = re.compile(rb"\0[\0 \t\n\r]*")
_MARKS = re.compile(rb"(?:\xef\xbb\xbf)+")
_COMMAS = re.compile(rb",[, \t\n\r]*")
_BRACED_LINE = re.compile(rb"[\r\n][ \t]*+(?=\{)")
_CANDIDATE = re.compile(rb'\0|\{(?=[ \t\n\r]*+")')
_GOES_ON = re.compile(rb"[ \t\n\r]*+[\]},]")


def records(data: bytes) -> list[dict[str, Any]]:
    """Return the values of all records of a file. Gives the same as `scan`, faster if every line is an object."""
    try:
        values = _decode_lines(data)
    except _REFUSED:
        values = None
    if values is not None and all(type(value) is dict for value in values):
        return values
    return [span.value for span in scan(data) if span.value is not None]


def scan(data: bytes) -> Iterator[Span]:
    """Yield the spans of a file in order, without gap or overlap; none for an empty file. Never raises."""
    encoding = _utf16(data)
    return _scan_utf16(data, encoding) if encoding else _scan(data)


def leading(data: bytes) -> Leading:
    """Return what can be read of an object of which `data` is the beginning, cut off anywhere."""
    start = data.find(b"{")
    if start == -1:
        return Leading({}, None, "", len(data))
    found = tokens.extent(data, start, len(data))
    fields = tokens.leading_fields(data, found)
    if found.key is None:
        return Leading(fields, None, "", len(data))
    begin, end = found.key
    at = found.last + 1
    return Leading(fields, unescape(data[begin + 1 : end])[0], unescape(data[at:])[0], at)


def _scan(data: bytes) -> Iterator[Span]:
    at, line, size, closely = 0, 1, len(data), _Closely(data)
    while at < size:
        stop = data.find(b"\n", at) + 1 or size
        try:
            value = _decode(data[at:stop])
        except _REFUSED:
            value = None
        if type(value) is dict:
            yield Span(at, stop, line, SpanKind.RECORD, value)
            at, line = stop, line + 1
            continue
        for stop, kind, value, fidelity, troubles in closely.pieces(at):
            yield Span(at, stop, line, kind, value, fidelity, troubles)
            line += data.count(b"\n", at, stop)
            at = stop


def _utf16(data: bytes) -> str | None:
    """Return the encoding of a UTF-16 file, recognised by the zeros that are half of its first characters.

    A byte order mark alone is not enough: it may be damage before UTF-8. Zeros without a quote between them may be too.
    """
    marked = _UTF16.get(data[:2])
    head = data[2:66] if marked else data[:64]
    for encoding, high, low in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        plain = b'"' in low and low.count(0) * 8 <= len(low)
        if high.count(0) * 2 >= len(low) and (marked == encoding or (marked is None and plain)):
            return encoding
    return None


def _scan_utf16(data: bytes, encoding: str) -> Iterator[Span]:
    even = len(data) - len(data) % 2
    text = data[:even].decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
    at, line = 0, 1
    for span in _scan(text):
        part = text[span.start : span.stop].decode("utf-8", "surrogatepass")
        stop, line = at + len(part.encode(encoding, "surrogatepass")), span.line + part.count("\n")
        troubles = span.troubles if span.kind is SpanKind.BLANK else (*span.troubles, Trouble.UTF16)
        yield replace(span, start=at, stop=stop, troubles=troubles)
        at = stop
    if even < len(data):
        yield Span(even, len(data), line, SpanKind.DAMAGE, troubles=(Trouble.TRUNCATED, Trouble.UTF16))


# A span without its start and line.
_Piece = tuple[int, SpanKind, dict[str, Any] | None, Fidelity, tuple[Trouble, ...]]


class _Found(Struct, gc=False):
    """An object in the bytes: with its value if it is whole and can be decoded, else with its leading fields."""

    extent: Extent
    reading: ParsedObject | None
    fields: dict[str, Any]


class _Closely:
    """Analyses lines that are not exactly one object.

    After an object that breaks off, the analysis goes on at its last token. Scans beyond a line that find nothing are
    limited by a budget.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._ahead = AHEAD * len(data)
        self._nul = -1
        self._wake = self._indent = -1

    def pieces(self, at: int) -> Iterator[_Piece]:
        """Yield the pieces from the beginning of a line to the end of that line or of a later one."""
        while True:
            for piece in self._line(at):
                self._note(at, piece)
                yield piece
                at = piece[0]
            if at == len(self._data) or self._data[at - 1 : at] == b"\n":
                return

    def _note(self, at: int, piece: _Piece) -> None:
        """Remember how far the damage after a broken object reaches without a gap, and how far the object is indented.

        Objects that are indented more than that, and go over several lines, are part of the broken one.
        """
        stop, kind, _, fidelity, troubles = piece
        if fidelity is Fidelity.PARTIAL or _BREAKS & {*troubles}:
            indent = tokens.end_of(_SPACE, self._data, at, stop) - at
            self._indent = min(self._indent, indent) if at == self._wake else indent
            self._wake = stop
        elif kind is not SpanKind.RECORD and at == self._wake:
            self._wake = stop

    def _line(self, at: int) -> Iterator[_Piece]:
        stop = tokens.line_end(self._data, at)
        text = self._data[at:stop].decode("utf-8", "replace").strip()
        try:
            value = json.loads(text) if text else None
        except (ValueError, RecursionError):
            yield from self._parts(at, stop)
            return
        if isinstance(value, dict):
            yield self._record(at, stop, ParsedObject(value), [])
        elif text:
            yield stop, SpanKind.DAMAGE, None, Fidelity.EXACT, (Trouble.NOT_AN_OBJECT,)
        else:
            yield stop, SpanKind.BLANK, None, Fidelity.EXACT, ()

    def _parts(self, begin: int, stop: int) -> Iterator[_Piece]:
        """Yield the pieces of a line that is not exactly one object, and of the lines that its objects extend over."""
        data, at = self._data, begin
        # Whether all before is sound, whether it stands right before what comes, and what was seen of that already.
        sound, glued, found = True, False, None
        while at < stop:
            first = tokens.end_of(_SPACE, data, at, stop)
            if first == stop:
                yield stop, SpanKind.BLANK, None, Fidelity.EXACT, ()
                return
            if simple := self._simple(first, stop, sound and at > begin):
                yield simple
                at = simple[0]
                continue
            if data[first] != _BRACE:
                found = None
            elif found is None or found.extent.start != first:
                nested = at == begin == self._wake and first - at > self._indent
                found = self._look(first, stop, not nested)
            if found and found.extent.form is Form.WHOLE:
                if found.extent.stop > stop:
                    stop = tokens.line_end(data, found.extent.stop)
                end = tokens.end_of(_SPACE, data, found.extent.stop, stop)
                if found.reading is None:
                    yield self._broken(at, end, found.fields, Trouble.NESTED)
                    at, glued = end, False
                    continue
                if found.reading.value or sound:
                    more = end < stop and data[end] == _BRACE
                    yield self._record(at, end, found.reading, [Trouble.GLUED] if glued or more else [])
                    at, glued = end, more
                    continue
            behind, end = self._next(found.extent if found else None, first, stop)
            why = Trouble.TRUNCATED
            if found is None or found.extent.form is Form.WHOLE:
                why = Trouble.GARBAGE
            elif found.extent.deep:
                why = Trouble.NESTED
            elif behind and not tokens.begins_line(data, end):
                why = Trouble.TORN
            yield self._broken(at, end, found.fields if found else {}, why)
            if end > stop:
                stop = tokens.line_end(data, end - 1)
            at, sound, glued, found = end, False, False, behind

    def _simple(self, at: int, stop: int, between: bool) -> _Piece | None:
        """Return a piece of NUL bytes, byte order marks or, between sound objects, commas; None for anything else."""
        for pattern, trouble in ((_NULS, Trouble.NUL), (_MARKS, Trouble.BOM), (_COMMAS, Trouble.GARBAGE)):
            end = tokens.end_of(pattern, self._data, at, stop)
            if end > at and (between or pattern is not _COMMAS):
                return end, SpanKind.DAMAGE, None, Fidelity.EXACT, (trouble,)
        return None

    def _next(self, broken: Extent | None, at: int, stop: int) -> tuple[_Found | None, int]:
        """Return the next object after a broken one, or in garbage, and where the damage before it ends.

        A quoted string contains a brace before a quote only at its end. So an object that begins in the last string of
        a torn one ends that string with the quote of its first key. Otherwise it begins at the byte that cannot follow,
        or after it.
        """
        data = self._data
        while True:
            quoted = -1
            if broken is not None:
                at = broken.stop
                if broken.form is Form.OPEN:
                    return None, at
                if broken.form is Form.TORN:
                    quoted = tokens.quoted_brace(data, broken)
                if at > stop:
                    stop = tokens.line_end(data, at - 1)
            brace = quoted
            if quoted == -1:
                match = _CANDIDATE.search(data, at, stop)
                if match is None or data[match.start()] == _NUL:
                    return None, match.start() if match else stop
                brace = match.start()
                due = broken is not None and broken.form is Form.TORN and brace == at
                if not due and tokens.is_value(data, brace):
                    broken, at = None, brace + 1
                    continue
            found = self._look(brace, stop)
            broken = found.extent
            value = found.reading.value if found.reading else found.fields
            goes_on = broken.form is not Form.WHOLE or _GOES_ON.match(data, broken.stop)
            if value and not (quoted != -1 and goes_on and tokens.is_value(data, brace)):
                return found, brace

    def _look(self, start: int, stop: int, ahead: bool = True) -> _Found:
        """Return the object whose brace is at `start`, on a line that ends at `stop` and on the lines that it extends
        over.
        """
        if self._nul < start:
            found = self._data.find(b"\0", start)
            self._nul = found if found != -1 else len(self._data)
        there = tokens.extent(self._data, start, min(stop, self._nul))
        if there.form is Form.OPEN and not ahead:
            return _Found(there, None, {})
        if there.form is Form.OPEN and there.stop < len(self._data):
            there = self._follow(there)
        reading = tokens.read(self._data[start : there.stop]) if there.form is Form.WHOLE else None
        return _Found(there, reading, {} if reading else tokens.leading_fields(self._data, there))

    def _follow(self, there: Extent) -> Extent:
        """Return the extent of an object that is open at the end of its line, or at NUL bytes, if it continues after
        them.
        """
        data, start = self._data, there.start
        reach = min(len(data), there.stop + max(self._ahead, 0))
        far = tokens.extent(data, start, reach)
        if far.form is Form.WHOLE:
            return far
        self._ahead -= far.stop - start
        if far.form is Form.OPEN and reach < len(data):
            return there
        limit = min(self._nul, self._foreign_line(there.stop, far))
        return tokens.extent(data, start, limit) if limit <= far.stop else far

    def _foreign_line(self, at: int, broken: Extent) -> int:
        """Return the first line after `at` that is no part of a broken object, which may be where the object breaks.

        Writers that lay out an object over many lines indent the objects in it, and rarely put whole objects on one
        line.
        """
        data = self._data
        for match in _BRACED_LINE.finditer(data, at - 1, broken.stop):
            if match.end() - match.start() == 1 or self._is_object(match.end()):
                return match.start() + 1
        breaks = [match.end() for match in _BREAK.finditer(data, tokens.before(data, broken.stop) + 1, broken.stop)]
        return breaks[-1] if breaks else len(data)

    def _is_object(self, at: int) -> bool:
        """Return whether the rest of a line is a non-empty object. An empty one may be part of an indented object."""
        line = self._data[at : tokens.line_end(self._data, at)]
        self._ahead -= len(line)
        try:
            return bool(_decode(line))
        except _REFUSED:
            return False

    def _record(self, at: int, stop: int, reading: ParsedObject, troubles: list[Trouble]) -> _Piece:
        """Return a whole object as a record, with what is wrong with it."""
        raw = self._data[at:stop]
        bad, nul = not tokens.is_utf8(raw), b"\0" in raw
        by_trouble = {
            Trouble.SPREAD: _BREAK.search(raw.strip()),
            Trouble.CONTROL: reading.control,
            Trouble.ESCAPE: reading.escape,
            Trouble.HUGE_NUMBER: reading.huge,
            Trouble.BAD_UTF8: bad,
            Trouble.NUL: nul,
            Trouble.SURROGATE: b"\\u" in raw and tokens.has_lone_surrogate(raw),
        }
        lossy = bad or nul or reading.escape or reading.huge
        troubles += [trouble for trouble, there in by_trouble.items() if there]
        return stop, SpanKind.RECORD, reading.value, Fidelity.LOSSY if lossy else Fidelity.EXACT, tuple(troubles)

    def _broken(self, at: int, stop: int, fields: dict[str, Any], why: Trouble) -> _Piece:
        """Return the leading fields of an object that breaks off as a record, or damage if it has none."""
        troubles = (why,) if tokens.is_utf8(self._data[at:stop]) else (why, Trouble.BAD_UTF8)
        if fields:
            return stop, SpanKind.RECORD, fields, Fidelity.PARTIAL, troubles
        return stop, SpanKind.DAMAGE, None, Fidelity.EXACT, troubles
