"""One damaged value is one damaged value: its neighbours read as before, and the session can be written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store.powerloop import MessageState, SessionStatus, SessionStore

from .session_trees import NOTE, session_tree
from .session_worker import flaws


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "a.db"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    with session_tree(path) as store:
        yield store


BROKEN = {
    """'{"a": '""": '{"a": ',
    "'[1, 2'": "[1, 2",
    "'so'": "so",
    "x'FF'": "\\xff",
    "' '": " ",
    "CAST(x'7B2261223A2022FF227D' AS TEXT)": '{"a": "\\xff"}',
    "x'7B2261223A2022FF227D'": '{"a": "\\xff"}',
    "replace(hex(zeroblob(5000)), '00', '[')": "[" * 5_000,
}
JSON = {
    "config_json": "sessions",
    "metadata_json": "sessions",
    "tool_calls_json": "messages",
    "meta_json": "messages",
    "pending_json": "session_state",
}
ENUMS = {"status": "sessions", "kind": "sessions", "lifecycle": "sessions", "state": "messages"}
TEXTS = {
    "system_prompt": "sessions",
    "model": "sessions",
    "spawn_tool_call_id": "sessions",
    "role": "messages",
    "name": "messages",
    "content": "messages",
    "tool_call_id": "messages",
}
PLAIN = {
    "CAST(x'61FF62' AS TEXT)": "a\\xffb",
    "CAST(x'61E282' AS TEXT)": "a\\xe2\\x82",
    "x'61FF'": b"a\xff",
    "'weird'": "weird",
}


def look(store: SessionStore) -> dict[tuple[object, ...], Any]:
    """Every row by its table and key."""
    found: dict[tuple[object, ...], Any] = {("sessions", row.session_id): row for row in store.list_children("top")}
    assert [row.session_id for row in store.list_sessions()] == ["third", "second", "first", "top"]
    for id_ in ("first", "second", "third"):
        found |= {("messages", id_, row.seq): row for row in store.load_all_messages(id_)}
        found |= {("compactions", id_, row.compact_seq): row for row in store.list_compactions(id_)}
        found["session_state", id_] = store.get_state(id_)
        assert found["messages", id_, 2] == store.get_message(id_, 2)
        assert found["sessions", id_] == store.get_session(id_)
        assert store.preview(id_)
    return found


def damage(store: SessionStore, table: str, column: str, value: str) -> Any:
    """The row that alone is another since the second session, or its second message, has a value as in SQL."""
    before = look(store)
    key = (table, "second", 2) if table == "messages" else (table, "second")
    where = "session_id = 'second'" + " AND seq = 2" * (table == "messages")
    store._conn.execute(f"UPDATE {table} SET {column} = {value} WHERE {where}")
    after = look(store)
    assert after.keys() == before.keys()
    assert {at for at, row in before.items() if row == after[at]} == before.keys() - {key}
    return after[key]


def goes_on(store: SessionStore) -> None:
    """A session can be written, whatever stands in it."""
    assert store.append_message("second", role="user") == 5
    assert store.record_compaction("second", from_seq=1, to_seq=5, **NOTE) == (2, 6)
    assert store.append_messages("second", [{"role": "user"}] * 2) == [7, 8]
    store.create_session(session_id="below", parent_session_id="second")
    store.archive_session("second")
    assert store.close_session("second") == 2
    assert [row.session_id for row in store.list_children("top")] == ["first", "third"]


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("column", JSON)
def test_json_that_does_not_parse(column: str, value: str, store: SessionStore) -> None:
    row = damage(store, JSON[column], column, value)
    expected: Any = {"damaged": BROKEN[value]}
    assert getattr(row, column.removesuffix("_json")) == ([expected] if column == "tool_calls_json" else expected)
    goes_on(store)


@pytest.mark.parametrize("value", PLAIN)
@pytest.mark.parametrize("column", ENUMS | TEXTS)
def test_text_that_is_none_of_ours(column: str, value: str, store: SessionStore) -> None:
    said = getattr(damage(store, (ENUMS | TEXTS)[column], column, value), column)
    assert said == PLAIN[value]
    assert not isinstance(said, (SessionStatus, MessageState))
    assert store._conn.text_factory is str, "how text is read is as before"
    active = [row.seq for row in store.load_active_messages("second")]
    assert active == ([3, 4] if column == "state" else [2, 3, 4])
    goes_on(store)


@pytest.mark.parametrize("value", ["1", "0", "-9", "'soon'", "2.5", "9e999", "x'FF'", "CAST(x'FF' AS TEXT)"])
@pytest.mark.parametrize("column", ["next_seq", "last_compact_seq"])
def test_counters_that_are_behind_or_none(column: str, value: str, store: SessionStore) -> None:
    store._conn.execute(f"UPDATE session_state SET {column} = {value} WHERE session_id = 'second'")
    look(store)
    goes_on(store)
    assert store.append_message("first", role="user") == 5
    assert flaws(store) == {}


def test_counters_that_are_ahead_stay_ahead(store: SessionStore) -> None:
    """Seqs of rows that were deleted are not given again."""
    store._conn.execute("UPDATE session_state SET next_seq = 40, last_compact_seq = 9 WHERE session_id = 'second'")
    store._conn.execute("DELETE FROM messages WHERE session_id = 'third'")
    store._conn.execute("DELETE FROM compactions WHERE session_id = 'third'")
    assert store.append_message("second", role="user") == 40
    assert store.record_compaction("second", from_seq=1, to_seq=4, **NOTE) == (10, 41)
    assert store.append_message("third", role="user") == 5
    assert store.record_compaction("third", from_seq=1, to_seq=4, **NOTE) == (2, 6)


def test_a_session_without_bookkeeping_hides_no_other(store: SessionStore) -> None:
    store._conn.execute("DELETE FROM session_state WHERE session_id = 'second'")
    writes = (
        lambda: store.append_messages("second", [{"role": "user"}]),
        lambda: store.record_compaction("second", from_seq=1, to_seq=2, **NOTE),
    )
    for write in writes:
        with pytest.raises(ValueError, match="unknown session: second"):
            write()
    assert store.get_state("second") is None
    assert len(store.load_all_messages("second")) == 4
    assert store.append_message("third", role="user") == 5
    assert store.close_session("second") == 1
    assert flaws(store) == {}


@pytest.mark.parametrize("seq", ["'x'", "x'00'", "2.5", "1e300"])
def test_a_seq_that_is_no_whole_number(seq: str, store: SessionStore) -> None:
    store._conn.execute(f"UPDATE messages SET seq = {seq} WHERE session_id = 'second' AND seq = 4")
    store._conn.execute("UPDATE session_state SET next_seq = 1 WHERE session_id = 'second'")
    assert [store.append_message("second", role="user") for _ in range(2)] == [4, 5]


def test_a_depth_that_is_no_number(store: SessionStore) -> None:
    store._conn.execute("UPDATE sessions SET spawn_depth = CAST(x'61FF' AS TEXT) WHERE session_id = 'first'")
    below = store.get_session(store.create_session(parent_session_id="first"))
    assert below is not None
    assert below.spawn_depth == 1


def test_a_session_without_an_id(store: SessionStore) -> None:
    """It keeps no detached session tied to a parent that is gone."""
    store._conn.execute("UPDATE sessions SET lifecycle = 'detached' WHERE session_id = 'third'")
    store._conn.execute(
        "INSERT INTO sessions (session_id, created_at, updated_at, parent_session_id) VALUES (NULL, 1, 1, 'top')"
    )
    assert store.close_session("top") == 3
    third = store.get_session("third")
    assert third is not None
    assert third.parent_session_id is None
