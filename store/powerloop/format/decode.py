"""Lenient decoding of stored values, one at a time: a bad value is reported and kept as text, never raised."""

from __future__ import annotations

import sqlite3
from typing import Any

from sessionscope.store.io.sqlitefile import BrokenText
from sessionscope.store.model.outline import union
from sessionscope.store.model.rows import NoteSpan
from sessionscope.store.rules.values import Damages, character_at

LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""The smallest and the largest value of an INTEGER column."""


def text(value: object, what: str, damages: Damages) -> str | None:
    """Return the value of a TEXT column. BLOBs and invalid UTF-8 come back readable, and are reported."""
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
    """Return the value of an INTEGER column, None if it is something else."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    damages.note(f"{what} is not a whole number")
    return None


def decode_bytes(data: bytes, what: str, damages: Damages) -> str:
    """Decode bytes of a TEXT value that begin and end at character boundaries."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        damages.note(f"{what} is not valid UTF-8")
        return data.decode("utf-8", "backslashreplace")


class Cells:
    """The large columns of one table, read in bounded pieces, so that a page of rows never loads a body it does not
    show.
    """

    def __init__(self, conn: sqlite3.Connection, table: str) -> None:
        self._conn, self._table = conn, table

    def read(self, column: str, rowid: int, kind: str, start: int, stop: int) -> tuple[bytes, int]:
        """Return bytes `start` to `stop` of a TEXT or BLOB value, and its size; nothing for any other kind of value."""
        if kind not in ("text", "blob"):
            return b"", 0
        with self._conn.blobopen(self._table, column, rowid, readonly=True) as blob:
            size = len(blob)
            if start:
                blob.seek(min(start, size))
            return blob.read(max(0, min(stop, size) - start)), size

    def head(self, column: str, rowid: int, kind: str, limit: int, what: str, damages: Damages) -> tuple[str, int]:
        """Return at most `limit` bytes of a value as text, and the size of the whole."""
        data, size = self.read(column, rowid, kind, 0, limit)
        if kind == "blob":
            damages.note(f"{what} is a BLOB, not text")
        whole = data if size <= limit else data[: character_at(data, len(data))]
        return decode_bytes(whole, what, damages), size


def note_span(name: str | None, meta: Any) -> NoteSpan | None:
    """Return what a compaction note says of itself, None for any other message."""
    if name != "compact_note":
        return None
    values = meta if isinstance(meta, dict) else {}
    return NoteSpan(*(_int(values.get(key)) for key in ("from_seq", "to_seq", "ord")))


def recorded_runs(meta: Any) -> tuple[tuple[int, int], ...] | None:
    """Return the exact set of compacted seqs, if a note records it as runs."""
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
