"""The archives that are measured: made on the spot, the same rows on every machine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from store.powerloop.schema import TABLES

NEWEST, WHOLE = "qz-newest", "qz-whole"
"""Words of the newest message, or title where there is none: the first shows in a list, the last in the inspector alone."""
SESSION = "session-0000001"
_EPOCH_MS, _FOLDS = 1_700_000_000_000, 10
_WORDS = "the import runs twice when a lease expires while a worker still holds its batch so claim it in one step "
_CALL = json.dumps([{"id": "call-1", "type": "function", "function": {"name": "grep", "arguments": '{"pattern": "x"}'}}])
_INSERT = "INSERT INTO {} ({}) VALUES ({})"
_COLUMNS = {
    "sessions": "session_id, created_at, updated_at, system_prompt, model, status, kind, parent_session_id, lifecycle, "
                "metadata_json",
    "messages": "session_id, seq, role, name, content, tool_calls_json, tool_call_id, round_index, state, meta_json, "
                "created_at",
    "compactions": "session_id, compact_seq, note_seq, from_seq, to_seq, before_tokens, after_tokens, created_at",
    "session_state": "session_id, next_seq, round_index, last_compact_seq",
}
_ROLES = ("user", "assistant", "tool", "assistant")
Rows = Iterator[tuple[Any, ...]]


def build(path: Path, sessions: int, messages: int, prompt: int = 0) -> Path:
    """A database with that many sessions (every fifth a root), messages in each, and bytes of prompt in each."""
    folds = _FOLDS - 1 if messages >= 1_000 else 0
    chunk = messages // _FOLDS
    ids = [f"session-{number:07}" for number in range(1, sessions + 1)]
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {TABLES}; BEGIN")
        _fill(conn, "sessions", _sessions(ids, messages, prompt))
        _fill(conn, "messages", chain.from_iterable(_messages(id_, messages, folds * chunk) for id_ in ids))
        _fill(conn, "session_state", ((id_, messages + 1, messages // 4, folds) for id_ in ids))
        _fill(conn, "compactions", (
            (id_, fold, fold * chunk, (fold - 1) * chunk + 1, fold * chunk - 1, 90_000, 9_000, _EPOCH_MS)
            for id_ in ids for fold in range(1, folds + 1)
        ))
        conn.execute("COMMIT")
        conn.execute("PRAGMA journal_mode=WAL")
    return path


def _fill(conn: sqlite3.Connection, table: str, rows: Rows) -> None:
    columns = _COLUMNS[table]
    conn.executemany(_INSERT.format(table, columns, ", ".join("?" * len(columns.split(", ")))), rows)


def _sessions(ids: list[str], messages: int, prompt: int) -> Rows:
    text = (_WORDS * (prompt // len(_WORDS) + 1))[:prompt]
    for at, id_ in enumerate(ids):
        root = at % 5 == 0 or at == len(ids) - 1
        title = f"{_WORDS[at % 40 : at % 40 + 30]}{at}" if messages else NEWEST
        yield (id_, _EPOCH_MS + at, _EPOCH_MS + at, text, "a-model", "active", "root" if root else "subagent",
               None if root else ids[at - at % 5], "ephemeral", json.dumps({"title": title}))


def _messages(id_: str, count: int, folded: int) -> Rows:
    for seq in range(1, count + 1):
        content = f"{seq} {_WORDS}{_WORDS[: seq % 90]}"
        if seq == count:
            content = f"{NEWEST} {content} {WHOLE}"
        note = folded and seq <= folded and seq % (count // _FOLDS) == 0
        meta = json.dumps({"from_seq": seq - count // _FOLDS + 1, "to_seq": seq - 1}) if note else None
        role = "system" if note else _ROLES[seq % 4]
        yield (id_, seq, role, "compact_note" if note else None, content, _CALL if seq % 4 == 1 and not note else None,
               "call-1" if role == "tool" else None, seq // 4, "compacted_out" if seq <= folded and not note else "active",
               meta, _EPOCH_MS + seq)
