"""The doctor's screen: nothing unasked, a plan before each change, the place one key away, undo, and a badge."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sessionscope.store import Damaged, Repair, Restore, Settle, Spot
from sessionscope.tui.dialogs.help import Help
from sessionscope.tui.dialogs.plan import PlanDialog
from sessionscope.tui.screens.doctor import Doctor

from .harness import MEDIUM, SMALL, Hands, browsing
from .scripted_doctor import ALL, BRICKED, BUNDLE, FOLDED, HOLE, ORPHAN, ROOT, WHOLE, ScriptedDoctor, scripted_doctor

__all__ = ["scripted_doctor"]


@pytest.fixture
def database(sample: object) -> Path:
    assert callable(sample)
    found = sample("v0.2.0")
    assert isinstance(found, Path)
    return found


def doctor(hands: Hands) -> Doctor:
    screen = hands.app.screen
    assert isinstance(screen, Doctor)
    return screen


async def on(hands: Hands, finding: object) -> None:
    """Puts the cursor on a finding."""
    found = doctor(hands).list_pane
    await hands.press("g", *["j"] * list(found.found).index(finding))  # type: ignore[arg-type]
    assert found.current == finding


async def test_nothing_is_looked_for_unasked(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("enter", "4", "a", "i", "s")
        assert scripted_doctor.looks == 0


async def test_the_worst_comes_first(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database, size=MEDIUM) as hands:
        await hands.press("r")
        assert doctor(hands).list_pane.found == [BRICKED, FOLDED, ORPHAN, HOLE, WHOLE]
        assert "2 errors, 1 warning, 2 to know" in hands.lines()[0]
        assert scripted_doctor.looks == 1


@pytest.mark.parametrize("size", [SMALL, MEDIUM, (200, 60), (40, 12), (20, 5), (1, 1)])
async def test_every_size_holds_it(size: tuple[int, int], scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database, size=size) as hands:
        await hands.press("r", "j", "R", "escape", "tab", "?", "escape", "escape")
        assert hands.app.screen is hands.browser


async def test_session_text_is_never_obeyed(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database, size=MEDIUM) as hands:
        await hands.press("r")
        await on(hands, ORPHAN)
        assert "[red]sess_gone[/red]" in hands.text()
        assert "\x1b" not in hands.text()


async def test_the_place_is_one_key_away(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("r")
        await on(hands, HOLE)
        await hands.press("enter")
        assert (hands.app.screen, hands.session, hands.seq, hands.focus) == (hands.browser, ROOT.id, 9, "timeline")


async def test_what_is_about_the_whole_archive_says_so(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("r")
        await on(hands, WHOLE)
        await hands.press("enter")
        assert isinstance(hands.app.screen, Doctor)
        assert hands.notes[-1] == "this is about the archive as a whole"


# -- repair


async def test_a_repair_is_seen_before_it_is_done(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("r", "r")
        assert isinstance(hands.app.screen, PlanDialog)
        shown = hands.text()
        assert "Repair this finding" in shown
        assert "- 5" in shown
        assert "+ 21" in shown
        assert scripted_doctor.applied == []
        await hands.press("enter")
        assert scripted_doctor.applied == [Repair(ROOT, (BRICKED.code,), (), BRICKED.spot)]
        assert BRICKED not in doctor(hands).list_pane.found
        assert hands.notes[-1] == "repaired 1. · u takes it back"


async def test_all_that_is_safe_at_once(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("r", "R")
        assert "Repair 2 findings" in hands.text()
        await hands.press("enter")
        assert scripted_doctor.applied == [Repair(None)]
        assert doctor(hands).list_pane.found == [ORPHAN, HOLE, WHOLE]


async def test_leaving_the_sheet_changes_nothing(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("r", "R", "escape")
        assert scripted_doctor.applied == []
        assert isinstance(hands.app.screen, Doctor)


async def test_a_choice_is_taken_by_its_number(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("r")
        await on(hands, ORPHAN)
        await hands.press("r")
        assert hands.notes[-1] == "choose with 1 to 9 what to do"
        await hands.press("1")
        assert hands.notes[-1] == "it stays as it is"
        await hands.press("3")
        assert hands.notes[-1] == "there are 2 choices"
        await hands.press("2", "enter")
        assert scripted_doctor.applied == [Repair(ROOT, (ORPHAN.code,), ((ORPHAN.code, "detach"),), ORPHAN.spot)]


async def test_what_cannot_be_helped_says_so(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    scripted_doctor.left = [HOLE]
    async with browsing(database) as hands:
        await hands.press("r", "r", "R", "2")
        assert hands.notes[-3:] == [
            "nothing to repair here",
            "nothing here has a safe fix",
            "there is nothing to choose here",
        ]


async def test_a_running_nanobot_is_warned_of(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    scripted_doctor.offline = "A running agent would overwrite this."
    async with browsing(database, size=MEDIUM) as hands:
        await hands.press("r", "R")
        assert "A running agent would overwrite this. Continue only if none is running." in hands.text()


async def test_a_refusal_is_one_sentence(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    scripted_doctor.refuses = "it was changed since it was planned; plan again."
    async with browsing(database) as hands:
        await hands.press("r", "R", "enter")
        assert hands.notes[-1] == scripted_doctor.refuses
        assert isinstance(hands.app.screen, Doctor)
        assert doctor(hands).list_pane.count == len(ALL)


# -- undo


@pytest.mark.parametrize("leave", [(), ("escape",)])
async def test_the_last_repair_is_taken_back(
    leave: tuple[str, ...], scripted_doctor: ScriptedDoctor, database: Path
) -> None:
    async with browsing(database) as hands:
        await hands.press("r", "R", "enter", *leave, "u")
        assert scripted_doctor.applied[-1] == Restore(BUNDLE)
        assert hands.notes[-1] == "put back as it was."
        await hands.press("u")
        assert hands.notes[-1] == "nothing was done here that could be taken back"


# -- settling


async def test_settling_shows_its_plan_first(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("enter", "S")
        assert "Settle what a crash left open" in hands.text()
        assert "+ tool <aborted>" in hands.text()
        await hands.press("enter")
        assert [action.ref.id for action in scripted_doctor.applied if isinstance(action, Settle)] == [hands.session]
        assert hands.app.screen is hands.browser


# -- the badge, and a look that takes long


async def test_the_tree_marks_what_the_doctor_found(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database, size=MEDIUM) as hands:
        assert not any("✚" in line for line in hands.pane("sessions"))
        await hands.press("r", "escape")
        marked = [line for line in hands.pane("sessions") if "✚" in line]
        assert len(marked) == 1
        assert "Fix the flaky" in marked[0]


async def test_a_healthy_archive_has_no_badge(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    scripted_doctor.left = [HOLE]
    async with browsing(database, size=MEDIUM) as hands:
        await hands.press("r", "escape")
        assert not any("✚" in line for line in hands.pane("sessions"))


async def test_a_long_look_is_stopped(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    going, met = threading.Event(), threading.Event()

    def wait() -> None:
        met.set()
        going.wait(20)

    scripted_doctor.before_each = wait
    async with browsing(database) as hands:
        hands.send("r")
        await hands.until(met.is_set, "the look to begin")
        await hands.until(lambda: "looking" in hands.text() or "messages" in hands.text(), "word of it")
        hands.send("escape")
        await hands.until(lambda: not doctor(hands).looking, "the look to be given up")
        going.set()
        await hands.settle()
        assert doctor(hands).list_pane.count == 0
        await hands.press("escape")
        assert hands.app.screen is hands.browser


async def test_only_this_session_or_all(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database) as hands:
        await hands.press("r", "t")
        assert WHOLE not in doctor(hands).list_pane.found
        await hands.press("t")
        assert WHOLE in doctor(hands).list_pane.found


async def test_help_has_its_keys(scripted_doctor: ScriptedDoctor, database: Path) -> None:
    async with browsing(database, size=(100, 50)) as hands:
        await hands.press("r", "?")
        assert isinstance(hands.app.screen, Help)
        assert "Repair all" in hands.text()


def test_a_place_is_a_whole_identity() -> None:
    assert Spot(ROOT) != Spot(ROOT, seq=9)


# -- what fails


async def test_a_check_that_fails_midway_keeps_what_it_found_and_does_not_say_all_is_well(
    scripted_doctor: ScriptedDoctor, database: Path
) -> None:
    looked = 0

    def fail() -> None:
        nonlocal looked
        looked += 1
        if looked > 1:
            raise Damaged("a page is damaged.")

    scripted_doctor.before_each = fail
    async with browsing(database, size=MEDIUM) as hands:
        await hands.press("r")
        await hands.until(lambda: "did not finish" in hands.text(), "the failure")
        assert "all is well" not in hands.text()
        assert "nothing found" not in hands.text()
        assert isinstance(hands.app.screen, Doctor)
        assert len(hands.app.screen.found) == 1
        scripted_doctor.before_each = lambda: None
        await hands.press("d")
        await hands.until(lambda: "did not finish" not in hands.text(), "a whole look")
