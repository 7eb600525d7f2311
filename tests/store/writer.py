"""A process that writes a database on command, one line in and one line out, so that tests wait for events.

python writer.py DATABASE        then on stdin: sql STATEMENT | append COUNT | open | close | hammer COUNT | quit
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

SESSION = "sess_archived00000000000000"


class Writer:
    """The process from the test's side. Kill it with `kill`, let it leave with `quit`."""

    def __init__(self, path: Path) -> None:
        self.process = Popen([sys.executable, "-P", __file__, str(path)], stdin=PIPE, stdout=PIPE, text=True)

    def send(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        assert not isinstance(said, dict), said
        return said

    def do(self, command: str) -> Any:
        self.send(command)
        return self.answer()

    def sql(self, statement: str) -> Any:
        return self.do(f"sql {statement}")

    def kill(self) -> None:
        """As kill -9 does it."""
        self.process.kill()
        self.process.wait()

    def quit(self) -> None:
        if self.process.poll() is None:
            self.send("quit")
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def writing(path: Path, *commands: str) -> Iterator[Writer]:
    """A writer that has opened the database and done these commands."""
    writer = Writer(path)
    try:
        for command in ("open", *commands):
            writer.do(command)
        yield writer
    finally:
        if writer.process.poll() is None:
            writer.kill()
        writer.quit()


def _append(conn: sqlite3.Connection, count: int) -> None:
    """Messages in one session, and their number in the titles of two: what one transaction wrote is all or nothing."""
    conn.execute("BEGIN IMMEDIATE")
    (seq,) = conn.execute("SELECT next_seq FROM session_state WHERE session_id = ?", (SESSION,)).fetchone()
    conn.executemany(
        "INSERT INTO messages (session_id, seq, role, content, state, created_at) "
        "VALUES (?, ?, 'user', ?, 'active', 1)",
        ((SESSION, n, f"message {n} " + "x" * 200) for n in range(seq, seq + count)),
    )
    conn.execute("UPDATE session_state SET next_seq = ? WHERE session_id = ?", (seq + count, SESSION))
    conn.execute(
        "UPDATE sessions SET metadata_json = ? WHERE rowid IN (1, 2)", (json.dumps({"title": str(seq + count)}),)
    )
    conn.execute("COMMIT")


def _serve(path: str) -> None:
    conn: sqlite3.Connection | None = None
    for line in sys.stdin:
        command, _, rest = line.rstrip("\n").partition(" ")
        try:
            said: Any = None
            if command == "quit":
                break
            if command == "open":
                conn = sqlite3.connect(path, isolation_level=None, timeout=5)
                conn.execute("PRAGMA synchronous=NORMAL")
            elif conn is None:
                raise RuntimeError("not open")
            elif command == "sql":
                said = conn.execute(rest).fetchall()
            elif command == "append":
                _append(conn, int(rest))
            elif command == "hammer":
                for _ in range(int(rest)):
                    _append(conn, 1)
            elif command == "visits":
                for _ in range(int(rest)):
                    conn.close()
                    conn = sqlite3.connect(path, isolation_level=None, timeout=5)
                    _append(conn, 1)
            elif command == "close":
                conn.close()
                conn = None
        except Exception as error:
            said = {"error": repr(error)}
        print(json.dumps(said), flush=True)
    if conn is not None:
        conn.close()


if __name__ == "__main__":
    _serve(sys.argv[1])
