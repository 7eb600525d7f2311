"""The analysis of lines that are not exactly one JSON object: what is whole in them, and where damage ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from . import jsontokens as tokens
from .jsontokens import Extent, Form, ParsedObject
from .spans import Fidelity, Piece, SpanKind, Trouble

AHEAD = 4
"""How many times the file's size may be scanned beyond line ends without finding an object there."""

_decode = msgspec.json.Decoder().decode
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it does not decode."""
_BRACE = ord("{")
_NUL = 0
_BREAKS = {Trouble.TRUNCATED, Trouble.TORN, Trouble.NESTED}
_SPACE = re.compile(rb"[ \t\n\r]*")
_BREAK = re.compile(rb"[\r\n]")
_NULS = re.compile(rb"\0[\0 \t\n\r]*")
_MARKS = re.compile(rb"(?:\xef\xbb\xbf)+")
_COMMAS = re.compile(rb",[, \t\n\r]*")
_BRACED_LINE = re.compile(rb"[\r\n][ \t]*+(?=\{)")
_CANDIDATE = re.compile(rb'\0|\{(?=[ \t\n\r]*+")')
_GOES_ON = re.compile(rb"[ \t\n\r]*+[\]},]")


class FoundObject(Struct, gc=False):
    """An object in the bytes: with its value if it is whole and can be decoded, else with its leading fields."""

    extent: Extent
    reading: ParsedObject | None
    fields: dict[str, Any]


class LineAnalysis:
    """Analyses lines that are not exactly one object.

    After an object that breaks off, the analysis goes on at its last token. Scans beyond a line that find nothing are
    limited by a budget.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._ahead = AHEAD * len(data)
        self._nul = -1
        self._wake = self._indent = -1

    def pieces(self, start: int) -> Iterator[Piece]:
        """Yield the pieces from the beginning of a line to the end of that line or of a later one."""
        while True:
            for piece in self._line(start):
                self._note(start, piece)
                yield piece
                start = piece[0]
            if start == len(self._data) or self._data[start - 1 : start] == b"\n":
                return

    def _note(self, start: int, piece: Piece) -> None:
        """Remember how far the damage after a broken object reaches without a gap, and how far the object is indented.

        Objects that are indented more than that, and go over several lines, are part of the broken one.
        """
        stop, kind, _, fidelity, troubles = piece
        if fidelity is Fidelity.PARTIAL or _BREAKS & {*troubles}:
            indent = tokens.end_of(_SPACE, self._data, start, stop) - start
            self._indent = min(self._indent, indent) if start == self._wake else indent
            self._wake = stop
        elif kind is not SpanKind.RECORD and start == self._wake:
            self._wake = stop

    def _line(self, start: int) -> Iterator[Piece]:
        stop = tokens.line_end(self._data, start)
        text = self._data[start:stop].decode("utf-8", "replace").strip()
        try:
            value = json.loads(text) if text else None
        except (ValueError, RecursionError):
            yield from self._parts(start, stop)
            return
        if isinstance(value, dict):
            yield self._record(start, stop, ParsedObject(value), [])
        elif text:
            yield stop, SpanKind.DAMAGE, None, Fidelity.EXACT, (Trouble.NOT_AN_OBJECT,)
        else:
            yield stop, SpanKind.BLANK, None, Fidelity.EXACT, ()

    def _parts(self, begin: int, stop: int) -> Iterator[Piece]:
        """Yield the pieces of a line that is not exactly one object, and of the lines that its objects extend over."""
        data, start = self._data, begin
        # Whether everything so far is sound, and whether an object ends right before `at`.
        sound, glued = True, False
        # The next object, if the search for the end of damage has found it already.
        known: FoundObject | None = None
        while start < stop:
            first = tokens.end_of(_SPACE, data, start, stop)
            if first == stop:
                yield stop, SpanKind.BLANK, None, Fidelity.EXACT, ()
                return
            if simple := self._simple(first, stop, sound and start > begin):
                yield simple
                start = simple[0]
                continue
            candidate = self._object_at(first, stop, known, self._is_part_of_broken(start, first, begin))
            if candidate is not None and candidate.extent.form is Form.WHOLE:
                if candidate.extent.stop > stop:
                    stop = tokens.line_end(data, candidate.extent.stop)
                end = tokens.end_of(_SPACE, data, candidate.extent.stop, stop)
                if candidate.reading is None:
                    yield self._broken(start, end, candidate.fields, Trouble.NESTED)
                    start, glued = end, False
                    continue
                # After damage, an empty object may be a part of what broke.
                if candidate.reading.value or sound:
                    another_follows = end < stop and data[end] == _BRACE
                    troubles = [Trouble.GLUED] if glued or another_follows else []
                    yield self._record(start, end, candidate.reading, troubles)
                    start, glued = end, another_follows
                    continue
            known, end = self._next(candidate.extent if candidate else None, first, stop)
            yield self._broken(
                start, end, candidate.fields if candidate else {}, self._why_broken(candidate, known, end)
            )
            if end > stop:
                stop = tokens.line_end(data, end - 1)
            start, sound, glued = end, False, False

    def _object_at(self, start: int, stop: int, known: FoundObject | None, nested: bool) -> FoundObject | None:
        """Return the object that begins at a byte, None if none does. A `nested` one is not read beyond its line."""
        if self._data[start] != _BRACE:
            return None
        if known is not None and known.extent.start == start:
            return known
        return self._look(start, stop, ahead=not nested)

    def _is_part_of_broken(self, start: int, first: int, begin: int) -> bool:
        """Return whether a line is indented as a part of the broken object before it."""
        return start == begin == self._wake and first - start > self._indent

    def _why_broken(self, broken: FoundObject | None, following: FoundObject | None, end: int) -> Trouble:
        """Return why there is damage from an object, or from garbage, up to `end`."""
        if broken is None or broken.extent.form is Form.WHOLE:
            return Trouble.GARBAGE
        if broken.extent.deep:
            return Trouble.NESTED
        if following is not None and not tokens.begins_line(self._data, end):
            return Trouble.TORN
        return Trouble.TRUNCATED

    def _simple(self, start: int, stop: int, between: bool) -> Piece | None:
        """Return a piece of NUL bytes, byte order marks or, between sound objects, commas; None for anything else."""
        for pattern, trouble in ((_NULS, Trouble.NUL), (_MARKS, Trouble.BOM), (_COMMAS, Trouble.GARBAGE)):
            end = tokens.end_of(pattern, self._data, start, stop)
            if end > start and (between or pattern is not _COMMAS):
                return end, SpanKind.DAMAGE, None, Fidelity.EXACT, (trouble,)
        return None

    def _next(self, broken: Extent | None, start: int, stop: int) -> tuple[FoundObject | None, int]:
        """Return the next object after a broken one, or in garbage, and where the damage before it ends.

        A quoted string contains a brace before a quote only at its end. So an object that begins in the last string of
        a torn one ends that string with the quote of its first key. Otherwise it begins at the byte that cannot follow,
        or after it.
        """
        data = self._data
        while True:
            quoted = -1
            if broken is not None:
                start = broken.stop
                if broken.form is Form.OPEN:
                    return None, start
                if broken.form is Form.TORN:
                    quoted = tokens.quoted_brace(data, broken)
                if start > stop:
                    stop = tokens.line_end(data, start - 1)
            brace = quoted
            if quoted == -1:
                match = _CANDIDATE.search(data, start, stop)
                if match is None or data[match.start()] == _NUL:
                    return None, match.start() if match else stop
                brace = match.start()
                due = broken is not None and broken.form is Form.TORN and brace == start
                if not due and tokens.is_value(data, brace):
                    broken, start = None, brace + 1
                    continue
            candidate = self._look(brace, stop)
            broken = candidate.extent
            value = candidate.reading.value if candidate.reading else candidate.fields
            goes_on = broken.form is not Form.WHOLE or _GOES_ON.match(data, broken.stop)
            if value and not (quoted != -1 and goes_on and tokens.is_value(data, brace)):
                return candidate, brace

    def _look(self, start: int, stop: int, ahead: bool = True) -> FoundObject:
        """Return the object whose brace is at `start`, on a line that ends at `stop`. It may extend over more lines."""
        if self._nul < start:
            found = self._data.find(b"\0", start)
            self._nul = found if found != -1 else len(self._data)
        there = tokens.extent(self._data, start, min(stop, self._nul))
        if there.form is Form.OPEN and not ahead:
            return FoundObject(there, None, {})
        if there.form is Form.OPEN and there.stop < len(self._data):
            there = self._follow(there)
        reading = tokens.read(self._data[start : there.stop]) if there.form is Form.WHOLE else None
        return FoundObject(there, reading, {} if reading else tokens.leading_fields(self._data, there))

    def _follow(self, there: Extent) -> Extent:
        """Return the extent of an object that is open at the end of its line or at NUL bytes.

        It may continue after them.
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

    def _foreign_line(self, start: int, broken: Extent) -> int:
        """Return the first line after `start` that is no part of a broken object, which may be where the object breaks.

        Writers that lay out an object over many lines indent the objects in it, and rarely put whole objects on one
        line.
        """
        data = self._data
        for match in _BRACED_LINE.finditer(data, start - 1, broken.stop):
            if match.end() - match.start() == 1 or self._is_object(match.end()):
                return match.start() + 1
        breaks = [match.end() for match in _BREAK.finditer(data, tokens.before(data, broken.stop) + 1, broken.stop)]
        return breaks[-1] if breaks else len(data)

    def _is_object(self, start: int) -> bool:
        """Return whether the rest of a line is a non-empty object. An empty one may be part of an indented object."""
        line = self._data[start : tokens.line_end(self._data, start)]
        self._ahead -= len(line)
        try:
            return bool(_decode(line))
        except REFUSED:
            return False

    def _record(self, start: int, stop: int, reading: ParsedObject, troubles: list[Trouble]) -> Piece:
        """Return a whole object as a record, with what is wrong with it."""
        raw = self._data[start:stop]
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

    def _broken(self, start: int, stop: int, fields: dict[str, Any], why: Trouble) -> Piece:
        """Return the leading fields of an object that breaks off as a record, or damage if it has none."""
        troubles = (why,) if tokens.is_utf8(self._data[start:stop]) else (why, Trouble.BAD_UTF8)
        if fields:
            return stop, SpanKind.RECORD, fields, Fidelity.PARTIAL, troubles
        return stop, SpanKind.DAMAGE, None, Fidelity.EXACT, troubles
