"""Spans of a JSON-lines file: records, blanks and damage."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class SpanKind(StrEnum):
    """Whether a span is a record, blank, or damage."""

    RECORD = "record"
    BLANK = "blank"
    DAMAGE = "damage"


class Fidelity(StrEnum):
    """How much of a record is as it was written: everything, nearly everything, or only leading fields."""

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


Piece = tuple[int, SpanKind, dict[str, Any] | None, Fidelity, tuple[Trouble, ...]]
"""A span without its start and line: stop, kind, value, fidelity and troubles."""
