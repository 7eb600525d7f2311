"""Help: for the pane in focus, with every key there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.binding import Binding

from sessionscope.tui.browser.screen import Browser
from sessionscope.tui.dialogs.help import Help
from sessionscope.tui.widgets.inspector import Inspector

from .harness import LARGE, SMALL, Hands, browsing


def sheet(hands: Hands) -> str:
    return hands.app.screen.query_one("#help", Inspector).plain


@pytest.mark.parametrize(
    ("key", "head"),
    [
        ("s", "Sessions"),
        ("p", "Previews"),
        ("enter", "Timeline"),
        ("a", "Compactions"),
        ("i", "Inspector"),
    ],
)
async def test_for_the_pane_in_focus(demo_db: Path, key: str, head: str) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press(key, "?")
        assert isinstance(hands.app.screen, Help)
        assert head in sheet(hands).split("\n")[0]
        await hands.press("G", "g", "escape")
        assert isinstance(hands.app.screen, Browser)


@pytest.mark.parametrize(("archive", "missing"), [("demo_db", "Limits of the context"), ("bot", "Archive/reopen")])
async def test_every_key_is_named_that_exists(archive: str, missing: str, request: pytest.FixtureRequest) -> None:
    async with browsing(request.getfixturevalue(archive), size=LARGE) as hands:
        await hands.press("?")
        assert missing not in sheet(hands)
        for binding in Browser.BINDINGS:
            assert isinstance(binding, Binding)
            if binding.description == missing:
                continue
            assert binding.description in sheet(hands)
            first = next(iter(Binding.make_bindings([binding])))
            assert hands.app.get_key_display(first) in sheet(hands)


@pytest.mark.parametrize("key", ["escape", "question_mark", "q", "enter"])
async def test_any_of_its_keys_closes_it(demo_db: Path, key: str) -> None:
    async with browsing(demo_db, size=SMALL) as hands:
        await hands.press("?", key)
        assert isinstance(hands.app.screen, Browser)
        assert hands.app.is_running


async def test_quitting(demo_db: Path) -> None:
    for key in ("q", "ctrl+q"):
        async with browsing(demo_db, size=SMALL) as hands:
            hands.send(key)
            await hands.until(lambda hands=hands: not hands.app._running or hands.app._exit, "the end")
