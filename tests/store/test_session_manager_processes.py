"""Many writers of one session, processes, managers and threads: no acknowledged row is lost, none is there twice."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from sessionscope.store.nanobot import Session, SessionChanged, SessionManager
from sessionscope.store.nanobot.dropin import session_manager

from .manager_worker import KEY, Said, rows, state

TIMES = 40


def said_in(folder: Path) -> list[str]:
    return [row["content"] for row in state(folder)[1]]


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_four_processes_write_one_session(begun: bool, tmp_path: Path) -> None:
    expected = []
    if begun:
        manager = SessionManager(tmp_path)
        manager.append(manager.get_or_create(KEY), rows(3))
        expected = said_in(tmp_path)
    writers = [Said("writer", tmp_path, f"writer {number}", TIMES, number) for number in range(4)]
    acknowledged = [writer.all() for writer in writers]
    assert [len(one) for one in acknowledged] == [TIMES] * 4
    found = said_in(tmp_path)
    assert Counter(found) == Counter([*expected, *(text for one in acknowledged for text in one)])
    for one in acknowledged:
        assert [text for text in found if text in one] == one, "each writer's rows are in its own order"
    assert not (tmp_path / "sessions.sessionscope").exists()
    assert len((tmp_path / "sessions" / "telegram_42.jsonl").read_bytes().splitlines()) == len(found) + 1


def test_saves_beside_deletes(tmp_path: Path) -> None:
    """Nothing comes back that was deleted, and what was refused is kept aside."""
    said = [
        one
        for process in [Said("deleter", tmp_path, f"process {number}", TIMES, number) for number in range(3)]
        for one in process.all()
    ]
    kinds = Counter(kind for kind, _ in said)
    assert kinds["saved"]
    assert kinds["deleted"]
    saved = {text for kind, text in said if kind == "saved"}
    found = [] if state(tmp_path) == [None] else said_in(tmp_path)
    assert len(found) == len(set(found))
    assert set(found) <= saved
    kept = list((tmp_path / "sessions.sessionscope" / "conflicts").glob("*/*.kept"))
    assert len(kept) == kinds["refused"]


def test_threads_share_one_manager(tmp_path: Path) -> None:
    manager, errors = SessionManager(tmp_path), list[BaseException]()

    def work(name: int) -> None:
        try:
            for at in range(25):
                session = manager.get_or_create(KEY)
                if at % 2:
                    manager.append(session, [{"role": "user", "content": f"{name} {at}"}])
                else:
                    session.add_message("user", f"{name} {at}")
                    manager.save(session)
                other = manager.get_or_create(f"cli:{name}")
                other.add_message("user", f"{at}")
                manager.save(other)
                if at % 10 == 9:
                    manager.invalidate(KEY)
                    manager.flush_all()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Counter(said_in(tmp_path)) == Counter(f"{name} {at}" for name in range(4) for at in range(25))
    for name in range(4):
        assert len(SessionManager(tmp_path).get_or_create(f"cli:{name}").messages) == 25


def test_a_lock_that_is_not_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = SessionManager(tmp_path)
    session = manager.get_or_create(KEY)
    session.add_message("user", "hi")
    monkeypatch.setattr(session_manager, "WAIT_S", 0.0)
    with FileLock(manager.sessions_dir / ".session-files.lock"):
        for call in (
            lambda: manager.save(session),
            lambda: manager.append(session, rows(1)),
            lambda: manager.delete_session(KEY),
        ):
            with pytest.raises(SessionChanged, match="another process"):
                call()
        assert manager.flush_all() == 0
        assert SessionManager(tmp_path).get_or_create(KEY).messages == []
    assert len(session.messages) == 1
    manager.save(session)
    assert said_in(tmp_path) == ["hi"]


# -- two managers that meet


@pytest.fixture
def two(tmp_path: Path) -> tuple[SessionManager, SessionManager]:
    """Two managers that have read the same session of four rows."""
    one, other = SessionManager(tmp_path), SessionManager(tmp_path)
    session = one.get_or_create(KEY)
    session.metadata["title"] = "before"
    one.append(session, rows(4))
    other.get_or_create(KEY)
    return one, other


def add(session: Session) -> None:
    session.messages += rows(2, "ours")


def change(session: Session) -> None:
    session.messages[0]["content"] = "changed"


def retitle(session: Session) -> None:
    session.metadata["title"] = "ours"


def note(session: Session) -> None:
    session.metadata["note"] = {"a": [1]}


def consolidate(session: Session) -> None:
    session.last_consolidated = 2


MEET: list[tuple[Callable[[Session], None], Callable[[Session], None], bool]] = [
    (add, add, True),
    (add, note, True),
    (note, add, True),
    (add, change, False),
    (change, add, False),
    (change, change, True),
    (change, note, False),
    (note, change, True),
    (add, Session.clear, False),
    (Session.clear, add, False),
    (retitle, retitle, True),
    (note, retitle, True),
    (consolidate, add, True),
    (add, consolidate, True),
    (consolidate, note, True),
    (consolidate, change, False),
]


@pytest.mark.parametrize(("theirs", "ours", "merges"), MEET)
def test_two_managers(
    theirs: Callable[[Session], None],
    ours: Callable[[Session], None],
    merges: bool,
    two: tuple[SessionManager, SessionManager],
) -> None:
    one, other = two
    first, second = one.get_or_create(KEY), other.get_or_create(KEY)
    theirs(first)
    one.save(first)
    before = one._get_session_path(KEY).read_bytes()
    ours(second)
    mine = json.dumps([second.messages, second.metadata])
    if merges:
        other.save(second)
        merged = SessionManager(one.workspace).get_or_create(KEY)
        for done in (theirs, ours):
            again = Session(
                KEY,
                json.loads(json.dumps(merged.messages)),
                metadata=dict(merged.metadata),
                last_consolidated=merged.last_consolidated,
            )
            done(again)
            assert again.metadata == merged.metadata
            assert again.last_consolidated == merged.last_consolidated
            assert again.messages[:4] == merged.messages[:4]
        assert len(merged.messages) == 4 + 2 * (theirs is add) + 2 * (ours is add)
        assert (second.messages, second.metadata) == (merged.messages, merged.metadata)
        one.save(first)
        assert first.messages == merged.messages
        return
    with pytest.raises(SessionChanged) as refused:
        other.save(second)
    assert one._get_session_path(KEY).read_bytes() == before
    (kept,) = (one.workspace / "sessions.sessionscope" / "conflicts").glob("*/*.kept")
    head, *found = [json.loads(line) for line in kept.read_bytes().splitlines()]
    assert json.dumps([found, head["metadata"]]) == mine
    assert str(kept.parent) in str(refused.value)
    # The next who asks gets what is in the file.
    assert other.get_or_create(KEY).messages == first.messages
    assert KEY in one._cache


def test_a_session_that_nobody_changed_takes_what_others_wrote(two: tuple[SessionManager, SessionManager]) -> None:
    one, other = two
    one.get_or_create(KEY).clear()
    one.save(one.get_or_create(KEY))
    before = one._get_session_path(KEY).read_bytes()
    assert other.flush_all() == 1
    assert one._get_session_path(KEY).read_bytes() == before
    assert other.get_or_create(KEY).messages == []


def test_two_saves_within_one_tick(two: tuple[SessionManager, SessionManager], monkeypatch: pytest.MonkeyPatch) -> None:
    """Same inode, same size, same time: only what the file says tells."""
    one, other = two
    first, second = one.get_or_create(KEY), other.get_or_create(KEY)
    path = one._get_session_path(KEY)
    status = path.stat()
    first.metadata["title"] = "theirs"
    one.save(first)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) == (
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
    )
    second.messages += rows(1, "ours")
    other.save(second)
    assert second.metadata == {"title": "theirs"}
    assert state(one.workspace) == ["theirs", second.messages]


def test_a_session_deleted_and_made_anew(two: tuple[SessionManager, SessionManager]) -> None:
    one, other = two
    assert one.delete_session(KEY)
    made: Any = one.get_or_create(KEY)
    made.messages += rows(4) + rows(1, "anew")
    one.save(made)
    stale = other.get_or_create(KEY)
    stale.messages += rows(1, "ours")
    with pytest.raises(SessionChanged):
        other.save(stale)
    assert state(one.workspace)[1] == made.messages


def test_a_deleted_session_stays_deleted(two: tuple[SessionManager, SessionManager]) -> None:
    one, other = two
    session = other.get_or_create(KEY)
    assert one.delete_session(KEY)
    assert not one.delete_session(KEY)
    assert other.flush_all() == 0
    with pytest.raises(SessionChanged, match="deleted"):
        other.append(session, rows(1))
    assert state(one.workspace) == [None]
    assert other.get_or_create(KEY).messages == []
