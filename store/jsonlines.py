"""Bytes of a JSON-lines file -> records and damage, exactly, for any bytes: every byte belongs to one span.

A line that is an object is a record. In any other line what is intact is still a record, an object that breaks off
gives its complete leading fields, and the rest is damage; the spans laid end to end are the file. Lines are decoded by
msgspec, what that refuses by the standard json, and only what both refuse is looked at closely.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

TRIES = 64
"""How many places are tried as the beginning of an intact object before the rest of a line is given up as damage."""


class Kind(StrEnum):
    """What a span is."""

    RECORD = "record"
    BLANK = "blank"
    DAMAGE = "damage"


class Fidelity(StrEnum):
    """How much of a record is what was written: all of it, all but some characters or numbers, or leading fields."""

    EXACT = "exact"
    LOSSY = "lossy"
    PARTIAL = "partial"


class Trouble(StrEnum):
    """What is wrong with a span, or odd about it, in words."""

    TRUNCATED = "the object breaks off"
    TORN = "another object begins before this one ends"
    GLUED = "more than one object on the line"
    SPREAD = "the object goes over several lines"
    CONTROL = "control characters stand bare in a string"
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
    kind: Kind
    value: dict[str, Any] | None = None
    fidelity: Fidelity = Fidelity.EXACT
    troubles: tuple[Trouble, ...] = ()


_decode = msgspec.json.Decoder().decode
_decode_lines = msgspec.json.Decoder().decode_lines
_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_BARE_UTF16 = {b'{\0"\0': "utf-16-le", b'\0{\0"': "utf-16-be"}
_SPACE = re.compile(r"[ \t\n\r]*")
_NULS = re.compile(r"[\0 \t\n\r]*")
_UNDECODED = re.compile("[\udc80-\udcff]")
_OPENING = re.compile(r"\{(?=[ \t\n\r]*[\"}])")
_BEFORE = "\ufeff\0 \t\n\r"


def records(data: bytes) -> list[dict[str, Any]]:
    """The values of all records of a file, as `scan` finds them, faster where every line is an object."""
    try:
        values = _decode_lines(data)
    except _REFUSED:
        values = None
    if values is not None and all(type(value) is dict for value in values):
        return values
    return [span.value for span in scan(data) if span.value is not None]


def scan(data: bytes) -> Iterator[Span]:
    """The spans of a file in order, without gap or overlap; none for an empty one. Never raises."""
    if encoding := _utf16(data):
        yield from _scan_utf16(data, encoding)
        return
    at, line, size = 0, 1, len(data)
    while at < size:
        stop = data.find(b"\n", at) + 1 or size
        try:
            value = _decode(data[at:stop])
        except _REFUSED:
            value = None
        if type(value) is dict:
            yield Span(at, stop, line, Kind.RECORD, value)
        else:
            stop = _reach(data, at, stop)
            text = data[at:stop].decode("utf-8", "surrogateescape")
            yield from _spans(text, at, line, lambda part: len(part.encode("utf-8", "surrogateescape")))
        line += 1 if value is not None else data.count(b"\n", at, stop)
        at = stop


def _utf16(data: bytes) -> str | None:
    """The encoding of a file of UTF-16: two bytes of a mark alone may be damage in front of UTF-8."""
    marked = _UTF16.get(data[:2])
    if marked is None:
        return _BARE_UTF16.get(data[:4])
    head = data[2:66]
    zeros = head[1::2] if marked.endswith("le") else head[::2]
    return marked if zeros.count(0) * 2 >= len(zeros) else None


def _scan_utf16(data: bytes, encoding: str) -> Iterator[Span]:
    def width(part: str) -> int:
        return len(part.encode(encoding, "surrogatepass"))

    even, newline = len(data) - len(data) % 2, "\n".encode(encoding)
    at, line = 0, 1
    while at < even:
        found = data.find(newline, at)
        while found != -1 and (found - at) % 2:
            found = data.find(newline, found + 1)
        stop = found + 2 if found != -1 else even
        for span in _spans(data[at:stop].decode(encoding, "surrogatepass"), at, line, width):
            blank = span.kind is Kind.BLANK
            yield span if blank else replace(span, troubles=(*span.troubles, Trouble.UTF16))
        at, line = stop, line + 1
    if even < len(data):
        yield Span(even, len(data), line, Kind.DAMAGE, troubles=(Trouble.TRUNCATED, Trouble.UTF16))


def _reach(data: bytes, start: int, stop: int) -> int:
    """Where the last line ends on which the object goes on that begins at `start`; `stop` if it does not go on.

    One that is still open at the end of the file takes in no line that is an object by itself.
    """
    end = stop
    while True:
        body = data[start:end].decode("utf-8", "replace").lstrip(_BEFORE)
        if not body.startswith("{"):
            return stop
        try:
            _, length = _lax.raw_decode(body)
        except JSONDecodeError as error:
            if not error.msg.startswith("Unterminated") and error.pos < len(body.rstrip()) - len("\\u000"):
                return stop
        except (RecursionError, ValueError):
            return stop
        else:
            for _ in range(body[:length].count("\n")):
                stop = data.find(b"\n", stop) + 1 or len(data)
            return stop
        if end == len(data):
            return stop if any(_is_object(line) for line in data[stop:].split(b"\n")) else end
        end = data.find(b"\n", start + 2 * (end - start)) + 1 or len(data)


def _is_object(line: bytes) -> bool:
    """Whether a line is an object with something in it: an editor sets an empty one on a line of its own."""
    if not line.startswith(b"{") or len(line) < len(b'{"":0}'):
        return False
    try:
        return bool(_decode(line))
    except _REFUSED:
        return False


# A piece is a span in characters: where it stops, and the rest of a span.
_Piece = tuple[int, Kind, dict[str, Any] | None, Fidelity, tuple[Trouble, ...]]


def _spans(text: str, start: int, line: int, width: Callable[[str], int]) -> Iterator[Span]:
    """The spans of some text that begins at byte `start`; `width` is how many bytes a part of it has."""
    at = 0
    for stop, kind, value, fidelity, troubles in _pieces(text):
        part = text[at:stop]
        end = start + width(part)
        yield Span(start, end, line, kind, value, fidelity, troubles)
        start, line, at = end, line + part.count("\n"), stop


def _pieces(text: str) -> Iterator[_Piece]:
    size = len(text)
    if not text.strip():
        yield size, Kind.BLANK, None, Fidelity.EXACT, ()
        return
    clean = _UNDECODED.sub("\ufffd", text)
    whole = clean.strip()
    try:
        value = json.loads(whole)
    except (ValueError, RecursionError):
        yield from _parts(text, clean)
        return
    if isinstance(value, dict):
        yield _record(text, 0, size, value, [Trouble.SPREAD] if "\n" in whole else [])
    else:
        yield size, Kind.DAMAGE, None, Fidelity.EXACT, (Trouble.NOT_AN_OBJECT,)


def _record(text: str, at: int, stop: int, value: dict[str, Any], troubles: list[Trouble]) -> _Piece:
    """A whole object, and what is odd about it."""
    lossy = Trouble.HUGE_NUMBER in troubles
    if _UNDECODED.search(text, at, stop):
        troubles.append(Trouble.BAD_UTF8)
        lossy = True
    elif "\\u" in text[at:stop] and _has_surrogate(value):
        troubles.append(Trouble.SURROGATE)
    if "\0" in text[at:stop]:
        troubles.append(Trouble.NUL)
        lossy = True
    return stop, Kind.RECORD, value, Fidelity.LOSSY if lossy else Fidelity.EXACT, tuple(troubles)


def _parts(text: str, clean: str) -> Iterator[_Piece]:
    """The pieces of text that is not one object and nothing else."""
    at, size, glued = 0, len(clean), False
    while at < size:
        first = _space_after(clean, at)
        if first == size:
            yield size, Kind.BLANK, None, Fidelity.EXACT, ()
            return
        if clean[first] == "\0":
            at = _end_of(_NULS, clean, first)
            yield at, Kind.DAMAGE, None, Fidelity.EXACT, (Trouble.NUL,)
        elif clean[first] == "\ufeff" :
            at = first + 1
            yield at, Kind.DAMAGE, None, Fidelity.EXACT, (Trouble.BOM,)
        elif found := _whole_object(clean, first):
            value, end, troubles = found
            stop = _space_after(clean, end)
            broken = "\r" in clean[end:stop] or "\n" in clean[end:stop]
            more = stop < size and clean[stop] == "{" and not broken
            if "\n" in clean[first:end]:
                troubles.append(Trouble.SPREAD)
            if glued or more:
                troubles.append(Trouble.GLUED)
            yield _record(text, at, stop, value, troubles)
            at, glued = stop, more
        else:
            fields, last = _leading_fields(clean, first) if clean[first] == "{" else ({}, first)
            # Where bytes were zeroed an object ends, whatever comes behind.
            nul = clean.find("\0", first)
            end = size if nul == -1 else nul
            stop = _next_object(clean, max(last, first + 1), end)
            why = Trouble.TORN if stop < end else Trouble.TRUNCATED
            if clean[first] != "{":
                why = Trouble.GARBAGE
            elif _too_deep(clean, first):
                why = Trouble.NESTED
            bad = (Trouble.BAD_UTF8,) if _UNDECODED.search(text, at, stop) else ()
            kind = Kind.RECORD if fields else Kind.DAMAGE
            yield stop, kind, fields or None, Fidelity.PARTIAL if fields else Fidelity.EXACT, (why, *bad)
            at, glued = stop, False


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _space_after(text: str, at: int) -> int:
    return _end_of(_SPACE, text, at)


def _whole_object(text: str, at: int) -> tuple[dict[str, Any], int, list[Trouble]] | None:
    """The object that begins here, where it ends, and what is odd about it; None where there is no whole one."""
    if text[at] != "{":
        return None
    try:
        value, end = _strict.raw_decode(text, at)
    except RecursionError:
        return None
    except JSONDecodeError:
        troubles = [Trouble.CONTROL]
    except ValueError:
        troubles = [Trouble.HUGE_NUMBER]
    else:
        return value, end, []
    try:
        value, end = _lax.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    if Trouble.HUGE_NUMBER not in troubles and _has_huge_number(text[at:end]):
        troubles.append(Trouble.HUGE_NUMBER)
    return value, end, troubles


def _has_huge_number(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except RecursionError:
        return False
    except ValueError:
        return True
    return False


def _leading_fields(text: str, at: int) -> tuple[dict[str, Any], int]:
    """The fields of an object that are whole, and where the last of them ends."""
    fields: dict[str, Any] = {}
    last = at = at + 1
    while True:
        at = _space_after(text, at)
        try:
            key, at = _lax.raw_decode(text, at)
            at = _space_after(text, at)
            if not isinstance(key, str) or text[at : at + 1] != ":":
                break
            value, at = _lax.raw_decode(text, _space_after(text, at + 1))
        except (ValueError, RecursionError):
            break
        after = text[_space_after(text, at) :][:1]
        # What is followed by nothing may have been cut; a string, an object and a list say themselves where they end.
        if after not in (",", "}") and (after or not isinstance(value, (str, dict, list))):
            break
        fields[key] = value
        last = at
        if after != ",":
            break
        at = _space_after(text, at) + 1
    return fields, last


def _next_object(text: str, at: int, stop: int) -> int:
    """Where the next object begins that is whole and not followed by more of another, `stop` where there is none."""
    for tried, match in enumerate(_OPENING.finditer(text, at, stop)):
        if tried == TRIES:
            break
        if found := _whole_object(text, match.start()):
            after = text[_space_after(text, found[1]) :][:1]
            if after in ("", "{", "\0"):
                return match.start()
    return stop


def _too_deep(text: str, at: int) -> bool:
    try:
        _lax.raw_decode(text, at)
    except RecursionError:
        return True
    except ValueError:
        pass
    return False


def _has_surrogate(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return True
    return False


def _whole_number(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


_strict = JSONDecoder()
_lax = JSONDecoder(strict=False, parse_int=_whole_number)
