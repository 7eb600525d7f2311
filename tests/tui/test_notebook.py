"""The proof that a format is a plug-in: the notebook opens in every pane, and nothing of it is known on the screen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sessionscope.store import View, register, registry
from sessionscope.tui.browser.verbs import NEEDS
from sessionscope.tui.dialogs.plan import CloseDialog

from ..conformance.notebook import ENDING
from ..conformance.notebook import NOTEBOOK as FORMAT
from ..conformance.samples import NOTEBOOK, SESSIONS, everything_below, sample
from .harness import LARGE, MEDIUM, SMALL, Hands, browsing


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "_formats", list(registry.formats()))
    register(FORMAT)
    return sample(NOTEBOOK, tmp_path)


async def open_session(hands: Hands, id_: str) -> None:
    (opened_archive,) = hands.browser.catalog.opened_archives
    hands.controllers.opening.open_and_focus(opened_archive.node(opened_archive.session_table.ids.index(id_)))
    await hands.settle()


@pytest.mark.parametrize("size", [SMALL, MEDIUM, LARGE], ids=["small", "medium", "large"])
async def test_every_pane(notebook: Path, size: tuple[int, int]) -> None:
    before = everything_below(notebook.parent)
    async with browsing(notebook, size=size) as hands:
        await open_session(hands, "plan")
        for key, view in enumerate(View, 1):
            await hands.press(str(key))
            assert hands.view is view
        await hands.press("1")
        assert hands.timeline.count == 8
        for at in range(8):
            hands.timeline.cursor = at
            for subject in ("message", "session", "compaction"):
                hands.controllers.inspection.subject = subject
                hands.controllers.inspection.show()
            assert "\x1b" not in hands.inspector.plain
        for keys in (
            "i",
            "m",
            "m",
            "m",
            "a",
            "enter",
            "escape",
            "p",
            "s",
            "E",
            "/",
            "escape",
            "w",
            "escape",
            "r",
            "escape",
        ):
            await hands.press(keys)
        assert not [note for note in hands.notes if "Unexpected error" in note]
    assert everything_below(notebook.parent) == before


async def test_a_call_leads_to_its_result_and_back(notebook: Path) -> None:
    async with browsing(notebook, size=LARGE) as hands:
        await open_session(hands, "plan")
        await hands.press("1")
        hands.timeline.go_to(4)
        await hands.press("o")
        assert hands.seq == 5
        await hands.press("o")
        assert hands.seq == 4


async def test_only_keys_of_a_read_only_archive_exist(notebook: Path) -> None:
    async with browsing(notebook, size=LARGE) as hands:
        await open_session(hands, "plan")
        await hands.press("?")
        shown = hands.text()
        await hands.press("escape")
        actions = {active.binding.action.partition("(")[0] for active in hands.browser.active_bindings.values()}
        assert not actions & NEEDS.keys()
        assert {"find_here", "doctor", "context_usage", "follow"} <= actions
        titles = {command.title for command in hands.app.get_system_commands(hands.browser)}
        for gone in ("Compact", "Close", "Trash", "Undo", "Settle", "Archive/reopen", "Limits of the context"):
            assert gone not in titles
            assert f"  {gone}\n" not in shown
        for key in ("c", "x", "A", "S", "T", "u", "L", "space"):
            await hands.press(key)
            assert hands.app.screen is hands.browser
        assert hands.notes == []
        assert hands.timeline.marked is None


async def test_a_kind_that_is_not_known_is_shown_as_it_is(notebook: Path) -> None:
    async with browsing(notebook, size=LARGE) as hands:
        await hands.press("E")
        (line,) = (line for line in hands.pane("sessions") if "Look at it." in line)
        assert "draft" in line
        strip = next(strip for strip in hands.strips() if "draft" in strip.text)
        (segment,) = (segment for segment in strip if segment.text.startswith("draft"))
        assert segment.style is not None
        assert (
            segment.style.color == hands.browser.named_style("dim").color != hands.browser.named_style("damage").color
        )


async def test_it_is_live(notebook: Path) -> None:
    async with browsing(notebook, size=LARGE) as hands:
        await open_session(hands, "review")
        value = SESSIONS["review"]
        more = {"role": "assistant", "content": "It looks fine.", "at": 9_000}
        path = notebook / f"review{ENDING}"
        path.write_text(json.dumps(value | {"messages": [*value["messages"], more]}))
        await hands.until(lambda: hands.timeline.count == 2, "the new message")


async def test_keys_are_about_the_session_that_they_act_on(demo_db: Path, notebook: Path) -> None:
    async with browsing(demo_db, notebook, size=LARGE) as hands:
        writable, read_only = hands.browser.catalog.opened_archives
        hands.controllers.opening.open_and_focus(writable.node(0))
        await hands.settle()
        await hands.press("s", "space")
        assert len(hands.browser.catalog.marked) == 1
        hands.controllers.opening.open_and_focus(read_only.node(0))
        await hands.settle()
        await hands.press("x")
        assert isinstance(hands.app.screen, CloseDialog)
        await hands.press("escape", "escape")
        hands.browser.catalog.marked.clear()
        await hands.press("x", "A", "T", "c")
        assert hands.app.screen is hands.browser


async def test_no_trash_of_a_read_only_archive_whose_session_is_gone(demo_db: Path, notebook: Path) -> None:
    async with browsing(demo_db, notebook, size=LARGE) as hands:
        _, read_only = hands.browser.catalog.opened_archives
        hands.controllers.opening.open_and_focus(read_only.node(read_only.session_table.ids.index("review")))
        await hands.settle()
        (notebook / f"review{ENDING}").unlink()
        await hands.until(lambda: hands.browser.current_session is None, "the session to go")
        await hands.press("T")
        assert hands.app.screen is hands.browser
