"""Tokens of a JSON object, whole or torn: its extent, its leading fields, its strings. Pure.

The tokenizer accepts strings as they are (bare control characters, unknown escapes, bytes that are not UTF-8) and finds
where an object ends or breaks, in linear time and without recursion. Values are decoded by the standard json.
"""

from __future__ import annotations

import json
import re
from codecs import utf_8_decode
from enum import Enum, auto
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any

from msgspec import Struct

DEEP = 1000
"""A nesting depth that no writer means, and that the standard json does not follow."""

_SPACE = rb"[ \t\n\r]*+"
_TEXT = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_STRING = rb'"' + _TEXT + rb'"'
_OTHER = rb"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+|true|false|null|NaN|-?+Infinity"
# Takes a run of simple fields or items at once. The limit of 256 bounds the memory for backtracking.
_RUN = rb"(?:" + _SPACE + rb"%s(?:" + _STRING + rb"|" + _OTHER + rb")" + _SPACE + rb",){0,256}"
_FIELDS = re.compile(_RUN % (_STRING + _SPACE + rb":" + _SPACE), re.DOTALL)
_ITEMS = re.compile(_RUN % b"", re.DOTALL)
# Matches any bytes: where it ends is how far it has looked.
_TOKEN = re.compile(_SPACE + rb'()(?:"' + _TEXT + rb'(?:(")|(\\?+))|(' + _OTHER + rb")|([{}\[\]:,]))?", re.DOTALL)
_CLOSED_STRING, _OPEN_STRING, _PLAIN, _MARK = 2, 3, 4, 5
_LISTS, _ENDS_OF_LISTS = re.compile(rb"\[++"), re.compile(rb"\]++")

_LINE = re.compile(rb"[^\r\n]*(?:\r\n?|\n)?")
_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?')
_PAIRED = re.compile(rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F]){0,4096}", re.DOTALL)
# Stops at the closing quote, and at an incomplete escape or surrogate pair at the end of the bytes.
_ESCAPED = re.compile(
    rb'(?:[^"\\]++|\\(?!\Z|u[0-9a-fA-F]{0,3}\Z|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?\Z)'
    rb".){0,4096}",
    re.DOTALL,
)


def end_of(pattern: re.Pattern[bytes], data: bytes, at: int, stop: int) -> int:
    """Return where the match of a pattern at a position ends, or that position if it does not match."""
    match = pattern.match(data, at, stop)
    return match.end() if match else at


class Form(Enum):
    """How an object ends: closed, at a byte that cannot follow, or not at all."""

    WHOLE = auto()
    TORN = auto()
    OPEN = auto()


class Extent(Struct, gc=False):
    """An object from its brace at `start` to `stop`: after its end, at a byte that cannot follow, or the end of the
    bytes.

    `last` is where the last token before `stop` begins, `ends` are the ends of the leading fields, `deep` says whether
    it is nested too deeply. `key` is the span of a key whose value is a string that is left open at `last`.
    """

    start: int
    stop: int
    form: Form
    last: int
    ends: list[int]
    deep: bool
    key: tuple[int, int] | None = None


_OBJECT, _LIST, _OBJECT_ENDS, _LIST_ENDS, _COLON, _COMMA, _QUOTE = b'{[}]:,"'
# The kinds of token that may come next: a first or later key, a first or later item, or what comes between them.
_FIRST_KEY, _KEY, _FIRST_ITEM, _ITEM, _AFTER_KEY, _VALUE, _AFTER_VALUE = (1 << bit for bit in range(7))
_KEYS, _ITEMS_OR_KEYS = _FIRST_KEY | _KEY, _FIRST_KEY | _KEY | _FIRST_ITEM | _ITEM
_VALUES = _FIRST_ITEM | _ITEM | _VALUE
_OBJECT_MAY_END, _LIST_MAY_END = _FIRST_KEY | _AFTER_VALUE, _FIRST_ITEM | _AFTER_VALUE


