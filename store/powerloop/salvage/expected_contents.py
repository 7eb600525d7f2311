"""Expected contents of a power-loop database: tables that a damaged schema may lack, and rows that must exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sessionscope.store.powerloop.format.schema import STATEMENTS, TABLES

BASE_TABLES = tuple(re.findall(r"^CREATE TABLE IF NOT EXISTS (\w+)", TABLES, re.MULTILINE))
"""The names, without prefix, of the five tables that every release has; `sessions` is the first."""
_LATER_TABLES = (
    "session_runtime_state",
    "shared_state",
    "background_tasks",
    "session_stats",
    "timers",
    "notes",
    "project_messages",
    "hook_events",
    "session_leases",
    "follow_up_queue",
    "context_cache",
    "context_attempts",
    "schema_migrations",
)
"""The names, without prefix, of the tables that later releases have in addition."""
_LATER_COLUMNS = {
    "messages": (("    created_at", "    send_index INTEGER,\n    created_at"),),
    "usage_rounds": (
        ("    total_tokens INTEGER,", "    total_tokens INTEGER,\n    cached_tokens INTEGER,"),
        (
            "    round_index INTEGER NOT NULL,",
            "    send_index INTEGER NOT NULL DEFAULT 0,\n    round_index INTEGER NOT NULL,",
        ),
        ("(session_id, round_index)", "(session_id, send_index, round_index)"),
    ),
}
"""By table, the changes of its definition in later releases: pairs of old and new text, to be applied in order."""
Query = Callable[..., list[tuple[Any, ...]]]
"""Runs a statement in the new database and returns its rows."""
MAX_SENTENCES = 20
"""After how many sentences of one kind only one more follows, which shows that there are more."""
ID_CHARS = 60
"""To how many characters an id is cut in a sentence."""


def prefixes(names: Iterable[str]) -> list[str]:
    """Return the table prefixes in the names of tables, only the empty one if none of the tables is known."""
    # The longest first, as the name of one table may end with that of another.
    known_tables = sorted((*BASE_TABLES, *_LATER_TABLES), key=len, reverse=True)
    prefixes_found = set()
    for name in names:
        table = next((table for table in known_tables if name.endswith(table)), None)
        if table is not None:
            prefixes_found.add(name.removesuffix(table))
    return sorted(prefixes_found) or [""]


def create_statements(prefix: str, table: str) -> list[str]:
    """Return the statements that may have created a base table, the oldest shape first."""
    original = next(sql for sql in STATEMENTS if sql.startswith(f"CREATE TABLE IF NOT EXISTS {table} "))
    name = f'"{prefix}{table}"' if prefix else table
    statements = [original.replace("IF NOT EXISTS " + table, name, 1)]
    for old, new in _LATER_COLUMNS.get(table, ()):
        statements.append(statements[-1].replace(old, new, 1))
    return statements


def index_statements(prefix: str) -> list[str]:
    """Return the statements that create the indexes of the base tables."""
    return [
        re.sub(r"IF NOT EXISTS (\w+) ON (\w+)", rf'"{prefix}\1" ON "{prefix}\2"', sql)
        for sql in STATEMENTS
        if sql.startswith("CREATE INDEX")
    ]


def missing_messages(query: Query, prefix: str) -> Iterator[str]:
    """Yield a sentence for each session with fewer messages than its `next_seq` tells. Pruned messages count too."""
    messages, state = f'"{prefix}messages"', f'"{prefix}session_state"'
    rows = query(f"""
        SELECT s.session_id, s.next_seq - 1, count(m.seq) FROM {state} s
        LEFT JOIN {messages} m ON m.session_id = s.session_id AND m.seq >= 1 AND m.seq < s.next_seq
        WHERE typeof(s.next_seq) = 'integer' GROUP BY s.rowid HAVING count(m.seq) < s.next_seq - 1
        ORDER BY s.rowid LIMIT {MAX_SENTENCES + 1}""")
    for session_id, expected, present in rows:
        yield f"session {shortened(session_id)}: {present} of its {expected} messages are there"


def broken_references(query: Query, prefix: str) -> Iterator[str]:
    """Yield a sentence for each row or link that names a session which does not exist, or lacks its bookkeeping."""
    sessions = f'"{prefix}sessions"'
    for table in BASE_TABLES[1:]:
        for session_id, rows in query(f"""
            SELECT session_id, count(*) FROM "{prefix}{table}" t
            WHERE NOT EXISTS (SELECT 1 FROM {sessions} s WHERE s.session_id = t.session_id)
            GROUP BY session_id ORDER BY session_id LIMIT {MAX_SENTENCES + 1}"""):
            yield (
                f"session {shortened(session_id)}: its row in {prefix}sessions is gone, "
                f"{rows} in {prefix}{table} are there"
            )
    for session_id, parent in query(f"""
        SELECT session_id, parent_session_id FROM {sessions} c WHERE parent_session_id IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM {sessions} s WHERE s.session_id = c.parent_session_id)
        ORDER BY rowid LIMIT {MAX_SENTENCES + 1}"""):
        yield f"session {shortened(session_id)}: its parent {shortened(parent)} is not there"
    for (session_id,) in query(f"""
        SELECT session_id FROM {sessions} c WHERE NOT EXISTS (SELECT 1 FROM "{prefix}session_state" s
        WHERE s.session_id = c.session_id) ORDER BY rowid LIMIT {MAX_SENTENCES + 1}"""):
        yield f"session {shortened(session_id)}: its row in {prefix}session_state is gone"


def shortened(value: Any) -> str:
    """Return an id, or the name of a table, cut to ID_CHARS characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= ID_CHARS else text[: ID_CHARS - 1] + "…"
