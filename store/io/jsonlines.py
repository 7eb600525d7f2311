"""Splits the bytes of a JSON-lines file into records and damage. Works for any bytes; every byte belongs to one span.

A line that is an object is a record. On any other line, whole objects are still records, an object that breaks off
gives its complete leading fields, and the rest is damage. The spans in order are the file. Lines are decoded by
msgspec, else by the standard json; only lines that both refuse are analysed. All of it takes time in proportion to the
size of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from . import jsontokens as tokens
from .jsontokens import unescape
from .line_analysis import REFUSED, LineAnalysis
from .spans import Span, SpanKind, Trouble


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
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


def records(data: bytes) -> list[dict[str, Any]]:
    """Return the values of all records of a file. Gives the same as `scan`, faster if every line is an object."""
    try:
        values = _decode_lines(data)
    except REFUSED:
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
    object_extent = tokens.extent(data, start, len(data))
    fields = tokens.leading_fields(data, object_extent)
    if object_extent.key is None:
        return Leading(fields, None, "", len(data))
    begin, end = object_extent.key
    at = object_extent.last + 1
    return Leading(fields, unescape(data[begin + 1 : end])[0], unescape(data[at:])[0], at)


def _scan(data: bytes) -> Iterator[Span]:
    start, line, size, analysis = 0, 1, len(data), LineAnalysis(data)
    while start < size:
        stop = data.find(b"\n", start) + 1 or size
        try:
            value = _decode(data[start:stop])
        except REFUSED:
            value = None
        if type(value) is dict:
            yield Span(start, stop, line, SpanKind.RECORD, value)
            start, line = stop, line + 1
            continue
        for stop, kind, value, fidelity, troubles in analysis.pieces(start):
            yield Span(start, stop, line, kind, value, fidelity, troubles)
            line += data.count(b"\n", start, stop)
            start = stop


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
    start, line = 0, 1
    for span in _scan(text):
        part = text[span.start : span.stop].decode("utf-8", "surrogatepass")
        stop, line = start + len(part.encode(encoding, "surrogatepass")), span.line + part.count("\n")
        troubles = span.troubles if span.kind is SpanKind.BLANK else (*span.troubles, Trouble.UTF16)
        yield replace(span, start=start, stop=stop, troubles=troubles)
        start = stop
    if even < len(data):
        yield Span(even, len(data), line, SpanKind.DAMAGE, troubles=(Trouble.TRUNCATED, Trouble.UTF16))
