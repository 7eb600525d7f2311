"""Another process writes while the browser shows: it follows within two seconds and keeps the place that is read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import State

from .database import Database
from .harness import LARGE, MEDIUM, SMALL, browsing

SOON_S = 2.0
MAIN = "main"


class OtherProcess:
    """A process of its own that writes to the database."""

    def __init__(self, path: Path, journal: str) -> None:
        script = Path(__file__).with_name("writer.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(path), journal], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the writer died"
        return json.loads(line)

    def __call__(self, what: str, *values: Any) -> Any:
        """Has something done and waits until it is committed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, *values]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


Start = Callable[[str], OtherProcess]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "live.db"
    with Database(path) as db:
        db.session(MAIN, title="The main one", age_s=10)
        for at in range(1, 301):
            db.message(MAIN, "user" if at % 2 else "assistant", f"message number {at}")
        db.message(db.session("side", title="Another one", age_s=20), "user", "aside")
    return path


@pytest.fixture(params=["wal", "delete"])
def writer(archive: Path, request: pytest.FixtureRequest) -> Iterator[OtherProcess]:
    process = OtherProcess(archive, request.param)
    yield process
    process.stop()


async def test_follows_at_the_end(archive: Path, writer: OtherProcess) -> None:
    async with browsing(archive, size=SMALL) as hands:
        await hands.press("enter")
        assert hands.seq == 300
        assert writer("append", MAIN, "user", "just now") == 301
        await hands.until(lambda: hands.seq == 301, "the new row", SOON_S)
        await hands.settle()
        assert "just now" in hands.pane("timeline")[-1]
        writer("append_many", MAIN, 200)
        await hands.until(lambda: hands.seq == 501, "two hundred more", SOON_S)
        await hands.press("enter")
        assert "one of many: 199" in "\n".join(hands.pane("inspector"))


@pytest.mark.parametrize("writer", ["wal"], indirect=True)
@pytest.mark.parametrize("seq", [1, 5, 150, 299])
async def test_keeps_the_place_above(archive: Path, writer: OtherProcess, seq: int) -> None:
    async with browsing(archive, size=MEDIUM) as hands:
        await hands.press("enter", ":", *str(seq), "enter")
        # All but the scroll bar, which tells that there is more now.
        line, text = hands.cursor_line(), [shown[:-2] for shown in hands.pane("timeline")]
        assert hands.seq == seq
        writer("append", MAIN, "user", "far below")
        await hands.until(lambda: hands.timeline.count == 301, "the new row", SOON_S)
        await hands.settle()
        assert (hands.seq, hands.cursor_line()) == (seq, line)
        assert [shown[:-2] for shown in hands.pane("timeline")] == text


async def test_a_compaction(archive: Path, writer: OtherProcess) -> None:
    async with browsing(archive, size=LARGE) as hands:
        await hands.press("enter", ":", "9", "0", "enter")
        line = hands.cursor_line()
        writer("compact", MAIN, 1, 250, "All that is behind us.")
        await hands.until(lambda: bool(hands.audit.audit.compactions), "the compaction", SOON_S)
        await hands.settle()
        assert (hands.seq, hands.cursor_line()) == (90, line)
        row = hands.timeline.current
        assert row is not None
        assert row.state == State.COMPACTED
        assert "250 rows" in "\n".join(hands.pane("audit"))
        await hands.press("]")
        assert hands.seq == 301
        assert "All that is behind us." in "\n".join(hands.pane("inspector"))
        await hands.press("4")
        assert hands.timeline.count == 51
        writer("append", MAIN, "user", "in the context too")
        await hands.until(lambda: hands.timeline.count == 52, "the new row in the context", SOON_S)


