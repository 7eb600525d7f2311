"""How every pane looks, at the three sizes that people have. What the panes do is tested elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.command import CommandInput

from sessionscope.tui.config import Config
from sessionscope.tui.text import clock
from sessionscope.tui.widgets.note_editor import NoteEditor

from ..store.workspaces import damaged, workspace
from .damaged_sample import damaged_sample, kept
from .database import Database, calls
from .harness import LARGE, MEDIUM, NANOBOT_NOW, SIZES, SMALL, Hands

Snap = Callable[..., bool]
Sample = Callable[[str], Path]
BY_SIZE = pytest.mark.parametrize("size", SIZES, ids=["small", "medium", "large"])
Size = tuple[int, int]


@BY_SIZE
def test_start(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, size=size)


@BY_SIZE
def test_compaction_in_sight(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["enter", "["], size=size)


@BY_SIZE
def test_audit(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["a"], size=size)


@BY_SIZE
def test_session_info(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["i"], size=size)


@BY_SIZE
def test_context(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["enter", "4"], size=size)


@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
def test_filter(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["f", *"key"], size=size)


@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
def test_help(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["enter", "?"], size=size)


@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
def test_palette(snap: Snap, demo_db: Path, size: Size) -> None:
    async def still(hands: Hands) -> None:
        hands.app.screen.query_one(CommandInput).cursor_blink = False
        await hands.press(*"fix")

    assert snap(demo_db, keys=["ctrl+p"], size=size, first=still)


def test_folded_rows(snap: Snap, demo_db: Path) -> None:
    assert snap(demo_db, keys=["a", "end", "enter"], size=MEDIUM)


def test_unfolded_tree(snap: Snap, demo_db: Path) -> None:
    assert snap(demo_db, keys=["E"], size=LARGE)


def test_markdown(snap: Snap, demo_db: Path) -> None:
    assert snap(demo_db, keys=["enter", "[", "m"], size=LARGE)


def test_as_stored(snap: Snap, demo_db: Path) -> None:
    assert snap(demo_db, keys=["enter", "enter", "m", "m"], size=SMALL)


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark"])
def test_theme(snap: Snap, demo_db: Path, theme: str) -> None:
    assert snap(demo_db, keys=["enter", "["], size=MEDIUM, settings=Config(theme=theme))


def test_several_archives(snap: Snap, demo_db: Path, sample: Sample) -> None:
    assert snap(demo_db, sample("mixed-0.2.0-then-8.0.0"), size=MEDIUM)


def test_poisoned(snap: Snap, sample: Sample) -> None:
    assert snap(sample("poisoned-0.2.0-opened-by-8.0.0-prefix-empty"), size=MEDIUM)


@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
def test_every_state(snap: Snap, tmp_path: Path, size: Size) -> None:
    """Rows of every state, calls and results, a hole, damage: told apart by more than colour."""
    path = tmp_path / "states.db"
    with Database(path) as db:
        main = db.session("main", title="All states", age_s=5)
        for at in range(3):
            db.message(main, "user", f"folded {at}")
        db.compact(main, 1, 3, "the first note")
        for at in range(3):
            db.message(main, "user", f"folded later {at}", round_index=1)
        db.compact(main, 4, 7, "the second note, which folds the first")
        for _ in range(4):
            db.message(main, "user", "will be gone")
        db.conn.execute("DELETE FROM messages WHERE seq BETWEEN 9 AND 12")
        db.message(
            main,
            "assistant",
            "calls two",
            round_index=2,
            tool_calls_json=calls(("a", "read_file", {"path": "x"}), ("b", "grep", {"for": "y"})),
        )
        db.message(main, "tool", "result a", name="read_file", tool_call_id="a")
        db.message(main, "tool", "result b", name="grep", tool_call_id="b")
        db.message(main, "assistant", "dropped", state="dropped")
        db.message(main, "assistant", "of a state to come", state="novel")
        db.message(main, "assistant", "meta is no JSON", meta_json="{")
        db.message(main, "assistant", "waits", tool_calls_json=calls(("c", "run_command", {"command": "ls"})))
    assert snap(path, keys=["enter"], size=size)


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of nanobot, some days after its sessions were written."""
    monkeypatch.setattr(clock, "now_ms", lambda: NANOBOT_NOW)
    return workspace(tmp_path / "ws")


