"""What later releases store next to a session: leases, statistics, todos, notes, timers, queued input."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from sessionscope.store.powerloop.format.decode import text
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.rules.values import Damages

from .messages import Owner

_LIMIT, _CHARS = 5, 500
# Table, what to call a row of it, and the columns to show. A row with more than one is shown as "column value".
_KINDS = (
    ("session_leases", "lease", ("owner_id", "expires_at")),
    ("session_stats", "statistics", ("sends", "rounds", "llm_calls", "tool_calls", "total_tokens")),
    ("session_runtime_state", "state", ("state_key", "key", "value_json")),
    ("notes", "remembered", ("content",)),
    ("timers", "timer", ("note", "status", "due_at")),
    ("follow_up_queue", "queued", ("content", "status")),
    ("background_tasks", "background", ("command", "status")),
    ("project_messages", "projection", ("kind", "source_seq_lo", "source_seq_hi", "rendered_text")),
)


def extras(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> tuple[tuple[str, str], ...]:
    """Return (what it is, its value) for the first few rows of each table that mentions the session."""
    found: list[tuple[str, str]] = []
    for table, label, wanted in _KINDS:
        if not layout.has(table, "session_id"):
            continue
        columns = [column for column in wanted if layout.has(table, column)]
        if not columns:
            continue
        shown = ", ".join(f"substr({column}, 1, {_CHARS})" for column in columns)
        for row in conn.execute(
            f"SELECT {shown} FROM {layout.table(table)} WHERE {owner.condition} LIMIT ?", (owner.value, _LIMIT)
        ):
            words = [(column, _shown(column, value)) for column, value in zip(columns, row, strict=True)]
            pairs = [
                f"{column.removesuffix('_at')} {word}" if len(columns) > 2 or column.endswith("_at") else word
                for column, word in words
                if word
            ]
            found.append((label, " · ".join(pairs)))
    return tuple(found)


def _shown(column: str, value: object) -> str | None:
    shown = text(value, "", Damages())
    if column.endswith("_at") and shown and shown.isdecimal() and len(shown) < 16:
        try:
            return datetime.fromtimestamp(int(shown) / 1000, UTC).isoformat(timespec="seconds")
        except (OverflowError, ValueError):  # Past the year 9999.
            return shown
    return shown
