"""Closing in the app: a plan with fates, a second press, undo, several at once, archiving, and the trash."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessionscope.store import Restore, bundles, open_archive
from sessionscope.store.powerloop.write import closing as powerloop_closing
from sessionscope.tui.dialogs.plan import CloseDialog, PlanDialog
from sessionscope.tui.screens.trash import Trash
from sessionscope.tui.text.glyphs import MARKED

from ..store.helpers import DATA
from .compacting import Gate
from .damaged_sample import IMPORTER, NOTES, RETRY, WATCH
from .harness import MEDIUM, SIZES, SMALL, Hands, browsing


def ids(path: Path) -> dict[str, str | None]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return dict(conn.execute("SELECT session_id, parent_session_id FROM sessions"))


def text(hands: Hands) -> str:
    return "\n".join(hands.lines())


@pytest.mark.parametrize("size", SIZES)
async def test_a_second_press_closes_and_undo_brings_it_back(demo_db: Path, size: tuple[int, int]) -> None:
    before = ids(demo_db)
    async with browsing(demo_db, size=size) as hands:
        await hands.press("s", "x")
        assert isinstance(hands.app.screen, CloseDialog)
        assert "✕ Fix the flaky importer" in text(hands)
        assert "↥" in text(hands)
        assert ids(demo_db) == before
        await hands.press("enter")
        assert isinstance(hands.app.screen, CloseDialog)
        await hands.press("x")
        assert hands.app.screen is hands.browser
        after = ids(demo_db)
        assert IMPORTER not in after
        assert RETRY not in after
        assert after[WATCH] is None
        assert "u takes it back" in text(hands).replace("\n", " ") or size == SMALL
        await hands.press("u")
        assert ids(demo_db) == before
        assert bundles(demo_db) == []


async def test_a_key_that_comes_twice_confirms_once(demo_db: Path) -> None:
    before = ids(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("s", "x")
        sheet = hands.app.screen
        assert isinstance(sheet, CloseDialog)
        sheet.action_take()
        sheet.action_take()
        await hands.settle()
        assert hands.app.screen_stack == [hands.browser]
        assert len(bundles(demo_db)) == 1
        await hands.press("u")
        assert ids(demo_db) == before


async def test_escape_keeps_all(demo_db: Path) -> None:
    before = ids(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        for key in ("escape", "q"):
            await hands.press("s", "x", key)
            assert hands.app.screen is hands.browser
    assert ids(demo_db) == before
    assert not demo_db.with_name("demo.db.sessionscope").exists()


async def test_the_session_that_is_open_closes_from_the_timeline(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "x", "x")
        assert IMPORTER not in ids(demo_db)
        assert hands.session not in (None, IMPORTER)
        assert "is gone" not in text(hands)


async def test_several_are_marked_and_closed_at_once(demo_db: Path) -> None:
    before = ids(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("s", "j", "space", "space")
        assert sum(MARKED in line for line in hands.lines()) >= 2
        await hands.press("x")
        assert "Close 2 sessions" in text(hands)
        await hands.press("x")
        assert len(ids(demo_db)) == len(before) - 2
        assert not any(MARKED in line for line in hands.lines())
        await hands.press("s", "space", "escape")
        assert not any(MARKED in line for line in hands.lines())
        await hands.press("u")
        assert ids(demo_db) == before


async def test_what_speaks_against_it_is_on_the_sheet(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("f", *"signing", "enter", "s", "x")
        assert "a turn is open" in text(hands)
        await hands.press("escape")


async def test_archiving_and_reopening(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("f", *"4.2", "enter", "s")
        assert "archived · Release" in text(hands)
        await hands.press("A")
        with closing(sqlite3.connect(demo_db)) as conn:
            assert conn.execute("SELECT status FROM sessions WHERE session_id = ?", (NOTES,)).fetchone() == ("active",)
        await hands.press("u")
        with closing(sqlite3.connect(demo_db)) as conn:
            (status,) = conn.execute("SELECT status FROM sessions WHERE session_id = ?", (NOTES,)).fetchone()
            assert status == "archived"


@pytest.mark.parametrize("size", [SMALL, MEDIUM, (20, 5), (1, 1)])
async def test_the_trash_gives_back(demo_db: Path, size: tuple[int, int]) -> None:
    before = ids(demo_db)
    async with browsing(demo_db, size=size) as hands:
        await hands.press("s", "x", "x", "T")
        screen = hands.app.screen
        assert isinstance(screen, Trash)
        assert [one.what for one in screen.list_pane.found] == ["Fix the flaky importer"]
        await hands.press("?", "escape", "tab", "tab", "t", "t", "enter")
        assert screen.list_pane.found == []
        assert ids(demo_db) == before
        await hands.press("enter", "r", "escape")
        assert hands.app.screen is hands.browser


async def test_a_session_of_nanobots(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DATA / "nanobot" / "v0.2.0", tmp_path / "sessions"))
    names = {path.name for path in folder.glob("*.jsonl")}
    async with browsing(folder, size=MEDIUM) as hands:
        await hands.press("f", *"telegram", "enter", "s", "x")
        assert "nanobot" in text(hands)
        await hands.press("x")
        assert {path.name for path in folder.glob("*.jsonl")} == names - {"telegram_42.jsonl"}
        await hands.press("A")
        await hands.press("T", "enter")
        assert isinstance(hands.app.screen, PlanDialog)
        await hands.press("enter", "escape")
        assert {path.name for path in folder.glob("*.jsonl")} == names


async def test_a_session_that_changed_meanwhile_is_kept(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("s", "x")
        with closing(sqlite3.connect(demo_db)) as conn, conn:
            conn.execute("UPDATE sessions SET updated_at = updated_at + 1 WHERE session_id = ?", (IMPORTER,))
        await hands.press("x")
        assert "changed since" in text(hands)
        assert IMPORTER in ids(demo_db)


@pytest.mark.parametrize("name", ["copy", "delete"], ids=["while it copies", "while it deletes"])
async def test_an_app_that_ends_in_the_middle_has_closed_all_or_nothing(
    demo_db: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal or a closed terminal ends it: what is under way stops before it changes anything, or is completed."""
    before = ids(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        gate = Gate(monkeypatch, powerloop_closing, name)
        await hands.press("s", "x")
        hands.send("x")
        await gate.reached(hands)
        hands.app.exit()
        gate.release()
    # The process waits for its threads before it ends.
    await asyncio.get_running_loop().shutdown_default_executor()
    kept = bundles(demo_db)
    if IMPORTER in ids(demo_db):
        assert ids(demo_db) == before
        assert kept == []
    else:
        assert len(kept) == 1
        (archive,) = open_archive(demo_db)
        assert archive.actions is not None
        archive.actions.apply(archive.actions.plan(Restore(kept[0].path)))
        assert ids(demo_db) == before
