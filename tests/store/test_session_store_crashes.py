"""kill -9 at every statement, and at any moment: what was interrupted is all there or has not happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest

from sessionscope.store.powerloop import SessionStore, SubagentLifecycle
from sessionscope.store.powerloop.format.schema import STATEMENTS

from .helpers import raw
from .session_worker import OPERATIONS, Worker, dump, flaws, working

KILLS, MOST, STEPS, STRIDE = 20, 60, 20_000, 5
NOTHING = ["BEGIN TRANSACTION;", "COMMIT;"]
LAST_SEQS = {"top": 7, "linked": 4, "deep": 4, "detached": 4, "below": 4, "bystander": 4}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with working() as worker:
        yield worker


def fill(store: SessionStore) -> None:
    """A tree with a branch of each kind and a session beside it, all with rows in every table."""
    linked, detached = SubagentLifecycle.LINKED, SubagentLifecycle.DETACHED
    for id_, parent, lifecycle in (
        ("top", None, linked),
        ("linked", "top", linked),
        ("deep", "linked", linked),
        ("detached", "top", detached),
        ("below", "detached", linked),
        ("bystander", None, linked),
    ):
        store.create_session(session_id=id_, parent_session_id=parent, lifecycle=lifecycle, metadata={"title": id_})
        store.append_messages(id_, [{"role": "user", "content": f"{id_} {n}"} for n in range(3)])
        store.record_compaction(
            id_, from_seq=1, to_seq=1, note_content="so far", before_tokens=9, after_tokens=1, round_index=0
        )
        store.record_usage(id_, round_index=0, prompt_tokens=1, completion_tokens=1, total_tokens=2)
        store.set_pending(id_, {"tool_call_ids": ["call-1"]})
        # The first sessions stand in the file itself, all that follows in its -wal.
        if id_ == "deep":
            store._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.append_messages("top", [{"role": "user", "content": "x" * 9_000}] * 3)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a process that was killed leaves it: half of it in the -wal."""
    path = tmp_path_factory.mktemp("prepared") / "prepared.db"
    with SessionStore.open(path.with_name("source.db")) as store:
        fill(store)
        for suffix in ("", "-wal"):
            shutil.copyfile(path.with_name(f"source.db{suffix}"), f"{path}{suffix}")
    return path


def copied(prepared: Path, path: Path) -> Path:
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{prepared}{suffix}", f"{path}{suffix}")
    return path


def state(path: Path) -> list[str]:
    with SessionStore.open(path) as store:
        return dump(store)


def goes_on(store: SessionStore) -> None:
    """Every session takes a message at its next seq, and nothing is wrong with any."""
    assert flaws(store) == {}
    for row in store.list_sessions():
        seqs = [message.seq for message in store.load_all_messages(row.session_id)]
        assert store.append_message(row.session_id, role="user") == len(seqs) + 1
    assert store.create_session(session_id="fresh") == "fresh"
    assert store.append_message("fresh", role="user") == 1
    assert flaws(store) == {}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_any_statement_leaves_all_of_it_or_nothing(
    operation: str, worker: Worker, prepared: Path, tmp_path: Path
) -> None:
    before = state(copied(prepared, tmp_path / "before.db"))
    unharmed = copied(prepared, tmp_path / "after.db")
    assert worker("perform", unharmed, operation, 0)
    after = state(unharmed)
    assert before != after
    for at in range(1, MOST):
        path = copied(prepared, tmp_path / f"{at}.db")
        finished = worker("perform", path, operation, at)
        with SessionStore.open(path) as store:
            assert dump(store) in ([after] if finished else [before, after]), f"killed at statement {at}"
            goes_on(store)
        if finished:
            break
    assert finished
    assert at > 4, "no kill came after the first write"


def give_up(store: SessionStore, at: int) -> None:
    """Makes SQLite give up one statement at its `at`th step from now, as for want of memory or room.

    It is none that ends a transaction: of those SQLite says that it gave them up when they are done.
    """
    ending, steps = [False], count(1)

    def trace(statement: str) -> None:
        ending[0] = statement.startswith(("COMMIT", "RELEASE", "ROLLBACK"))

    def step() -> bool:
        nonlocal at
        if ending[0] or next(steps) < at:
            return False
        at = STEPS
        return True

    store._conn.set_trace_callback(trace)
    store._conn.set_progress_handler(step, 1)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_error_at_any_step_of_a_statement_leaves_nothing(operation: str) -> None:
    with SessionStore.open(":memory:") as store:
        fill(store)
        before = dump(store)
        for at in range(1, STEPS, STRIDE):
            give_up(store, at)
            try:
                OPERATIONS[operation](store)
            except sqlite3.OperationalError:
                failed = True
            else:
                failed = False
            store._conn.set_progress_handler(None, 0)
            assert (dump(store) == before) is failed, f"given up at step {at}"
            assert not store._conn.in_transaction
            if not failed:
                break
        assert not failed
        assert at > 10 * STRIDE
        goes_on(store)


