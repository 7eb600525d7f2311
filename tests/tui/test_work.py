"""How much work a key is, counted: pages, statements, lines painted and bytes, at sizes no list may hold in memory."""

from __future__ import annotations

import gc
import shlex
import sqlite3
import threading
import tracemalloc
from array import array
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.color import ColorSystem
from textual._compositor import Compositor
from textual.geometry import Region

from sessionscope.store import Message
from sessionscope.store.powerloop.format.schema import TABLES
from sessionscope.store.powerloop.read.messages import MessageTimeline
from sessionscope.store.powerloop.reader import PowerLoopReader
from sessionscope.tui.browser.controllers import inspection
from sessionscope.tui.browser.controllers.opening import REST_S
from sessionscope.tui.text.describe import PIECE
from sessionscope.tui.widgets.timeline import PAGE, PAGES
from sessionscope.tui.workers import read_workers

from .database import Database
from .harness import LARGE, MEDIUM, NOW, SMALL, Hands, browsing, running
from .harness import opened as archives

MANY, SESSIONS, HUGE = 300_000, 100_000, 20_000_000
MAIN = "main"


def write_rows(path: Path, count: int) -> Path:
    """A session of many rows, the first tenth folded twice, with a note in the middle of things."""
    folded, note = count // 10, count // 5
    with sqlite3.connect(path) as conn:
        conn.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {TABLES}")
        conn.execute("INSERT INTO sessions (session_id, created_at, updated_at) VALUES (?, ?, ?)", (MAIN, NOW, NOW))
        conn.execute(
            "INSERT INTO session_state (session_id, next_seq, last_compact_seq) VALUES (?, ?, 1)", (MAIN, count + 1)
        )
        conn.executemany(
            "INSERT INTO messages (session_id, seq, role, content, state, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (MAIN, seq, "user", f"words of message {seq}", "compacted_out" if seq <= folded else "active", NOW)
                for seq in range(1, count + 1)
            ),
        )
        conn.execute(
            "UPDATE messages SET role = 'system', name = 'compact_note', meta_json = ? WHERE seq = ?",
            (f'{{"from_seq": 1, "to_seq": {folded}}}', note),
        )
        conn.execute("INSERT INTO compactions VALUES (?, 1, ?, 1, ?, 900, 90, 0, ?)", (MAIN, note, folded, NOW))
    return path


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("many") / "many.db", MANY)


class Counter:
    """What was read since it was last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.windows: list[int] = []
        self.statements: list[str] = []
        self.timeline: list[str] = []
        self.messages: list[Message] = []
        self.summaries: list[int] = []


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts the reads of the thread that draws; what workers do delays no key."""
    found, drawing = Counter(), threading.get_ident()
    connect, window = sqlite3.connect, MessageTimeline.window
    message, summaries = PowerLoopReader.message, PowerLoopReader.summaries
    inside: list[bool] = []

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        conn = connect(*args, **options)
        if threading.get_ident() == drawing:
            conn.set_trace_callback(note)
        return conn

    def note(statement: str) -> None:
        found.statements.append(statement)
        if inside and "FROM messages" in statement.replace('"', ""):
            found.timeline.append(statement)

    def counted_window(lines: MessageTimeline, start: int, stop: int) -> Any:
        if threading.get_ident() == drawing:
            found.windows.append(start)
        inside.append(True)
        try:
            rows = window(lines, start, stop)
        finally:
            inside.pop()
        assert len(rows) <= PAGE
        return rows

    def counted_message(reader: PowerLoopReader, *args: Any) -> Message:
        answer = message(reader, *args)
        found.messages.append(answer)
        return answer

    def counted_summaries(reader: PowerLoopReader, keys: Any, exact: bool = False) -> Any:
        found.summaries += keys
        return summaries(reader, keys, exact)

    monkeypatch.setattr(sqlite3, "connect", traced)
    monkeypatch.setattr(MessageTimeline, "window", counted_window)
    monkeypatch.setattr(PowerLoopReader, "message", counted_message)
    monkeypatch.setattr(PowerLoopReader, "summaries", counted_summaries)
    return found


KEYS = (
    "up",
    "up",
    "down",
    "pageup",
    "pageup",
    "pagedown",
    "home",
    "down",
    "pagedown",
    "pagedown",
    "end",
    "up",
    "pageup",
    "1",
    "2",
    "3",
    "4",
    "1",
    "v",
    "v",
    "v",
    "v",
    "[",
    "]",
    "1",
)


