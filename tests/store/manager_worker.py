"""Processes that use a `SessionManager` and may be killed at it.

python -P manager_worker.py JOB [ARGUMENT ...]        says what it did, one line of JSON each
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from unittest.mock import patch

from sessionscope.store.io import bundle, files
from sessionscope.store.nanobot import Session, SessionChanged, SessionManager
from sessionscope.store.nanobot.dropin import session_manager, writing

KEY, STEPS, PAGE = "telegram:42", 60, 4_096


def rows(count: int, what: str = "said") -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[at % 2], "content": f"{what} {at}"} for at in range(count)]


# -- what an operation begins with, and what it does


def prepare(folder: Path, name: str) -> None:
    """A workspace with one session, in one of the states that a file may be in."""
    manager = SessionManager(folder)
    path = manager._get_session_path(KEY)
    if name == "missing":
        return
    session = manager.get_or_create(KEY)
    session.messages += rows(4)
    session.metadata["title"] = "before"
    if name == "wide":
        session.metadata["_last_summary"] = {"text": "é" * 4_000}
    manager.save(session)
    data = path.read_bytes()
    if name == "damaged":
        path.write_bytes(data + b'{"role": "user", "content": "half of i')
    elif name == "unfinished":
        cut = data.replace(b'"metadata", "key"', b'"metadata", "pending_from": %d, "key"' % (len(data) + 20), 1)
        path.write_bytes(cut.replace(b" " * 20 + b"\n", b"\n", 1) + b'{"role": "user", "content": "never sav')
        written = path.read_bytes()
        start = written.index(b'{"role": "user", "content": "never')
        path.write_bytes(written.replace(b'"pending_from": %d' % (len(data) + 20), b'"pending_from": %d' % start))
    elif name == "upstream":
        head, *others = [json.loads(line) for line in data.splitlines()]
        del head["save_id"]
        path.write_bytes(b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in (head, *others)))


def _append(manager: SessionManager, session: Session) -> None:
    manager.append(session, rows(3, "new"), fsync=True)


def _grow(manager: SessionManager, session: Session) -> None:
    session.messages += rows(3, "new")
    session.metadata["title"] = "after"
    manager.save(session, fsync=True)


def _retitle(manager: SessionManager, session: Session) -> None:
    session.metadata["title"] = "after"
    manager.save(session, fsync=True)


def _change(manager: SessionManager, session: Session) -> None:
    if session.messages:
        session.messages[0]["content"] = "changed"
    session.messages += rows(1, "new")
    manager.save(session, fsync=True)


def _clear(manager: SessionManager, session: Session) -> None:
    session.clear()
    session.metadata["title"] = "after"
    manager.save(session, fsync=True)


def _delete(manager: SessionManager, session: Session) -> None:
    manager.delete_session(session.key)


OPERATIONS: dict[str, Callable[[SessionManager, Session], None]] = {
    "append": _append,
    "grow": _grow,
    "retitle": _retitle,
    "change": _change,
    "clear": _clear,
    "delete": _delete,
}


def state(folder: Path) -> list[Any]:
    """What a manager that comes later finds: the title and the rows, or that there is no session."""
    session = SessionManager(folder)._load(KEY)
    return [None] if session is None else [session.metadata.get("title"), session.messages]


# -- a step that goes wrong


@contextmanager
def wrong(at: int, harm: Callable[[], None], always: bool = False) -> Iterator[list[int]]:
    """Does harm before the `at`th step that changes something on the disk, or half way through a write, and all after.

    Gives the number of steps that were taken, as a list of one.
    """
    taken = [0]

    def step() -> bool:
        taken[0] += 1
        return taken[0] == at or (always and taken[0] > at)

    class Writing(io.FileIO):
        def write(self, data: Any) -> int:
            if step():
                harm()
            # What is there already is written over page by page, what is new may end anywhere.
            over = self.tell() + len(data) <= os.fstat(self.fileno()).st_size
            half = PAGE - self.tell() % PAGE if over else len(data) // 2
            if half < len(data) and step():
                super().write(memoryview(data)[:half])
                harm()
            return super().write(data)

    def opening(path: Any, mode: str = "r", buffering: int = -1) -> Any:
        if not set(mode) & set("wx+"):
            return open(path, mode, buffering)
        raw = Writing(path, mode.replace("b", ""))
        return raw if not buffering else io.BufferedWriter(raw)

    def stepping(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if step():
                harm()
            return real(*args, **more)

        return call

    with ExitStack() as stack:
        for module in (files, writing, session_manager, bundle):
            stack.enter_context(patch.object(module, "open", opening, create=True))
        for name in ("fsync", "ftruncate", "replace", "unlink", "chmod"):
            stack.enter_context(patch.object(os, name, stepping(getattr(os, name))))
        yield taken


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kills(folder: str, prepared: str, operation: str) -> None:
    """Performs an operation in a copy of a workspace again and again, killed one step later each time."""
    source = Path(folder)
    for at in range(1, STEPS):
        shutil.copytree(source / "before", source / f"{at}")
        pid = os.fork()
        if not pid:
            with wrong(at, die):
                manager = SessionManager(source / f"{at}")
                OPERATIONS[operation](manager, manager.get_or_create(KEY))
            os._exit(0)
        finished = os.waitpid(pid, 0)[1] == 0
        say(finished)
        if finished:
            return


# -- many at once


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def writer(folder: str, name: str, times: str, seed: str) -> None:
    """Adds rows to one session, by turns with `append` and `save`, and says which were acknowledged."""
    manager, chance = SessionManager(Path(folder)), random.Random(int(seed))
    session = manager.get_or_create(KEY)
    for at in range(int(times)):
        row = {"role": "user", "content": f"{name} {at} {'x' * chance.randrange(200)}"}
        kind = chance.randrange(4)
        if kind == 0:
            manager.invalidate(KEY)
            session = manager.get_or_create(KEY)
        if kind % 2:
            manager.append(session, [row], fsync=chance.random() < 0.1)
        else:
            session.messages.append(row)
            manager.save(session)
        say(row["content"])


def deleter(folder: str, name: str, times: str, seed: str) -> None:
    """Saves and deletes one session; what was refused, it begins anew."""
    manager, chance = SessionManager(Path(folder)), random.Random(int(seed))
    for at in range(int(times)):
        try:
            if chance.random() < 0.3:
                say(["deleted", manager.delete_session(KEY)])
                continue
            session = manager.get_or_create(KEY)
            session.add_message("user", f"{name} {at}")
            manager.save(session)
            say(["saved", f"{name} {at}"])
        except SessionChanged:
            say(["refused", f"{name} {at}"])


class Said:
    """A process of this file, and what it says."""

    def __init__(self, *arguments: Any) -> None:
        self.process = Popen([sys.executable, "-PB", __file__, *map(str, arguments)], stdout=PIPE, text=True)

    def one(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def all(self, killed: bool = False) -> list[Any]:
        assert self.process.stdout is not None
        lines = list(self.process.stdout)
        assert self.process.wait() == 0 or killed
        self.process.stdout.close()
        return [json.loads(line) for line in lines if line.endswith("\n")]


if __name__ == "__main__":
    {"kills": kills, "writer": writer, "deleter": deleter}[sys.argv[1]](*sys.argv[2:])
