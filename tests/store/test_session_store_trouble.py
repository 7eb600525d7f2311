"""A full disk, files that may not be written, a clock that goes back, and blocks that come to grief."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import pytest

from sessionscope.store.powerloop import SessionStore
from sessionscope.store.powerloop.dropin import session_store

from .session_trees import NOTE, session_tree
from .session_worker import dump, flaws

Write = Callable[[SessionStore], object]
NOBODY, UNLIMITED = 65534, 2**30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "a.db"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    with session_tree(path) as store:
        yield store


def said_by_a_child(work: Callable[[], str]) -> str:
    """What a process of its own says, or the name and the text of what it raises."""
    answer, out = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            # What is called at a collection would swallow an interrupt that comes just then.
            gc.callbacks.clear()
            signal.alarm(60)
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(out, said.encode())
        os._exit(0)
    os.close(out)
    with open(answer) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


# -- a full disk

LARGE: dict[str, Write] = {
    "append_messages": lambda store: store.append_messages("second", [{"role": "user", "content": "x" * 900}] * 99),
    "record_compaction": lambda store: store.record_compaction(
        "second", from_seq=1, to_seq=3, **NOTE | {"note_content": "x" * 90_000}
    ),
    "create_session": lambda store: store.create_session(session_id="new", system_prompt="x" * 90_000),
}


@contextmanager
def no_page_more(store: SessionStore) -> Iterator[None]:
    pages = store._conn.execute("PRAGMA page_count").fetchone()[0]
    store._conn.execute(f"PRAGMA max_page_count={pages}")
    yield
    store._conn.execute(f"PRAGMA max_page_count={UNLIMITED}")


@contextmanager
def no_byte_more(path: Path) -> Iterator[None]:
    """Nothing can be written behind the end of the -wal: a commit fails, which only then writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(f"{path}-wal"), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("write", LARGE)
def test_what_the_disk_has_no_room_for_has_not_happened(write: str, store: SessionStore) -> None:
    before = dump(store)
    with no_page_more(store), pytest.raises(sqlite3.OperationalError, match="full"):
        LARGE[write](store)
    assert dump(store) == before
    LARGE[write](store)
    assert flaws(store) == {}


@pytest.mark.parametrize("write", LARGE)
@pytest.mark.parametrize("nested", [False, True], ids=["outer", "nested"])
def test_a_block_that_goes_on_after_the_disk_was_full(write: str, nested: bool, store: SessionStore) -> None:
    """SQLite has undone all of it by then: nothing more may be written in it, and it says so at its end."""

    def block() -> None:
        with store.transaction():
            store.append_message("first", role="user")
            inner = store.transaction() if nested else nullcontext()
            with pytest.raises(sqlite3.OperationalError, match="full"), inner:
                LARGE[write](store)
            with pytest.raises(sqlite3.OperationalError, match="the transaction is gone"):
                store.append_message("third", role="user")
            with pytest.raises(sqlite3.OperationalError, match="the transaction is gone"), store.transaction():
                pytest.fail("a block began within one that is gone")

    before = dump(store)
    with no_page_more(store), pytest.raises(sqlite3.OperationalError, match="the transaction is gone"):
        block()
    assert dump(store) == before
    LARGE[write](store)
    assert store.append_message("first", role="user") == 5
    assert flaws(store) == {}


@pytest.mark.parametrize("write", LARGE)
def test_a_commit_that_fails_has_not_happened(write: str, store: SessionStore, path: Path) -> None:
    before = dump(store)
    for _ in range(2):
        with no_byte_more(path), pytest.raises(sqlite3.OperationalError):
            LARGE[write](store)
        with no_byte_more(path), pytest.raises(sqlite3.OperationalError), store.transaction():
            LARGE[write](store)
        assert not store._conn.in_transaction
        assert dump(store) == before
    with SessionStore.open(path) as other:
        LARGE[write](other)
        assert flaws(other) == flaws(store) == {}


# -- files and folders that may not be written


def as_nobody(work: Callable[[], str]) -> str:
    """What happens to a user without any right, root or not."""

    def unprivileged() -> str:
        if os.getuid() == 0:
            os.setgroups([])
            os.setuid(NOBODY)
        return work()

    return said_by_a_child(unprivileged)


def tried(path: Path, *writes: Write) -> str:
    said = []
    with SessionStore.open(path) as store:
        said.append(str(len(store.load_all_messages("second"))))
        for write in writes:
            try:
                said.append(str(write(store)))
            except sqlite3.OperationalError as error:
                said.append(str(error))
    return ", ".join(said)


