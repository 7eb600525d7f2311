"""The timeline: one line a message, states told apart by glyph and weight, views, and keys that lead about."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.style import Style
from textual.widgets import Input

from sessionscope.store import View

from .database import Database, calls
from .harness import LARGE, SMALL, Hands, browsing

MAIN = "main"


@pytest.fixture
def states(tmp_path: Path) -> Path:
    """Rows of every kind: 1 folded, 2 its note (folded by the next), 3 a note, 4 to 6 gone, then the rest."""
    path = tmp_path / "states.db"
    with Database(path) as db:
        db.session(MAIN, title="All states")
        db.message(MAIN, "user", "folded")
        db.compact(MAIN, 1, 1, "first note")
        db.compact(MAIN, 2, 2, "second note")
        for _ in range(3):
            db.message(MAIN)
        db.conn.execute("DELETE FROM messages WHERE seq BETWEEN 4 AND 6")
        db.message(MAIN, "user", "active", round_index=3)
        db.message(MAIN, "user", "dropped", state="dropped")
        db.message(MAIN, "user", "damaged", meta_json="{")
        db.message(MAIN, "assistant", "calls", tool_calls_json=calls(("x", "grep", {"for": "it"}), ("y", "ls", {})))
        db.message(MAIN, "tool", "answer x", tool_call_id="x", name="grep")
        db.message(MAIN, "tool", "answer y", tool_call_id="y", name="ls")
        db.message(MAIN, "user", "x" * 5_000)
    return path


def styles(hands: Hands, line: int) -> set[tuple[bool | None, bool | None, bool | None]]:
    """Which weights (bold, dim, italic) a line of the timeline is written in, without colour."""
    # As the widget gives it: what the terminal gets has its dim text blended into another colour.
    found = [style or Style.null() for text, style, _ in hands.timeline.render_line(line) if text.strip()]
    return {(style.bold, style.dim, style.italic) for style in found}


async def test_a_line_for_each_kind(states: Path) -> None:
    async with browsing(states, size=LARGE) as hands:
        await hands.press("enter")
        lines = hands.pane("timeline")
        for line, parts in enumerate(
            [
                ("1 ○", "user", "folded"),
                ("2 ◇", "sys", "1-1"),
                ("3 ◆", "sys", "2-2"),
                ("┄┄ 3 rows are gone, 4 to 6",),
                ("7 ●", "user", "r3", "active"),
                ("8 ✕", "dropped"),
                ("9 ‼", "meta is not valid JSON"),
                ("10 ●╭", "agent", "grep, ls", "calls"),
                ("11 ●├", "tool", "grep", "answer x"),
                ("12 ●╰", "ls", "answer y"),
                ("13 ●", "xxx", "5.0k"),
            ]
        ):
            for part in parts:
                assert part in lines[line], (line, part)


async def test_told_apart_without_colour(states: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with browsing(states, size=LARGE) as hands:
        await hands.press("s")
        folded, note, hole, active, damaged = (styles(hands, line) for line in (0, 2, 3, 4, 6))
        assert any(dim for _, dim, _ in folded)
        assert any(bold for bold, _, _ in note)
        assert any(italic for _, _, italic in hole)
        assert not any(dim or italic for _, dim, italic in active)
        assert any(bold for bold, _, _ in damaged)
        assert active not in (folded, note, hole)


async def test_views(states: Path) -> None:
    async with browsing(states, size=SMALL) as hands:
        await hands.press("enter")
        expected = {
            View.ALL: [1, 2, 3, None, 7, 8, 9, 10, 11, 12, 13],
            View.ACTIVE: [3, 7, 9, 10, 11, 12, 13],
            View.COMPACTED: [1, 2],
            View.CONTEXT: [3, 7, 9, 10, 11, 12, 13],
        }
        for key, (view, seqs) in enumerate(expected.items(), 1):
            await hands.press(str(key))
            assert (hands.view, hands.seqs) == (view, seqs)
        seen = []
        for _ in range(4):
            await hands.press("v")
            seen.append(hands.view)
        assert seen == [View.ALL, View.ACTIVE, View.COMPACTED, View.CONTEXT]


async def test_a_view_keeps_the_row(states: Path) -> None:
    async with browsing(states, size=SMALL) as hands:
        await hands.press("enter", ":", "9", "enter", "2")
        assert hands.seq == 9
        await hands.press("4", "1")
        assert hands.seq == 9


async def test_the_context_says_what_it_cannot_know(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "4")
        assert any(note.startswith("Not stored, so not shown:") for note in hands.notes)


async def test_moving(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "g")
        assert hands.seq == 1
        await hands.press("j", "j", "k")
        assert hands.seq == 2
        await hands.press("pagedown")
        assert hands.seq == 2 + hands.timeline.rows_visible - 1
        await hands.press("G")
        assert hands.seq == 63
        await hands.press("down")
        assert hands.seq == 63


@pytest.mark.parametrize(("typed", "seq"), [("5", None), ("99999999999999999999", 13), ("0", 1), ("007", 7), ("٣", 3)])
async def test_to_a_seq_that_may_not_be_there(states: Path, typed: str, seq: int | None) -> None:
    async with browsing(states, size=SMALL) as hands:
        await hands.press("enter", ":", *typed, "enter")
        here = hands.timeline.current
        assert here is not None
        assert hands.seq == seq
        assert here.hole == ((4, 6) if seq is None else None)


@pytest.mark.parametrize("typed", ["", "x", "²", "-1", "1.5", "9" * 5_000], ids=str.__len__)
async def test_what_is_no_seq(states: Path, typed: str) -> None:
    async with browsing(states, size=SMALL) as hands:
        await hands.press("enter", "g", ":")
        hands.browser.panes.prompt.query_one(Input).value = typed
        await hands.press("enter")
        assert hands.focus == "timeline"
        assert hands.browser.current_session is not None


async def test_finding(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "g", "/", *"reviewer", "enter")
        first = hands.seq
        assert first is not None
        row = hands.timeline.current
        assert row is not None
        await hands.press("n")
        assert hands.seq is not None
        assert hands.seq > first
        await hands.press("N")
        assert hands.seq == first
        await hands.press("/", *"no such words", "enter")
        assert any("no more 'no such words'" in note for note in hands.notes)
        assert hands.seq == first


async def test_unanswered_calls_are_marked(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("down", "enter")
        assert any("⚠ unanswered" in line for line in hands.pane("timeline"))
