"""Compacting in the app: marking a range, the dialog and its live plan, the note, undo, and what goes wrong."""

from __future__ import annotations

import asyncio
import shlex
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from textual import events
from textual.geometry import Offset

from sessionscope.store import NOTE_BYTES
from sessionscope.tui.config import Config
from sessionscope.tui.dialogs.plan import PlanDialog
from sessionscope.tui.text import clock

from ..store.helpers import ROOT
from ..store.real import check_context, check_history
from ..store.workspaces import NAME, workspace
from .compacting import NOTE, active, compact, leaving, python, sheet, write
from .damaged_sample import IMPORTER
from .harness import LARGE, MEDIUM, NANOBOT_NOW, SIZES, browsing

Sample = Callable[[str], Path]
WAITING = "import sys, time; sys.stdin.read(); print('begun', file=sys.stderr, flush=True); time.sleep(600)"


@pytest.mark.parametrize("size", SIZES)
async def test_a_proposal_is_folded_shown_at_once_and_taken_back(demo_db: Path, size: tuple[int, int]) -> None:
    before = active(demo_db)
    async with browsing(demo_db, size=size) as hands:
        await hands.press("enter", "c")
        assert leaving(hands) == list(range(43, 51))
        assert "NOW 21 messages" in hands.text()
        assert "AFTER 14" in hands.text()
        assert "newest 2 exchanges stay" in hands.text()
        await compact(hands)
        assert active(demo_db) == [*range(51, 64), 64]
        assert any("leave the context" in note and "u takes it back" in note for note in hands.notes)
        assert hands.timeline.rows is not None
        assert hands.timeline.rows.length.value == 64
        assert hands.audit.compaction is not None
        assert (hands.audit.compaction.number, hands.audit.compaction.rows) == (3, 8)
        assert "◆3" in "\n".join(hands.pane(hands.tree)) or not hands.shown(hands.tree)
        assert "○" in next(line for line in hands.pane(hands.timeline) if line.lstrip().startswith("50 "))
        await hands.press("u")
        assert active(demo_db) == before
        assert hands.audit.audit.compactions[-1].undone


async def test_keys_mark_rows_and_the_plan_follows(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "k", "k", "shift+up", "shift+up")
        assert hands.timeline.span == (59, 61)
        assert "3 marked, c compacts" in hands.text()
        await hands.press("c")
        assert leaving(hands) == [59, 60, 61, 62]
        assert "widened by 62: message 60 calls a tool that 62 answers" in hands.text()
        await hands.press("shift+up", "shift+up")
        assert leaving(hands) == [59]
        assert "widened" not in hands.text()
        await hands.press("shift+down")
        assert leaving(hands) == [59, 60, 61, 62]
        # Space lets the range begin anew.
        await hands.press("g", "space", "j")
        assert leaving(hands) == [43, 44]
        await hands.press("space", "j", "j")
        assert leaving(hands) == [43, 44]
        assert "the note of an earlier compaction leaves with them: 44" in hands.text()
        await hands.press("escape")
        assert hands.timeline.span == (59, 61)
        await hands.press("escape")
        assert hands.timeline.marked is None


