"""The compaction audit: what was folded into which note, what that saved, how it is known and what is odd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .database import Database, calls
from .harness import LARGE, SIZES, SMALL, browsing

MAIN = "main"


async def test_three_lines_a_compaction(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        lines = [line.rstrip() for line in hands.pane("audit")]
        for line, parts in enumerate(
            [
                ("◆2", "17-42 → 44", "3h"),
                ("26 rows", "inferred", "round 0"),
                ("14k → 3.0k", "saves 79%", "recorded"),
                ("◆1", "1-16 → 19", "4h"),
            ]
        ):
            for part in parts:
                assert part in lines[line]


@pytest.mark.parametrize("size", SIZES)
async def test_choosing_shows_rows_and_note(demo_db: Path, size: tuple[int, int]) -> None:
    async with browsing(demo_db, size=size) as hands:
        await hands.press("a")
        assert "◆2 compaction" in "\n".join(hands.pane("inspector"))
        await hands.press("down", "enter")
        assert hands.seqs == list(range(1, 17))
        assert hands.shown("timeline")
        if hands.shown("inspector"):
            inspector = "\n".join(hands.pane("inspector"))
            assert "◆1 compaction" in inspector
            assert "about once in 40 runs" in " ".join(hands.inspector.plain.split())
        assert "folded rows, esc: all" in hands.text()
        await hands.press("escape")
        assert hands.timeline.count == 63
        await hands.press("a", "home", "enter", "1")
        assert hands.timeline.count == 63


async def test_following_from_the_audit(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("a", "o")
        assert hands.seq == 17
        assert hands.focus == "timeline"


async def test_leaving_the_audit_for_the_timeline(demo_db: Path) -> None:
    """The inspector follows the rows again."""
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("a", "[")
        assert hands.seq == 44
        assert hands.inspector.plain.startswith("44  system")
        await hands.press("a", ":", "5", "0", "enter")
        assert hands.inspector.plain.startswith("50  assistant")


async def test_what_is_odd(tmp_path: Path) -> None:
    path = tmp_path / "odd.db"
    with Database(path) as db:
        db.session(MAIN)
        for _ in range(6):
            db.message(MAIN)
        db.message(MAIN, "assistant", "calls", tool_calls_json=calls(("x", "ls", {})))
        db.message(MAIN, "tool", "answer", tool_call_id="x")
        db.compact(MAIN, 1, 3)
        db.compact(MAIN, 6, 4)
        db.compact(MAIN, 5, 7)
        db.compact(MAIN, 4, 999)
        db.conn.execute("UPDATE compactions SET before_tokens = NULL, after_tokens = NULL WHERE compact_seq = 1")
        db.conn.execute("UPDATE compactions SET note_seq = 77 WHERE compact_seq = 2")
        db.conn.execute(
            "INSERT INTO messages SELECT session_id, seq + 100, role, name, content, NULL, NULL, NULL, "
            "'compacted_out', NULL, created_at FROM messages WHERE seq = 1"
        )
        db.conn.execute("UPDATE session_state SET next_seq = 200")
    async with browsing(path, size=LARGE) as hands:
        shown = "\n".join(hands.pane("audit"))
        assert "tokens unknown" in shown
        assert "‼" in shown
        said = " ".join(anomalies for compaction in hands.audit.audit.compactions for anomalies in compaction.anomalies)
        for word in ("inverted", "note", "past", "call"):
            assert word in said, (word, said)
        assert hands.audit.audit.unexplained
        await hands.press("a", "end")
        assert "that no compaction explains" in "\n".join(hands.pane("audit"))
        await hands.press("enter")
        assert 101 in hands.seqs


async def test_what_cannot_be_known(sample: Callable[[str], Path]) -> None:
    async with browsing(sample("folds-0.18.0-ambiguous"), size=LARGE) as hands:
        for at in range(len(hands.browser.catalog.opened_archives[0].session_table)):
            hands.controllers.opening.open_and_focus(hands.browser.catalog.opened_archives[0].node(at))
            await hands.settle()
            if any(compaction.rows is None for compaction in hands.audit.audit.compactions):
                break
        assert "rows unknown" in "\n".join(hands.pane("audit"))
        await hands.press("a")
        assert "took unknown; some of" in " ".join(hands.inspector.plain.split())


async def test_none(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("down", "enter", "a")
        assert "no compaction yet" in "\n".join(hands.pane("audit"))
        await hands.press("enter", "o", "down", "up", "escape")
        assert hands.title == "Rotate the signing keys"
