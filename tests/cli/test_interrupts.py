"""Signals and a closed terminal while a verb writes, at every step: stopped before anything changed, or done and told.

The processes are real, and so are the signals.
"""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionscope.tui.__main__ import main

from ..store.actions import DATABASE, FOLDER, NANOBOT, POWERLOOP, Scenario, bundles, clock, done
from ..store.steps import Call, stepping
from .conftest import Cli, Start

__all__ = ["clock"]

VERBS = {
    f"power-loop: {verb[0]}": (POWERLOOP[verb[0]], DATABASE, verb)
    for verb in (
        ("close", "top", "--anyway"),
        ("compact", "top", "--from", "1", "--to", "2", "--note", "so far"),
        ("repair",),
        ("settle", "open"),
        ("archive", "top"),
    )
} | {
    f"nanobot: {verb[0]}": (NANOBOT[verb[0]], FOLDER, (*verb, "--offline"))
    for verb in (
        ("close", "telegram:42", "--anyway"),
        ("compact", "telegram:42", "--from", "1", "--to", "4", "--note", "so far"),
        ("repair",),
        ("settle", "cli:1"),
    )
}
MOST_STEPS, LONGEST_S, EVERY = 900, 60, 4


def child(argv: list[str], at: int, act: Callable[[], None], output: Path) -> int:
    """Run a verb in a process of its own, in which `act` is called before step `at`. Return its exit status.

    Its last step is told by a file beside the output, if `at` was not reached.
    """
    pid = os.fork()
    if not pid:
        status = 99
        try:
            signal.alarm(LONGEST_S)
            with output.open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            count = 0

            def step(_: str, call: Call) -> Any:
                nonlocal count
                count += 1
                if count == at:
                    act()
                return call()

            with stepping(step):
                status = main(argv)
            sys.stderr.flush()
            output.with_suffix(".steps").write_text(json.dumps(count))
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def runs(name: str, folder: Path, act: Callable[[], None]) -> Iterator[tuple[Scenario, Path, Any, Any, int, int, str]]:
    """Run a verb again and again, each time with an event some steps later, until it ends before that.

    Yield the scenario, the path, the states before and after, the step, the exit status, and what it printed.
    """
    scenario, archive, (verb, *more) = VERBS[name]
    source, copy = folder / "source", folder / "copy"
    source.mkdir()
    scenario.prepare(source)
    path = scenario.copy(source, copy)
    before = scenario.state(path)
    done(path, scenario.action(path))
    after = scenario.state(path)
    output = folder / "output"
    for at in range(1, MOST_STEPS, EVERY):
        path = scenario.copy(source, copy)
        output.with_suffix(".steps").unlink(missing_ok=True)
        status = child([verb, str(copy / archive), *more], at, act, output)
        steps = output.with_suffix(".steps")
        if steps.exists() and json.loads(steps.read_text()) < at:
            return
        yield scenario, path, before, after, at, status, output.read_text()
    raise AssertionError("there are more steps than were tried")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", VERBS)
def test_a_signal_at_any_step(name: str, number: signal.Signals, tmp_path: Path) -> None:
    seen = set()
    for scenario, path, before, after, at, status, text in runs(name, tmp_path, lambda: os.kill(os.getpid(), number)):
        now = scenario.state(path)
        assert now in (before, after), f"step {at}"
        assert "Traceback" not in text, text
        seen.add(now == after)
        if now == after:
            assert status in (0, 1), f"step {at}: {status}, {text}"
            assert "To undo it: sessionscope" in text, f"step {at}: done, and the undo is not told: {text}"
        else:
            assert status in (128 + number, -number), f"step {at}: {status}, {text}"
            assert not (scenario.bundle and bundles(path)), f"step {at}: not done, and a bundle says so"
            assert text in ("", "sessionscope: Interrupted; nothing was changed.\n"), text
    assert seen == {True, False}


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", ["power-loop: close", "nanobot: close"])
def test_a_second_control_c_ends_it_and_loses_nothing(name: str, tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    for scenario, path, before, after, at, status, _ in runs(name, tmp_path, twice):
        now = scenario.state(path)
        assert now in (before, after), f"step {at}"
        assert status in (130, 0), f"step {at}"
        if now == after:
            assert bundles(path), f"step {at}: deleted, and nothing is kept"


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", ["power-loop: close", "nanobot: close"])
def test_a_terminal_that_is_closed(name: str, tmp_path: Path) -> None:
    """The kernel sends SIGHUP then, and nothing can be printed any more."""
    scenario, archive, (verb, *more) = VERBS[name]
    (tmp_path / "source").mkdir()
    scenario.prepare(tmp_path / "source")
    path = scenario.copy(tmp_path / "source", tmp_path / "copy")
    before = scenario.state(path)
    done(path, scenario.action(path))
    after = scenario.state(path)
    ends = set()
    for at in range(1, MOST_STEPS, 12):
        path = scenario.copy(tmp_path / "source", tmp_path / "copy")
        (reached_read, reached), (go, go_write) = os.pipe(), os.pipe()
        pid, terminal = pty.fork()
        if not pid:
            status = 99
            try:
                signal.alarm(LONGEST_S)
                os.close(go_write)
                count = 0

                def step(_: str, call: Call, last: int = at, reached: int = reached, go: int = go) -> Any:
                    nonlocal count
                    count += 1
                    if count == last:
                        os.write(reached, b"x")
                        os.read(go, 1)
                    return call()

                with stepping(step):
                    status = main([verb, str(tmp_path / "copy" / archive), *more])
            finally:
                os._exit(status)
        os.close(reached)
        os.close(go)
        arrived = os.read(reached_read, 1)
        os.close(terminal)
        os.close(go_write)
        os.close(reached_read)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status != 99, f"step {at}"
        now = scenario.state(path)
        assert now in (before, after), f"step {at}"
        ends.add(now == after)
        if now == after and arrived:
            assert bundles(path), f"step {at}: deleted, and nothing is kept"
        if not arrived:
            break
    assert ends == {True, False}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("more", [(), ("--json",)])
@pytest.mark.parametrize("name", VERBS)
def test_what_was_done_and_cannot_be_printed_is_told_with_its_undo(
    name: str, more: tuple[str, ...], tmp_path: Path, start: Start, cli: Cli
) -> None:
    scenario, archive, (verb, *words) = VERBS[name]
    scenario.prepare(tmp_path)
    path = tmp_path / archive
    before = scenario.state(path)
    with open("/dev/full", "wb") as full:
        process = start(verb, path, *words, *more, stdout=full)
        err = process.communicate()[1].decode()
    assert process.returncode == 1
    assert scenario.state(path) != before
    assert err.startswith("sessionscope: The change was made, but its report could not be written (No space left")
    (_, undo) = err.strip().split("To undo it: sessionscope ")
    assert cli(*shlex.split(undo)).status == 0
    # What undoing a compaction leaves is tested elsewhere.
    assert scenario.state(path) == before or verb == "compact"
