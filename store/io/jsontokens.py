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
# The kinds of token: the group of the pattern that matched last.
_CLOSED_STRING = 2
_OPEN_STRING = 3
_PLAIN = 4
_MARK = 5
_LISTS = re.compile(rb"\[++")
_ENDS_OF_LISTS = re.compile(rb"\]++")

_LINE = re.compile(rb"[^\r\n]*(?:\r\n?|\n)?")
_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?')
_PAIRED = re.compile(rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F]){0,4096}", re.DOTALL)
# Stops at the closing quote, and at an incomplete escape or surrogate pair at the end of the bytes.
_ESCAPED = re.compile(
    rb'(?:[^"\\]++|\\(?!\Z|u[0-9a-fA-F]{0,3}\Z|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?\Z)'
    rb".){0,4096}",
    re.DOTALL,
)


def end_of(pattern: re.Pattern[bytes], data: bytes, start: int, stop: int) -> int:
    """Return where the match of a pattern at a position ends, or that position if it does not match."""
    match = pattern.match(data, start, stop)
    return match.end() if match else start


class Form(Enum):
    """How an object ends: closed, at a byte that cannot follow, or not at all."""

    WHOLE = auto()
    TORN = auto()
    OPEN = auto()


class Extent(Struct, gc=False):
    """An object from its brace at `start` to `stop`: its end, a byte that cannot follow, or the end of the bytes.

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


_OBJECT = ord("{")
_OBJECT_END = ord("}")
_LIST = ord("[")
_LIST_END = ord("]")
_COLON = ord(":")
_COMMA = ord(",")
_QUOTE = ord('"')
# What may come next. Bits, so that several can be asked for at once; plain numbers, which are faster than flags.
_FIRST_KEY = 1
_KEY = 2
_FIRST_ITEM = 4
_ITEM = 8
_AFTER_KEY = 16
_VALUE = 32
_AFTER_VALUE = 64
_KEYS = _FIRST_KEY | _KEY
_VALUES = _FIRST_ITEM | _ITEM | _VALUE
_FIELDS_OR_ITEMS = _KEYS | _FIRST_ITEM | _ITEM
_OBJECT_MAY_END = _FIRST_KEY | _AFTER_VALUE
_LIST_MAY_END = _FIRST_ITEM | _AFTER_VALUE


def extent(data: bytes, start: int, stop: int) -> Extent:
    """Return the extent of the object whose brace is at `start`, in bytes that end at `stop`."""
    return _ExtentScan(data, start, stop).run()


class _ExtentScan:
    """A pass over the tokens of one object, up to its end or to where it breaks."""

    __slots__ = ("at", "brackets", "data", "deepest", "due", "ends", "key", "last", "shows_end", "start", "stop")

    def __init__(self, data: bytes, start: int, stop: int) -> None:
        self.data, self.start, self.stop = data, start, stop
        self.brackets = bytearray(b"{")
        """The brackets that are open, the outermost first."""
        self.deepest = 1
        self.ends: list[int] = []
        self.key = (start, start)
        """The span of the last key."""
        self.due = _FIRST_KEY
        """What may come next."""
        self.at = start + 1
        self.last = start
        """Where the last token begins."""
        self.shows_end = False
        """Whether the last value shows where it ends. A number does not: it may have been cut."""

    def run(self) -> Extent:
        """Scan to the end of the object, to a byte that cannot follow, or to the end of the bytes."""
        while True:
            if self.due & _FIELDS_OR_ITEMS and self._skip_simple_ones():
                continue
            token = _TOKEN.match(self.data, self.at, self.stop)
            assert token is not None
            begin, end, kind = token.end(1), token.end(), token.lastindex
            if begin == self.stop:
                if len(self.brackets) == 1 and self.due == _AFTER_VALUE and self.shows_end:
                    self.ends.append(self.at)
                return self._extent(Form.OPEN, self.stop)
            if kind == _OPEN_STRING and self.due & (_KEYS | _VALUES):
                is_field = len(self.brackets) == 1 and self.due == _VALUE
                self.last = begin
                return self._extent(Form.OPEN, self.stop, self.key if is_field else None)
            previous, self.last, self.at = self.last, begin, end
            self.due = self._take(kind, begin, end)
            if not self.due:
                self.last = previous
                return self._extent(Form.TORN, begin)
            if not self.brackets:
                return self._extent(Form.WHOLE, end)

    def _extent(self, form: Form, stop: int, key: tuple[int, int] | None = None) -> Extent:
        return Extent(self.start, stop, form, self.last, self.ends, self.deepest > DEEP, key)

    def _skip_simple_ones(self) -> bool:
        """Skip fields or items that hold no others, each with its comma. Return False if there are none."""
        in_object = self.brackets[-1] == _OBJECT
        run_end = end_of(_FIELDS if in_object else _ITEMS, self.data, self.at, self.stop)
        if run_end == self.at:
            return False
        self.last, self.at = run_end - 1, run_end
        self.due = _KEY if in_object else _ITEM
        if len(self.brackets) == 1:
            self.ends.append(self.last)
        return True

    def _take(self, kind: int | None, begin: int, end: int) -> int:
        """Take the token from `begin` to `end`. Return what may come next, 0 if the token cannot follow."""
        due = self.due
        if kind == _CLOSED_STRING and due & _KEYS:
            self.key = begin, end
            return _AFTER_KEY
        if kind in (_CLOSED_STRING, _PLAIN) and due & _VALUES:
            self.shows_end = kind == _CLOSED_STRING
            return _AFTER_VALUE
        if kind != _MARK:
            return 0
        mark, bracket = self.data[begin], self.brackets[-1]
        if mark == _OBJECT and due & _VALUES:
            self._open(b"{")
            return _FIRST_KEY
        if mark == _LIST and due & _VALUES:
            self.at = end_of(_LISTS, self.data, begin, self.stop)
            self.last = self.at - 1
            self._open(self.data[begin : self.at])
            return _FIRST_ITEM
        if mark == _COLON and due == _AFTER_KEY:
            return _VALUE
        if mark == _COMMA and due == _AFTER_VALUE:
            if len(self.brackets) == 1:
                self.ends.append(begin)
            return _KEY if bracket == _OBJECT else _ITEM
        if mark == _LIST_END and bracket == _LIST and due & _LIST_MAY_END:
            self._close_lists(begin)
            return _AFTER_VALUE
        if mark == _OBJECT_END and bracket == _OBJECT and due & _OBJECT_MAY_END:
            if len(self.brackets) == 1:
                self.ends.append(begin)
            del self.brackets[-1]
            self.shows_end = True
            return _AFTER_VALUE
        return 0

    def _open(self, brackets: bytes) -> None:
        self.brackets += brackets
        self.deepest = max(self.deepest, len(self.brackets))

    def _close_lists(self, begin: int) -> None:
        """Close as many lists as there are end brackets in a row, and lists directly in each other."""
        in_a_row = end_of(_ENDS_OF_LISTS, self.data, begin, self.stop) - begin
        innermost = self.brackets[-in_a_row:]
        count = len(innermost) - len(innermost.rstrip(b"["))
        del self.brackets[-count:]
        self.shows_end = True
        self.last, self.at = begin + count - 1, begin + count


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


def leading_fields(data: bytes, object_extent: Extent) -> dict[str, Any]:
    """Decode the complete fields at the beginning of an object, as far as possible."""
    if not object_extent.ends:
        return {}
    if reading := read(data[object_extent.start : object_extent.ends[-1]] + b"}"):
        return reading.value
    fields: dict[str, Any] = {}
    begin = object_extent.start + 1
    for end in object_extent.ends:
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
    """Decode the complete characters and escapes of a string.

    Returns the text, how many bytes that took, and whether the string ends there.
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
    end_so_far = 0
    while (end := end_of(pattern, data, end_so_far, len(data))) > end_so_far:
        end_so_far = end
    return end_so_far
