"""Threads that share one store: nothing is lost, a block belongs to one thread, and closing ends all of them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store.powerloop import SessionStore

from .session_worker import flaws

THREADS, PATIENCE_S, MOMENT_S = 8, 30, 0.1


def started(work: Callable[..., Any], *arguments: object) -> Future[Any]:
    """What a thread of its own will have done; nobody waits for one that never comes to an end."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SessionStore]:
    store = SessionStore.open(tmp_path / "a.db")
    for id_ in ("top", "other"):
        store.create_session(session_id=id_)
    yield store
    started(store.close).result(PATIENCE_S)


def all_of(futures: list[Future[list[int]]]) -> list[int]:
    return [item for future in futures for item in future.result(PATIENCE_S)]


def test_appends_of_all_threads_are_all_there(store: SessionStore) -> None:
    together = threading.Barrier(THREADS)

    def work(number: int) -> list[int]:
        together.wait(PATIENCE_S)
        return [store.append_message("top", role="user", content=f"{number} {turn}") for turn in range(50)]

    futures = [started(work, number) for number in range(THREADS)]
    assert sorted(all_of(futures)) == list(range(1, 50 * THREADS + 1))
    written = {
        seq: f"{number} {turn}" for number, future in enumerate(futures) for turn, seq in enumerate(future.result())
    }
    assert {row.seq: row.content for row in store.load_all_messages("top")} == written
    assert flaws(store) == {}


def test_all_kinds_of_writes_of_all_threads_are_whole(store: SessionStore) -> None:
    together = threading.Barrier(THREADS)

    def work(number: int) -> list[int]:
        together.wait(PATIENCE_S)
        seqs = []
        for turn in range(15):
            id_ = store.create_session(parent_session_id="top")
            seqs += store.append_messages("top", [{"role": "user"}] * 3)
            seqs.append(
                store.record_compaction(
                    "top",
                    from_seq=seqs[-3],
                    to_seq=seqs[-1],
                    note_content="so far",
                    before_tokens=1,
                    after_tokens=1,
                    round_index=turn,
                )[1]
            )
            with suppress(ZeroDivisionError), store.transaction():
                seqs.append(store.append_message("top", role="user"))
                if turn % 2:
                    raise ZeroDivisionError(seqs.pop())
            assert store.close_session(id_) == 1
        return seqs

    futures = [started(work, number) for number in range(THREADS)]
    assert sorted(all_of(futures)) == list(range(1, store.counts("top").messages + 1))
    assert flaws(store) == {}
    assert len(store.list_compactions("top")) == 15 * THREADS
    assert len(store.list_sessions()) == 2


@pytest.mark.parametrize("fails", [False, True], ids=["kept", "undone"])
@pytest.mark.parametrize("call", ["append", "block", "read"])
def test_a_block_is_of_one_thread(call: str, fails: bool, store: SessionStore) -> None:
    """What another thread calls meanwhile waits, and is neither in the block nor undone with it."""

    def block() -> int:
        with store.transaction():
            return store.append_message("other", role="user")

    calls: dict[str, Callable[[], int]] = {
        "append": lambda: store.append_message("other", role="user"),
        "block": block,
        "read": lambda: store.counts("other").messages,
    }
    with suppress(ZeroDivisionError), store.transaction():
        store.append_message("other", role="user")
        future = started(calls[call])
        with pytest.raises(NotYet):
            future.result(MOMENT_S)
        store.append_message("other", role="user")
        if fails:
            raise ZeroDivisionError
    kept = 0 if fails else 2
    assert future.result(PATIENCE_S) == kept + (call != "read")
    assert store.counts("other").messages == kept + (call != "read")
    assert flaws(store) == {}


def test_a_call_within_a_block_is_let_go_only_with_the_block(store: SessionStore) -> None:
    """A failure that is caught within it does not let others in."""
    with store.transaction():
        with pytest.raises(ValueError, match="unknown session"):
            store.append_message("nobody", role="user")
        with pytest.raises(ZeroDivisionError), store.transaction():
            raise ZeroDivisionError
        future = started(lambda: store.append_message("top", role="user"))
        with pytest.raises(NotYet):
            future.result(MOMENT_S)
        assert store.append_message("top", role="user") == 1
    assert future.result(PATIENCE_S) == 2


def test_readers_never_see_half_of_a_block(store: SessionStore) -> None:
    done = threading.Event()

    def read() -> list[int]:
        seen = []
        while not done.is_set():
            first, rows = store.counts("top"), store.load_all_messages("top")
            assert first.messages % 4 == len(rows) % 4 == 0
            assert [row.content for row in rows[-4:]] == ["a", "b", "c", "d"][: len(rows)]
            assert len(store.list_children("top")) % 2 == 0
            seen.append(len(rows))
        return seen

    readers = [started(read) for _ in range(3)]
    try:
        for turn in range(60):
            with suppress(ZeroDivisionError), store.transaction():
                store.append_message("top", role="user", content="a")
                store.create_session(parent_session_id="top")
                store.append_messages("top", [{"role": "user", "content": text} for text in "bc"])
                store.create_session(parent_session_id="top")
                store.append_message("top", role="user", content="d")
                if turn % 3 == 2:
                    raise ZeroDivisionError
            time.sleep(0.001)
    finally:
        done.set()
    assert all(reader.result(PATIENCE_S) == sorted(reader.result()) for reader in readers)
    assert store.counts("top").messages == 4 * 40


@pytest.mark.parametrize("attempt", range(3))
def test_closing_while_others_work(attempt: int, tmp_path: Path) -> None:
    """They are told that it is closed and nothing else, and what they had been told is done."""
    path = tmp_path / "a.db"
    store = SessionStore.open(path)
    store.create_session(session_id="top")
    ready = threading.Barrier(THREADS)

    def work(number: int) -> tuple[int, BaseException]:
        done = 0
        try:
            for turn in count():
                if number % 3 == 0:
                    store.append_messages("top", [{"role": "user"}] * 2)
                elif number % 3 == 1:
                    with store.transaction():
                        store.append_message("top", role="user")
                        store.append_message("top", role="user")
                else:
                    store.load_all_messages("top")
                    store.preview("top")
                done += 2 * (number % 3 < 2)
                if turn == 3:
                    ready.wait(PATIENCE_S)
        except BaseException as error:
            return done, error
        raise AssertionError

    futures = [started(work, number) for number in range(THREADS - 1)]
    ready.wait(PATIENCE_S)
    store.close()
    ends = [future.result(PATIENCE_S) for future in futures]
    assert {type(error) for _, error in ends} == {sqlite3.ProgrammingError}
    store.close()
    with SessionStore.open(path) as again:
        assert again.counts("top").messages == sum(done for done, _ in ends)
        assert flaws(again) == {}


def test_closing_waits_for_a_block(tmp_path: Path) -> None:
    store = SessionStore.open(tmp_path / "a.db")
    with store.transaction():
        store.create_session(session_id="top")
        closing = started(store.close)
        with pytest.raises(NotYet):
            closing.result(MOMENT_S)
        store.append_message("top", role="user")
    closing.result(PATIENCE_S)
    with SessionStore.open(tmp_path / "a.db") as again:
        assert again.counts("top").messages == 1


def test_interrupts_at_any_moment_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Between any two instructions: no lock stays held, no transaction open, and what returned a seq is there."""
    script = Path(__file__).with_name("interrupted.py")
    command = [sys.executable, "-P", script, tmp_path / "a.db"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