def extent(data: bytes, start: int, stop: int) -> Extent:
    """Return the extent of the object whose brace is at `start`, in bytes that end at `stop`."""
    within, deepest, ends, key = bytearray(b"{"), 1, list[int](), (start, start)
    due, at, last, says_its_end = _FIRST_KEY, start + 1, start, False
    while True:
        inner, outermost = within[-1], len(within) == 1
        if due & _ITEMS_OR_KEYS:
            run = end_of(_FIELDS if inner == _OBJECT else _ITEMS, data, at, stop)
            if run > at:
                at, last, due = run, run - 1, _KEY if inner == _OBJECT else _ITEM
                if outermost:
                    ends.append(last)
                continue
        token = _TOKEN.match(data, at, stop)
        assert token is not None
        begin, end, sort = token.end(1), token.end(), token.lastindex
        mark = data[begin] if sort == _MARK else 0
        if begin == stop:
            # A string, an object and a list show where they end. A number may have been cut.
            if outermost and due == _AFTER_VALUE and says_its_end:
                ends.append(at)
            return Extent(start, stop, Form.OPEN, last, ends, deepest > DEEP)
        if sort == _OPEN_STRING and due & (_KEYS | _VALUES):
            of = key if outermost and due == _VALUE else None
            return Extent(start, stop, Form.OPEN, begin, ends, deepest > DEEP, of)
        if sort == _CLOSED_STRING and due & _KEYS:
            key, due = (begin, end), _AFTER_KEY
        elif sort in (_CLOSED_STRING, _PLAIN) and due & _VALUES:
            due, says_its_end = _AFTER_VALUE, sort == _CLOSED_STRING
        elif mark == _OBJECT and due & _VALUES:
            within.append(mark)
            deepest, due = max(deepest, len(within)), _FIRST_KEY
        elif mark == _LIST and due & _VALUES:
            end = end_of(_LISTS, data, begin, stop)
            within += data[begin:end]
            deepest, begin, due = max(deepest, len(within)), end - 1, _FIRST_ITEM
        elif mark == _COLON and due == _AFTER_KEY:
            due = _VALUE
        elif mark == _COMMA and due == _AFTER_VALUE:
            due = _KEY if inner == _OBJECT else _ITEM
            if outermost:
                ends.append(begin)
        elif mark == _LIST_ENDS and inner == _LIST and due & _LIST_MAY_END:
            lists = within[begin - end_of(_ENDS_OF_LISTS, data, begin, stop) :]
            end = begin + len(lists) - len(lists.rstrip(b"["))
            del within[begin - end :]
            begin, due, says_its_end = end - 1, _AFTER_VALUE, True
        elif mark == _OBJECT_ENDS and inner == _OBJECT and due & _OBJECT_MAY_END:
            del within[-1]
            due, says_its_end = _AFTER_VALUE, True
            if outermost:
                ends.append(begin)
                return Extent(start, end, Form.WHOLE, begin, ends, deepest > DEEP)
        else:
            return Extent(start, begin, Form.TORN, last, ends, deepest > DEEP)
        at, last = end, begin


def before(data: bytes, at: int) -> int:
    """Return the position of the last byte before `at` that is not white space, -1 if there is none."""
    at -= 1
    while at >= 0 and data[at] in b" \t\n\r":
        at -= 1
    return at


def begins_line(data: bytes, at: int) -> bool:
    return at == 0 or data[at - 1] in b"\r\n"


def line_end(data: bytes, at: int) -> int:
    """Return where the line that holds a position ends, including its line break."""
    return end_of(_LINE, data, at, len(data))


def is_value(data: bytes, brace: int) -> bool:
    """Return whether a brace is in a place for a value. A brace at the beginning of a line is a new beginning."""
    at = before(data, brace)
    return at >= 0 and data[at] in b":,[" and not begins_line(data, brace)


def quoted_brace(data: bytes, torn: Extent) -> int:
    """Return the brace before the quote that ends the last string before a tear, -1 if there is none."""
    if data[torn.last] != _QUOTE:
        return -1
    at = before(data, before(data, torn.stop))
    return at if data[at] == _OBJECT else -1


class ParsedObject(Struct, gc=False):
    """The value of an object, and whether control characters, unknown escapes or huge integers were accepted in it."""

    value: dict[str, Any]
    control: bool = False
    escape: bool = False
    huge: bool = False


def read(data: bytes) -> ParsedObject | None:
    """Decode a whole object. Return None if it is nested too deeply."""
    text = data.decode("utf-8", "replace")
    try:
        return ParsedObject(json.loads(text))
    except RecursionError:
        return None
    except ValueError:
        repaired = _repaired(text)
    huge: list[str] = []

    def whole_number(digits: str) -> int | str:
        try:
            return int(digits)
        except ValueError:
            huge.append(digits)
            return digits

    for strict in (True, False):
        try:
            value = JSONDecoder(strict=strict, parse_int=whole_number).decode(repaired)
        except JSONDecodeError:
            continue
        except RecursionError:
            break
        return ParsedObject(value, not strict, repaired != text, bool(huge))
    return None


def leading_fields(data: bytes, found: Extent) -> dict[str, Any]:
    """Decode the complete fields at the beginning of an object, as far as possible."""
    if not found.ends:
        return {}
    if reading := read(data[found.start : found.ends[-1]] + b"}"):
        return reading.value
    fields: dict[str, Any] = {}
    begin = found.start + 1
    for end in found.ends:
        reading = read(b"{" + data[begin:end] + b"}")
        if reading is None:
            break
        fields |= reading.value
        begin = end + 1
    return fields


def _repaired(text: str) -> str:
    """Return JSON in which each backslash that begins no escape stands for itself."""
    return _ESCAPE.sub(lambda match: match[0] if match[1] else r"\\", text)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def has_lone_surrogate(data: bytes) -> bool:
    """Return whether some JSON contains the escape of half a surrogate pair."""
    return _last_end(_PAIRED, data) < len(data)


def unescape(data: bytes) -> tuple[str, int, bool]:
    """Return the text of the complete characters and escapes of a string, their bytes, and whether the string ends
    there.
    """
    end = _last_end(_ESCAPED, data)
    closed = data[end : end + 1] == b'"'
    raw, used = utf_8_decode(data[:end], "replace", end < len(data))
    try:
        text = _decode_string(f'"{raw}"')
    except JSONDecodeError:
        text = _decode_string(f'"{_repaired(raw)}"')
    return text, used, closed


_decode_string = JSONDecoder(strict=False).decode


def _last_end(pattern: re.Pattern[bytes], data: bytes) -> int:
    at = 0
    while (end := end_of(pattern, data, at, len(data))) > at:
        at = end
    return at
