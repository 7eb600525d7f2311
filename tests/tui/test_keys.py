"""How many keys the main things take on a small screen, each counted from a fresh start."""

from __future__ import annotations

from pathlib import Path

from sessionscope.store import State, View

from .harness import SMALL, browsing


async def test_open_the_newest_session(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter")
        assert hands.pressed <= 2
        assert hands.title == "Fix the flaky importer"
        assert hands.focus == "timeline"
        assert hands.seq == 63
        assert "Done. The changelog says what was wrong" in hands.text()


async def test_see_its_last_message_whole(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "enter")
        assert hands.pressed <= 3
        assert hands.shown("inspector")
        assert any("is ready to merge ✅" in line for line in hands.pane("inspector")), hands.text()


async def test_reach_its_first_compaction_and_its_note(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("a", "end")
        assert hands.pressed <= 3
        assert any("◆1 1-16" in line for line in hands.pane("audit")), hands.text()
        assert any("fails about once in 40 runs on CI" in line for line in hands.pane("inspector")), hands.text()


async def test_from_a_compaction_to_the_rows_it_folded(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("a", "end")
        before = hands.pressed
        await hands.press("enter")
        assert hands.pressed - before <= 1
        assert hands.shown("timeline"), hands.text()
        assert hands.seqs == list(range(1, 17))


async def test_reach_the_note_in_the_timeline_and_from_there_its_rows(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("[", "[", "enter")
        assert hands.pressed <= 3
        assert hands.seq == 19
        assert any("Failing runs import 520 or 540 rows" in line for line in hands.pane("inspector")), hands.text()
        before = hands.pressed
        await hands.press("o")
        assert hands.pressed - before <= 1
        assert hands.seq == 1
        assert hands.shown("timeline")
        assert hands.timeline.current is not None
        assert hands.timeline.current.state == State.COMPACTED


async def test_what_the_model_sees_now(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter")
        before = hands.pressed
        await hands.press("4")
        assert hands.pressed - before <= 1
        assert hands.view is View.CONTEXT
        assert hands.seqs == [*range(43, 64)]
        assert hands.shown("timeline")


async def test_the_newest_child_of_a_session(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("right", "down", "enter")
        assert hands.pressed <= 3
        assert hands.focus == "timeline"
        assert hands.title.startswith("Write a property-based test for Queue")


async def test_a_seq_by_number(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press(":", "4", "7", "enter")
        assert hands.pressed <= 2 + len("47")
        assert hands.seq == 47
        assert hands.shown("timeline")


async def test_another_session_by_a_word_of_its_preview(demo_db: Path) -> None:
    word = "staging"
    async with browsing(demo_db, size=SMALL) as hands:
        session_table = hands.browser.catalog.opened_archives[0].session_table
        assert not session_table.matching([word]), "the word must stand in the preview alone"
        await hands.press("f", *word, "enter")
        assert hands.pressed <= 2 + len(word)
        assert hands.title == "Rotate the signing keys"
        assert hands.shown("timeline")
