"""The screen of the context: the biggest rows first, by role, what compactions saved, and how it grew."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionscope.store import Candidate
from sessionscope.tui.screens.context_usage import ContextUsageScreen, usage_blocks
from sessionscope.tui.text import clock
from sessionscope.tui.workers.context_usage import SPARKS, bar, context_usage_of, sparkline

from ..store.workspaces import workspace
from .damaged_sample import IMPORTER
from .harness import LARGE, MEDIUM, NANOBOT_NOW, SIZES, browsing


@pytest.mark.parametrize("size", SIZES)
async def test_it_shows_what_the_model_is_sent(demo_db: Path, size: tuple[int, int]) -> None:
    async with browsing(demo_db, size=size) as hands:
        await hands.press("enter", "w")
        screen = hands.app.screen
        assert isinstance(screen, ContextUsageScreen)
        usage = screen.list_pane.context_usage
        assert [row.seq for row in usage.rows][:3] == [47, 44, 60]
        assert len(usage.rows) == 21
        assert {role: count for role, count, _ in usage.by_role} == {"note": 1, "user": 3, "assistant": 8, "tool": 9}
        assert sum(tokens for _, _, tokens in usage.by_role) == usage.tokens
        text = screen.detail.plain
        assert "◆2" in text
        assert "14k → 3.0k saves 79%" in text
        assert "over rounds" in text
        # The context falls where a note stands for what was folded.
        assert len(usage.growth) == 25
        assert any(after < before for before, after in zip(usage.growth, usage.growth[1:], strict=False))
        assert f"{usage.growth[-1] / 1000:.1f}k of at most" in text
        await hands.press("j", "j", "enter")
        assert hands.app.screen is hands.browser
        assert (hands.seq, hands.focus) == (60, "timeline")
        await hands.press("w", "escape")
        assert hands.seq == 60


async def test_a_row_outside_of_the_view_is_gone_to(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "3", "w", "enter")
        assert hands.seq == 47


async def test_of_nanobot_only_what_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now_ms", lambda: NANOBOT_NOW)
    async with browsing(workspace(tmp_path / "ws", "v0.3.5"), size=LARGE) as hands:
        await hands.press("f", *"start goal", "enter", "4")
        sent = hands.seqs
        await hands.press("w")
        screen = hands.app.screen
        assert isinstance(screen, ContextUsageScreen)
        assert sorted(row.seq for row in screen.list_pane.context_usage.rows) == sent
        assert "nanobot stores no usage" in screen.detail.plain
        assert len(screen.list_pane.context_usage.growth) == sum(
            row.role == "assistant" for row in screen.list_pane.context_usage.rows
        )


async def test_an_empty_session_and_one_that_cannot_be_read(demo_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        with closing(sqlite3.connect(demo_db)) as conn, conn:
            conn.execute("UPDATE messages SET state = 'compacted_out' WHERE session_id = ?", (IMPORTER,))
        await hands.press("enter", "w")
        screen = hands.app.screen
        assert isinstance(screen, ContextUsageScreen)
        assert (screen.list_pane.count, screen.list_pane.context_usage.tokens) == (0, 0)
        assert "the model is sent nothing of it" in hands.text()
        await hands.press("enter")
        assert hands.app.screen is screen
        await hands.press("escape")
        demo_db.unlink()
        await hands.press("w")
        assert isinstance(hands.app.screen, ContextUsageScreen)
        assert not hands.app.screen.list_pane.count
        assert "demo.db" in hands.text()


@given(st.lists(st.integers(0, 10**9), max_size=200), st.integers(1, 40))
def test_a_sparkline_is_as_high_as_its_values(values: list[int], cells: int) -> None:
    line = sparkline(values, cells)
    assert len(line) == min(cells, len(values))
    assert set(line) <= set(SPARKS)
    if values and max(values):
        assert SPARKS[-1] in line


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 60))
def test_a_bar_is_as_long_as_its_part(part: int, whole: int, cells: int) -> None:
    part = min(part, whole)
    line = bar(part, whole, cells)
    assert len(line) <= cells
    assert bool(line) == bool(part)
    assert abs(len(line) - cells * part / whole) <= 1


def test_the_biggest_come_first_and_the_oldest_of_the_same_size() -> None:
    rows = [Candidate(seq, seq, "user", seq, tokens) for seq, tokens in ((1, 4), (2, 9), (3, 9), (4, 5))]
    assert [row.seq for row in context_usage_of(rows).rows] == [2, 3, 4, 1]


def test_one_round_is_no_rounds() -> None:
    for growth, words in (([5], "5 of at most 5 tokens, 1 round"), ([7, 5], "5 of at most 7 tokens, 2 rounds")):
        blocks = usage_blocks(context_usage_of([], growth=growth))
        assert [text for block in blocks for text, _ in block.spans if "at most" in text] == [words]
