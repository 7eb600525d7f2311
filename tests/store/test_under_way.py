"""Reads in parts, while the file changes between them; and links that must not reach for what they should not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import NotAnArchive, Ref, View, open_archive
from sessionscope.store.powerloop.format.schema import TABLES

HOUR = 3_600_000


def database(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(path, isolation_level=None)
    conn.executescript(TABLES)
    return conn


def session(conn: sqlite3.Connection, id_: str, created: int = 0, parent: str | None = None) -> None:
    conn.execute(
        "INSERT INTO sessions (session_id, created_at, updated_at, parent_session_id) VALUES (?, ?, ?, ?)",
        (id_, created, created, parent),
    )
    conn.execute("INSERT INTO session_state (session_id) VALUES (?)", (id_,))


def message(conn: sqlite3.Connection, id_: str, seq: int, role: str = "user", created: int = 0, **more: Any) -> None:
    names = ["session_id", "seq", "role", "content", "created_at", *more]
    conn.execute(
        f"INSERT INTO messages ({','.join(names)}) VALUES ({','.join('?' * len(names))})",
        [id_, seq, role, "words", created, *more.values()],
    )
    conn.execute("UPDATE session_state SET next_seq = ? WHERE session_id = ?", (seq + 1, id_))


def spawning(id_: str) -> str:
    return json.dumps([{"id": id_, "type": "function", "function": {"name": "run_agent", "arguments": "{}"}}])


def test_a_row_that_comes_while_the_outline_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    conn = database(path)
    session(conn, "s")
    for seq in range(1, 6):
        message(conn, "s", seq)
    reader: Any = open_archive(path)[0].reader()
    real, bursts = reader.read, []

    def read(work: Callable[[sqlite3.Connection], Any]) -> Any:
        found = real(work)
        bursts.append(found)
        message(conn, "s", 5 + len(bursts))
        return found

    outline = reader._outline(read, reader._owner(Ref("", "s")), lambda: False)
    rows = reader.timeline(Ref("", "s"), View.ALL, outline).window(0, 100)
    assert len(bursts) > 2
    assert all(row.hole is None for row in rows)
    conn.close()


def test_a_fold_set_beyond_all_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    conn = database(path)
    session(conn, "s")
    message(conn, "s", 1, state="compacted_out")
    message(conn, "s", 2, "system", name="compact_note", meta_json=json.dumps({"fold_seqs": [[10**25, 10**25]]}))
    conn.execute(
        "INSERT INTO compactions (session_id, compact_seq, note_seq, from_seq, to_seq, created_at) "
        "VALUES ('s', 1, 2, 1, 1, 0)"
    )
    conn.close()
    reader = open_archive(path)[0].reader()
    compaction = reader.audit(Ref("", "s"), reader.outline(Ref("", "s"))).compactions[0]
    assert (compaction.rows, compaction.set_runs) == (1, ((1, 1),))


def test_a_call_whose_child_is_gone_does_not_get_one_of_hours_later(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    conn = database(path)
    session(conn, "root")
    for seq in range(1, 900):
        message(conn, "root", seq, created=seq * 1000)
    for seq, call in ((100, "early"), (880, "late")):
        conn.execute("UPDATE messages SET role = 'assistant', tool_calls_json = ? WHERE seq = ?", (spawning(call), seq))
        conn.execute("UPDATE messages SET role = 'tool', tool_call_id = ? WHERE seq = ?", (call, seq + 1))
    session(conn, "kid", created=880_500, parent="root")
    conn.close()
    reader = open_archive(path)[0].reader()
    early, late = reader.follow(Ref("", "root"), "100"), reader.follow(Ref("", "root"), "880")
    assert early is not None
    assert (early.ref.id, early.row) == ("root", "101")
    assert late is not None
    assert late.ref.id == "kid"


def test_another_database_takes_the_place_of_one_that_is_open(tmp_path: Path, sample: Callable[[str], Path]) -> None:
    path = sample("v0.2.0")
    archive = open_archive(path)[0]
    before = archive.info.format
    sample("v8.0.0-prefix-empty").replace(path)
    reader = archive.reader()
    assert len(reader.summaries(reader.session_table().keys)) == 7
    assert archive.info.format != before
    root = Ref("", "sess_root0000000000000000000")
    rows = reader.timeline(root, View.CONTEXT).window(0, 100)
    assert [row.seq for row in rows] == [17, 13, 14, 15, 16, 18, 19, 20]


def test_what_takes_the_place_holds_no_sessions(sample: Callable[[str], Path], tmp_path: Path) -> None:
    path = sample("v0.2.0")
    reader = open_archive(path)[0].reader()
    other = tmp_path / "other.db"
    conn = sqlite3.connect(other)
    conn.executescript("CREATE TABLE recipes (name); CREATE TABLE more (name); CREATE TABLE last (name);")
    conn.close()
    other.replace(path)
    with pytest.raises(NotAnArchive, match="any more"):
        reader.session_table()
