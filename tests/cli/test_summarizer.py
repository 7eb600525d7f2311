"""A note from a command of the user's: what it is given, what comes of it, and every way in which it fails."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionscope.store import Cancelled
from sessionscope.tui import config
from sessionscope.tui.external.summarizer import NOTE_BYTES, NoteError, summarize

from .conftest import ROOT as CHECKOUT
from .conftest import Cli
from .test_compacting import ROOT, active, document

DATA = CHECKOUT / "tests" / "data"
Told = list[tuple[str, int, int]]


def python(program: str) -> str:
    return shlex.join([sys.executable, "-c", program])


def note(command: str, text: str = "hello", seconds: float = 20) -> str:
    return summarize(command, iter([text]), lambda *_: None, lambda: False, seconds)


def test_it_reads_the_messages_and_prints_the_note() -> None:
    assert note(python("import sys; print(sys.stdin.read().upper())"), "héllo\ud800") == "HÉLLO?"


def test_there_is_no_shell() -> None:
    assert note(shlex.join([sys.executable, "-c", "import sys; print(sys.argv[1])", "$(id); `id` | id"])) == (
        "$(id); `id` | id"
    )


def test_large_text_goes_both_ways_at_once() -> None:
    program = (
        "import sys\nfor piece in iter(lambda: sys.stdin.read(1000), ''):\n"
        "    sys.stderr.write('x' * 500)\nprint('done')"
    )
    assert note(python(program), "y" * 3_000_000) == "done"


def test_one_that_knows_enough_need_not_read() -> None:
    assert note(python("print('short')"), "y" * 3_000_000) == "short"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; sys.exit('no key\\n')", r"ended with status 1: no key\."),
        ("pass", "printed nothing"),
        ("print('   ')", "printed nothing"),
        ("import os; os.kill(os.getpid(), 15)", "was ended by SIGTERM"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "text in UTF-8"),
        ("import sys; sys.exit('\\x1b]0;title\\x07\\x1b[31mred')", r"status 1: red\."),
        (f"print('x' * {2 * NOTE_BYTES})", "more than 100,000 bytes"),
        ("while True: print('x' * 1000)", "more than 100,000 bytes"),
    ],
)
def test_a_failure_is_one_sentence(program: str, why: str) -> None:
    with pytest.raises(NoteError, match=why) as caught:
        note(python(program))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/nowhere/at-all --x", "could not be started: No such file"),
        ("", "no summarizer is named"),
        ("'open", "cannot be taken apart"),
        (shlex.quote(str(CHECKOUT)), "could not be started: Permission denied"),
    ],
)
def test_a_command_that_is_none_is_said(command: str, why: str) -> None:
    with pytest.raises(NoteError, match=why):
        note(command)


def test_escapes_are_taken_out_of_a_note() -> None:
    said = r"'\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07\x07\x00\r\n\tend\x9b2J'"
    assert note(python(f"import sys; sys.stdout.buffer.write({said}.encode())")) == "red link\n\tend"


def gone(pid: int) -> bool:
    """Whether a process that is nobody's child here has ended, or ends soon."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 20)[0])
    finally:
        os.close(handle)


HANGS = """
import subprocess, sys, time, signal, pathlib
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is no child")
def test_one_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(Cancelled):
        summarize(
            shlex.join([sys.executable, "-c", HANGS, str(pid)]),
            iter(["x"]),
            lambda *_: None,
            lambda: pid.exists() and bool(pid.read_text()),
        )
    assert gone(int(pid.read_text()))


def test_one_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(NoteError, match=r"longer than 0\.2 seconds and was stopped"):
        note(python("import time; time.sleep(600)"), seconds=0.2)


def test_one_that_leaves_something_running_has_answered() -> None:
    program = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "print('done')"
    )
    assert note(python(program)) == "done"


def test_it_can_be_stopped_while_it_works() -> None:
    told: Told = []
    with pytest.raises(Cancelled):
        summarize(
            python("import time; time.sleep(600)"), iter(["x"]), lambda *said: told.append(said), lambda: len(told) > 3
        )
    assert told


def test_what_breaks_the_reading_ends_it() -> None:
    def pieces() -> Iterator[str]:
        yield "x"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        summarize(python("import sys; sys.stdin.read()"), pieces(), lambda *_: None, lambda: False)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(DATA / "power-loop" / "v0.2.0.db", tmp_path / "a.db"))


def test_a_compaction_takes_its_note_from_it(cli: Cli, database: Path, tmp_path: Path) -> None:
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read()); print('Facts.')"
    command = shlex.join([sys.executable, "-c", program, str(tmp_path / "seen")])
    plan = document(cli, "compact", database, ROOT, "--from", "13", "--to", "16", "--summarizer", command)["plan"]
    assert plan["note"] == "Facts."
    text = (tmp_path / "seen").read_text()
    shown = document(cli, "show", database, ROOT, "--from", "13", "--to", "16")["messages"]
    heads = [line.split()[0] for line in text.splitlines() if line.startswith("#")]
    assert heads == [f"#{one['seq']}" for one in shown]
    assert all(one["content"] in text for one in shown)


def test_its_failure_leaves_all_as_it_was(cli: Cli, database: Path) -> None:
    before = active(cli, database)
    done = cli("compact", database, ROOT, "--from", "13", "--to", "16", "--summarizer", python("raise SystemExit(3)"))
    assert (done.status, done.err.count("\n")) == (3, 1)
    assert "the summarizer ended with status 3. Nothing was changed." in done.err
    assert active(cli, database) == before


def test_the_config_names_one_for_a_compaction_without_a_note(
    cli: Cli, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys, pathlib; pathlib.Path(sys.argv[1]).touch(); print('Facts.')"
    command = shlex.join([sys.executable, "-c", program, str(tmp_path / "ran")])
    monkeypatch.setattr(config, "load", lambda: config.Config(summarizer=command))
    span = ("--from", "13", "--to", "16")
    assert document(cli, "compact", database, ROOT, *span, "--dry-run")["plan"]["note"] == ""
    assert document(cli, "compact", database, ROOT, *span, "--note", "Mine.", "--dry-run")["plan"]["note"] == "Mine."
    assert not (tmp_path / "ran").exists()
    assert document(cli, "compact", database, ROOT, *span)["plan"]["note"] == "Facts."
