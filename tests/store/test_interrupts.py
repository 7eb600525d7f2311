"""Interrupts and failing calls at every step of every action: nothing is lost, and no report is untrue."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sessionscope import store
from sessionscope.store import Restore, StoreError
from sessionscope.store.io.files import FolderLock

from .actions import SCENARIOS, Scenario, bundles, clock, done
from .steps import EXECUTE, Call, stepping

__all__ = ["clock"]

STORE = os.path.dirname(str(store.__file__))
WRITING = {
    "actions.py", "bundle.py", "closing.py", "edits.py", "files.py", "compaction.py", "restore.py", "file_edits.py",
    "planning.py", "undoing.py", "writing.py",
}  # fmt: skip
LATE = (EXECUTE, "mkdir", "rename", "replace", "unlink")
"""Calls that can be carried out, and fail all the same."""
UNTRUE = ("nothing was changed", "nothing was done", "stopped before anything")
MOST_STEPS = 400
FURTHER = 3
Line = tuple[str, int]


# -- interrupts between any two lines


@contextmanager
def traced(seen: Callable[[Line], None]) -> Iterator[None]:
    """Tell of each line of the code that writes, right before it runs. What `seen` raises comes up in that code."""

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            seen((frame.f_code.co_filename, frame.f_lineno))
        return local

    def ours(frame: FrameType | None) -> bool:
        file = frame.f_code.co_filename if frame is not None else ""
        return file.startswith(STORE) and os.path.basename(file) in WRITING

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        # Where an object that holds a lock is deleted, Python passes over what is raised.
        if frame.f_code is FolderLock.release.__code__:
            return None
        in_between = frame.f_code.co_filename == contextlib.__file__ and ours(frame.f_back)
        return local if in_between or ours(frame) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


def steps(scenario: Scenario, path: Path) -> list[int]:
    """Return the steps of an action at which it is interrupted: where each of its lines runs first, and last."""
    lines: list[Line] = []
    actions, plan = scenario.plan(path)
    with traced(lines.append):
        actions.apply(plan, offline=True)
    first = {line: at for at, line in reversed(list(enumerate(lines)))}
    last = {line: at for at, line in enumerate(lines)}
    return sorted({*first.values(), *last.values()})


def interrupted(scenario: Scenario, path: Path, at: int) -> None:
    """Carry an action out, and interrupt it at a step."""
    actions, plan = scenario.plan(path)
    count = 0

    def seen(_: Line) -> None:
        nonlocal count
        count += 1
        if count > at:
            raise KeyboardInterrupt

    # The traceback has to go, as it holds what was interrupted, with its locks.
    try:
        with traced(seen):
            actions.apply(plan, offline=True)
    except KeyboardInterrupt:
        return
    pytest.fail(f"step {at}: the interrupt was swallowed")


def check(scenario: Scenario, path: Path, before: Any, after: Any, at: int) -> bool:
    """Check what an action that ended early has left. Return whether it had been carried out.

    After every third step it is also done again, or undone, which takes longer than all the rest.
    """
    now, where = scenario.state(path), f"step {at}"
    assert now in (before, after), f"{where}: neither as before nor as after"
    if now == after and scenario.bundle:
        assert bundles(path), f"{where}: changed, and nothing is backed up"
    if at % FURTHER:
        return bool(now == after)
    if now == before:
        done(path, scenario.action(path))
        assert scenario.state(path) == after, f"{where}: it cannot be done any more"
    elif scenario.bundle:
        done(path, Restore(str(bundles(path)[-1])))
        assert scenario.state(path) == before, f"{where}: it cannot be undone"
    return bool(now == after)


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_interrupt_at_any_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    scenario, source, copy = SCENARIOS[name], tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    scenario.prepare(source)
    path = scenario.copy(source, copy)
    before = scenario.state(path)
    all_steps = steps(scenario, path)
    after = scenario.state(path)
    assert before != after
    ends = set()
    for number, at in enumerate(all_steps):
        path = scenario.copy(source, copy)
        kept = len(bundles(path))
        interrupted(scenario, path, at)
        if scenario.bundle and scenario.state(path) == before:
            assert len(bundles(path)) == kept, f"step {at}: nothing was changed, but a bundle says so"
        ends.add(check(scenario, path, before, after, number))
    assert ends == {True, False}


# -- calls that fail


@contextmanager
def failing(at: int, always: bool, late: bool) -> Iterator[list[int]]:
    """Let the call number `at` of the system or of SQLite fail, and `always` all that follow; `late` ones after it.

    Yield a list of one number: how many calls there were.
    """
    count = [0]

    def step(name: str, call: Call) -> Any:
        count[0] += 1
        if count[0] != at and not (always and count[0] > at):
            return call()
        if late and name in LATE:
            call()
        if name == EXECUTE:
            raise sqlite3.OperationalError("disk I/O error")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with stepping(step):
        yield count


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("how", ["once", "once, after it was done", "from then on"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_call_that_fails_at_any_step(name: str, how: str, tmp_path: Path) -> None:
    scenario, source, copy = SCENARIOS[name], tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    scenario.prepare(source)
    path = scenario.copy(source, copy)
    before = scenario.state(path)
    done(path, scenario.action(path))
    after = scenario.state(path)
    failures = 0
    for at in range(1, MOST_STEPS):
        path = scenario.copy(source, copy)
        actions, plan = scenario.plan(path)
        error: StoreError | None = None
        with failing(at, how == "from then on", how.endswith("done")) as count:
            try:
                actions.apply(plan, offline=True)
            except StoreError as raised:
                error = raised
        if count[0] < at:
            break
        now = scenario.state(path)
        if error is None:
            assert now == after, f"step {at}: said to be done, and is not"
            continue
        failures += 1
        text = str(error)
        if now not in (before, after):
            assert "Not all files could be put back" in text, f"step {at}: {text}"
            assert bundles(path), f"step {at}: half done, and nothing is backed up"
            continue
        if any(words in text for words in UNTRUE):
            assert now == before, f"step {at}: {text}"
        check(scenario, path, before, after, at)
    assert count[0] < at, "there are more steps than were tried"
    assert failures > 4
