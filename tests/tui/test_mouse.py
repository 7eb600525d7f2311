"""The mouse: rows, folds, panes, tabs and the wheel."""

from __future__ import annotations

from pathlib import Path

from textual import events

from .harness import LARGE, MEDIUM, SMALL, Hands, browsing


async def click(hands: Hands, pane: str, x: int, y: int, times: int = 1) -> None:
    """Clicks at a place inside a pane."""
    region = hands.browser.query_one(f"#{pane}").region
    await hands.pilot.click(offset=(region.x + x, region.y + y), times=times)
    await hands.settle()


async def test_rows(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await click(hands, "timeline", 10, 3)
        assert hands.focus == "timeline"
        assert hands.cursor_line() == 3
        assert hands.inspector.plain.startswith(f"{hands.seq}  ")
        await click(hands, "timeline", 10, 5, times=2)
        assert hands.focus == "inspector"


async def test_sessions(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await click(hands, "sessions", 0, 0)
        assert hands.tree.count == 14
        await click(hands, "sessions", 0, 0)
        assert hands.tree.count == 11
        await click(hands, "sessions", 12, 1)
        assert hands.title == "Rotate the signing keys"
        assert hands.focus == "sessions"
        await click(hands, "sessions", 12, 2, times=2)
        assert hands.focus == "timeline"
        await click(hands, "sessions", 12, 30)
        assert hands.tree.count == 11


async def test_previews_and_audit(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await click(hands, "audit", 5, 4)
        assert "◆1 compaction" in hands.inspector.plain
        await click(hands, "audit", 5, 4, times=2)
        assert hands.seqs == list(range(1, 17))
        await click(hands, "previews", 5, 3, times=2)
        assert hands.title == "Rotate the signing keys"


async def test_tabs_and_modes(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter")
        title = hands.browser.query_one("#timeline-title").region
        line = hands.lines()[title.y]
        await hands.pilot.click(offset=(line.index("4 context") + 2, title.y))
        await hands.settle()
        assert hands.view.value == "context"
    async with browsing(demo_db, size=MEDIUM) as hands:
        title = hands.browser.query_one("#inspector-title").region
        await hands.pilot.click(offset=(title.right - 3, title.y))
        await hands.settle()
        assert hands.controllers.inspection.mode == "markdown"
        title = hands.browser.query_one("#tree-title").region
        await hands.pilot.click(offset=(title.right - 3, title.y))
        await hands.settle()
        assert "by created" in hands.text()


async def test_the_wheel(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter")
        before = hands.timeline.top
        await hands.pilot._post_mouse_events([events.MouseScrollUp], "#timeline")
        await hands.until(lambda: hands.timeline.top < before, "the rows to scroll")
        assert hands.seq == 63
