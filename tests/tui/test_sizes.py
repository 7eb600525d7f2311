"""Terminals of every size: nothing crashes, and the row that was read stays in sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from .harness import LARGE, Hands, browsing

WIDTHS = (200, 160, 159, 120, 100, 99, 80, 60, 59, 40, 36, 31, 20, 12, 7, 3, 2, 1)
HEIGHTS = (60, 40, 24, 20, 19, 12, 11, 8, 5, 3, 2, 1)
# Every width meets a height and every height a width, the smallest ones all of each other.
WALK = (
    [(width, HEIGHTS[at * len(HEIGHTS) // len(WIDTHS)]) for at, width in enumerate(WIDTHS)]
    + [(width, 24) for width in WIDTHS]
    + [(80, height) for height in HEIGHTS]
    + [(width, height) for width in (3, 2, 1) for height in (3, 2, 1)]
    + [(1, 60), (200, 1), (120, 40), (80, 24)]
)
COARSE = (
    [(width, 24) for width in (160, 120, 99, 59, 31, 12, 7, 3, 1)]
    + [(80, height) for height in (60, 19, 11, 5, 2, 1)]
    + [(2, 2), (2, 1), (1, 2), (1, 1), (200, 1), (1, 60), (200, 60), (80, 24)]
)
READING = 47


async def walk(hands: Hands) -> None:
    """Resizes through the sizes that matter for what lies in or above the panes."""
    for size in COARSE:
        await hands.resize(*size)
        assert hands.app._exception is None, size
        assert all(strip.cell_length == size[0] for strip in hands.strips()), size


def in_sight(hands: Hands) -> bool:
    """Whether the row under the timeline's cursor is on the screen, if the timeline is."""
    height = hands.timeline.scrollable_content_region.height
    return not height or 0 <= hands.cursor_line() < height


async def test_the_row_stays(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", ":", "4", "7", "enter")
        for size in WALK:
            await hands.resize(*size)
            assert hands.seq == READING, size
            assert in_sight(hands), size
        assert any(f" {READING} ●" in line for line in hands.pane("timeline"))


@pytest.mark.parametrize("pane", ["p", "a", "i"])
async def test_other_panes(demo_db: Path, pane: str) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press(pane)
        await walk(hands)


@pytest.mark.parametrize("key", ["ctrl+p", "question_mark", "f"])
async def test_what_lies_above_the_panes(demo_db: Path, key: str) -> None:
    """The palette, the help and the prompt."""
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", key)
        await hands.type("fix")
        await walk(hands)
        await hands.press("escape", "escape", "escape")
        assert hands.browser.current_session is not None


async def test_a_notice(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        hands.app.notify("a notice " * 20, timeout=600, markup=False)
        await walk(hands)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (31, 9)])
async def test_started_small(demo_db: Path, size: tuple[int, int]) -> None:
    async with browsing(demo_db, size=size) as hands:
        await hands.press("enter", "enter", "4", "a", "i", "p", "s", "?", "escape", "ctrl+p", "escape", "tab")
        await hands.resize(120, 40)
        assert hands.title == "Fix the flaky importer"
        await hands.press("s", "enter")
        assert in_sight(hands)


async def test_an_empty_archive(tmp_path: Path) -> None:
    from .database import Database

    path = tmp_path / "empty.db"
    with Database(path):
        pass
    async with browsing(path, size=LARGE) as hands:
        assert "no sessions yet" in hands.text()
        await hands.press("enter", "1", "4", "[", *"oOyYiem>na", "enter", "p", "enter")
        await walk(hands)