@pytest.fixture
def at_rest(store: SessionStore, path: Path) -> Iterator[Path]:
    """A folder that all may enter, with a.db, which nobody has open, and left.db, as after a kill."""
    with TemporaryDirectory(prefix="session-store-") as name:
        folder = Path(name)
        for suffix in ("", "-wal"):
            copyfile(f"{path}{suffix}", folder / f"left.db{suffix}")
        store.close()
        copyfile(path, folder / "a.db")
        folder.chmod(0o777)
        yield folder
        folder.chmod(0o700)


@pytest.mark.parametrize("name", ["a.db", "left.db"])
def test_a_file_that_may_not_be_written_is_read(name: str, at_rest: Path) -> None:
    for file in at_rest.iterdir():
        file.chmod(0o444)
    content = (at_rest / name).read_bytes()
    said = as_nobody(
        lambda: tried(
            at_rest / name,
            lambda store: store.append_message("second", role="user"),
            LARGE["record_compaction"],
            lambda store: store.close_session("top"),
            lambda store: store.create_session(),
        )
    )
    assert said == ", ".join(["4"] + ["attempt to write a readonly database"] * 4)
    assert (at_rest / name).read_bytes() == content


@pytest.mark.parametrize("name", ["a.db", "left.db", "new.db"])
def test_a_folder_that_may_not_be_written(name: str, at_rest: Path) -> None:
    for file in at_rest.iterdir():
        file.chmod(0o666)
    files = sorted(at_rest.iterdir())
    at_rest.chmod(0o555)
    said = as_nobody(lambda: tried(at_rest / name, LARGE["append_messages"]))
    assert said.startswith(("OperationalError: unable to open", "OperationalError: attempt to write a readonly")), said
    assert sorted(at_rest.iterdir()) == files


# -- a clock that goes back


def test_a_clock_that_goes_back(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count(time.time_ns(), -3_600_000_000_000)
    monkeypatch.setattr(session_store, "now_ms", lambda: next(ticks) // 1_000_000)
    id_ = store.create_session(parent_session_id="top")
    touches: list[Write] = [
        lambda store: store.append_message(id_, role="user"),
        lambda store: store.append_messages(id_, [{"role": "user"}] * 2),
        lambda store: store.record_compaction(id_, from_seq=1, to_seq=2, **NOTE),
        lambda store: store.archive_session(id_),
        lambda store: store.reopen_session(id_),
        lambda store: store.update_session_prompt(id_, "be brief"),
        lambda store: store.append_message(id_, role="user"),
    ]
    for touch in touches:
        touch(store)
        row = store.get_session(id_)
        assert row is not None
        assert row.updated_at == row.created_at
    rows = store.load_all_messages(id_)
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0].created_at > rows[-1].created_at
    assert store.list_children("top")[0].session_id == "first"
    assert store.close_session("top") == 5


def test_a_clock_that_goes_on(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    later = 4_000_000_000_000
    monkeypatch.setattr(session_store, "now_ms", lambda: later)
    store.append_message("first", role="user")
    assert [row.updated_at == later for row in store.list_children("top")] == [True, False, False]


# -- blocks that come to grief


def work(store: SessionStore) -> None:
    """Something in every table."""
    store.create_session(session_id="new", parent_session_id="first")
    store.append_messages("new", [{"role": "user"}] * 2)
    store.record_compaction("first", from_seq=1, to_seq=3, **NOTE)
    store.record_usage("first", round_index=1, prompt_tokens=1, completion_tokens=1, total_tokens=2)
    store.close_session("third")


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit, sqlite3.Error])
@pytest.mark.parametrize("nested", [False, True], ids=["outer", "nested"])
def test_an_exception_undoes_its_block(error: type[BaseException], nested: bool, store: SessionStore) -> None:
    def block() -> None:
        with store.transaction():
            work(store)
            with store.transaction() if nested else nullcontext():
                store.close_session("second")
                raise error

    before = dump(store)
    with pytest.raises(error):
        block()
    assert dump(store) == before
    assert not store._conn.in_transaction
    work(store)
    assert flaws(store) == {}


def test_an_inner_block_that_fails_leaves_the_rest_of_the_outer(store: SessionStore, path: Path) -> None:
    with store.transaction():
        store.append_message("first", role="user", content="before")
        with suppress(KeyboardInterrupt), store.transaction():
            work(store)
            with store.transaction():
                store.append_message("new", role="user")
            raise KeyboardInterrupt
        with store.transaction():
            store.append_message("first", role="user", content="within")
        store.append_message("first", role="user", content="after")
    with SessionStore.open(path) as other:
        assert [row.content for row in other.messages("first", from_seq=5)] == ["before", "within", "after"]
        assert other.get_session("new") is None
        assert other.counts("third").messages == 4
        assert flaws(other) == {}


