"""Writes databases as power-loop 0.2.0 lays them out, with whatever a test wants in them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any

from sessionscope.store.powerloop.format.schema import TABLES

from .harness import NOW


class Database:
    """A database that is being written. A with block commits and closes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.conn = sqlite3.connect(path, isolation_level=None)
        self.conn.executescript(TABLES)
        self.conn.execute("BEGIN")

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.conn.execute("COMMIT")
        self.conn.close()

    def _insert(self, table: str, values: dict[str, Any]) -> None:
        marks = ",".join("?" * len(values))
        self.conn.execute(f"INSERT INTO {table} ({','.join(values)}) VALUES ({marks})", list(values.values()))

    def session(self, id_: str, title: str | None = None, age_s: int = 60, **columns: Any) -> str:
        """A session that was last active `age_s` seconds ago."""
        then = NOW - 1000 * age_s
        metadata = {} if title is None else {"metadata_json": json.dumps({"title": title})}
        self._insert("sessions", {"session_id": id_, "created_at": then, "updated_at": then, **metadata, **columns})
        self._insert("session_state", {"session_id": id_})
        return id_

    def message(self, id_: str, role: str = "user", content: Any = "hello", **columns: Any) -> int:
        """The next message of a session; its seq."""
        seq: int = self.conn.execute(
            "UPDATE session_state SET next_seq = next_seq + 1 WHERE session_id = ? RETURNING next_seq - 1", (id_,)
        ).fetchone()[0]
        self._insert(
            "messages",
            {
                "session_id": id_,
                "seq": seq,
                "role": role,
                "content": content,
                "created_at": NOW - 60_000 + seq,
                **columns,
            },
        )
        return seq

    def compact(self, id_: str, first: int, last: int, note: str = "what happened", **columns: Any) -> int:
        """Folds rows as power-loop does; the seq of the note."""
        self.conn.execute(
            "UPDATE messages SET state = 'compacted_out' WHERE session_id = ? AND seq BETWEEN ? AND ?",
            (id_, first, last),
        )
        meta = {"from_seq": first, "to_seq": last}
        seq = self.message(id_, "system", note, name="compact_note", meta_json=json.dumps(meta))
        number: int = self.conn.execute(
            "UPDATE session_state SET last_compact_seq = last_compact_seq + 1 WHERE session_id = ? "
            "RETURNING last_compact_seq",
            (id_,),
        ).fetchone()[0]
        self._insert(
            "compactions",
            {
                "session_id": id_,
                "compact_seq": number,
                "note_seq": seq,
                "from_seq": first,
                "to_seq": last,
                "before_tokens": 1000,
                "after_tokens": 100,
                "round_index": 1,
                "created_at": NOW,
                **columns,
            },
        )
        return seq


def calls(*named: tuple[str, str, Any]) -> str:
    """Tool calls as the assistant's row stores them: (id, name, arguments)."""
    return json.dumps(
        [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for id_, name, arguments in named
        ]
    )
