"""Copying: to the terminal's clipboard and to a file, and saying so."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionscope.tui.external import clipboard

from .database import Database, calls
from .harness import SMALL, browsing


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipboard, "place", lambda: tmp_path / "cache" / "copied.txt")


async def test_a_message(demo_db: Path, tmp_path: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "y")
        assert hands.app.clipboard.endswith("is ready to merge ✅")
        file = tmp_path / "cache" / "copied.txt"
        assert file.read_text("utf-8") == hands.app.clipboard
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert any(
            (note.startswith("Copied message 63, 203 bytes") and str(file) in note) or "message 63" in note
            for note in hands.notes
        )


async def test_an_id(demo_db: Path) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("Y")
        assert hands.app.clipboard == hands.session


async def test_calls_where_there_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    with Database(path) as db:
        db.message(db.session("main"), "assistant", "", tool_calls_json=calls(("x", "ls", {"path": "/"})))
    async with browsing(path, size=SMALL) as hands:
        await hands.press("enter", "y")
        assert '"ls"' in hands.app.clipboard


async def test_what_cannot_be_encoded(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    with Database(path) as db:
        db.message(db.session("main"))
        db.conn.execute("UPDATE messages SET content = CAST(x'61ff62' AS TEXT)")
    async with browsing(path, size=SMALL) as hands:
        await hands.press("enter", "y")
        assert hands.app.clipboard == "a\\xffb"


async def test_a_long_one_goes_to_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    with Database(path) as db:
        db.message(db.session("main"), content="x" * 3_000_000)
    async with browsing(path, size=SMALL) as hands:
        await hands.press("enter", "y")
        assert not hands.app.clipboard
        assert any("too long for a terminal's clipboard" in note for note in hands.notes)
    assert len((tmp_path / "cache" / "copied.txt").read_bytes()) == 3_000_000


async def test_no_place_on_disk(demo_db: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("enter", "y")
        assert hands.app.clipboard
        assert any("No copy on disk" in note for note in hands.notes)
