"""The command palette: every verb is there and runs, and every session is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual._callback import invoke
from textual.binding import Binding
from textual.command import CommandInput

from sessionscope.tui.app import Sessionscope
from sessionscope.tui.browser.screen import Browser
from sessionscope.tui.compat import Palette

from .database import Database
from .harness import LARGE, MEDIUM, Hands, browsing

VERBS = [binding for binding in Binding.make_bindings(Browser.BINDINGS) if binding.key != "backspace"]


async def look_up(hands: Hands, words: str) -> None:
    await hands.press("ctrl+p")
    hands.app.screen.query_one(CommandInput).value = words
    await hands.settle()


async def test_every_verb_is_listed(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        listed = {command.title: command for command in hands.app.get_system_commands(hands.browser)}
        assert [verb.description for verb in VERBS if verb.description not in listed] == ["Limits of the context"]
        for binding in (verb for verb in VERBS if verb.description in listed):
            assert hands.app.get_key_display(binding) in listed[binding.description].help


async def test_every_verb_runs(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        for command in list(hands.app.get_system_commands(hands.browser)):
            if command.title in ("Quit", "Screenshot", "Theme", "Keys"):
                continue
            await invoke(command.callback)
            await hands.settle()
            await hands.press("escape")
            while not isinstance(hands.app.screen, Browser):
                hands.app.pop_screen()
                await hands.settle()
        assert hands.browser.current_session is not None


async def test_a_verb_by_its_name(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await look_up(hands, "What the model sees")
        await hands.until(lambda: "What the model sees now" in hands.text(), "the verb")
        await hands.press("enter")
        assert hands.view.value == "context"


async def test_what_comes_after_the_key_that_closes_it(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        for keys in (("u", "enter", "enter", "enter"), ("u", "escape"), ("escape", "u"), ("1", "escape", "escape")):
            for key in ("ctrl+p", *keys):
                hands.send(key)
            await hands.settle()
            await hands.press("escape")
            assert hands.app.screen_stack[0] is hands.browser
        await hands.press("ctrl+p")
        palette = hands.app.screen
        assert isinstance(palette, Palette)
        palette.dismiss()
        palette.dismiss()
        assert palette._gather_commands("u") is None
        await hands.settle()
        assert hands.app.screen_stack == [hands.browser]


async def test_keys_that_look_like_markup(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await look_up(hands, "compaction")
        await hands.until(lambda: "Previous compaction" in hands.text(), "the verb")
        assert "key [" in hands.text()
        assert "key ]" in hands.text()


async def test_sessions(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await look_up(hands, "signing")
        await hands.until(lambda: "Open Rotate the signing keys" in hands.text(), "the session")
        await hands.press("enter")
        assert hands.title == "Rotate the signing keys"
        assert hands.focus == "timeline"


async def test_a_title_that_looks_like_markup(tmp_path: Path) -> None:
    path = tmp_path / "markup.db"
    with Database(path) as db:
        db.message(db.session("[$error] [/] id[link=x]", title="[bold]not bold[/bold] [@click=app.quit]x[/]"))
    async with browsing(path, size=LARGE) as hands:
        await look_up(hands, "bold")
        await hands.until(lambda: "Open [bold]not bold[/bold] [@click=app.quit]x[/]" in hands.text(), "the session")
        await hands.press("enter")
        assert hands.session == "[$error] [/] id[link=x]"


async def test_a_click_outside_of_the_screen(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await hands.press("ctrl+p")
        palette = hands.app.screen
        for x, y in ((500, 10), (10, 500), (-1, -1)):
            palette.post_message(events.Click(palette, x, y, 0, 0, 1, False, False, False, x, y))
            await hands.settle()
        assert hands.app.screen is palette
        palette.post_message(events.Click(palette, 0, 0, 0, 0, 1, False, False, False, 0, 0))
        await hands.until(lambda: isinstance(hands.app.screen, Browser), "the palette to close")


async def test_a_click_that_comes_while_the_app_ends_is_nothing() -> None:
    app = Sessionscope([])
    assert not app.screen_stack
    await app.on_event(events.Click(None, 1, 1, 0, 0, 1, False, False, False, 1, 1))


async def test_a_fault_of_our_own_is_one_sentence(demo_db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apps = []

    async def fault() -> None:
        async with browsing(demo_db, size=MEDIUM) as hands:
            apps.append(hands.app)
            hands.app.call_later(lambda: 1 // 0)
            await hands.settle()

    with pytest.raises(ZeroDivisionError):
        await fault()
    assert apps[0].return_code == 1
    printed = "".join(capsys.readouterr())
    assert "a fault in the program ended it (ZeroDivisionError)" in printed
    assert "Traceback" not in printed
