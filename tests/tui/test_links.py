"""Where keys lead: note and rows, call and result, caller and child, compactions, and back again."""

from __future__ import annotations

from pathlib import Path

from .harness import LARGE, MEDIUM, SMALL, browsing


async def test_note_to_rows_and_back(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "[", "o")
        assert hands.seq == 17
        assert any("the file does not say" in note for note in hands.notes), "an inferred set says so"
        await hands.press("O")
        assert hands.seq == 44
        await hands.press("b", "b")
        assert hands.seq == 44


async def test_a_folded_note_leads_on(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", ":", "1", "9", "enter", "O")
        assert hands.seq == 44


async def test_call_to_result_and_back(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", ":", "4", "7", "enter", "o")
        assert hands.seq == 48
        await hands.press("o")
        assert hands.seq == 47


async def test_spawning_call_to_child_and_back(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        parent = hands.session
        await hands.press("enter", ":", "1", "5", "enter", "o")
        assert hands.title == "Trace the retry path"
        assert hands.focus == "timeline"
        assert not any("the file does not say" in note for note in hands.notes), "this link is recorded"
        await hands.press("O")
        assert (hands.session, hands.seq) == (parent, 15)
        await hands.press("b")
        assert hands.title == "Trace the retry path"


async def test_an_inferred_child_says_so(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        parent = hands.session
        await hands.press("enter", ":", "3", "5", "enter", "o")
        assert hands.session != parent
        assert any("inferred, the file does not say" in note for note in hands.notes)


async def test_from_another_view(demo_db: Path) -> None:
    """A link leads to rows that the view does not hold: all rows are shown then."""
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "4", "[", "o")
        assert hands.seq == 17
        assert hands.view.value == "all"


async def test_compactions_one_after_the_other(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        seen = []
        for key in ("[", "[", "[", "]", "]"):
            await hands.press(key)
            seen.append(hands.seq)
        assert seen == [44, 19, 19, 44, 44]
        assert any("no compaction before this row" in note for note in hands.notes)
        compaction = hands.audit.compaction
        assert compaction is not None
        assert compaction.number == 2


async def test_nowhere(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "o", "O", "b", "n")
        for said in ("leads nowhere", "no parent here", "nothing to go back to", "looks for a text first"):
            assert any(said in note for note in hands.notes), said
        assert hands.seq == 63


async def test_an_orphan_has_no_parent(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("end", "enter", "g", "O")
        assert hands.title.startswith("Collect the names")
        assert hands.notes