@BY_SIZE
def test_nanobot_plain(snap: Snap, ws: Path, size: Size) -> None:
    assert snap(ws, keys=["f", *"note.txt", "enter", "G", "k", "k", "k"], size=size)


@BY_SIZE
def test_nanobot_consolidated(snap: Snap, ws: Path, size: Size) -> None:
    assert snap(ws, keys=["enter", "["], size=size)


@BY_SIZE
def test_nanobot_audit(snap: Snap, ws: Path, size: Size) -> None:
    assert snap(ws, keys=["f", *"start goal", "enter", "a"], size=size)


@BY_SIZE
def test_nanobot_session_info(snap: Snap, ws: Path, size: Size) -> None:
    assert snap(ws, keys=["f", *"start goal", "enter", "i"], size=size)


@BY_SIZE
def test_nanobot_damaged(snap: Snap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    monkeypatch.setattr(clock, "now_ms", lambda: NANOBOT_NOW)
    folder = damaged("10_two_objects_one_line", tmp_path / "damaged")
    assert snap(folder, keys=["enter", "g", "j", "j"], size=size)


def test_nanobot_damaged_raw(snap: Snap, tmp_path: Path) -> None:
    folder = damaged("01_truncated_last_line", tmp_path / "damaged")
    assert snap(folder, keys=["enter", "G", "m", "m"], size=MEDIUM)


def test_nanobot_limits(snap: Snap, ws: Path) -> None:
    assert snap(ws, keys=["enter", "L", "4", "enter"], size=MEDIUM)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_doctor(snap: Snap, tmp_path: Path, size: Size) -> None:
    assert snap(damaged_sample(tmp_path), keys=["r", "j", "j", "j"], size=size)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_plan_of_a_repair(snap: Snap, tmp_path: Path, size: Size) -> None:
    assert snap(damaged_sample(tmp_path), keys=["r", "R"], size=size)


def test_a_sick_tree(snap: Snap, tmp_path: Path) -> None:
    assert snap(damaged_sample(tmp_path), keys=["r", "escape", "E"], size=MEDIUM)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_plan_of_a_closing(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["s", "x"], size=size)


async def write_note(hands: Hands) -> None:
    """Types a note into the dialog of a compaction, whose cursor stands still then."""
    hands.app.screen.query_one(NoteEditor).cursor_blink = False
    await hands.press("enter", *"Both remarks are in.")


@BY_SIZE
def test_compacting(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["enter", "k", "k", "shift+up", "shift+up", "c"], size=size, first=write_note)


@BY_SIZE
def test_compacting_nanobot(snap: Snap, ws: Path, size: Size) -> None:
    assert snap(ws, keys=["f", *"word word", "enter", "c"], size=size, first=write_note)


@pytest.mark.parametrize("size", [SMALL, MEDIUM], ids=["small", "medium"])
def test_marked_rows(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["enter", "k", "space", "k", "k", "k"], size=size)


@BY_SIZE
def test_gauge(snap: Snap, demo_db: Path, size: Size) -> None:
    assert snap(demo_db, keys=["enter", "w", "j"], size=size)


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_trash(snap: Snap, demo_db: Path, monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    kept(monkeypatch)
    assert snap(demo_db, keys=["s", "space", "space", "x", "x", "T"], size=size)


def test_marked_sessions(snap: Snap, demo_db: Path) -> None:
    assert snap(demo_db, keys=["s", "space", "space", "j", "space"], size=MEDIUM)
