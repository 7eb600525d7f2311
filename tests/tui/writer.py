"""A process that writes to a database as power-loop 0.2.0 does. A line of input is a list: what to do, with what.

python writer.py DATABASE JOURNAL_MODE
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any


class Writer:
    def __init__(self, path: str, journal: str) -> None:
        self.path = path
        self.conn = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        self.conn.execute(f"PRAGMA journal_mode={journal}")
        self.conn.execute("PRAGMA synchronous=NORMAL")

    def append(self, session: str, role: str, content: str, name: str | None = None, meta: str = "{}") -> int:
        """The three statements of an append, each committed by itself."""
        seq: int = self.conn.execute("SELECT next_seq FROM session_state WHERE session_id = ?", (session,)).fetchone()[
            0
        ]
        self.conn.execute(
            "INSERT INTO messages (session_id, seq, role, name, content, state, meta_json, created_at) "
            "VALUES (?, ?, ?, ?, ?, 'active', ?, 1760000000000)",
            (session, seq, role, name, content, meta),
        )
        self.conn.execute("UPDATE session_state SET next_seq = ? WHERE session_id = ?", (seq + 1, session))
        self.conn.execute("UPDATE sessions SET updated_at = updated_at + 1 WHERE session_id = ?", (session,))
        return seq

    def append_many(self, session: str, count: int) -> None:
        for at in range(count):
            self.append(session, "user", f"one of many: {at}")

    def compact(self, session: str, first: int, last: int, note: str) -> int:
        """A fold: states, the note, the audit row and the counter, as 0.2.0 writes them."""
        self.conn.execute(
            "UPDATE messages SET state = 'compacted_out' WHERE session_id = ? AND seq BETWEEN ? AND ? "
            "AND state = 'active'",
            (session, first, last),
        )
        seq = self.append(session, "system", note, "compact_note", json.dumps({"from_seq": first, "to_seq": last}))
        number = self.conn.execute(
            "SELECT last_compact_seq + 1 FROM session_state WHERE session_id = ?", (session,)
        ).fetchone()[0]
        self.conn.execute(
            "INSERT INTO compactions VALUES (?, ?, ?, ?, ?, 900, 90, 0, 1760000000000)",
            (session, number, seq, first, last),
        )
        self.conn.execute("UPDATE session_state SET last_compact_seq = ? WHERE session_id = ?", (number, session))
        return seq

    def create(self, session: str, title: str, parent: str | None = None) -> None:
        self.conn.execute(
            "INSERT INTO sessions (session_id, created_at, updated_at, kind, parent_session_id, lifecycle, "
            "metadata_json) VALUES (?, 1760000000000, 1760000000000, ?, ?, 'linked', ?)",
            (session, "subagent" if parent else "root", parent, json.dumps({"title": title})),
        )
        self.conn.execute("INSERT INTO session_state (session_id) VALUES (?)", (session,))

    def delete(self, session: str) -> None:
        for table in ("messages", "compactions", "usage_rounds", "session_state", "sessions"):
            self.conn.execute(f"DELETE FROM {table} WHERE session_id = ?", (session,))

    def lock(self) -> None:
        """Shuts every other process out, readers too: so does a WAL that was opened for one process alone."""
        self.conn.close()
        self.conn = sqlite3.connect(self.path, isolation_level=None)
        self.conn.execute("PRAGMA locking_mode=EXCLUSIVE")
        self.conn.execute("UPDATE sessions SET updated_at = updated_at + 1")

    def unlock(self) -> None:
        self.conn.close()
        self.conn = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)


def main(path: str, journal: str) -> None:
    writer = Writer(path, journal)
    print("null", flush=True)
    for line in sys.stdin:
        what, *values = json.loads(line)
        answer: Any = getattr(writer, what)(*values)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
