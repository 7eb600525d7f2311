"""Short ways to build databases and to read everything an archive says."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sessionscope.store import Archive, Outline, Reader, Ref, TimelineRow, View, open_archive
from sessionscope.store.powerloop.format.schema import TABLES

DATA = Path(__file__).parents[1] / "data"
NAMES = sorted(path.stem for path in (DATA / "power-loop").glob("*.db"))
ROOT = "sess_root0000000000000000000"
LINKED, DETACHED = "sess_linked00000000000000001", "sess_detached000000000000002"
LAYOUTS = ("0.2.0", "8.0.0")


def only(path: os.PathLike[str] | str) -> Archive:
    """The one archive at a place."""
    (archive,) = open_archive(path)
    return archive


def together(*commands: Sequence[str | Path]) -> list[subprocess.Popen[str]]:
    """Python programs that begin at the same moment: each says that it is ready, then waits for a line."""
    started = [
        subprocess.Popen(
            [sys.executable, "-B", *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for command in commands
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return started


def raw(path: Path, *statements: str, script: str | None = None) -> list[Any]:
    """Runs SQL on a file behind the store's back, in rollback mode so that nothing is left beside it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")
        conn.execute("PRAGMA synchronous=OFF")
        if script:
            conn.executescript(script)
        return [conn.execute(statement).fetchall() for statement in statements]


def build(path: Path, layout: str = "0.2.0") -> Path:
    """An empty database with the tables of a release."""
    if layout == "0.2.0":
        raw(path, script=TABLES)
        return path
    with closing(sqlite3.connect(f"file:{DATA}/power-loop/v8.0.0.db?immutable=1", uri=True)) as sample:
        schema = [sql for (sql,) in sample.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    raw(
        path, *(sql for sql in schema if "sqlite_sequence" not in sql), "INSERT INTO pl_schema_migrations VALUES (1, 9)"
    )
    return path


def prefix_of(layout: str) -> str:
    return "" if layout == "0.2.0" else "pl_"


def add_session(conn: sqlite3.Connection, id_: str, prefix: str = "", next_seq: int = 1, **columns: Any) -> None:
    """A session row with its state row."""
    values = {"session_id": id_, "created_at": 1_000, "updated_at": 2_000, "config_json": "{}", "metadata_json": "{}"}
    values.update(columns)
    conn.execute(
        f'INSERT INTO "{prefix}sessions" ({", ".join(values)}) VALUES ({", ".join("?" * len(values))})',
        list(values.values()),
    )
    conn.execute(f'INSERT INTO "{prefix}session_state" (session_id, next_seq) VALUES (?, ?)', (id_, next_seq))


def add_messages(conn: sqlite3.Connection, id_: str, rows: Iterable[dict[str, Any]], prefix: str = "") -> None:
    """Message rows, each a dict of columns; those not named get plain values."""
    columns = ("seq", "role", "name", "content", "tool_calls_json", "tool_call_id", "state", "meta_json", "created_at")
    plain = dict.fromkeys(columns) | {"role": "user", "state": "active", "meta_json": "{}", "created_at": 1_000}
    conn.executemany(
        f'INSERT INTO "{prefix}messages" (session_id, {", ".join(columns)}) VALUES (?{", ?" * len(columns)})',
        ([id_, *(plain | row).values()] for row in rows),
    )


def fill(path: Path, id_: str, rows: Sequence[dict[str, Any]], layout: str = "0.2.0", **columns: Any) -> Path:
    """One more session with these messages."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA synchronous=OFF")
        columns.setdefault("next_seq", len(rows) + 1)
        add_session(conn, id_, prefix_of(layout), **columns)
        add_messages(conn, id_, rows, prefix_of(layout))
    return path


def call(name: str, id_: str | None, **arguments: Any) -> dict[str, Any]:
    """A tool call in the shape that power-loop stores."""
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def refs(archive: Archive) -> list[Ref]:
    return [Ref(archive.info.layout, id_) for id_ in archive.reader().session_table().ids]


def rows(reader: Reader, ref: Ref, view: View = View.ALL, outline: Outline | None = None) -> list[TimelineRow]:
    """Every line of a view."""
    lines = reader.timeline(ref, view, outline or reader.outline(ref))
    return lines.window(0, lines.length.value)


def seqs(reader: Reader, ref: Ref, view: View) -> list[int | None]:
    return [row.seq for row in rows(reader, ref, view)]


def everything(archive: Archive) -> dict[str, Any]:
    """All that an archive says of each session, by id: to compare two looks at it."""
    reader, found = archive.reader(), {}
    session_table = reader.session_table()
    for at, (key, id_) in enumerate(zip(session_table.keys, session_table.ids, strict=True)):
        ref = Ref(archive.info.layout, id_)
        outline = reader.outline(ref)
        lines = rows(reader, ref, View.ALL, outline)
        found[id_] = {
            "place": session_table.place_in_tree(at),
            "parent": session_table.parents[at],
            "title": session_table.titles.get(at),
            "summary": reader.summaries([key]),
            "detail": reader.session(ref),
            "rows": {line.row or line.hole: line for line in lines},
            "messages": {line.row: reader.message(ref, line.row) for line in lines if line.row},
            "views": {view: [line.row for line in rows(reader, ref, view, outline)] for view in View},
            "audit": reader.audit(ref, outline),
            "usage": reader.usage(ref),
            "spawner": reader.spawner(ref),
            "follow": {line.row: reader.follow(ref, line.row) for line in lines if line.row},
        }
    return found
