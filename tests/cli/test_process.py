"""The program as a process: what it loads, how it ends, what it leaves behind, what it says when something is wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import Cli, Make, Start

Sample = Callable[[str], Path]

PATIENCE_S = 60
LEAN = """
import sys
from sessionscope.tui.__main__ import main
path = sys.argv[1]
for argv in (["--help"], ["--version"], ["ls", path], ["show", path, "sess_root0000000000000000000"], [path],
             ["ls", path, "--json"], ["compactions", path, "sess_root0000000000000000000"], ["demo"]):
    assert main(argv) == 0, argv
sys.exit(" ".join({"textual", "rich", "platformdirs"} & set(sys.modules)) or 0)
"""


@pytest.fixture
def big(make: Make) -> Path:
    """A session whose text is longer than any pipe holds."""
    return make(("big", {}, [{"content": "x" * 900} for _ in range(1_000)]))


def test_no_headless_verb_loads_the_screen(start: Start, sample: Sample) -> None:
    process = start(sample("v0.2.0"), code=LEAN)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"usage: sessionscope" in out
    assert b"\x1b" not in out


def test_looking_changes_nothing(cli: Cli, sample: Sample, sample_name: str) -> None:
    path = sample(sample_name)

    def look() -> dict[str, tuple[bytes, int]]:
        return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir()}

    before = look()
    for argv in ((path,), ("ls", path), ("ls", path, "--json"), ("show", path, ":sess_root0000000000000000000")):
        cli(*argv)
    assert look() == before


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_reader_that_leaves_is_no_error(start: Start, big: Path, more: tuple[str, ...]) -> None:
    process = start("show", big, "big", *more)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_control_c_ends_quietly(start: Start, big: Path) -> None:
    process = start("show", big, "big")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    # Nobody reads on, and what is left to say is more than a pipe holds: only the interrupt can end the process.
    assert process.wait(PATIENCE_S) == 130
    _, err = process.communicate()
    assert err == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_one_sentence(start: Start, big: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start("show", big, "big", stdout=full)
        _, err = process.communicate()
    assert (process.returncode, err.count(b"\n")) == (3, 1)
    assert b"Traceback" not in err


def test_any_character_can_be_printed_anywhere(start: Start, make: Make) -> None:
    path = make(("a", {}, [{"content": "日本語 🌏 é"}]))
    for verb in (("show", path, "a"), ("ls", path), (path,)):
        process = start(*verb, environment={"PYTHONIOENCODING": "ascii"})
        out, err = process.communicate()
        assert (process.returncode, err) == (0, b"")
        assert b"\\u65e5\\u672c\\u8a9e" in out


def test_an_archive_that_is_held_exclusively_is_busy(cli: Cli, sample: Sample) -> None:
    path = sample("v0.2.0")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode=WAL")
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("UPDATE sessions SET updated_at = updated_at + 1")
        result = cli("ls", path)
    assert (result.status, result.out, result.err.count("\n")) == (3, "", 1)


@pytest.mark.parametrize(
    "argv",
    [
        ("ls",),
        ("show", "x.db"),
        ("compactions", "x.db"),
        ("ls", "x.db", "--frob"),
        ("demo", "x"),
        ("--frob",),
        ("show", "x.db", "a", "--view", "b"),
        ("show", "x.db", "a", "--from", "b"),
        ("ls", "nowhere.db"),
        ("nowhere.db",),
        ("ls", "\0"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(cli: Cli, argv: tuple[str, ...]) -> None:
    result = cli(*argv)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("sessionscope: ")


def test_what_is_no_archive_is_named_as_such(cli: Cli, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as conn:
        conn.execute("CREATE TABLE notes (text)")
    (tmp_path / "text.db").write_text("hello " * 1_000)
    (tmp_path / "empty.db").touch()
    for place in (foreign, tmp_path / "text.db", tmp_path / "empty.db", tmp_path):
        result = cli("ls", place)
        assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
        assert str(place) in result.err


def test_help_names_every_verb_and_version_is_one_line(cli: Cli) -> None:
    help_ = cli("--help")
    assert help_.status == 0
    assert all(f"sessionscope {verb}" in help_.out for verb in ("demo", "ls", "show", "compactions"))
    version = cli("--version")
    assert version.status == 0
    assert version.out.startswith("sessionscope ")
    assert version.out.count("\n") == 1


LOADING = """
import sys
from importlib.abc import MetaPathFinder
class Finder(MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname == "sessionscope.tui.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
import sessionscope.tui.__main__
"""


def test_control_c_while_the_program_is_loading_ends_quietly(start: Start) -> None:
    process = start(code=LOADING)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")
