"""kill -9 at every write, and at any moment, a full disk: a session is as before or as after, and no row is lost."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store.nanobot import SessionManager

from .manager_worker import KEY, OPERATIONS, STEPS, Said, prepare, rows, state, wrong

CASES = [
    (prepared, operation)
    for prepared, operations in {
        "plain": list(OPERATIONS),
        "damaged": ["append", "delete"],
        "unfinished": ["append", "clear"],
        "upstream": ["change"],
        "missing": ["grow"],
        "wide": ["append", "retitle"],
    }.items()
    for operation in operations
]
KILLS = 12


def perform(folder: Path, operation: str) -> None:
    manager = SessionManager(folder)
    OPERATIONS[operation](manager, manager.get_or_create(KEY))


def goes_on(folder: Path) -> None:
    """The session takes a row, is listed, and nothing is left behind."""
    before = state(folder)[1:]
    manager = SessionManager(folder)
    manager.append(manager.get_or_create(KEY), rows(1, "later"))
    assert state(folder)[1] == (before[0] if before else []) + rows(1, "later")
    assert [one["key"] for one in manager.list_sessions()] == [KEY]
    assert not [
        path
        for path in manager.sessions_dir.iterdir()
        if path.suffix == ".tmp" and manager._get_session_path(KEY).name in path.name and before
    ]
    listed_by_upstream(folder)


def listed_by_upstream(folder: Path) -> None:
    try:
        from nanobot.session.manager import SessionManager as Theirs
    except ImportError:
        return
    if not hasattr(Theirs, "locked_session_files"):
        ours = SessionManager(folder).get_or_create(KEY)
        assert [one["key"] for one in Theirs(folder).list_sessions()] == [KEY]
        assert Theirs(folder).get_or_create(KEY).messages == ours.messages


@pytest.mark.parametrize(("prepared", "operation"), CASES)
def test_a_kill_at_any_write_leaves_all_of_it_or_nothing(prepared: str, operation: str, tmp_path: Path) -> None:
    prepare(tmp_path / "before", prepared)
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    before = state(tmp_path / "before")
    perform(tmp_path / "after", operation)
    after = state(tmp_path / "after")
    assert before != after
    finished = Said("kills", tmp_path, prepared, operation).all()
    assert finished[-1] is True
    assert len(finished) > 2
    for at, done in enumerate(finished, 1):
        assert state(tmp_path / f"{at}") in ([after] if done else [before, after]), f"killed at step {at}"
        goes_on(tmp_path / f"{at}")


@pytest.mark.parametrize("always", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(("prepared", "operation"), CASES)
def test_a_full_disk_leaves_the_file_as_it_was(prepared: str, operation: str, always: bool, tmp_path: Path) -> None:
    """The one error that comes when all is done, that of a folder which cannot be synced, may leave it as after."""
    prepare(tmp_path / "before", prepared)
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    before = state(tmp_path / "before")
    perform(tmp_path / "after", operation)
    after = state(tmp_path / "after")

    def full() -> None:
        raise OSError(errno.ENOSPC, "no room")

    for at in range(1, STEPS):
        folder = Path(shutil.copytree(tmp_path / "before", tmp_path / f"{at}"))
        manager = SessionManager(folder)
        session = manager.get_or_create(KEY)
        held = [dict(row) for row in session.messages]
        with wrong(at, full, always) as taken:
            try:
                OPERATIONS[operation](manager, session)
                failed = False
            except OSError as error:
                failed = error.errno == errno.ENOSPC
        if not failed and taken[0] >= at:
            # Cleaning up may fail and be forgiven.
            failed = state(folder) == before
        assert state(folder) in ([before, after] if failed else [after]), f"failed at step {at}"
        if failed and operation == "append":
            assert session.messages == held
        if operation == "delete":
            manager.delete_session(KEY)
        elif failed:
            # What is to be saved is still there, and is saved as soon as there is room.
            if operation == "append":
                manager.append(session, rows(3, "new"))
            else:
                manager.save(session)
            assert state(folder) == after, f"failed at step {at}"
        if taken[0] < at:
            break
    assert taken[0] < at


def test_a_busy_process_killed_at_any_moment(tmp_path: Path) -> None:
    """The same file again and again: what was acknowledged is there, once, and what was not is there or not."""
    chance, acknowledged = random.Random(1), list[str]()
    for turn in range(KILLS):
        said = Said("writer", tmp_path, f"turn {turn}", 10_000, turn)
        for _ in range(chance.randint(1, 40)):
            acknowledged.append(said.one())
        said.process.kill()
        acknowledged += said.all(killed=True)
        found = [row["content"] for row in state(tmp_path)[1]]
        assert len(found) == len(set(found))
        assert set(found) >= set(acknowledged)
        assert len(found) - len(acknowledged) <= turn + 1
    goes_on(tmp_path)


def test_writers_that_die_beside_writers_that_go_on(tmp_path: Path) -> None:
    chance, acknowledged = random.Random(2), list[str]()
    lasting = [Said("writer", tmp_path, f"lasting {number}", 60, number) for number in range(2)]
    for turn in range(6):
        said = Said("writer", tmp_path, f"dying {turn}", 10_000, turn)
        for _ in range(chance.randint(1, 20)):
            acknowledged.append(said.one())
        said.process.kill()
        acknowledged += said.all(killed=True)
    for said in lasting:
        done = said.all()
        assert len(done) == 60
        acknowledged += done
    found = [row["content"] for row in state(tmp_path)[1]]
    assert len(found) == len(set(found))
    assert set(found) >= set(acknowledged)
    assert len(found) - len(acknowledged) <= 6
    goes_on(tmp_path)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 256 kB, where one may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with small_disk(folder):
        manager = SessionManager(folder)
        session = manager.get_or_create(KEY)
        manager.append(session, rows(4))
        path = manager._get_session_path(KEY)
        saved: list[Any] = state(folder)
        refused = []
        for at in range(60):
            row = {"role": "user", "content": f"{at} " + "x" * 9_000}
            if at % 3 == 2:
                session.messages[0]["content"] = f"changed {at}"
            before = [*session.messages]
            try:
                if at % 3:
                    session.messages.append(row)
                    manager.save(session)
                else:
                    manager.append(session, [row])
            except OSError as error:
                refused.append(error.errno)
                session.messages[:] = before
                assert state(folder) == saved
            else:
                saved = state(folder)
                assert saved[1][1:] == session.messages[1:]
            assert [file for file in os.listdir(path.parent) if file.endswith(".tmp")] == []
        assert len(refused) > 5
        assert set(refused) == {errno.ENOSPC}
        assert len(saved[1]) > 8
