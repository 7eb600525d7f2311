"""Schemas that act by themselves are only read, and what cannot be written is refused before anything is promised."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessionscope.store import (
    Action,
    Close,
    Compact,
    NotAnArchive,
    Ref,
    Refused,
    Restore,
    SessionStore,
    SetArchived,
    Settle,
    diagnose,
)
from sessionscope.store.model.rows import View
from sessionscope.store.powerloop.archive import PowerLoopArchive
from sessionscope.store.powerloop.source import PowerLoopSource

from .defects import dump
from .helpers import build, fill, only, raw

REF = Ref("", "s")
CLOSE, COMPACT = Close((REF,), anyway=True), Compact(REF, 1, 2, "so far")
TRIGGER = "CREATE TRIGGER evil AFTER INSERT ON messages BEGIN DELETE FROM sessions; END"
READ_ONLY = {
    "a trigger": (TRIGGER, "trigger"),
    "a trigger on a table in capitals": (TRIGGER.replace("messages", "MESSAGES"), "trigger"),
    "a trigger on bookkeeping": ("CREATE TRIGGER t BEFORE UPDATE ON session_state BEGIN SELECT 1; END", "trigger"),
    "a key that deletes": (
        "CREATE TABLE stars (id TEXT REFERENCES sessions(session_id) ON DELETE CASCADE)",
        "foreign-key-action",
    ),
    "a key that changes": (
        "CREATE TABLE stars (id TEXT REFERENCES sessions(session_id) ON UPDATE SET NULL)",
        "foreign-key-action",
    ),
}
WRITABLE = {
    "a trigger elsewhere": "CREATE TABLE other (a); CREATE TRIGGER t AFTER INSERT ON other BEGIN SELECT 1; END",
    "a key without an action": "CREATE TABLE stars (id TEXT REFERENCES sessions(session_id))",
    "an index over JSON": "CREATE INDEX e ON messages(json_extract(meta_json, '$.ord'))",
    "a partial index over JSON": "CREATE INDEX e ON messages(seq) WHERE json_valid(meta_json)",
    "a column that is computed": "ALTER TABLE sessions ADD COLUMN t AS (json_extract(metadata_json, '$.title'))",
}


def made(folder: Path, script: str = "") -> Path:
    path = build(folder / "a.db")
    fill(path, "s", [{"seq": seq, "role": ("user", "assistant")[seq % 2]} for seq in (1, 2, 3, 4)])
    raw(path, script=script)
    return path


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_schema_that_acts_by_itself_is_only_read(tmp_path: Path, name: str) -> None:
    script, code = READ_ONLY[name]
    path = made(tmp_path, script)
    before = path.read_bytes()
    archive = only(path)
    assert archive.actions is None
    assert "is opened read-only" in archive.info.read_only
    reader = archive.reader()
    assert len(reader.timeline(REF, View.ALL, reader.outline(REF)).window(0, 9)) == 4
    assert code in {finding.code for finding in diagnose(str(path))}
    with pytest.raises(NotAnArchive, match="is opened read-only"):
        SessionStore.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", WRITABLE)
def test_a_schema_that_does_not_is_read_written_and_restored(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, WRITABLE[name])
    assert {finding.code for finding in diagnose(str(path))} == set()
    actions = only(path).actions
    assert actions is not None
    undo = actions.apply(actions.plan(COMPACT)).undo
    assert undo is not None
    actions.apply(actions.plan(undo))
    before = dump(path)
    receipt = actions.apply(actions.plan(CLOSE))
    assert isinstance(receipt.undo, Restore)
    actions.apply(actions.plan(receipt.undo))
    assert dump(path) == before


TABLES = {
    "no numbers": "CREATE TABLE notes (session_id, k, v, PRIMARY KEY (session_id, k)) WITHOUT ROWID;"
    "INSERT INTO notes VALUES ('s', 'a', 1), ('s', 'b', x'00ff')",
    "types that count": "CREATE TABLE notes (session_id TEXT, v ANY) STRICT; INSERT INTO notes VALUES ('s', 'a')",
    "a counter": "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id);"
    "INSERT INTO notes (session_id) VALUES ('s')",
    "a column that is computed": "CREATE TABLE notes (session_id, v, w AS (v * 2)); INSERT INTO notes VALUES ('s', 1)",
    "a rule that a row breaks": "CREATE TABLE notes (session_id, v CHECK (v > 5)); PRAGMA ignore_check_constraints=ON;"
    "INSERT INTO notes VALUES ('s', 1)",
    "ids in any case": "CREATE TABLE notes (session_id TEXT COLLATE NOCASE, v); INSERT INTO notes VALUES ('S', 1)",
    "a full-text index": "CREATE VIRTUAL TABLE notes USING fts5(session_id UNINDEXED, body);"
    "INSERT INTO notes VALUES ('s', 'hello')",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_somebody_elses_is_closed_and_comes_back_the_same(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, TABLES[name])
    before = raw(path, "SELECT * FROM notes", "SELECT count(*) FROM messages")
    assert before[0]
    actions = only(path).actions
    assert actions is not None
    receipt = actions.apply(actions.plan(CLOSE))
    assert raw(path, "SELECT * FROM notes") == [[]]
    assert receipt.undo is not None
    assert actions.apply(actions.plan(receipt.undo)).notes == ()
    assert raw(path, "SELECT * FROM notes", "SELECT count(*) FROM messages") == before


@pytest.mark.parametrize("action", [CLOSE, COMPACT], ids=["close", "compact"])
def test_what_sqlite_cannot_write_is_refused_by_the_plan(tmp_path: Path, action: Action) -> None:
    """Deleting asks for less than inserting, so it could be closed, and never restored."""
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as conn:
        conn.create_function("ours", 1, lambda value: 1, deterministic=True)
        conn.execute("ALTER TABLE messages ADD COLUMN checked CHECK (ours(checked))")
        conn.commit()
    before = path.read_bytes()
    actions = only(path).actions
    assert actions is not None
    with pytest.raises(Refused, match="cannot write the table 'messages' here"):
        actions.plan(action)
    assert path.read_bytes() == before


BREAK = "PRAGMA ignore_check_constraints=ON; ALTER TABLE {0} ADD COLUMN v INT CHECK (v > 5); UPDATE {0} SET v = 1"


@pytest.mark.parametrize("table", ["sessions", "messages", "session_state"])
@pytest.mark.parametrize(
    "action", [CLOSE, COMPACT, SetArchived(REF), Settle(REF)], ids=["close", "compact", "archive", "settle"]
)
def test_a_row_that_breaks_a_rule_stops_nothing_that_was_planned(tmp_path: Path, table: str, action: Action) -> None:
    calls = json.dumps([{"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{}"}}])
    call = f"UPDATE messages SET role = 'assistant', tool_calls_json = '{calls}' WHERE seq = 4;"
    path = made(tmp_path, (call if isinstance(action, Settle) else "") + BREAK.format(table))
    before = dump(path)
    actions = only(path).actions
    assert actions is not None
    receipt = actions.apply(actions.plan(action))
    assert receipt.rows
    assert dump(path) != before
    assert receipt.undo is not None
    actions.apply(actions.plan(receipt.undo))
    if not isinstance(action, Compact):
        assert dump(path) == before


@pytest.mark.parametrize("table", ["sessions", "messages", "notes"])
def test_what_could_not_be_restored_is_not_closed(tmp_path: Path, table: str) -> None:
    """A row without a value that its table requires, as only damage or a hand leaves one."""
    path = made(tmp_path, "CREATE TABLE notes (session_id, v); INSERT INTO notes VALUES ('s', NULL)")
    raw(path, *([f"ALTER TABLE {table} ADD COLUMN v"] if table != "notes" else []))
    raw(
        path,
        "PRAGMA writable_schema=ON",
        # A table's own constraints stand behind a column that was added.
        "UPDATE sqlite_master SET sql = replace(replace(sql, ', v)', ', v NOT NULL)'), ', v,', ', v NOT NULL,') "
        f"WHERE name = '{table}'",
    )
    before = path.read_bytes()
    actions = only(path).actions
    assert actions is not None
    with pytest.raises(Refused, match=f"has a row of {table} without a required value"):
        actions.plan(CLOSE)
    assert path.read_bytes() == before


@pytest.mark.parametrize("action", [CLOSE, COMPACT], ids=["close", "compact"])
@pytest.mark.parametrize("late", [False, True], ids=["after the plan", "right before the transaction"])
def test_a_trigger_that_comes_after_the_plan_does_not_run(
    tmp_path: Path, action: Action, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path)
    archive = only(path)
    assert isinstance(archive, PowerLoopArchive)
    actions = archive.actions
    assert actions is not None
    plan = actions.plan(action)
    if not late:
        raw(path, TRIGGER)
    else:
        real, calls = PowerLoopSource.probe, []

        def probe(self: PowerLoopSource, conn: sqlite3.Connection) -> None:
            real(self, conn)
            if not conn.in_transaction and not calls:
                calls.append(raw(path, TRIGGER))

        monkeypatch.setattr(PowerLoopSource, "probe", probe)
    with pytest.raises(Refused, match="'evil'"):
        actions.apply(plan)
    assert raw(path, "SELECT count(*) FROM sessions", "SELECT count(*) FROM messages WHERE state = 'active'") == [
        [(1,)],
        [(4,)],
    ]
    assert not (tmp_path / "a.db.sessionscope").exists()
    if late:
        assert calls, "the trigger was not made in between"
