"""What a power-loop database must contain, for what a damaged file does not tell: its tables, and lost rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sessionscope.store.powerloop.format.schema import STATEMENTS, TABLES

BASE = tuple(re.findall(r"^CREATE TABLE IF NOT EXISTS (\w+)", TABLES, re.MULTILINE))
_LATER = (
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
_VARIANTS = {
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
"""How later releases changed a table, each step after the one before."""
Ask = Callable[..., list[tuple[Any, ...]]]
SHOWN = 20


def prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes of table names, or the empty one if no name tells any."""
    found = set()
    for name in names:
        for plain in sorted((*BASE, *_LATER), key=len, reverse=True):
            if name.endswith(plain):
                found.add(name[: -len(plain)])
                break
    return sorted(found) or [""]


def statements(prefix: str, table: str) -> list[str]:
    """Return what makes one of the five tables that every release has: the oldest shape first, then later ones."""
    plain = next(one for one in STATEMENTS if one.startswith(f"CREATE TABLE IF NOT EXISTS {table} "))
    found = [plain.replace("IF NOT EXISTS " + table, f'"{prefix}{table}"' if prefix else table, 1)]
    for old, new in _VARIANTS.get(table, ()):
        found.append(found[-1].replace(old, new, 1))
    return found


def indexes(prefix: str) -> list[str]:
    """Return what makes the indexes of these tables."""
    return [
        re.sub(r"IF NOT EXISTS (\w+) ON (\w+)", rf'"{prefix}\1" ON "{prefix}\2"', one)
        for one in STATEMENTS
        if one.startswith("CREATE INDEX")
    ]


def missing_messages(ask: Ask, prefix: str) -> Iterator[str]:
    """Yield, in words, the sessions whose bookkeeping announces more messages than there are. Pruned messages count."""
    messages, state = f'"{prefix}messages"', f'"{prefix}session_state"'
    rows = ask(f"""
        SELECT s.session_id, s.next_seq - 1, count(m.seq) FROM {state} s
        LEFT JOIN {messages} m ON m.session_id = s.session_id AND m.seq >= 1 AND m.seq < s.next_seq
        WHERE typeof(s.next_seq) = 'integer' GROUP BY s.rowid HAVING count(m.seq) < s.next_seq - 1
        ORDER BY s.rowid LIMIT {SHOWN + 1}""")
    for session, expected, there in rows:
        yield f"session {shown(session)}: {there} of its {expected} messages are there"


def loose_ends(ask: Ask, prefix: str) -> Iterator[str]:
    """Yield, in words, the rows and links that lead to sessions which do not exist."""
    sessions = f'"{prefix}sessions"'
    for table in BASE[1:]:
        for session, rows in ask(f"""
            SELECT session_id, count(*) FROM "{prefix}{table}" t
            WHERE NOT EXISTS (SELECT 1 FROM {sessions} s WHERE s.session_id = t.session_id)
            GROUP BY session_id ORDER BY session_id LIMIT {SHOWN + 1}"""):
            yield f"session {shown(session)}: its row in {prefix}sessions is gone, {rows} in {prefix}{table} are there"
    for session, parent in ask(f"""
        SELECT session_id, parent_session_id FROM {sessions} c WHERE parent_session_id IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM {sessions} s WHERE s.session_id = c.parent_session_id) ORDER BY rowid LIMIT {SHOWN + 1}"""):
        yield f"session {shown(session)}: its parent {shown(parent)} is not there"
    for (session,) in ask(f"""
        SELECT session_id FROM {sessions} c WHERE NOT EXISTS (SELECT 1 FROM "{prefix}session_state" s
        WHERE s.session_id = c.session_id) ORDER BY rowid LIMIT {SHOWN + 1}"""):
        yield f"session {shown(session)}: its row in {prefix}session_state is gone"


def shown(value: Any) -> str:
    """Return an id, cut to a length that fits a sentence."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
