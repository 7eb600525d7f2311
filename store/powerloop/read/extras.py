"""Data of a session in tables of later releases: leases, statistics, todos, notes, timers, queued input and others."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from sessionscope.store.powerloop.format.decode import text
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.rules.values import Damages

from .messages import Owner

_ROWS_PER_TABLE = 5
"""How many rows of each table are shown."""
_VALUE_CHARS = 500
"""How many characters of a value are shown."""
_TABLES = (
    ("session_leases", "lease", ("owner_id", "expires_at")),
    ("session_stats", "statistics", ("sends", "rounds", "llm_calls", "tool_calls", "total_tokens")),
    ("session_runtime_state", "state", ("state_key", "key", "value_json")),
    ("notes", "remembered", ("content",)),
    ("timers", "timer", ("note", "status", "due_at")),
    ("follow_up_queue", "queued", ("content", "status")),
    ("background_tasks", "background", ("command", "status")),
    ("project_messages", "projection", ("kind", "source_seq_lo", "source_seq_hi", "rendered_text")),
)
"""Each table with the label of its rows and the columns to show."""


def extras(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> tuple[tuple[str, str], ...]:
    """Return (label, values) of the first few rows of each table that has rows of the session."""
    rows: list[tuple[str, str]] = []
    for table, label, known_columns in _TABLES:
        if not layout.has(table, "session_id"):
            continue
        columns = [column for column in known_columns if layout.has(table, column)]
        if not columns:
            continue
        selected = ", ".join(f"substr({column}, 1, {_VALUE_CHARS})" for column in columns)
        for row in conn.execute(
            f"SELECT {selected} FROM {layout.table(table)} WHERE {owner.condition} LIMIT ?",
            (owner.value, _ROWS_PER_TABLE),
        ):
            rows.append((label, _row_text(columns, row)))
    return tuple(rows)


def _row_text(columns: list[str], row: tuple[object, ...]) -> str:
    """Return the values of a row on one line. Times have their column's name, and all values of three or more do."""
    parts = []
    for column, value in zip(columns, row, strict=True):
        shown = _value_text(column, value)
        if not shown:
            continue
        if len(columns) > 2 or column.endswith("_at"):
            shown = f"{column.removesuffix('_at')} {shown}"
        parts.append(shown)
    return " · ".join(parts)


def _value_text(column: str, value: object) -> str | None:
    """Return a value as text; a time in milliseconds becomes ISO 8601."""
    shown = text(value, "", Damages())
    if column.endswith("_at") and shown and shown.isdecimal() and len(shown) < 16:
        try:
            return datetime.fromtimestamp(int(shown) / 1000, UTC).isoformat(timespec="seconds")
        except (OverflowError, ValueError):  # Past the year 9999.
            return shown
    return shown
