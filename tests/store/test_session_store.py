"""`SessionStore` does what upstream's does, but for the divergences that are written down."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import sessionscope.store.powerloop as powerloop
from sessionscope.store import SessionStore
from sessionscope.store.powerloop import (
    MAX_SPAWN_DEPTH,
    Descendant,
    MessageRow,
    MessageState,
    SessionKind,
    SessionRow,
    SessionStatus,
    SubagentLifecycle,
)
from sessionscope.store.powerloop.format.schema import TABLES

from .helpers import raw

HEX = set("0123456789abcdef")
NOTE = {"note_content": "so far", "before_tokens": 90, "after_tokens": 9, "round_index": 1}


@pytest.fixture
def store() -> Iterator[SessionStore]:
    with SessionStore.open(":memory:") as expanded:
        yield expanded


def say(store: SessionStore, id_: str, count: int) -> list[int]:
    return [store.append_message(id_, role="user", content=f"word {n}") for n in range(count)]


def dump(store: SessionStore) -> dict[str, list[tuple[Any, ...]]]:
    """Every stored row."""
    return {
        table: [tuple(row) for row in store._conn.execute(f"SELECT * FROM {table} ORDER BY rowid")]
        for table in ("sessions", "messages", "compactions", "usage_rounds", "session_state")
    }


def chain(store: SessionStore, *lifecycles: str, top: str | None = None) -> list[str]:
    """A root, or `top`, and one session below another, ids and lifecycles being the same words."""
    ids = [top or store.create_session()]
    for lifecycle in lifecycles:
        ids.append(store.create_session(parent_session_id=ids[-1], lifecycle=SubagentLifecycle(lifecycle)))
    return ids


def test_a_new_session(store: SessionStore) -> None:
    id_ = store.create_session()
    assert id_.startswith("sess_")
    assert len(id_) == 29
    assert set(id_[5:]) <= HEX
    row = store.get_session(id_)
    assert row is not None
    assert (row.config, row.metadata, row.system_prompt, row.model, row.parent_session_id) == ({}, {}, None, None, None)
    assert (row.status, row.kind, row.lifecycle) == (
        SessionStatus.ACTIVE,
        SessionKind.ROOT,
        SubagentLifecycle.EPHEMERAL,
    )
    assert isinstance(row.status, SessionStatus)
    assert row.created_at == row.updated_at
    state = store.get_state(id_)
    assert state == powerloop.SessionStateRow(id_, 1, 0, 0, None)
    assert store.create_session(session_id="") not in ("", id_)


def test_a_subagent(store: SessionStore) -> None:
    ids = chain(store, "linked", "detached", "ephemeral")
    rows = [store.get_session(id_) for id_ in ids]
    assert [row.spawn_depth for row in rows if row] == [0, 1, 2, 3]
    assert [row.kind for row in rows if row] == [SessionKind.ROOT, *[SessionKind.SUBAGENT] * 3]
    with pytest.raises(ValueError, match=f"spawn depth 4 exceeds max {MAX_SPAWN_DEPTH}"):
        store.create_session(parent_session_id=ids[-1])
    with pytest.raises(ValueError, match="parent session not found: nobody"):
        store.create_session(parent_session_id="nobody")
    with pytest.raises(sqlite3.IntegrityError):
        store.create_session(session_id=ids[0])
    with pytest.raises(AttributeError):
        store.create_session(kind="root")  # type: ignore[arg-type]
    assert len(store.list_sessions()) == 4


def test_a_message_comes_back_as_it_was(store: SessionStore) -> None:
    id_ = store.create_session()
    calls = [{"id": "c1", "type": "function", "function": {"name": "grep", "arguments": '{"für": "名前"}'}}]
    assert store.append_message(id_, role="assistant", content="", tool_calls=calls, round_index=0) == 1
    assert store.append_message(id_, role="tool", content="no hits", tool_call_id="c1", name="grep", meta={"a": 1}) == 2
    first, second = store.load_all_messages(id_)
    assert first == MessageRow(id_, 1, "assistant", None, "", calls, None, 0, MessageState.ACTIVE, {}, first.created_at)
    assert (second.tool_calls, second.tool_call_id, second.name, second.meta) == (None, "c1", "grep", {"a": 1})
    assert store.get_message(id_, 2) == second
    assert store.get_message(id_, 3) is None
    assert store._conn.execute("SELECT tool_calls_json, meta_json FROM messages").fetchone()[:] == (
        '[{"id":"c1","type":"function","function":{"name":"grep","arguments":"{\\"für\\": \\"名前\\"}"}}]',
        "{}",
    )
    assert store.append_message(id_, role="user", tool_calls=[]) == 3
    assert store._conn.execute("SELECT tool_calls_json FROM messages WHERE seq = 3").fetchone()[0] is None
    for bad in ("nobody", ""):
        with pytest.raises(ValueError, match="unknown session"):
            store.append_message(bad, role="user")
        assert store.load_all_messages(bad) == store.load_active_messages(bad) == []


def test_rows_are_what_dataclasses_are(store: SessionStore) -> None:
    id_ = store.create_session(metadata={"title": "t"}, config={"max_rounds": 5})
    say(store, id_, 1)
    message, session = store.load_all_messages(id_)[0], store.get_session(id_)
    assert session is not None
    for row in (message, session):
        assert dataclasses.is_dataclass(row)
        assert [field.name for field in dataclasses.fields(row)] == list(vars(row))
        assert dataclasses.asdict(row) == vars(row)
        assert type(row)(**vars(row)) == row == copy.deepcopy(row) == pickle.loads(pickle.dumps(row))
        assert row != dataclasses.replace(row, session_id="other")
        assert row != vars(row)
        assert all(f"{name}={value!r}" in repr(row) for name, value in vars(row).items())
        with pytest.raises(TypeError, match="unhashable"):
            hash(row)
    message.meta["mine"] = 1
    message.state = MessageState.COMPACTED_OUT
    assert (message.meta, message.state) == ({"mine": 1}, MessageState.COMPACTED_OUT)
    assert (
        SessionRow(
            "s", 1, 2, None, None, {}, SessionStatus.ACTIVE, SessionKind.ROOT, None, None, 0, SubagentLifecycle.LINKED
        ).metadata
        == {}
    )


def test_a_compaction(store: SessionStore) -> None:
    id_ = store.create_session()
    say(store, id_, 5)
    assert store.record_compaction(id_, from_seq=2, to_seq=4, note_meta={"why": "long", "to_seq": 77}, **NOTE) == (1, 6)
    assert [row.seq for row in store.load_active_messages(id_)] == [1, 5, 6]
    note = store.get_message(id_, 6)
    assert note is not None
    assert (note.role, note.name, note.content, note.round_index) == ("system", "compact_note", "so far", 1)
    assert note.meta == {
        "why": "long",
        "to_seq": 4,
        "compacted_at_round": 1,
        "from_seq": 2,
        "original_tokens": 90,
        "summary_tokens": 9,
    }
    (audit,) = store.list_compactions(id_)
    assert audit == powerloop.CompactionRow(id_, 1, 6, 2, 4, 90, 9, 1, audit.created_at)
    # The range takes in the earlier note, and what power-loop's loop passes besides: nothing, and the future.
    assert store.record_compaction(id_, from_seq=5, to_seq=6, **NOTE) == (2, 7)
    assert store.record_compaction(id_, from_seq=7, to_seq=6, **NOTE) == (3, 8)
    assert store.record_compaction(id_, from_seq=9, to_seq=99, **NOTE) == (4, 9)
    assert [row.seq for row in store.load_active_messages(id_)] == [1, 7, 8, 9]
    assert say(store, id_, 1) == [10]


@pytest.mark.parametrize(
    "change",
    [
        {"from_seq": None},
        {"to_seq": "3"},
        {"from_seq": 1.0},
        {"to_seq": 2**70},
        {"note_content": object()},
        {"note_meta": {"x": object()}},
        {"note_meta": {"x": math.nan}},
    ],
)
def test_a_compaction_that_cannot_be_stored_changes_nothing(store: SessionStore, change: dict[str, Any]) -> None:
    id_ = store.create_session()
    say(store, id_, 3)
    before = dump(store)
    with pytest.raises((TypeError, ValueError, OverflowError, sqlite3.Error)):
        store.record_compaction(id_, **{"from_seq": 1, "to_seq": 2, **NOTE, **change})
    assert dump(store) == before
    assert say(store, id_, 1) == [4]


def test_what_only_looks_like_damage_is_given_back(store: SessionStore) -> None:
    """As upstream gives back whatever is valid JSON."""
    id_, calls = store.create_session(), {"damaged": 1}
    store.append_message(id_, role="assistant", tool_calls=calls)  # type: ignore[arg-type]
    assert store.load_all_messages(id_)[0].tool_calls == calls
    store.record_compaction(id_, from_seq=True, to_seq=True, **NOTE)
    assert '"from_seq":true,"to_seq":true' in store._conn.execute("SELECT meta_json FROM messages").fetchall()[1][0]


def test_what_is_done_to_an_unknown_session(store: SessionStore) -> None:
    before = dump(store)
    for act in (
        lambda: store.archive_session("nobody"),
        lambda: store.reopen_session("nobody"),
        lambda: store.update_session_prompt("nobody", "p"),
        lambda: store.record_compaction("nobody", from_seq=1, to_seq=1, **NOTE),
        lambda: store.append_messages("nobody", [{"role": "user"}]),
    ):
        with pytest.raises(ValueError, match="unknown session: nobody"):
            act()
    store.set_round_index("nobody", 3)
    store.set_pending("nobody", {"tool_call_ids": ["c"]})
    store.record_usage("nobody", round_index=0, prompt_tokens=1, completion_tokens=1, total_tokens=2)
    assert store.close_session("nobody") == 0
    assert store.get_session("nobody") is store.get_state("nobody") is None
    assert dump(store) == before


def test_state_and_usage(store: SessionStore) -> None:
    id_ = store.create_session()
    store.set_round_index(id_, 4)
    store.set_pending(id_, {"tool_call_ids": ["a"], "x": {"名": 1}})
    assert store.get_state(id_) == powerloop.SessionStateRow(id_, 1, 4, 0, {"tool_call_ids": ["a"], "x": {"名": 1}})
    store.set_pending(id_, {})
    state = store.get_state(id_)
    assert state is not None
    assert state.pending is None
    for tokens in (10, 20):
        store.record_usage(id_, round_index=0, prompt_tokens=tokens, completion_tokens=1, total_tokens=tokens + 1)
    store.record_usage(id_, round_index=1, prompt_tokens=None, completion_tokens=None, total_tokens=None, model="m")
    assert [(row.round_index, row.prompt_tokens, row.model) for row in store.usage(id_)] == [
        (0, 20, None),
        (1, None, "m"),
    ]


def test_archiving_is_a_label_that_comes_off(store: SessionStore) -> None:
    id_ = store.create_session()
    for act, status in ((store.archive_session, SessionStatus.ARCHIVED), (store.reopen_session, SessionStatus.ACTIVE)):
        act(id_)
        row = store.get_session(id_)
        assert row is not None
        assert row.status is status
    store.update_session_prompt(id_, "be brief")
    row = store.get_session(id_)
    assert row is not None
    assert row.system_prompt == "be brief"


def test_closing_takes_all_but_detached_subagents(store: SessionStore) -> None:
    root, linked, detached, below = chain(store, "linked", "detached", "ephemeral")
    (_, ephemeral) = chain(store, "ephemeral", top=root)
    other = store.create_session()
    for id_ in (root, linked, detached, below, ephemeral, other):
        say(store, id_, 2)
        store.record_usage(id_, round_index=0, prompt_tokens=1, completion_tokens=1, total_tokens=2)
    kept = store.get_session(detached)
    assert kept is not None
    assert store.close_session(root) == 3
    assert {row.session_id for row in store.list_sessions()} == {detached, below, other}
    # It lost its parent, and nothing else.
    assert store.get_session(detached) == dataclasses.replace(kept, parent_session_id=None)
    for table, rows in dump(store).items():
        assert {row[0] for row in rows} == (set() if table == "compactions" else {detached, below, other})


def test_closing_without_cascade_leaves_no_dangling_parent(store: SessionStore) -> None:
    root, child, grandchild = chain(store, "linked", "linked")
    assert store.close_session(root, cascade=False) == 1
    rows = {row.session_id: row.parent_session_id for row in store.list_sessions()}
    assert rows == {child: None, grandchild: child}
    store.create_session(session_id=root)
    assert store.list_children(root) == []


def test_closing_knows_cycles_any_depth_and_unknown_lifecycles(store: SessionStore) -> None:
    conn = store._conn
    for n in range(1_500):
        id_ = store.create_session(session_id=f"s{n}")
        conn.execute(
            "UPDATE sessions SET parent_session_id = ?, lifecycle = 'Detached' WHERE session_id = ?",
            (f"s{n - 1}" if n else None, id_),
        )
    ring = [store.create_session(session_id=f"r{n}") for n in range(3)]
    for n in range(3):
        conn.execute("UPDATE sessions SET parent_session_id = ? WHERE session_id = ?", (ring[n - 1], ring[n]))
    store.create_session(session_id="self")
    conn.execute("UPDATE sessions SET parent_session_id = 'self' WHERE session_id = 'self'")
    assert store.list_descendants("s0") == [Descendant(f"s{n}", n) for n in range(1, 1_500)]
    assert store.list_descendants("r0") == [Descendant("r1", 1), Descendant("r2", 2)]
    assert store.list_descendants("self") == []
    assert (store.close_session("s0"), store.close_session("r1"), store.close_session("self")) == (1_500, 3, 1)
    assert not any(dump(store).values())


def test_strays_of_a_session_that_is_gone_go_when_it_is_closed(store: SessionStore) -> None:
    id_ = store.create_session()
    say(store, id_, 2)
    store._conn.execute("DELETE FROM sessions")
    assert store.close_session(id_) == 0
    assert not any(dump(store).values())


def test_a_connection_of_the_callers_own(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    raw(path, script=TABLES)
    with closing(sqlite3.connect(path)) as conn:
        store = SessionStore(conn, str(path))
        assert store._conn is conn
        assert store.path == str(path)
        id_ = store.create_session()
        say(store, id_, 2)
        assert not conn.in_transaction
        assert [row.content for row in store.messages(id_)] == ["word 0", "word 1"]
        assert store.preview(id_) == "word 0"


@pytest.mark.parametrize("how", [{}, {"isolation_level": "DEFERRED"}, {"autocommit": False}])
def test_a_transaction_that_python_began_is_not_the_callers(how: dict[str, Any], tmp_path: Path) -> None:
    """Nobody would commit it; upstream does at the next method."""
    if "autocommit" in how and sys.version_info < (3, 12):
        pytest.skip("since Python 3.12")
    path = tmp_path / "own.db"
    raw(path, script=TABLES)
    with closing(sqlite3.connect(path, **how)) as conn:
        store = SessionStore(conn, path)
        id_ = store.create_session()
        conn.execute("UPDATE sessions SET model = 'm'")
        store.append_message(id_, role="user")
    assert raw(path, "SELECT model FROM sessions", "SELECT seq FROM messages") == [[("m",)], [(1,)]]


def test_a_connection_that_is_put_in_place_of_it(store: SessionStore) -> None:
    """Reads and writes go where `_conn` says, as they do upstream."""
    with SessionStore.open(":memory:") as other:
        id_ = other.create_session()
        first, store._conn = store._conn, other._conn
        assert say(store, id_, 2) == [1, 2]
        assert [row.seq for row in other.messages(id_)] == [row.seq for row in store.messages(id_)] == [1, 2]
        store._conn = first
        assert store.messages(id_) == []


def test_an_id_that_is_stored_as_text(store: SessionStore) -> None:
    """SQLite takes a number for the text that it is stored as, wherever an id is given."""
    number: Any = 5
    store.create_session(session_id="5")
    store.create_session(parent_session_id=number)
    assert store.append_message(number, role="user") == 1
    assert store.close_session(number) == 2
    assert not any(dump(store).values())


def test_closed_is_closed() -> None:
    store = SessionStore.open(":memory:")
    store.close()
    store.close()
    for act in (lambda: store.get_session("x"), lambda: store.create_session(), lambda: store.counts("x")):
        with pytest.raises(sqlite3.ProgrammingError):
            act()


def test_every_name_is_where_an_agent_looks_for_it() -> None:
    import sessionscope.store.powerloop.dropin.session_store as module

    assert set(module.__all__) == set(powerloop.__all__)
    for name in module.__all__:
        assert getattr(powerloop, name) is getattr(module, name)
    with pytest.raises(AttributeError):
        powerloop.nothing_of_the_kind  # noqa: B018
    assert (powerloop.DEFAULT_DB_PATH, MAX_SPAWN_DEPTH) == ("./power_loop_sessions.db", 3)
    assert str(SessionKind.ROOT) == "SessionKind.ROOT"
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.executescript(powerloop.SCHEMA_SQL)
        assert len(conn.execute("SELECT * FROM sqlite_master WHERE sql IS NOT NULL").fetchall()) == 7
