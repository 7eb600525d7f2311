"""Many processes on one file: nothing is lost, nobody fails, and who waits in vain for a lock is told what for."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sessionscope.store.powerloop import SessionStore

from .session_worker import Worker, dump, flaws, working
from .writer import writing

COUNTS = (2, 4, 8)
GONE = ("ValueError: unknown session: ", "ValueError: parent session not found: ")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with working() as worker:
        yield worker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with two sessions, open nowhere."""
    path = tmp_path / "a.db"
    with SessionStore.open(path) as store:
        for id_ in ("top", "other"):
            store.create_session(session_id=id_)
    return path


# -- all at once


@pytest.mark.parametrize("processes", COUNTS)
def test_all_append_to_the_same_sessions(processes: int, worker: Worker, path: Path) -> None:
    times = 640 // processes
    said = worker("together", path, [["append", ["top", "other"], times]] * processes)
    assert [answer["errors"] for answer in said] == [[]] * processes
    with SessionStore.open(path) as store:
        for id_ in ("top", "other"):
            written = {seq: text for answer in said for where, seq, text in answer["done"] if where == id_}
            assert sorted(written) == list(range(1, processes * times // 2 + 1))
            assert {row.seq: row.content for row in store.load_all_messages(id_)} == written
        assert flaws(store) == {}


@pytest.mark.parametrize("processes", COUNTS)
def test_all_append_fold_spawn_and_close(processes: int, worker: Worker, path: Path) -> None:
    """Only a session that another process has closed may be missed, and none is left half."""
    said = worker("together", path, [["mix", 100]] * processes)
    assert [error for answer in said for error in answer["errors"] if not error.startswith(GONE)] == []
    assert all(answer["done"] for answer in said)
    with SessionStore.open(path) as store:
        assert flaws(store) == {}
        assert store.get_session("top") is not None


def test_all_come_and_go(worker: Worker, path: Path) -> None:
    """Who leaves last takes the -wal along, while others arrive."""
    said = worker("together", path, [["come and go", 20]] * 6)
    assert [answer["errors"] for answer in said] == [[]] * 6
    assert sorted(seq for answer in said for seq in answer["done"]) == list(range(1, 121))


@pytest.mark.parametrize("attempt", range(5))
def test_eight_open_the_same_new_path(attempt: int, worker: Worker, tmp_path: Path) -> None:
    new = tmp_path / "folder" / "new.db"
    said = worker("together", new, [["open"]] * 8)
    assert [answer["errors"] for answer in said] == [[]] * 8
    with SessionStore.open(new) as store:
        assert {row.session_id for row in store.list_sessions()} == {id_ for answer in said for id_ in answer["done"]}
        assert len(store.list_sessions()) == 8
        assert flaws(store) == {}


# -- a lock that another process holds

WRITES: dict[str, Callable[[SessionStore], object]] = {
    "append_message": lambda store: store.append_message("top", role="user"),
    "append_messages": lambda store: store.append_messages("top", [{"role": "user"}]),
    "record_compaction": lambda store: store.record_compaction(
        "top", from_seq=1, to_seq=1, note_content="", before_tokens=1, after_tokens=1, round_index=0
    ),
    "create_session": lambda store: store.create_session(session_id="top-2", parent_session_id="top"),
    "archive_session": lambda store: store.archive_session("top"),
    "set_pending": lambda store: store.set_pending("top", {"a": 1}),
    "record_usage": lambda store: store.record_usage(
        "top", round_index=0, prompt_tokens=1, completion_tokens=1, total_tokens=1
    ),
    "close_session": lambda store: store.close_session("top"),
}


def test_a_lock_is_waited_for_and_then_named(path: Path) -> None:
    with SessionStore.open(path, timeout=0.3) as store, writing(path, "sql BEGIN IMMEDIATE") as writer:
        before = dump(store)
        for name, write in WRITES.items():
            began = time.monotonic()
            with pytest.raises(sqlite3.OperationalError, match=r"^database is locked") as refusal:
                write(store)
            if name == "append_message":
                assert 0.25 < time.monotonic() - began < 10
                store._conn.execute("PRAGMA busy_timeout=20")
            assert refusal.value.sqlite_errorcode == sqlite3.SQLITE_BUSY
            assert f": {name} of top" in str(refusal.value)
            assert str(path) in str(refusal.value)
            assert not store._conn.in_transaction
            assert dump(store) == before
        writer.sql("COMMIT")
        for write in WRITES.values():
            write(store)
        assert flaws(store) == {}


def test_a_block_waits_at_its_beginning_and_never_within(path: Path) -> None:
    with SessionStore.open(path, timeout=0.3) as store, SessionStore.open(path, timeout=0) as other:
        with other.transaction():
            with (
                pytest.raises(sqlite3.OperationalError, match="database is locked: transaction waited"),
                store.transaction(),
            ):
                pytest.fail("the block was entered")
            assert store.list_sessions(), "reading waits for nobody"
        with store.transaction():
            with pytest.raises(sqlite3.OperationalError, match="database is locked: append_message of top"):
                other.append_message("top", role="user")
            assert store.append_message("top", role="user") == 1
        assert other.append_message("top", role="user") == 2


def test_a_write_succeeds_once_the_other_process_lets_go(path: Path) -> None:
    with SessionStore.open(path, timeout=60) as store, writing(path, "sql BEGIN IMMEDIATE") as writer:
        writer.sql("INSERT INTO messages (session_id, seq, role, created_at) VALUES ('top', 1, 'user', 1)")
        letting_go = threading.Timer(0.3, writer.sql, ["COMMIT"])
        letting_go.start()
        began = time.monotonic()
        assert store.append_message("top", role="user") == 2
        assert time.monotonic() - began > 0.2
        letting_go.join()


def test_the_lock_of_a_killed_process_is_free_at_once(path: Path) -> None:
    with SessionStore.open(path, timeout=0) as store, writing(path, "sql BEGIN IMMEDIATE") as writer:
        writer.sql("INSERT INTO messages (session_id, seq, role, created_at) VALUES ('top', 1, 'user', 1)")
        writer.kill()
        assert store.append_message("top", role="user") == 1


def test_opening_waits_for_a_lock_and_then_names_it(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    with writing(new, "sql BEGIN EXCLUSIVE") as writer:
        began = time.monotonic()
        with pytest.raises(sqlite3.OperationalError, match=r"^database is locked: opening waited") as refusal:
            SessionStore.open(new, timeout=0.3)
        assert 0.25 < time.monotonic() - began < 10
        assert str(new) in str(refusal.value)
        writer.sql("COMMIT")
        SessionStore.open(new, timeout=0.3).close()
    with writing(path, "sql BEGIN IMMEDIATE"):
        SessionStore.open(path, timeout=0).close()


# -- a writer whose messages and counters are two transactions, as upstream's are


def test_a_careless_process_breaks_no_append(worker: Worker, path: Path) -> None:
    jobs = [["append", ["top"], 100], ["append carelessly", 100]] * 2
    ours, theirs = {}, 0
    for (name, *_), answer in zip(jobs, worker("together", path, jobs), strict=True):
        if name == "append":
            assert answer["errors"] == []
            ours |= {seq: text for _, seq, text in answer["done"]}
        else:
            theirs += len(answer["done"])
            assert all("IntegrityError: UNIQUE" in error for error in answer["errors"])
    assert len(ours) == 200
    with SessionStore.open(path) as store:
        rows = {row.seq: row.content for row in store.load_all_messages("top")}
        assert ours.items() <= rows.items()
        assert sorted(rows) == list(range(1, 200 + theirs + 1))
        assert store.append_message("top", role="user") == len(rows) + 1


def test_between_the_two_halves_of_a_careless_append(path: Path) -> None:
    """Whoever comes between takes the next seq, and so does whoever comes after the counter was set back."""
    insert = "INSERT INTO messages (session_id, seq, role, created_at) VALUES ('top', ?, 'user', 1)"
    compaction = {"note_content": "", "before_tokens": 1, "after_tokens": 1, "round_index": 0}
    with SessionStore.open(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as careless:
        careless.execute(insert, (1,))
        assert store.append_messages("top", [{"role": "user"}] * 2) == [2, 3]
        careless.execute("UPDATE session_state SET next_seq = 2 WHERE session_id = 'top'")
        assert store.record_compaction("top", from_seq=1, to_seq=2, **compaction) == (1, 4)
        careless.execute(
            "INSERT INTO compactions (session_id, compact_seq, note_seq, from_seq, to_seq, created_at) "
            "VALUES ('top', 2, 4, 1, 1, 1)"
        )
        careless.execute(insert, (5,))
        assert store.record_compaction("top", from_seq=3, to_seq=3, **compaction) == (3, 6)
        careless.execute("UPDATE session_state SET next_seq = 6, last_compact_seq = 2 WHERE session_id = 'top'")
        assert store.append_message("top", role="user") == 7
        assert [row.seq for row in store.load_all_messages("top")] == list(range(1, 8))
        assert store.append_message("other", role="user") == 1