async def test_a_key_reads_two_pages_at_most(many_rows: Path, counter: Counter) -> None:
    async with browsing(many_rows, size=LARGE) as hands:
        await hands.press("enter")
        assert counter.windows
        # In the middle, where a screen spans two pages, as well as at the end.
        for start in (None, MANY // 2 // PAGE * PAGE):
            if start is not None:
                await _count(hands, counter, *f":{start}", "enter")
            for key in KEYS:
                await _count(hands, counter, key)


async def test_a_hit_is_read_like_any_other_row(many_rows: Path, counter: Counter) -> None:
    async with browsing(many_rows, size=MEDIUM) as hands:
        await hands.press("enter", "home", "slash", *"message 700")
        await _count(hands, counter, "enter")
        assert hands.seq == 700
        await _count(hands, counter, "n")
        assert hands.seq == 7000
        await _count(hands, counter, "N")
        assert hands.seq == 700


async def _count(hands: Hands, counter: Counter, *keys: str) -> None:
    """Presses keys of which the last one reads; fails where that is more than a key may read."""
    for key in keys:
        counter.reset()
        await hands.press(key)
        where = f"{key} at {hands.seq}"
        assert len(set(counter.windows)) == len(counter.windows), where
        assert len(counter.windows) <= 2, (where, counter.windows)
        assert len(counter.timeline) <= 2, (where, counter.timeline)
        assert len(counter.messages) <= 1, where
        slow = [sql for sql in counter.statements if "OFFSET" in sql or "count(*) FROM messages" in sql]
        assert not slow, where


@pytest.mark.parametrize("size", [SMALL, MEDIUM, LARGE])
async def test_down_paints_two_lines(many_rows: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    painted: list[Region] = []
    update = Compositor.render_partial_update

    def noted(compositor: Compositor) -> Any:
        painted.extend(compositor._dirty_regions)
        return update(compositor)

    async with browsing(many_rows, size=size) as hands:
        await hands.press("enter", "home", "down", "down")
        pane = hands.timeline.region
        monkeypatch.setattr(Compositor, "render_partial_update", noted)
        for key in ("down", "down", "up"):
            painted.clear()
            await hands.press(key)
            regions = [found for region in painted if (found := region.intersection(pane))]
            lines = {y for region in regions for y in range(region.y, region.bottom)}
            assert len(lines) == 2, (key, regions)
            # As the compositor sends them: each line's own spans, in the richest colours.
            sent = sum(
                len(style.render(text, color_system=ColorSystem.TRUECOLOR).encode()) if style else len(text)
                for y in lines
                for text, style, _ in hands.strips()[y].crop(pane.x, pane.right)
            )
            assert 0 < sent <= 1024, (key, sent)


async def test_memory_does_not_follow_length(many_rows: Path, tmp_path: Path) -> None:
    """The timeline of many rows weighs what that of a few thousand does."""
    weights = []
    for path in (write_rows(tmp_path / "thousands.db", 4_000), many_rows):
        async with browsing(path, size=MEDIUM) as hands:
            await hands.press("enter", "home")
            current_session = hands.browser.current_session
            assert current_session is not None
            assert current_session.outline is not None
            assert len(current_session.outline.runs()) == 1
            assert sum(map(len, current_session.outline.states.values())) <= 3
            gc.collect()
            tracemalloc.start()
            try:
                hands.controllers.opening.show_rows()
                for step in range(0, hands.timeline.count, max(PAGE, hands.timeline.count // 20)):
                    hands.timeline.center(step)
                    await hands.pilot.pause(0)
                await hands.settle()
                gc.collect()
                weights.append(tracemalloc.get_traced_memory()[0])
            finally:
                tracemalloc.stop()
            assert len(hands.timeline._pages) <= PAGES
    assert abs(weights[1] - weights[0]) < 500_000, weights


async def test_the_inspector_waits_for_the_keys_to_rest(
    many_rows: Path, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert REST_S == 0.1
    async with browsing(many_rows, size=MEDIUM) as hands:
        await hands.press("enter", "home")
        counter.reset()
        rested = inspection.REST_S
        monkeypatch.setattr(inspection, "REST_S", 1_000.0)
        for at in range(1, 11):
            hands.send("down")
            await hands.until(lambda at=at: hands.timeline.cursor == at, "the cursor to move")
        await hands.pilot.pause(0)
        assert counter.messages == []
        assert hands.controllers.inspection._timer is not None
        assert hands.controllers.inspection._timer._interval == 1_000.0
        monkeypatch.setattr(inspection, "REST_S", rested)
        await hands.press("down")
        assert [message.seq for message in counter.messages] == [12]
        assert "words of message 12" in "\n".join(hands.pane("inspector"))


# -- many sessions


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred thousand sessions, every fifth one a root."""
    path = tmp_path_factory.mktemp("crowd") / "crowd.db"
    with sqlite3.connect(path) as conn:
        conn.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {TABLES}")
        conn.executemany(
            "INSERT INTO sessions (session_id, created_at, updated_at, kind, parent_session_id, metadata_json) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    f"s{at}",
                    NOW - at,
                    NOW - at,
                    "subagent" if at % 5 else "root",
                    f"s{at - at % 5}" if at % 5 else None,
                    f'{{"title": "number {at}"}}',
                )
                for at in range(SESSIONS - 1, -1, -1)
            ),
        )
        conn.execute("INSERT INTO session_state (session_id, next_seq) SELECT session_id, 2 FROM sessions")
        conn.execute(
            "INSERT INTO messages (session_id, seq, role, content, created_at) "
            "SELECT session_id, 1, 'user', 'hello', 0 FROM sessions"
        )
    return path


async def test_many_sessions(crowd: Path, counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, count = threading.Event(), read_workers.read_session_table

    def gated(*args: Any) -> None:
        gate.wait(30)
        count(*args)

    monkeypatch.setattr(read_workers, "read_session_table", gated)
    async with running(archives(crowd), MEDIUM) as hands:
        try:
            await hands.until(lambda: "number 0" in hands.text(), "the newest session")
            assert "counting sessions…" in hands.text()
            assert "hello" in "\n".join(hands.pane("timeline"))
            assert len(counter.summaries) < 200
        finally:
            gate.set()
        await hands.settle()
        assert hands.tree.count == SESSIONS // 5
        assert hands.previews.count == SESSIONS
        assert f"{SESSIONS} sessions" in hands.lines()[0]
        for shown in (hands.tree._shown, hands.tree._depths, hands.previews._shown):
            assert isinstance(shown, array)
        for key in ("s", "end", "home", "pagedown", "right", "down", "p", "end", "pageup", "enter", "s", "t"):
            counter.reset()
            await hands.press(key)
            # One row more for each that is opened, and the few above and below the screen.
            assert len(counter.summaries) <= 2 * MEDIUM[1], key


# -- a huge message


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("huge") / "huge.db"
    with Database(path) as db:
        db.session(MAIN)
        db.message(MAIN, "user", "begin \x1b[31m " + "0123456789 " * (HUGE // 11) + " end")
    yield path
    path.unlink()


async def test_a_huge_message_is_read_in_pieces(huge: Path, counter: Counter) -> None:
    async with browsing(huge, size=MEDIUM) as hands:
        await hands.press("enter", "enter")
        assert "begin ␛[31m" in hands.inspector.plain
        assert "bytes more: > reads" in hands.inspector.plain
        await hands.press(">")
        assert "… 65,536 bytes before (<)" in hands.inspector.plain
        await hands.press("<", "<")
        assert "begin ␛[31m" in hands.inspector.plain
        assert counter.messages
        assert all(len(message.content or "") <= PIECE + 4 for message in counter.messages)


async def test_the_pager_gets_all_of_it(huge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, copied = tmp_path / "pager.sh", tmp_path / "copied.txt"
    script.write_text(f'#!/bin/sh\ncp "$1" {shlex.quote(str(copied))}\n')
    monkeypatch.setenv("PAGER", f"sh {shlex.quote(str(script))}")
    async with browsing(huge, size=MEDIUM) as hands:
        # There is no terminal to lend here.
        monkeypatch.setattr(hands.app, "suspend", nullcontext)
        await hands.press("e")
        assert not hands.notes, hands.notes
        data = copied.read_bytes()
        assert len(data) > HUGE
        assert data.startswith("begin ␛[31m".encode())
        assert data.endswith(b" end")
        assert b"\x1b" not in data


async def test_without_a_pager_it_says_so(huge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with browsing(huge, size=MEDIUM) as hands:
        await hands.press("e")
        assert any("cannot be lent" in note for note in hands.notes)
        monkeypatch.setattr(hands.app, "suspend", nullcontext)
        monkeypatch.setenv("PAGER", "no-such-pager-anywhere '")
        await hands.press("e")
        assert any("the pager could not be used" in note for note in hands.notes)
