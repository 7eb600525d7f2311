"""Several archives at once: each a top node, whatever it is called and in whatever layout it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .harness import LARGE, MEDIUM, SMALL, browsing

Sample = Callable[[str], Path]


async def test_each_is_a_top_node(demo_db: Path, sample: Sample) -> None:
    async with browsing(sample("v0.2.0"), sample("v8.0.0"), demo_db, size=LARGE) as hands:
        tops = [line for line in hands.pane("sessions") if line.startswith("▾ ")]
        assert [top.split()[1] for top in tops] == ["v0.2.0.db", "v8.0.0.db", "demo.db"]
        assert hands.previews.count == 7 + 7 + 16
        await hands.press("home", "enter")
        assert [line for line in hands.pane("sessions") if line.startswith("▸ ")]
        await hands.press("right", "down", "enter")
        assert hands.browser.current_session is not None
        assert hands.browser.current_session.opened_archive is hands.browser.catalog.opened_archives[0]
        assert "v0.2.0.db" in hands.lines()[0]


async def test_a_mixed_file_gives_two(sample: Sample) -> None:
    for size in (SMALL, MEDIUM):
        async with browsing(sample("mixed-0.2.0-then-8.0.0"), size=size) as hands:
            assert len(hands.browser.catalog.opened_archives) == 2
            tree = "\n".join(hands.pane("sessions"))
            assert "mixed-0.2.0-then-8.0.0.db# " in tree
            assert "mixed-0.2.0-then-8.0.0.db#pl_" in tree
    place = f"{sample('mixed-0.2.0-then-8.0.0')}#pl_"
    async with browsing(place, size=MEDIUM) as hands:
        assert len(hands.browser.catalog.opened_archives) == 1
        assert hands.previews.count == 1


async def test_a_poisoned_file_says_so(sample: Sample) -> None:
    async with browsing(sample("poisoned-0.2.0-opened-by-8.0.0-prefix-empty"), size=LARGE) as hands:
        said = "no release loads this layout"
        assert any(said in note for note in hands.notes)
        assert said in hands.lines()[0]
        await hands.press("enter", "4")
        assert any("No release loads this layout" in note for note in hands.notes)


async def test_the_same_ids_in_two_archives(demo_db: Path, tmp_path: Path) -> None:
    """Copies: every session is there twice, and each opens in its own archive."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(demo_db.read_bytes())
    async with browsing(demo_db, copy, size=LARGE) as hands:
        first, second = hands.browser.catalog.opened_archives
        current_session = set()
        for opened_archive in (first, second):
            hands.controllers.opening.open_and_focus(opened_archive.node(0))
            await hands.settle()
            assert hands.browser.current_session is not None
            current_session.add((hands.browser.current_session.opened_archive.index, hands.session))
        assert len(current_session) == 2
        await hands.press("f", *"signing")
        assert hands.previews.count == 2
        assert hands.tree.count == 4
