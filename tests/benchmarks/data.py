"""The archives that are measured: made on the spot, the same rows on every machine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from tests.store.workspaces import talk, write

from sessionscope.store.powerloop.format.schema import TABLES

NEWEST, WHOLE, SESSION = "qz-newest", "qz-whole", "session-0000001"
"""The first and the last word of a newest message. A list has room for the first alone."""
_WORDS = "the import runs twice when a lease expires while a worker still holds its batch so claim it in one step "
_CALL = '[{"id": "call-1", "type": "function", "function": {"name": "grep", "arguments": "{}"}}]'
_EPOCH_MS, _FOLDS, _ROLES = 1_700_000_000_000, 10, ("user", "assistant", "tool", "assistant")


def build(path: Path, sessions: int, messages: int, prompt: int = 0) -> Path:
    """A database with that many sessions (every fifth a root), and messages and bytes of prompt in each.

    Of a session with 1000 messages or more nine tenths are folded. One without messages has the newest word as title.
    """
    compactions, chunk = (_FOLDS - 1, messages // _FOLDS) if messages >= 1_000 else (0, 1)
    ids = [f"session-{number:07}" for number in range(1, sessions + 1)]
    text = (_WORDS * (prompt // len(_WORDS) + 1))[:prompt]
    tables: dict[str, Iterator[tuple[Any, ...]]] = {
        "sessions": (_session(ids, at, text, messages) for at in range(sessions)),
        "messages": chain.from_iterable(_messages(id_, messages, compactions * chunk, chunk) for id_ in ids),
        "session_state": ((id_, messages + 1, messages // 4, compactions, None) for id_ in ids),
        "compactions": (
            (
                id_,
                compaction,
                compaction * chunk,
                (compaction - 1) * chunk + 1,
                compaction * chunk - 1,
                90_000,
                9_000,
                1,
                _EPOCH_MS,
            )
            for id_ in ids
            for compaction in range(1, compactions + 1)
        ),
    }
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {TABLES}; BEGIN")
        for table, rows in tables.items():
            columns = len(conn.execute(f"PRAGMA table_info({table})").fetchall())
            conn.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows)
        conn.execute("COMMIT")
        conn.execute("PRAGMA journal_mode=WAL")
    return path


def build_folder(folder: Path, sessions: int, messages: int) -> Path:
    """A folder of that many nanobot sessions with that many messages each; the last one is the newest."""
    for at in range(sessions):
        rows = talk(messages, text=f"{{}} {_WORDS}")
        if at == sessions - 1:
            rows[-1]["content"] = f"{NEWEST} {rows[-1]['content']} {WHOLE}"
        write(folder, rows, f"telegram_{at}.jsonl", f"telegram:{at}", updated_at=f"2026-05-{10 + (at == sessions - 1)}")
    return folder


def _session(ids: list[str], at: int, prompt: str, messages: int) -> tuple[Any, ...]:
    root = at % 5 == 0 or at == len(ids) - 1
    kin = ("root", None, None, 0) if root else ("subagent", ids[at - at % 5], "call-1", 1)
    title = json.dumps({"title": f"{_WORDS[at % 40 :][:30]}{at}" if messages else NEWEST})
    return ids[at], _EPOCH_MS + at, _EPOCH_MS + at, prompt, "a-model", None, "active", *kin, "ephemeral", title


def _messages(id_: str, count: int, folded: int, chunk: int) -> Iterator[tuple[Any, ...]]:
    for seq in range(1, count + 1):
        note = seq <= folded and seq % chunk == 0
        role = "system" if note else _ROLES[seq % 4]
        content = f"{seq} {_WORDS}{_WORDS[: seq % 90]}"
        yield (
            id_,
            seq,
            role,
            "compact_note" if note else None,
            f"{NEWEST} {content} {WHOLE}" if seq == count else content,
            _CALL if seq % 4 == 1 and not note else None,
            "call-1" if role == "tool" else None,
            seq // 4,
            "compacted_out" if seq <= folded and not note else "active",
            json.dumps({"from_seq": seq - chunk + 1, "to_seq": seq - 1}) if note else None,
            _EPOCH_MS + seq,
        )
