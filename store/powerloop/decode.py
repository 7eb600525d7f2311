"""Stored values -> what they mean, one value at a time: a bad one is named and kept as text, never raised."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import msgspec

from ..outline import union
from ..rows import NoteSpan, ToolCall
from ..sqlitefile import BrokenText

_NAME = re.compile(rb'"name"\s*:\s*("(?:[^"\\]|\\.){0,200}")')


LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""What a column of integers can hold."""


class Damages(list[str]):
    """What was found wrong with the values of one row, in words, each once."""

    def note(self, what: str) -> None:
        if what not in self:
            self.append(what)


def text(value: object, what: str, damages: Damages) -> str | None:
    """A value of a TEXT column. BLOBs and invalid UTF-8 come back readable, and are noted."""
    if value is None:
        return None
    if isinstance(value, BrokenText):
        damages.note(f"{what} is not valid UTF-8")
        return str(value)
    if isinstance(value, bytes):
        damages.note(f"{what} is a BLOB, not text")
        return value.decode("utf-8", "backslashreplace")
    if not isinstance(value, str):
        damages.note(f"{what} is a number, not text")
        return repr(value)
    return value


def number(value: object, what: str, damages: Damages) -> int | None:
    """A value of an INTEGER column, None where it is something else."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    damages.note(f"{what} is not a whole number")
    return None


def parse(stored: str | None, what: str, damages: Damages) -> Any:
    """A JSON column's value; where it does not parse, the text itself, and that is noted. Empty text means None."""
    if not stored:
        return None
    stored = str(stored)
    try:
        return msgspec.json.decode(stored)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    # Imported where it is needed: msgspec reads nearly everything that agents write.
    import json

    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        damages.note(f"{what} is not valid JSON")
        return stored


def parse_object(stored: str | None, what: str, damages: Damages) -> Any:
    """As `parse`, for a column that holds an object or nothing: anything else is noted."""
    known = len(damages)
    value = parse(stored, what, damages)
    if value is not None and not isinstance(value, dict) and len(damages) == known:
        damages.note(f"{what} is not an object")
    return value


def character_at(data: bytes, at: int) -> int:
    """Where the UTF-8 character begins that goes on at byte `at`; `at` itself where none does."""
    if at < len(data) and data[at] & 0xC0 != 0x80:
        return at
    for back in range(1, min(at, 3) + 1):
        byte = data[at - back]
        if byte & 0xC0 == 0xC0:
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2
            return at - back if length > back else at
        if byte < 0x80:
            break
    return at


def decode_bytes(data: bytes, what: str, damages: Damages) -> str:
    """Bytes of a TEXT value that neither begin nor end within a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        damages.note(f"{what} is not valid UTF-8")
        return data.decode("utf-8", "backslashreplace")


class Cells:
    """The large columns of one table, read in bounded pieces: a page of rows never loads a body it does not show."""

    def __init__(self, conn: sqlite3.Connection, table: str) -> None:
        self._conn, self._table = conn, table

    def read(self, column: str, rowid: int, kind: str, start: int, stop: int) -> tuple[bytes, int]:
        """Bytes `start` to `stop` of a TEXT or BLOB value, and its size; nothing for any other kind of value."""
        if kind not in ("text", "blob"):
            return b"", 0
        with self._conn.blobopen(self._table, column, rowid, readonly=True) as blob:
            size = len(blob)
            if start:
                blob.seek(min(start, size))
            return blob.read(max(0, min(stop, size) - start)), size

    def head(self, column: str, rowid: int, kind: str, limit: int, what: str, damages: Damages) -> tuple[str, int]:
        """At most `limit` bytes of a value as text, and the size of the whole."""
        data, size = self.read(column, rowid, kind, 0, limit)
        if kind == "blob":
            damages.note(f"{what} is a BLOB, not text")
        whole = data if size <= limit else data[: character_at(data, len(data))]
        return decode_bytes(whole, what, damages), size


def tool_calls(value: Any, damages: Damages) -> tuple[ToolCall, ...]:
    """The calls of an assistant row in the OpenAI shape, each part leniently."""
    if value is None:
        return ()
    if not isinstance(value, list):
        damages.note("tool_calls is not a list")
        return ()
    calls = []
    for item in value:
        if not isinstance(item, dict):
            damages.note("a tool call is not an object")
            continue
        function = item.get("function")
        function = function if isinstance(function, dict) else item
        name, id_, arguments = function.get("name"), item.get("id"), function.get("arguments")
        parsed = True
        if isinstance(arguments, str):
            trial = Damages()
            arguments = parse(arguments, "arguments", trial)
            parsed = not trial
        calls.append(ToolCall(str(id_) if id_ else None, str(name) if name else None, arguments, parsed))
    return tuple(calls)


def names_in(prefix: bytes) -> tuple[str, ...]:
    """Tool names in the beginning of a tool_calls column too long to be read whole."""
    damages = Damages()
    found = (parse(quoted.decode("utf-8", "replace"), "name", damages) for quoted in _NAME.findall(prefix))
    return tuple(name for name in found if isinstance(name, str))


def note_span(name: str | None, meta: Any) -> NoteSpan | None:
    """What a compaction note says of itself, None for any other message."""
    if name != "compact_note":
        return None
    values = meta if isinstance(meta, dict) else {}
    return NoteSpan(*(_int(values.get(key)) for key in ("from_seq", "to_seq", "ord")))


def recorded_runs(meta: Any) -> tuple[tuple[int, int], ...] | None:
    """The exact set of folded seqs, where a note records it as runs."""
    runs = meta.get("fold_seqs") if isinstance(meta, dict) else None
    if not isinstance(runs, list):
        return None
    pairs = [tuple(run) for run in runs if isinstance(run, list) and len(run) == 2]
    good = [(a, b) for a, b in pairs if type(a) is int and type(b) is int and LOWEST <= a <= b <= HIGHEST]
    return tuple(union(good)) if len(good) == len(runs) else None


def _int(value: object) -> int | None:
    if isinstance(value, (int, float, str)):
        try:
            return int(value)
        except (ValueError, OverflowError):
            return None
    return None
