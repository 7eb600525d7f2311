"""The filter: by id and title at once, by preview from a worker, over the tree and the list alike."""

from __future__ import annotations

from pathlib import Path

from .harness import LARGE, MEDIUM, SMALL, browsing


async def test_title_words(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("f", *"FLAKY fix")
        assert hands.tree.count == 1
        assert "/FLAKY fix" in hands.text()
        await hands.press("escape")
        assert hands.tree.count == 11
        assert hands.focus == "sessions"


async def test_a_child_is_shown_below_its_parents(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("f", *"watch ci")
        shown = [line.strip() for line in hands.pane("sessions") if line.strip()]
        assert len(shown) == 3
        assert shown[0].startswith("▾ Fix the flaky importer")
        assert "Watch CI for more" in shown[2]
        assert hands.previews.count == 1
        await hands.press("enter")
        assert hands.title == "Watch CI for more failures"


async def test_id(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        id_ = hands.browser.catalog.opened_archives[0].session_table.ids[0]
        await hands.press("/", *id_, "enter")
        assert hands.session == id_


async def test_arrows_move_behind_the_prompt(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("f", *"the", "down", "enter")
        assert hands.focus == "timeline"
        assert hands.title != "Fix the flaky importer"


async def test_nothing_matches(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("f", *"no such thing")
        assert "nothing matches" in hands.text()
        await hands.press("enter")
        assert hands.focus == "sessions"
        await hands.press("right", "E", "enter", "down", "escape")
        assert hands.tree.count == 11


async def test_from_the_previews(demo_db: Path) -> None:
    for size in (SMALL, MEDIUM):
        async with browsing(demo_db, size=size) as hands:
            await hands.press("p", "/", *"keys", "enter")
            assert hands.title == "Rotate the signing keys"
            assert hands.shown("timeline")


async def test_leaving_keeps_the_session(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("f", *"keys", "enter", "escape")
        assert not hands.browser.catalog.words
        assert hands.title == "Rotate the signing keys"
