"""The screen of the doctor on damaged archives: findings, plans, repairs, undo, settling."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sessionscope.store import open_archive
from sessionscope.tui.dialogs.plan import PlanDialog
from sessionscope.tui.screens.doctor import Doctor
from sessionscope.tui.text.glyphs import SICK

from ..store.helpers import DATA
from .damaged_sample import IMPORTER, damaged_sample
from .harness import MEDIUM, SIZES, SMALL, Hands, browsing


def codes(place: Path) -> list[str]:
    return sorted(
        {
            finding.code
            for archive in open_archive(place)
            for finding in archive.reader().findings()
            if finding.severity != "info"
        }
    )


def shown(hands: Hands) -> list[str]:
    screen = hands.app.screen
    assert isinstance(screen, Doctor)
    return [finding.code for finding in screen.list_pane.found]


async def test_all_is_put_right_and_taken_back(tmp_path: Path) -> None:
    path = damaged_sample(tmp_path)
    before = codes(path)
    assert before == ["bad-json", "fold-unrecorded", "next-seq-behind", "orphan", "wrong-depth"]
    async with browsing(path, size=MEDIUM) as hands:
        await hands.press("r", "R")
        assert isinstance(hands.app.screen, PlanDialog)
        assert codes(path) == before
        await hands.press("enter")
        assert set(shown(hands)) & set(before) == {"orphan"}
        assert codes(path) == ["orphan"]
        await hands.press("u")
        assert codes(path) == before
        assert set(before) <= set(shown(hands))


async def test_a_choice_and_one_finding_alone(tmp_path: Path) -> None:
    path = damaged_sample(tmp_path)
    async with browsing(path, size=MEDIUM) as hands:
        await hands.press("r")
        await hands.press(*["j"] * shown(hands).index("orphan"))
        await hands.press("2", "enter")
        assert "orphan" not in codes(path)
        assert "next-seq-behind" in codes(path)
        await hands.press("g")
        await hands.press(*["j"] * shown(hands).index("next-seq-behind"))
        await hands.press("r", "enter")
        assert codes(path) == ["bad-json", "fold-unrecorded", "wrong-depth"]


async def test_the_tree_marks_who_is_sick_until_it_is_well(tmp_path: Path) -> None:
    path = damaged_sample(tmp_path)
    async with browsing(path, size=MEDIUM) as hands:
        assert not any(SICK in line for line in hands.lines())
        await hands.press("r", "escape")
        assert sum(SICK in line for line in hands.lines()) > 1
        await hands.press("r", "R", "enter", "escape")
        assert sum(SICK in line for line in hands.lines()) <= 1


@pytest.mark.parametrize("size", SIZES)
async def test_a_session_of_nanobots(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = tmp_path / "sessions"
    folder.mkdir()
    shutil.copyfile(
        DATA / "nanobot-damaged" / "10_two_objects_one_line" / "my_bot_42.jsonl", folder / "my_bot_42.jsonl"
    )
    before = (folder / "my_bot_42.jsonl").read_bytes()
    async with browsing(folder, size=size) as hands:
        await hands.press("r")
        assert "glued-objects" in shown(hands)
        await hands.press("enter")
        assert hands.app.screen is hands.browser
        await hands.press("r", "R")
        assert any("nanobot" in line for line in hands.lines())
        assert (folder / "my_bot_42.jsonl").read_bytes() == before
        await hands.press("enter")
        assert "glued-objects" not in shown(hands)
        assert codes(folder) == []
        await hands.press("u")
        assert (folder / "my_bot_42.jsonl").read_bytes() == before


async def test_an_open_turn_is_settled(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(DATA / "power-loop" / "v0.2.0.db", tmp_path / "a.db"))
    async with browsing(path, size=SMALL) as hands:
        await hands.press("f", *"flaky", "enter", "enter", "S", "enter")
        (archive,) = open_archive(path)
        reader = archive.reader()
        assert not reader.session(reader.resolve("sess_root0000000000000000000")).unanswered
        await hands.press("u")
        assert reader.session(reader.resolve("sess_root0000000000000000000")).unanswered


async def test_what_cannot_be_kept_aside_is_refused_in_words(tmp_path: Path) -> None:
    path = damaged_sample(tmp_path)
    (tmp_path / "demo.db.sessionscope").write_text("a file where the folder should be")
    async with browsing(path, size=MEDIUM) as hands:
        await hands.press("r", "R", "enter")
        assert any("cannot be backed up" in note for note in hands.notes)
        assert "next-seq-behind" in codes(path)


def test_the_sample_is_sick_where_it_says(tmp_path: Path) -> None:
    (archive,) = open_archive(damaged_sample(tmp_path))
    reader = archive.reader()
    ref = reader.resolve(IMPORTER)
    assert {finding.code for finding in reader.findings(ref)} >= {"next-seq-behind"}
