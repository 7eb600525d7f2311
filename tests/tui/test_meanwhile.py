"""What was true when a key was pressed need not be when it takes effect: sessions come, go and change places."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from .database import Database
from .harness import LARGE, MEDIUM, SMALL, browsing, opened, running


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Sessions s1 to s5, the last the newest; only s4 speaks of a needle."""
    path = tmp_path / "sessions.db"
    with Database(path) as db:
        for number in range(1, 6):
            db.session(f"s{number}", title=f"Title {number}", age_s=600 - number)
            db.message(f"s{number}", content="a needle here" if number == 4 else "nothing here")
    return path


def delete(conn: sqlite3.Connection, id_: str) -> None:
    for table in ("sessions", "session_state", "messages"):
        conn.execute(f"DELETE FROM {table} WHERE session_id = ?", (id_,))


async def test_a_session_that_took_the_place_of_another(archive: Path) -> None:
    async with browsing(archive, size=MEDIUM) as hands:
        with Database(archive) as db:
            delete(db.conn, "s5")
            db.session("s6", title="Another one", age_s=1)
            db.message("s6", content="I am new")
        await hands.until(lambda: "Another one" in "\n".join(hands.pane("sessions")), "the new session in the tree")
        await hands.press("s", "g", "enter")
        assert hands.session == "s6"
        assert hands.seqs == [1]


async def test_a_session_made_anew_under_its_own_id(archive: Path) -> None:
    async with browsing(archive, size=MEDIUM) as hands:
        await hands.press("enter")
        assert hands.session == "s5"
        with Database(archive) as db:
            delete(db.conn, "s5")
            db.session("s0", title="In between", age_s=900)
            db.session("s5", title="Made anew", age_s=1)
            db.message("s5", content="first")
            db.message("s5", content="second")
        await hands.until(lambda: hands.seqs == [1, 2], "the rows of the new session")
        assert hands.session == "s5"


async def test_the_palette_opens_what_it_showed(archive: Path) -> None:
    async with browsing(archive, size=MEDIUM) as hands:
        hands.browser.open_key(hands.app.browser.catalog.key(hands.tree.node or 0))
        key = hands.browser.catalog.key(
            next(node for node in hands.browser.catalog.listed() if hands.browser.catalog.key(node)[2] == "s4")
        )
        with Database(archive) as db:
            delete(db.conn, "s1")
        await hands.until(
            lambda: len(hands.browser.catalog.opened_archives[0].session_table) == 4, "the session table without s1"
        )
        hands.browser.open_key(key)
        await hands.settle()
        assert hands.session == "s4"


async def test_a_filter_by_preview_outlives_a_session_table(archive: Path) -> None:
    async with browsing(archive, size=MEDIUM) as hands:
        await hands.press("f")
        await hands.type("needle")
        await hands.until(lambda: hands.previews.count == 1, "the match")
        with Database(archive) as db:
            delete(db.conn, "s1")
            db.session("s7", title="Later", age_s=1)
            db.message("s7", content="one more needle")
        await hands.until(lambda: hands.previews.count == 2, "the match that came later")
        shown = "\n".join(hands.pane("previews"))
        assert "Title 4" in shown
        assert "Later" in shown
        assert "Title 5" not in shown


async def test_the_same_id_in_two_archives(archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "sessions.db"
    copy.parent.mkdir()
    copy.write_bytes(archive.read_bytes())
    with sqlite3.connect(copy) as conn:
        conn.execute("UPDATE messages SET content = 'only in the copy' WHERE session_id = 's5'")
    conn.close()
    async with browsing(archive, copy, size=LARGE) as hands:
        assert "copy/sessions.db" in "\n".join(hands.pane("sessions"))
        await hands.press("s", "g", "down")
        assert "nothing here" in "\n".join(hands.pane("timeline"))
        await hands.press(*["down"] * 6)
        assert "only in the copy" in "\n".join(hands.pane("timeline"))


async def test_sorting_keeps_the_session_under_the_cursor(archive: Path) -> None:
    async with browsing(archive, size=MEDIUM) as hands:
        await hands.press("s", "down", "down")
        before = hands.browser.catalog.key(hands.tree.node or 0)
        for _ in range(3):
            await hands.press("t")
            assert hands.browser.catalog.key(hands.tree.node or 0) == before


async def test_reading_on_in_a_message_while_rows_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    with Database(path) as db:
        db.session("main")
        db.message("main", content="\n".join(f"line {number}" for number in range(300)))
        db.message("main", content="short")
    async with browsing(path, size=MEDIUM) as hands:
        await hands.press("enter", "g", "enter", "pagedown", "pagedown")
        place = hands.inspector.scroll_offset.y
        assert place > 0
        with Database(path) as db:
            db.message("main", content="appended")
        await hands.until(lambda: hands.timeline.count == 3, "the appended row")
        await hands.settle()
        assert hands.inspector.scroll_offset.y == place


async def test_moving_through_sessions_that_cannot_be_read_now(tmp_path: Path) -> None:
    path = tmp_path / "many.db"
    with Database(path) as db:
        for number in range(300):
            db.session(f"s{number:03}", title=f"Title {number}")
    async with browsing(path, size=SMALL) as hands:
        path.rename(tmp_path / "away.db")
        await hands.press("s", "G")
        assert any("gone" in note for note in hands.notes)
        assert "cannot be read now" in hands.text() or "‼" in hands.text()
        (tmp_path / "away.db").rename(path)
        await hands.until(lambda: "‼" not in "\n".join(hands.pane("sessions")), "the sessions to come back")


async def test_markdown_decodes_nothing_into_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "hostile.db"
    with Database(path) as db:
        db.session("main")
        db.message("main", content="<http://x/%1b%5b2Jgone%1b]0;t%07> &#x202e;backwards &#27;[31m")
    async with browsing(path, size=LARGE) as hands:
        await hands.press("enter", "m")
        assert "backwards" in "\n".join(hands.pane("inspector"))
        for line in hands.lines():
            assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or char == "\u202e" for char in line)


async def test_values_nested_without_end(tmp_path: Path) -> None:
    path = tmp_path / "deep.db"
    deep = "[" * 900 + "]" * 900
    with Database(path) as db:
        db.session("main", config_json=deep, metadata_json=deep)
        db.message("main", meta_json=json.dumps({"deep": json.loads(deep)}))
    async with browsing(path, size=MEDIUM) as hands:
        await hands.press("enter", "enter", "i")
        assert "config" in "\n".join(line for line in hands.inspector.plain.splitlines())


@pytest.mark.parametrize(
    "keys",
    [["a"], ["tab", "tab"], ["f"], [":"], ["i"], ["enter", "enter"], ["p", "enter"], ["t", "E", "m"]],
    ids=" ".join,
)
@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
async def test_keys_typed_ahead_of_the_first_frame(archive: Path, size: tuple[int, int], keys: list[str]) -> None:
    async with running(opened(archive), size) as hands:
        for key in keys:
            hands.send(key)
        await hands.settle()
        assert hands.browser.panes.complete
        assert "COMPACTIONS" in hands.text() or size == SMALL
