"""The command palette: every verb is there and runs, and every session is found."""

from __future__ import annotations

from pathlib import Path

from textual._callback import invoke
from textual.binding import Binding
from textual.command import CommandInput

from tui.screens.browser import Browser

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
        for binding in VERBS:
            assert binding.description in listed
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
        assert hands.browser.opened is not None


async def test_a_verb_by_its_name(demo_db: Path) -> None:
    async with browsing(demo_db, size=MEDIUM) as hands:
        await look_up(hands, "What the model sees")
        await hands.until(lambda: "What the model sees now" in hands.text(), "the verb")
        await hands.press("enter")
        assert hands.view.value == "context"


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
