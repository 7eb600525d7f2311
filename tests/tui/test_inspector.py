"""The inspector: messages whole in three ways, calls laid out, and everything about a session."""

from __future__ import annotations

import json
from pathlib import Path

from .database import Database, calls
from .harness import LARGE, SMALL, Hands, browsing

MAIN = "main"


def words(hands: Hands) -> str:
    """The inspector's text on one line."""
    return " ".join(hands.inspector.plain.split())


async def test_three_modes(tmp_path: Path) -> None:
    path = tmp_path / "modes.db"
    with Database(path) as db:
        db.session(MAIN)
        db.message(MAIN, "user", "# Head\n\n**bold** <tag>kept</tag>", meta_json='{"a": [1, {"b": null}]}')
    async with browsing(path, size=LARGE) as hands:
        await hands.press("enter")
        assert "# Head" in hands.inspector.plain
        assert "**bold** <tag>kept</tag>" in hands.inspector.plain
        assert "meta a: - 1 - b: null" in words(hands)
        await hands.press("m")
        assert "# Head" not in hands.inspector.plain
        assert "**" not in hands.inspector.plain
        assert "bold <tag>kept</tag>" in hands.inspector.plain
        await hands.press("m")
        assert 'meta_json = {"a": [1, {"b": null}]}' in words(hands)
        assert "tool_call_id = NULL" in words(hands)
        await hands.press("m")
        assert "# Head" in hands.inspector.plain


async def test_calls_are_laid_out(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    with Database(path) as db:
        db.session(MAIN)
        db.message(
            MAIN,
            "assistant",
            "",
            tool_calls_json=calls(
                ("id1", "write_file", {"path": "a.py", "content": "one\ntwo", "deep": {"list": [1, "x"]}})
            ),
        )
        broken = [{"id": None, "type": "function", "function": {"name": "odd", "arguments": "{not json"}}]
        db.message(MAIN, "assistant", None, tool_calls_json=json.dumps(broken))
    async with browsing(path, size=LARGE) as hands:
        await hands.press("enter")
        assert "→ odd without an id ‼ arguments are not valid JSON {not json" in words(hands)
        await hands.press("up")
        lines = [line.strip() for line in hands.inspector.plain.split("\n")]
        for line in ("→ write_file  id1", "path: a.py", "content:", "one", "two", "deep:", "list:", "- 1", "- x"):
            assert line in lines, line


async def test_folded_rows_name_their_note(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", ":", "5", "enter")
        assert "compacted out" in words(hands)
        assert "folded into ◆19 by compaction 1 (inferred)" in words(hands)
        await hands.press(":", "1", "9", "enter")
        assert "folded 1 to 16" in words(hands)


async def test_a_session(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("down", "i")
        shown = words(hands)
        for part in (
            "Rotate the signing keys",
            "root, active",
            "messages 10, 10 active",
            "unanswered calls",
            "pending, as the agent noted it",
            "usage",
            "covers",
            "config",
            "metadata",
            "system prompt",
        ):
            assert part in shown, part
        await hands.press("i")
        assert hands.inspector.plain.startswith("10  tool")


async def test_a_subagent_names_its_parent(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        parent = hands.session
        await hands.press("right", "down", "i")
        assert f"parent {parent}" in words(hands)
        assert "subagent, ephemeral" in words(hands)


async def test_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "hole.db"
    with Database(path) as db:
        db.session(MAIN)
        for _ in range(5):
            db.message(MAIN)
        db.conn.execute("DELETE FROM messages WHERE seq IN (2, 3)")
    async with browsing(path, size=LARGE) as hands:
        await hands.press("enter", "g", "down")
        assert "rows 2 to 3 are gone from the file" in words(hands)
        await hands.press("y", "e", "o", "m", ">", "enter")


async def test_scrolling(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("i", "G")
        await hands.until(lambda: hands.inspector.scroll_offset.y > 0, "the end")
        await hands.press("k", "k", "j", "g")
        await hands.until(lambda: hands.inspector.scroll_offset.y == 0, "the top")


async def test_selecting_and_copying(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "enter")
        left, top = hands.inspector.region.offset
        await hands.pilot.mouse_down(offset=(left + 1, top))
        await hands.pilot.hover(offset=(left + 14, top))
        await hands.pilot.mouse_up(offset=(left + 14, top))
        await hands.settle()
        assert (hands.app.screen.get_selected_text() or "").strip() == "63  assistant"