def test_a_block_that_fails_after_a_failure_within_it_was_caught(store: SessionStore) -> None:
    """All of it is undone, and not only what follows that failure."""

    def block() -> None:
        with store.transaction():
            store.append_message("first", role="user", content="undone")
            with pytest.raises(sqlite3.IntegrityError):
                store.create_session(session_id="first")
            store.append_message("first", role="user", content="undone")
            raise ZeroDivisionError

    with store.transaction():
        store.append_message("first", role="user", content="before")
        with pytest.raises(ZeroDivisionError):
            block()
        store.append_message("first", role="user", content="after")
    assert [row.content for row in store.messages("first", from_seq=5)] == ["before", "after"]


def test_a_block_that_cannot_be_committed(store: SessionStore) -> None:
    """As for what the caller has put into tables of its own."""
    store._conn.execute("CREATE TEMP TABLE own (id PRIMARY KEY, other REFERENCES own DEFERRABLE INITIALLY DEFERRED)")

    def block() -> None:
        with store.transaction():
            work(store)
            store._conn.execute("INSERT INTO own VALUES (1, 2)")

    before = dump(store)
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        block()
    assert not store._conn.in_transaction
    assert dump(store) == before
    work(store)


def test_a_call_that_fails_is_whole_within_a_block(store: SessionStore, path: Path) -> None:
    """As one that is refused after it has written: the third message is no text that could be stored."""
    bad = [{"role": "user"}, {"role": "user"}, {"role": "user", "content": "\ud800"}]
    with store.transaction():
        store.append_message("first", role="user", content="before")
        with pytest.raises(UnicodeEncodeError):
            store.append_messages("first", bad)
        with pytest.raises(UnicodeEncodeError):
            store.record_compaction("first", from_seq=1, to_seq=3, **NOTE | {"note_content": "\ud800"})
        with pytest.raises(sqlite3.IntegrityError):
            store.create_session(session_id="first")
        assert store.append_message("first", role="user", content="after") == 6
    with SessionStore.open(path) as other:
        assert other.counts("first") == session_store.Counts(6, 5, 1, 1)
        assert flaws(other) == {}


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT mine"])
@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
def test_a_transaction_of_the_caller_is_its_own(begin: str, end: str, store: SessionStore, path: Path) -> None:
    """No call ends it, neither one that fails nor a block."""
    before = dump(store)
    with closing(sqlite3.connect(path)) as other:
        store._conn.execute(begin)
        work(store)
        with pytest.raises(ValueError, match="unknown session"):
            store.append_message("third", role="user")
        with store.transaction():
            store.append_message("new", role="user")
        with suppress(ZeroDivisionError), store.transaction():
            raise ZeroDivisionError(store.close_session("first"))
        inside = dump(store)
        assert store._conn.in_transaction
        assert list(other.iterdump()) == before != inside
        store._conn.execute(end)
        assert dump(store) == list(other.iterdump()) == (before if end == "ROLLBACK" else inside)
    assert flaws(store) == {}


def test_a_store_that_is_closed_within_its_block(store: SessionStore, path: Path) -> None:
    def block() -> None:
        with store.transaction():
            work(store)
            store.close()

    before = dump(store)
    with pytest.raises(sqlite3.ProgrammingError):
        block()
    with SessionStore.open(path) as again:
        assert dump(again) == before


def test_ctrl_c_while_a_lock_is_waited_for(store: SessionStore, path: Path) -> None:
    """Whoever catches it can use the store as before: nothing is left begun, and nothing is locked."""
    store.close()

    def interrupted() -> str:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        holder = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        with SessionStore.open(path, timeout=60) as store:
            holder.execute("BEGIN IMMEDIATE")
            waiting = threading.Event()
            store._conn.set_trace_callback(lambda statement: waiting.set())

            def interrupt_and_let_go() -> None:
                waiting.wait()
                # The callback itself has to be over: what is raised in it is lost.
                time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGINT)
                holder.execute("COMMIT")

            thread = threading.Thread(target=interrupt_and_let_go)
            thread.start()
            with suppress(KeyboardInterrupt):
                store.append_message("first", role="user", content="interrupted")
            thread.join()
            if store._conn.in_transaction:
                return "a transaction is left open"
            seq = store.append_message("first", role="user", content="after")
            return f"{seq}, {holder.execute('SELECT max(seq) FROM messages').fetchone()[0]}"

    assert said_by_a_child(interrupted) == "5, 5"
