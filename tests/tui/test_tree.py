"""The session tree: what it shows of a session, how it folds, sorts and tells the odd ones apart."""

from __future__ import annotations

from pathlib import Path

from sessionscope.store import Place

from .database import Database
from .harness import LARGE, MEDIUM, Hands, browsing


def line(hands: Hands, word: str) -> str:
    """The tree's line that holds a word."""
    return next(shown for shown in hands.pane("sessions") if word in shown)


async def test_a_line_tells_what_matters(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        newest = hands.pane("sessions")[0]
        for part in ("▸ Fix the flaky importer", "+3", "◆2", "63", "2m"):
            assert part in newest
        assert "↥ detached · Benchmark" in line(hands, "Benchmark")
        assert "! linked · Collect" in line(hands, "Collect")
        assert "archived · Release notes" in line(hands, "Release notes")


async def test_folding(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        roots = hands.tree.count
        await hands.press("right")
        assert hands.tree.count == roots + 3
        assert "▾ Fix the flaky importer" in hands.pane("sessions")[0]
        assert hands.pane("sessions")[1].startswith("    ephemeral · Write a property")
        # Into the children, to the parent again, and folded.
        await hands.press("l", "down", "h")
        assert hands.tree.cursor == 0
        await hands.press("left")
        assert hands.tree.count == roots
        await hands.press("E")
        assert hands.tree.count == roots + 5
        depths = [len(shown) - len(shown.lstrip()) for shown in hands.pane("sessions")[:6]]
        assert max(depths) == 8


async def test_the_open_session_follows_the_cursor(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("down")
        assert hands.title == "Rotate the signing keys"
        assert hands.focus == "sessions"
        await hands.press("end")
        assert hands.title.startswith("Collect the names")


async def test_sorting(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        orders = []
        for _ in range(3):
            shown = "\n".join(hands.pane("sessions"))
            orders.append([shown.index(word) for word in ("Rotate the", "Why does", "Move the settings")])
            await hands.press("t")
        assert orders[0] == sorted(orders[0]), "by activity"
        # The settings hold 13 messages, the keys 10, the build 6.
        assert orders[2][2] < orders[2][0] < orders[2][1], "by size"
        assert "by activity" in hands.text()


async def test_a_circle_is_cut_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "circle.db"
    with Database(path) as db:
        for name, parent in (("a", "c"), ("b", "a"), ("c", "b"), ("self", "self")):
            db.message(db.session(name, title=f"the {name}", parent_session_id=parent, kind="subagent"))
    async with browsing(path, size=LARGE) as hands:
        session_table = hands.browser.catalog.opened_archives[0].session_table
        assert [session_table.place_in_tree(at) for at in session_table.roots()].count(Place.CYCLE) == 2
        assert "↻" in line(hands, "the a")
        assert "↻" in line(hands, "the self")
        await hands.press("E", "down", "E", "end", "E", "home")
        assert hands.tree.count == 4


async def test_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "deep.db"
    with Database(path) as db:
        for depth in range(400):
            kind, parent = ("subagent", f"d{depth - 1}") if depth else ("root", None)
            db.message(
                db.session(f"d{depth}", title=f"depth {depth}", age_s=depth, kind=kind, parent_session_id=parent)
            )
    async with browsing(path, size=MEDIUM) as hands:
        await hands.press("E", "end", "enter")
        assert hands.title == "depth 399"
        await hands.press("s")
        assert "depth 399" in hands.pane("sessions")[-1] or "…" in hands.pane("sessions")[-1]
        await hands.press(*["h"] * 3, "home", "h")
        assert hands.tree.count == 1