async def test_a_writer_that_does_not_pause(archive: Path, writer: OtherProcess) -> None:
    """A change at every look puts nothing off: rows, compaction and title follow while it goes on writing."""
    async with browsing(archive, size=LARGE) as hands:
        await hands.press("enter")
        writer("compact", MAIN, 1, 250, "All that is behind us.")
        end, seqs = time.monotonic() + 2 * SOON_S, [0]
        while not (hands.audit.audit.compactions and hands.timeline.rows.highest > 301):
            assert time.monotonic() < end, "nothing of it is shown while the other goes on"
            seqs.append(writer("append", MAIN, "user", "and on"))
            await hands.pilot.pause(0.1)
        for _ in range(10):
            seqs.append(writer("append", MAIN, "user", "and on"))
            await hands.pilot.pause(0.1)
            assert "The main one" in "\n".join(hands.pane("timeline-title"))
        assert hands.timeline.rows.highest > seqs[-10] - 10


async def test_a_session_comes(archive: Path, writer: OtherProcess) -> None:
    async with browsing(archive, size=LARGE) as hands:
        await hands.press("down")
        assert hands.session == "side"
        writer("create", "fresh", "A fresh one")
        writer("append", "fresh", "user", "the very first words")
        await hands.until(lambda: "A fresh one" in "\n".join(hands.pane("sessions")), "the session", SOON_S)
        await hands.until(lambda: "the very first words" in "\n".join(hands.pane("previews")), "its words", SOON_S)
        await hands.settle()
        assert hands.session == "side"
        assert hands.tree.node == hands.browser.catalog.node_of(
            hands.browser.catalog.opened_archives[0], hands.browser.current_session.ref
        )
        writer("create", "child", "A child", "side")
        await hands.until(lambda: "+1" in "\n".join(hands.pane("sessions")), "the child", SOON_S)
        await hands.press("right", "down", "enter")
        assert hands.session == "child"


@pytest.mark.parametrize("writer", ["wal"], indirect=True)
async def test_a_session_goes(archive: Path, writer: OtherProcess) -> None:
    async with browsing(archive, size=LARGE) as hands:
        await hands.press("down", "enter")
        assert hands.session == "side"
        writer("delete", "side")
        gone = "is gone: another process closed it"
        await hands.until(lambda: any(gone in note for note in hands.notes), "a word", SOON_S)
        await hands.settle()
        assert "this session is gone" in hands.text()
        assert "Another one" not in "\n".join(hands.pane("sessions"))
        assert "Another one" not in "\n".join(hands.pane("previews"))
        await hands.press("1", "4", "a", "enter", "i", "o", "O", "b", "[", "y", "e", "s", "home", "enter")
        assert hands.session == MAIN


@pytest.mark.parametrize("writer", ["wal"], indirect=True)
async def test_locked_meanwhile(archive: Path, writer: OtherProcess) -> None:
    async with browsing(archive, size=MEDIUM) as hands:
        await hands.press("enter")
        writer("lock")
        await hands.press("home", "s", "down", "enter")
        await hands.until(lambda: bool(hands.notes), "a notice")
        assert any("another process" in note for note in hands.notes), hands.notes
        await hands.press("1", "2", "i", "a", "enter", "f", *"aside", "enter", "t", "4")
        writer("unlock")
        writer("append", MAIN, "user", "after the lock")
        await hands.press("escape", "s", "home", "enter", "1")
        await hands.until(lambda: hands.session == MAIN and hands.timeline.count == 301, "the row after the lock")
        await hands.press("end")
        assert hands.seq == 301


async def test_the_file_goes_and_comes_back(archive: Path) -> None:
    stored = archive.read_bytes()
    async with browsing(archive, size=MEDIUM) as hands:
        await hands.press("enter")
        archive.unlink()
        await hands.press("s", "down", "enter", "home", "2", "i", "a")
        await hands.until(lambda: any("gone" in note for note in hands.notes), "a notice")
        archive.write_bytes(stored)
        await hands.press("s", "home", "enter", "1", "end")
        await hands.until(lambda: hands.session == MAIN and hands.timeline.count == 300, "the rows again")
        await hands.settle()
        assert hands.seq == 300