def test_the_prepared_database_has_what_the_operations_need(prepared: Path, tmp_path: Path) -> None:
    with SessionStore.open(copied(prepared, tmp_path / "a.db")) as store:
        assert flaws(store) == {}
        assert {row.session_id: store.counts(row.session_id).messages for row in store.list_sessions()} == LAST_SEQS
        assert os.path.getsize(f"{prepared}-wal") > 0


@pytest.mark.parametrize("kept", [(), ("a.db",), ("a.db", "a.db-wal")], ids=["all", "without -wal", "without -shm"])
def test_a_kill_at_any_statement_of_opening_a_new_file(kept: tuple[str, ...], worker: Worker, tmp_path: Path) -> None:
    """Whatever becomes of the files beside it, as where the folder is copied or swept after the crash."""
    complete = state(tmp_path / "whole.db")
    for at in range(1, MOST):
        path = tmp_path / f"{at}" / "a.db"
        finished = worker("perform", path, "open", at)
        for file in path.parent.iterdir() if kept else ():
            if file.name not in kept:
                file.unlink()
        if not kept and path.exists():
            with closing(sqlite3.connect(path)) as conn:
                assert list(conn.iterdump()) in (NOTHING, complete), f"killed at statement {at}"
        with SessionStore.open(path) as store:
            assert dump(store) == complete, f"killed at statement {at}"
            assert store._conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            goes_on(store)
        if finished:
            break
    assert finished
    assert at > 10


def test_each_opening_of_a_new_file_may_be_killed_one_statement_later(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for at in range(1, MOST):
        if worker("perform", path, "open", at):
            break
    with SessionStore.open(path) as store:
        goes_on(store)


@pytest.mark.parametrize("done", range(len(STATEMENTS) + 1))
def test_a_file_that_upstream_was_making_when_it_was_killed(done: int, tmp_path: Path) -> None:
    """There each table is a transaction of its own."""
    raw(tmp_path / "a.db", *STATEMENTS[:done])
    with SessionStore.open(tmp_path / "a.db") as store:
        assert dump(store) == state(tmp_path / "whole.db")
        goes_on(store)


class Stream:
    """What a process said before it was killed, after it had said so much."""

    def __init__(self, worker: Worker, name: str, path: Path, chance: random.Random) -> None:
        worker.send("stream", name, path, chance.randrange(2**32))
        (pid,) = worker.answer()
        self.said: list[list[object]] = []
        try:
            for _ in range(chance.randint(1, 40)):
                self.said.append(worker.answer())
                assert self.said[-1] != "dead", "it came to an end by itself"
            time.sleep(chance.random() / 500)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while (line := worker.answer()) != "dead":
            self.said.append(line)


def test_a_busy_process_killed_at_any_moment(worker: Worker, tmp_path: Path) -> None:
    """The same file again and again; what was acknowledged is there, unless its session was closed."""
    path, chance = tmp_path / "a.db", random.Random(1)
    with SessionStore.open(path) as store:
        store.create_session(session_id="top")
    acknowledged: dict[str, list[tuple[int, str]]] = {}
    closing: set[str] = set()
    for _ in range(KILLS):
        for what, *rest in Stream(worker, "busy", path, chance).said:
            if what == "appended":
                acknowledged.setdefault(rest[0], []).extend((seq, text) for seq, text in rest[1])
            elif what == "closing":
                closing.update(rest[0])
        with SessionStore.open(path) as store:
            assert flaws(store) == {}
            for id_, rows in acknowledged.items():
                found = {(row.seq, row.content) for row in store.load_all_messages(id_)}
                assert found >= set(rows) or (not found and id_ in closing and store.get_session(id_) is None)
            seq = store.append_message("top", role="user", content="after the kill")
            assert seq == store.counts("top").messages
            acknowledged.setdefault("top", []).append((seq, "after the kill"))
    assert len(acknowledged["top"]) > KILLS
    assert closing


def test_opening_new_files_killed_at_any_moment(worker: Worker, tmp_path: Path) -> None:
    path, chance = tmp_path / "a.db", random.Random(2)
    for turn in range(KILLS // 2):
        said = Stream(worker, "opening", path.with_name(f"{turn}.db"), chance).said
        for expanded in tmp_path.glob(f"{turn}.db.*"):
            if expanded.name.endswith(("-wal", "-shm", "-journal")):
                continue
            with SessionStore.open(expanded) as store:
                goes_on(store)
        assert said


def test_a_killed_writer_leaves_a_lock_to_nobody(worker: Worker, prepared: Path, tmp_path: Path) -> None:
    """The next writer does not wait: its process died within a transaction while others had the file open."""
    path = copied(prepared, tmp_path / "a.db")
    with SessionStore.open(path, timeout=0) as store:
        for at in range(1, 8):
            assert not worker("perform", path, "record_compaction", at)
            assert store.append_message("top", role="user") == LAST_SEQS["top"] + at
            assert store.list_compactions("top")[-1].compact_seq == 1
        assert flaws(store) == {}
