"""Decoding of stored values, one at a time. A bad value is noted and kept as text; it never raises."""

from __future__ import annotations

import sqlite3
from typing import Any

from sessionscope.store.io.sqlitefile import BrokenText
from sessionscope.store.model.outline import union
from sessionscope.store.model.rows import NoteSpan
from sessionscope.store.rules.values import Damages, character_at

LOWEST = -(2**63)
"""The smallest integer that a column can hold."""
HIGHEST = 2**63 - 1
"""The largest integer that a column can hold."""


def text(value: object, what: str, damages: Damages) -> str | None:
    """Return a value of a TEXT column as text, None for NULL. `what` names the column in notes.

    BLOBs, invalid UTF-8 and numbers are made readable and noted.
    """
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
    """Return a value of an INTEGER column; anything else is noted and returned as None."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    damages.note(f"{what} is not a whole number")
    return None


def decode_bytes(data: bytes, what: str, damages: Damages) -> str:
    """Decode bytes of a TEXT value that are cut at character boundaries. Invalid UTF-8 is escaped and noted."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        damages.note(f"{what} is not valid UTF-8")
        return data.decode("utf-8", "backslashreplace")


class Cells:
    """The large columns of one table, read in bounded pieces, so that a page of rows never loads whole bodies."""

    def __init__(self, conn: sqlite3.Connection, table: str) -> None:
        self._conn = conn
        self._table = table

    def read(self, column: str, rowid: int, kind: str, start: int, stop: int) -> tuple[bytes, int]:
        """Return bytes `start` to `stop` of a value and its whole size in bytes.

        `kind` is the value's SQLite type. For any but "text" and "blob" the result is (b"", 0).
        """
        if kind not in ("text", "blob"):
            return b"", 0
        with self._conn.blobopen(self._table, column, rowid, readonly=True) as blob:
            size = len(blob)
            if start:
                blob.seek(min(start, size))
            return blob.read(max(0, min(stop, size) - start)), size

    def head(self, column: str, rowid: int, kind: str, limit: int, what: str, damages: Damages) -> tuple[str, int]:
        """Return the first `limit` bytes of a value as text, cut at a character, and its whole size in bytes."""
        data, size = self.read(column, rowid, kind, 0, limit)
        if kind == "blob":
            damages.note(f"{what} is a BLOB, not text")
        if size > limit:
            data = data[: character_at(data, len(data))]
        return decode_bytes(data, what, damages), size


def note_span(name: str | None, meta: Any) -> NoteSpan | None:
    """Return the span that a compaction note's meta records, None for any other message."""
    if name != "compact_note":
        return None
    values = meta if isinstance(meta, dict) else {}
    return NoteSpan(*(_int(values.get(key)) for key in ("from_seq", "to_seq", "ord")))


def recorded_runs(meta: Any) -> tuple[tuple[int, int], ...] | None:
    """Return the compacted seqs that a note records in `fold_seqs` as runs, None if it records none or invalid ones."""
    runs = meta.get("fold_seqs") if isinstance(meta, dict) else None
    if not isinstance(runs, list):
        return None
    pairs = [tuple(run) for run in runs if isinstance(run, list) and len(run) == 2]
    valid_runs = [
        (first, last)
        for first, last in pairs
        if type(first) is int and type(last) is int and LOWEST <= first <= last <= HIGHEST
    ]
    if len(valid_runs) != len(runs):
        return None
    return tuple(union(valid_runs))


def _int(value: object) -> int | None:
    if isinstance(value, (int, float, str)):
        try:
            return int(value)
        except (ValueError, OverflowError):
            return None
    return None
