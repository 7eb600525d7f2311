"""Compacting while other things happen: agents that write, keys that come early, work that is slow or is stopped."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import Uncompact
from sessionscope.store.powerloop.actions import PowerLoopActions
from sessionscope.store.powerloop.write import writing
from sessionscope.tui.dialogs.compact import UNSEEN
from sessionscope.tui.workers import action_workers

from ..store.workspaces import NAME, lines, talk
from .compacting import NOTE, Gate, active, compact, leaving, python, sheet, write
from .damaged_sample import IMPORTER, WATCH
from .harness import LARGE, MEDIUM, Hands, browsing


@contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose changes others see at its end."""
    with closing(sqlite3.connect(path)) as conn, conn:
        yield conn


def append(conn: sqlite3.Connection, *messages: tuple[int, str, Any]) -> None:
    """Messages as an agent writes them: seq, role, and the id of a call that it makes or answers."""
    for seq, role, call in messages:
        calls = json.dumps([{"id": call, "name": "look", "arguments": {}}]) if call and role == "assistant" else None
        conn.execute(
            "INSERT INTO messages (session_id, seq, role, content, tool_calls_json, tool_call_id, state, round_index, "
            "created_at) VALUES (?, ?, ?, 'more', ?, ?, 'active', 0, 0)",
            (IMPORTER, seq, role, calls, call if role == "tool" else None),
        )
    conn.execute("UPDATE session_state SET next_seq = ? WHERE session_id = ?", (messages[-1][0] + 1, IMPORTER))


# -- what is carried out is what was shown


async def test_a_proposal_that_is_widened_past_a_row_that_stays(demo_db: Path) -> None:
    with changing(demo_db) as conn:
        conn.execute("UPDATE messages SET state = 'compacted_out' WHERE session_id = ?", (IMPORTER,))
        append(
            conn,
            (64, "user", None),
            (65, "assistant", "late"),
            (66, "user", None),
            (67, "assistant", None),
            (68, "tool", "late"),
            (69, "assistant", None),
        )
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c")
        assert leaving(hands) == [64, 65, 68]
        assert "Compact 64 to 65" in hands.text()
        await compact(hands)
        assert active(demo_db) == [66, 67, 69, 70]
        await hands.press("u")
        assert active(demo_db) == [64, 65, 66, 67, 68, 69]