async def test_the_proposal_keeps_more_or_fewer(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c", "minus")
        assert leaving(hands) == list(range(43, 59))
        assert "newest 1 exchange stays" in hands.text()
        await hands.press("minus", "plus")
        assert leaving(hands) == list(range(43, 51))
        await hands.press("plus")
        assert "nothing is older than the newest 3 exchanges" in hands.text()
        assert leaving(hands) == list(range(43, 51))
        # One that was marked by hand is a proposal once it is asked for.
        await hands.press("shift+up", "shift+down")
        assert "newest" not in hands.lines()[sheet(hands).query_one("#compact-title").region.y]
        await hands.press("plus")
        assert "newest 2 exchanges stay" in hands.text()
        assert leaving(hands) == list(range(43, 51))


async def test_a_note_is_asked_for_and_kept(demo_db: Path) -> None:
    before = active(demo_db)
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", "c", "ctrl+s")
        assert hands.focus == "note"
        assert "a note first" in hands.text()
        await hands.type("Half a no")
        await hands.press("escape")
        assert hands.app.screen is hands.browser
        assert active(demo_db) == before
        await hands.press("c")
        assert sheet(hands).draft == "Half a no"
        assert "◆ Half a no" in hands.text()
        await hands.press("tab", *"te.", "ctrl+s")
        assert active(demo_db)[-1] == 64
        await hands.press("c")
        assert sheet(hands).draft == ""


async def test_the_mouse_marks_rows(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter")
        region, top = hands.timeline.region, hands.timeline.top
        at = [Offset(region.x + 12, region.y + line) for line in range(12)]
        await hands.pilot.mouse_down(offset=at[4])
        for line in (5, 7, 6):
            await hands.pilot._post_mouse_events([events.MouseMove], offset=at[line], button=1)
        await hands.pilot.mouse_up(offset=at[6])
        await hands.settle()
        assert hands.timeline.marked == (top + 4, top + 6)
        await hands.pilot.click(offset=at[9], shift=True)
        await hands.settle()
        assert hands.timeline.marked == (top + 4, top + 9)
        await hands.pilot.click(offset=at[2])
        await hands.settle()
        assert hands.timeline.marked == (top + 4, top + 9)
        await hands.press("escape")
        assert hands.timeline.marked is None
        # A press that was released elsewhere begins nothing.
        await hands.pilot.mouse_down(offset=at[4])
        await hands.pilot.hover("#inspector")
        await hands.pilot._post_mouse_events([events.MouseMove], offset=at[8], button=1)
        await hands.settle()
        assert hands.timeline.marked is None


async def test_a_range_stays_on_its_rows_while_others_come(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "shift+up", "shift+up")
        assert hands.timeline.span == (61, 63)
        with closing(sqlite3.connect(demo_db)) as conn:
            conn.execute(
                "INSERT INTO messages (session_id, seq, role, content, state, round_index, created_at) "
                "VALUES (?, 64, 'user', 'more', 'active', 0, 0)",
                (IMPORTER,),
            )
            conn.commit()
        hands.controllers.watcher.look()
        await hands.settle()
        assert hands.timeline.count == 64
        assert hands.timeline.span == (61, 63)
        await hands.press("s", "j", "enter")
        assert hands.timeline.marked is None


async def test_rows_that_are_out_already_are_refused(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "g", "shift+down", "c")
        assert hands.app.screen is hands.browser
        assert any("none of it is in the context" in note for note in hands.notes)


async def test_a_session_without_anything_older(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("f", *"paste", "enter", "c")
        assert hands.app.screen is hands.browser
        assert any("nothing older" in note for note in hands.notes)


@pytest.mark.parametrize("size", [(60, 15), (40, 10)])
async def test_a_low_screen_has_what_matters(bot: Path, size: tuple[int, int]) -> None:
    async with browsing(bot, size=size) as hands:
        await hands.press("enter", "c")
        for words in ("Compact 5 to 6", "running nanobot", "NOW", "AFTER", "user", "was before", "Rows/note"):
            assert words in hands.text(), words


async def test_a_range_that_begins_with_a_note_that_is_newer_than_the_rest(sample: Sample) -> None:
    config = python("import re, sys; print(*re.findall(r'^#(\\d+)', sys.stdin.read(), re.M))")
    async with browsing(sample("v8.0.0"), size=MEDIUM, config=config) as hands:
        await hands.press("f", *"flaky", "enter", "c")
        assert leaving(hands) == [17, 13, 14, 15, 16]
        assert "Compact note 17 to 16" in hands.text()
        # A command reads what leaves as the model does.
        await hands.press("ctrl+g")
        assert sheet(hands).draft == "17 13 14 15 16"


# -- the summarizer


async def test_a_command_writes_the_note(demo_db: Path) -> None:
    program = (
        "import sys; text = sys.stdin.read(); print('first line:', text.splitlines()[0], '\\x1b[31m', len(text) > 500)"
    )
    async with browsing(demo_db, size=MEDIUM, config=python(program)) as hands:
        await hands.press("enter", "c", "ctrl+g")
        assert sheet(hands).draft == "first line: #43 user  True"
        assert hands.focus == "note"
        await hands.press("ctrl+s")
        assert active(demo_db)[-1] == 64


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (shlex.join([sys.executable, "-c", "import sys; sys.exit('no key')"]), "ended with status 1: no key."),
        ("no-such-summarizer-anywhere", "no-such-summarizer-anywhere"),
        (None, "no summarizer is named"),
    ],
)
async def test_a_command_that_fails_leaves_what_was_typed(demo_db: Path, command: str | None, why: str) -> None:
    before = active(demo_db)
    async with browsing(demo_db, size=MEDIUM, config=Config(summarizer=command)) as hands:
        await hands.press("enter", "c")
        await write(hands, "typed")
        await hands.press("ctrl+g")
        assert why in hands.text()
        assert sheet(hands).draft == "typed"
    assert active(demo_db) == before


async def test_a_command_that_hangs_is_stopped(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM, config=python(WAITING)) as hands:
        await hands.press("enter", "c")
        await write(hands, "typed")
        hands.send("ctrl+g")
        await hands.until(lambda: "the summarizer works" in hands.text(), "the summarizer")
        await hands.press("escape")
        await hands.until(lambda: "stopped; the note is as it was" in hands.text(), "its end")
        assert sheet(hands).draft == "typed"
        hands.send("ctrl+g")
        await hands.until(lambda: "esc stops it" in hands.text(), "the summarizer")
        hands.send("tab")
        await hands.until(lambda: hands.focus == "compact-rows", "the rows")
        hands.send("shift+up")
        await hands.settle()
        assert "the range is another now" in hands.text()
        assert sheet(hands).draft == "typed"
        await hands.press("escape")
        assert hands.app.screen is hands.browser


# -- the editor


def scripted(path: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a shell program the user's editor; it is given the file's name."""
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(path))


async def test_the_note_in_an_editor_of_ones_own(
    demo_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(tmp_path / "editor.sh", 'grep -q "^so$" "$1" && printf "so\\nfar\\n" > "$1"\nexit "$STATUS"', monkeypatch)
    monkeypatch.setenv("STATUS", "0")
    async with browsing(demo_db, size=MEDIUM) as hands:
        monkeypatch.setattr(hands.app, "suspend", nullcontext)
        await hands.press("enter", "c")
        await write(hands, "so")
        await hands.press("ctrl+o")
        assert sheet(hands).draft == "so\nfar"
        await hands.press("ctrl+z")
        assert sheet(hands).draft == "so"
        monkeypatch.setenv("STATUS", "3")
        await hands.press("ctrl+o")
        assert sheet(hands).draft == "so"
        assert any("ended with status 3" in note for note in hands.notes)
        monkeypatch.setenv("VISUAL", "no-such-editor-anywhere")
        await hands.press("ctrl+o")
        assert any("the editor could not be used" in note for note in hands.notes)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("printf mine > $1; exit 3", "the editor ended with status 3"),
        ("printf 'mine \\377' > $1", "no text in UTF-8"),
        ("printf 'mine \\000' > $1", "no NUL characters"),
        (f"printf mine > $1; head -c {NOTE_BYTES} /dev/zero | tr '\\0' x >> $1", "more than a note may hold"),
    ],
    ids=["status", "binary", "nul", "long"],
)
async def test_what_an_editor_left_is_kept_where_it_cannot_be_taken(
    demo_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, why: str
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    scripted(tmp_path / "editor.sh", program, monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    async with browsing(demo_db, size=MEDIUM) as hands:
        monkeypatch.setattr(hands.app, "suspend", nullcontext)
        await hands.press("enter", "c")
        await write(hands, "so")
        await hands.press("ctrl+o")
        assert sheet(hands).draft == "so"
        (left,) = kept.glob("*.md")
        assert left.read_bytes().startswith(b"mine")
        assert left.stat().st_mode & 0o777 == 0o600
        assert any(why in note and str(left) in note for note in hands.notes)


async def test_a_note_that_no_archive_takes_is_refused_and_kept(demo_db: Path) -> None:
    before = active(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c", "tab")
        await hands.paste((("x" * 99) + "\n") * (NOTE_BYTES // 100) + "!")
        await hands.press("ctrl+s")
        assert "a note is text of at most a megabyte" in hands.text()
        assert len(sheet(hands).draft) == NOTE_BYTES + 1
        assert leaving(hands) == list(range(43, 51))
        assert active(demo_db) == before
        await hands.press("backspace", "ctrl+s")
        assert active(demo_db) == [*before[8:], 64]


async def test_a_note_is_never_obeyed(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c", "tab")
        await hands.paste("a\x1b[31mb\u202ec\x9bd [bold]e\x0bf ⚠️\tg")
        assert "a␛[31mb" in hands.text()
        assert "[bold]e" in hands.text()
        assert not any(
            ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or char == "\u202e" for line in hands.lines() for char in line
        )


# -- taking back


async def test_the_audit_takes_a_compaction_back(demo_db: Path) -> None:
    before = active(demo_db)
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("enter", "c")
        await compact(hands)
        await hands.press("a", "u")
        assert isinstance(hands.app.screen, PlanDialog)
        assert "Take compaction 3 back" in hands.text()
        await hands.press("enter")
        assert active(demo_db) == before
        assert any("come back into the context" in note for note in hands.notes)
        await hands.press("a", "u")
        assert any("taken back already" in note for note in hands.notes)
        # Some of the agent's own: what they took was worked out.
        await hands.press("j", "u")
        assert "worked out from what the agent recorded" in hands.text()
        await hands.press("enter", "j", "u")
        assert "Take compaction 1 back" in hands.text()
        await hands.press("enter")
        assert active(demo_db) == [seq for seq in range(1, 64) if seq not in (19, 44)]


# -- nanobot


async def test_a_note_of_nanobot_begins_with_the_summary_that_stands(bot: Path) -> None:
    before = (bot / NAME).read_bytes()
    async with browsing(bot, size=LARGE) as hands:
        await hands.press("enter", "c")
        assert sheet(hands).draft == "what \x1b[31mwas before"
        assert "the note takes the place of the summary" in hands.text()
        assert "A running nanobot would overwrite this. Continue only if none is running." in hands.text()
        assert "\x1b" not in hands.text()
        assert (bot / NAME).read_bytes() == before
        await hands.press("tab", *" and more", "ctrl+s")
        assert b"was before and more" in (bot / NAME).read_bytes()
        await hands.press("u")
        assert b"was before and more" not in (bot / NAME).read_bytes()


# -- samples


SAMPLES = ("v0.2.0", "v0.18.0", "v2.2.0", "v8.0.0")


@pytest.mark.parametrize("name", SAMPLES)
async def test_a_session_of_each_release_folds_and_unfolds(name: str, sample: Sample) -> None:
    path = sample(name)
    async with browsing(path, size=LARGE) as hands:
        opened_archive = hands.browser.catalog.opened_archives[0]
        ref = opened_archive.reader.resolve(ROOT)
        node = hands.browser.catalog.node_of(opened_archive, ref)
        assert node is not None
        hands.controllers.opening.open_and_focus(node)
        await hands.settle()

        def context() -> list[int]:
            return [row.seq for row in opened_archive.reader.context(ref).rows]

        before = context()
        await hands.press("4", "g", "shift+down", "c")
        gone = leaving(hands)
        await compact(hands)
        assert set(context()) == set(before) - set(gone) | {max(context())}
        await asyncio.to_thread(check_context, path, name, ROOT, context())
        await hands.press("u")
        assert context() == before
        await asyncio.to_thread(check_context, path, name, ROOT, before)


@pytest.mark.parametrize(
    ("name", "words"), [("v0.2.0", "question 0"), ("v0.3.5", "question 0"), ("loop-v0.2.0", "word word")]
)
async def test_a_session_of_each_nanobot_folds_and_unfolds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setattr(clock, "now_ms", lambda: NANOBOT_NOW)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    async with browsing(workspace(tmp_path / "ws", name), size=LARGE) as hands:
        await hands.press("f", *words, "enter")
        current_session = hands.browser.current_session
        assert current_session is not None
        before = current_session.opened_archive.reader.context(current_session.ref)
        await hands.press("c")
        gone, present = leaving(hands), sheet(hands).draft
        await compact(hands)
        left = [row.seq for row in current_session.opened_archive.reader.context(current_session.ref).rows]
        assert left == [row.seq for row in before.rows if row.seq not in gone]
        check_history(tmp_path / "ws" / "sessions", name, current_session.ref.id, left, present + NOTE)
        await hands.press("a", "u", "enter")
        assert current_session.opened_archive.reader.context(current_session.ref) == before
        assert current_session.opened_archive.undos == []
        check_history(tmp_path / "ws" / "sessions", name, current_session.ref.id, before.rows, present or None)


async def test_help_and_the_palette_over_the_dialog(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", "c", "?")
        assert "what leaves with it" in hands.text()
        await hands.press("escape")
        await hands.press("ctrl+p", "escape", "enter", "?")
        assert sheet(hands).draft == "?"
