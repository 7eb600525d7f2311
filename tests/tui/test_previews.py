"""The preview list: title, first words, counts; choosing one opens it and selects it in the tree."""

from __future__ import annotations

import json
from pathlib import Path

from .database import Database
from .harness import LARGE, MEDIUM, SMALL, browsing


async def test_two_lines_a_session(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        first, second = hands.pane("previews")[:2]
        for part in ("Fix the flaky importer", "◆2", "63", "2m"):
            assert part in first
        assert "`test_resumes_after_crash` fails" in second
        assert hands.previews.count == 16


async def test_choosing_one(demo_db: Path) -> None:
    for size in (SMALL, MEDIUM):
        async with browsing(demo_db, size=size) as hands:
            await hands.press("p", "down", "down", "down", "enter")
            assert hands.title == "Review the patch"
            assert hands.focus == "timeline"
            assert hands.shown("timeline")
            # Its parent was unfolded for it.
            assert hands.tree.node == hands.previews.node
            await hands.press("s")
            assert "linked · Review the" in hands.pane("sessions")[hands.tree.cursor]


async def test_the_preview_is_what_the_user_first_said(tmp_path: Path) -> None:
    path = tmp_path / "previews.db"
    with Database(path) as db:
        late = db.session("late", age_s=1)
        db.message(late, "system", "you are an agent")
        db.message(late, "assistant", "hello")
        db.message(late, "user", "  what   the\nuser said  " + "x" * 200)
        blocks = db.session("blocks", age_s=2)
        db.message(
            blocks,
            "user",
            json.dumps([{"type": "image"}, {"type": "text", "text": "inside a block"}]),
            meta_json='{"content_encoding": "json"}',
        )
        db.message(db.session("silent", age_s=3), "assistant", "only I spoke")
        db.session("empty", age_s=4)
    async with browsing(path, size=LARGE) as hands:
        shown = hands.pane("previews")
        assert "what the user said" in "\n".join(shown[:2])
        assert "inside a block" in "\n".join(shown[2:4])
        assert "only I spoke" in "\n".join(shown[4:6])
        assert "(empty)" in shown[6]
        previews = hands.browser.catalog.opened_archives[0].previews.values()
        assert max(map(len, previews)) <= 120