@pytest.mark.parametrize("key", ["ctrl+s", "ctrl+g"])
async def test_a_key_that_comes_before_the_plan_waits_for_it(
    demo_db: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    before = active(demo_db)
    config = python("import sys; print(sys.stdin.read().count('\\n#') + 1)")
    async with browsing(demo_db, size=MEDIUM, config=config) as hands:
        await hands.press("enter", "c")
        await write(hands, NOTE)
        await hands.press("tab")
        gate = Gate(monkeypatch, action_workers, "cut")
        hands.send("shift+up")
        await gate.reached(hands)
        hands.send(key)
        await hands.until(lambda: UNSEEN[:40] in hands.text(), "the refusal")
        await gate.open(hands)
        assert active(demo_db) == before
        assert sheet(hands).draft == NOTE
        assert leaving(hands) == list(range(43, 50))
        await hands.press(key)
        if key == "ctrl+g":
            assert sheet(hands).draft == "7"
        else:
            assert active(demo_db) == [50, *before[8:], 64]


async def test_what_changed_meanwhile_is_planned_again(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", "c")
        await write(hands, NOTE)
        with closing(sqlite3.connect(demo_db)) as conn:
            conn.execute("UPDATE messages SET state = 'compacted_out' WHERE session_id = ? AND seq = 43", (IMPORTER,))
            conn.commit()
        await hands.press("ctrl+s")
        assert "the session has changed meanwhile" in hands.text()
        assert active(demo_db)[0] == 44
        assert sheet(hands).draft == NOTE
        assert leaving(hands) == list(range(44, 51))
        await hands.press("ctrl+s")
        assert active(demo_db) == [*range(51, 64), 64]


async def test_a_session_in_use_is_left_alone_and_the_note_kept(demo_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "WAIT_S", 0.1)
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", "c")
        await write(hands, NOTE)
        with closing(sqlite3.connect(demo_db)) as conn:
            conn.execute("BEGIN EXCLUSIVE")
            hands.send("ctrl+s")
            await hands.until(lambda: "another process holds it" in hands.text(), "the refusal")
        assert sheet(hands).draft == NOTE
        await hands.press("ctrl+s")
        assert active(demo_db)[-1] == 64


async def test_a_proposal_that_another_message_made_a_range(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", "c")
        assert "newest 2 exchanges stay" in hands.text()
        await write(hands, NOTE)
        with changing(demo_db) as conn:
            append(conn, (64, "user", None))
        await hands.press("ctrl+s")
        assert "the session has changed meanwhile" in hands.text()
        assert leaving(hands) == list(range(43, 51))
        assert "newest" not in hands.lines()[sheet(hands).query_one("#compact-title").region.y]
        await hands.press("ctrl+s")
        assert active(demo_db)[-2:] == [64, 65]


async def test_a_range_that_is_gone_meanwhile_shows_what_is_there(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", "c")
        await write(hands, NOTE)
        with changing(demo_db) as conn:
            conn.execute("UPDATE messages SET state = 'compacted_out' WHERE session_id = ? AND seq < 51", (IMPORTER,))
        await hands.press("ctrl+s")
        assert "none of it is in the context any more" in hands.text()
        assert active(demo_db) == list(range(51, 64))
        assert leaving(hands) == []
        await hands.press("ctrl+s")
        assert "none of it is in the context any more" in hands.text()
        await hands.press("tab", "g", "shift+down")
        assert leaving(hands)[:2] == [51, 52]
        gone = leaving(hands)
        await hands.press("ctrl+s")
        assert active(demo_db) == [seq for seq in range(51, 65) if seq not in gone]


async def test_a_summary_that_changed_meanwhile_is_not_replaced_unseen(bot: Path) -> None:
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        await write(hands, " mine")
        other = {"text": "another summary", "last_active": "2026-01-01T00:00:00"}
        (bot / NAME).write_bytes(lines(talk(12), last_consolidated=4, metadata={"_last_summary": other}))
        await hands.press("ctrl+s")
        assert "the session has changed meanwhile" in hands.text()
        assert b"another summary" in (bot / NAME).read_bytes().split(b"\n", 1)[0]
        assert sheet(hands).draft.endswith(" mine")
        await hands.press("ctrl+s")
        assert b" mine" in (bot / NAME).read_bytes().split(b"\n", 1)[0]


async def test_another_session_that_was_opened_before_the_plan_came(
    demo_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter")
        gate = Gate(monkeypatch, PowerLoopActions, "plan")
        hands.send("c")
        await gate.reached(hands)
        opened_archive = hands.browser.catalog.opened_archives[0]
        node = hands.browser.catalog.node_of(opened_archive, opened_archive.reader.resolve(WATCH))
        assert node is not None
        hands.controllers.opening.open_and_focus(node)
        await gate.open(hands)
        assert hands.session == WATCH
        assert hands.app.screen is hands.browser


# -- stopping


async def test_whatever_is_stopped_in_between_it_can_be_left_and_done(demo_db: Path) -> None:
    before = active(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c")
        await write(hands, NOTE)
        for keys in (("ctrl+g", "ctrl+s", "escape"), ("ctrl+s", "escape"), ("ctrl+s", "ctrl+s")):
            for key in keys:
                hands.send(key)
            await hands.settle()
        assert hands.app.screen is hands.browser
        assert active(demo_db) == [*range(51, 64), 64]
        await hands.press("u")
        assert active(demo_db) == before
        await hands.press("c")
        demo_db.unlink()
        await write(hands, NOTE)
        await hands.press("ctrl+s")
        assert "demo.db: no longer exists." in hands.text()
        assert sheet(hands).draft == NOTE


@pytest.mark.parametrize("over", [False, True], ids=["the dialog", "help over it"])
async def test_a_compaction_that_was_made_when_it_was_stopped_is_told(
    demo_db: Path, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    before = active(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c")
        await write(hands, NOTE)
        await hands.press("tab")
        gate = Gate(monkeypatch, PowerLoopActions, "apply", after=True)
        hands.send("ctrl+s")
        await gate.reached(hands)
        if over:
            hands.send("?")
            await hands.until(lambda: "what leaves with it" in hands.text(), "the help")
            await gate.open(hands)
            await hands.press("escape")
        else:
            hands.send("escape")
            await hands.until(lambda: "stopping…" in hands.text(), "the answer to esc")
            # Another range by then is another matter.
            hands.send("shift+up")
            await hands.until(lambda: leaving(hands) == list(range(43, 50)), "the other range")
            assert "stopping…" in hands.text()
            await gate.open(hands)
        assert hands.app.screen is hands.browser
        assert active(demo_db) == [*before[8:], 64]
        assert any("leave the context" in note and "u takes it back" in note for note in hands.notes)
        await hands.press("u")
        assert active(demo_db) == before


async def test_a_compaction_that_is_stopped_in_time_is_not_made(demo_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = active(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c")
        await write(hands, NOTE)
        gate = Gate(monkeypatch, PowerLoopActions, "plan", after=True)
        hands.send("ctrl+s")
        await gate.reached(hands)
        hands.send("escape")
        await hands.until(lambda: "stopping…" in hands.text(), "the answer to esc")
        await gate.open(hands)
        assert "stopped; the note is as it was" in hands.text()
        assert active(demo_db) == before
        await hands.press("ctrl+s")
        assert active(demo_db) == [*before[8:], 64]


# -- no note is lost


async def test_what_is_typed_while_it_is_carried_out_is_kept(demo_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c")
        await write(hands, NOTE)
        gate = Gate(monkeypatch, PowerLoopActions, "apply")
        hands.send("ctrl+s")
        await gate.reached(hands)
        for key in "Oh":
            hands.send(key)
        await hands.until(lambda: sheet(hands).draft == f"{NOTE}Oh", "the letters")
        await gate.open(hands)
        assert hands.app.screen is hands.browser
        with closing(sqlite3.connect(demo_db)) as conn:
            assert conn.execute(
                "SELECT content FROM messages WHERE session_id = ? AND seq = 64", (IMPORTER,)
            ).fetchone() == (NOTE,)
        await hands.press("shift+up", "c")
        assert sheet(hands).draft == f"{NOTE}Oh"


async def test_quitting_over_a_typed_note_asks_again(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c")
        await write(hands, "mine")
        await hands.press("ctrl+q")
        assert hands.app.is_running
        assert any("the note has not been used: ctrl+q again" in note for note in hands.notes)
        assert sheet(hands).draft == "mine"
        hands.send("ctrl+q")
        await hands.until(lambda: hands.app._exit, "the end")


async def test_quitting_over_a_dialog_without_a_note_quits(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c")
        hands.send("ctrl+q")
        await hands.until(lambda: hands.app._exit, "the end")


# -- written over


def overwrite(bot: Path, count: int = 14, **metadata: Any) -> None:
    """Writes what an agent does that read the session before anything was folded here."""
    (bot / NAME).write_bytes(lines(talk(count), **metadata))


async def offered(hands: Hands, times: int = 1) -> None:
    """Waits until a compaction that was written over is offered again."""
    hands.controllers.watcher.look()
    await hands.until(lambda: sum("wrote over" in note for note in hands.notes) == times, "the offer")
    await hands.settle()


@pytest.mark.parametrize("log", [True, False], ids=["trail kept", "trail lost"])
async def test_a_fold_that_an_agent_wrote_over_is_offered_again(bot: Path, log: bool) -> None:
    old = (bot / NAME).read_bytes()
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        await compact(hands, " Then more.")
        folded = (bot / NAME).read_bytes()
        added = lines(talk(14), last_consolidated=4).split(b"\n", 1)[1]
        head = folded.split(b"\n", 1)[0].replace(b'"last_consolidated": 6', b'"last_consolidated": 4')
        head = head if log else old.split(b"\n", 1)[0]
        (bot / NAME).write_bytes(head + b"\n" + added)
        hands.controllers.watcher.look()
        await hands.settle()
        await hands.until(lambda: any("wrote over" in note for note in hands.notes), "the offer")
        await hands.settle()
        await hands.press("c")
        assert "Then more." in sheet(hands).draft
        assert leaving(hands) == [5, 6]
        await hands.press("ctrl+s")
        assert b"Then more." in (bot / NAME).read_bytes().split(b"\n", 1)[0]
        assert hands.app.screen is hands.browser


async def test_what_is_offered_again_is_changed_and_left_as_any_other(bot: Path) -> None:
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        await compact(hands, " Then more.")
        overwrite(bot, 16, last_consolidated=4)
        await offered(hands)
        await hands.press("c")
        assert leaving(hands) == [5, 6]
        await write(hands, " And mine.")
        await hands.press("escape", "c")
        assert sheet(hands).draft.endswith(" Then more. And mine.")
        # What is proposed by now, not the range of then for ever.
        assert leaving(hands) == [5, 6, 7, 8]


async def test_a_note_is_added_to_the_one_that_was_typed_already(bot: Path) -> None:
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        await compact(hands, " Then more.")
        await hands.press("c")
        await write(hands, " And mine.")
        await hands.press("escape")
        typed = "what \x1b[31mwas before Then more."
        overwrite(bot, last_consolidated=4)
        await offered(hands)
        await hands.press("c")
        assert sheet(hands).draft == f"{typed}\n\n{typed} And mine."


async def test_a_number_that_an_agent_gave_to_its_own(bot: Path) -> None:
    overwrite(bot, 12, last_consolidated=0)
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        await compact(hands, "Mine.")
        assert hands.audit.compaction is not None
        assert hands.audit.compaction.number == 1
        overwrite(bot, last_consolidated=12, metadata={"_last_summary": {"text": "the agent's", "last_active": ""}})
        await offered(hands)
        assert [compaction.number for compaction in hands.audit.audit.compactions] == [1]
        # It cannot be made any more, which is said once; the note is offered for what can.
        await hands.press("c")
        assert hands.app.screen is hands.browser
        assert any("none of it is in the context" in note for note in hands.notes)
        await hands.press("c")
        assert any("nothing older" in note for note in hands.notes)
        await hands.press("k", "shift+down", "c")
        assert sheet(hands).draft == "Mine."


async def test_the_one_below_is_offered_where_the_newest_was_taken_back(bot: Path) -> None:
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        await compact(hands, " First.")
        await hands.press("c")
        await compact(hands, " Second.")
        assert b"Second." in (bot / NAME).read_bytes()
        await hands.press("u")
        assert len(hands.browser.catalog.opened_archives[0].undos) == 1
        overwrite(bot, last_consolidated=4)
        await offered(hands)
        assert hands.browser.catalog.opened_archives[0].undos == []
        await hands.press("c")
        assert sheet(hands).draft.endswith(" First.")
        assert leaving(hands) == [5, 6]


async def test_two_that_were_written_over_are_offered_as_the_newest(bot: Path) -> None:
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        await compact(hands, " First.")
        await hands.press("c")
        gone = leaving(hands)
        await compact(hands, " Second.")
        overwrite(bot, last_consolidated=4)
        await offered(hands)
        await hands.press("c")
        assert sheet(hands).draft.endswith(" First. Second.")
        assert leaving(hands) == [5, 6, *gone]
        await hands.press("ctrl+s")
        assert hands.app.screen is hands.browser


async def test_one_that_was_taken_back_elsewhere_is_not_offered(bot: Path) -> None:
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        await compact(hands, " Mine.\n")
        current_session = hands.browser.current_session
        assert current_session is not None
        actions = current_session.opened_archive.archive.actions
        assert actions is not None
        actions.apply(actions.plan(Uncompact(current_session.ref, 2)), offline=True)
        hands.controllers.watcher.look()
        await hands.until(lambda: hands.audit.audit.compactions[-1].undone, "the undo in the audit")
        await hands.settle()
        assert not any("wrote over" in note for note in hands.notes)
        assert hands.browser.catalog.opened_archives[0].undos == []
