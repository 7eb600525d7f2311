"""Session text that tries to be more than text: it is shown, visibly, and obeyed by nothing, in every pane."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import unicodedata
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.command import CommandInput
from textual.widgets import Input

from sessionscope.store import View
from sessionscope.tui.browser.screen import Browser
from sessionscope.tui.dialogs.compact import CompactDialog
from sessionscope.tui.screens.context_usage import ContextUsageScreen
from sessionscope.tui.text.describe import MODES
from sessionscope.tui.text.visible import visible
from sessionscope.tui.widgets.audit_pane import AuditPane
from sessionscope.tui.widgets.biggest import Biggest

from .database import Database, calls
from .harness import LARGE, MEDIUM, SMALL, Hands, browsing

ESC, CSI, OSC = "\x1b", "\x9b", "\x9d"
ATTACKS = {
    "markup": "[b]bold[/b] [@click=app.bell]ring[/] [link=https://evil.example]x[/link] [/nothing] [$error]",
    "sgr": f"{ESC}[31mred{ESC}[0m {ESC}[2J{ESC}[H",
    "link": f"{ESC}]8;;https://evil.example{ESC}\\click{ESC}]8;;{ESC}\\",
    "clipboard": f"{ESC}]52;c;ZXZpbA=={ESC}\\ {ESC}]0;title\x07",
    "c1": f"{CSI}31m {OSC}52;c;ZXZpbA==\x9c \x85 \x90q\x9c",
    "bidi": "\u202egnp.exe\u202c \u2066x\u2069 \u200fy\u061c",
    "hidden": "zero\u200bwidth\ufeff\u2060\u00ad joiner\u200d \U000e0041\U000e0042",
    "nul": "before\x00after\x7f\x08\x08\x0b\x0c",
    "lines": "one\r\ntwo\rthree\u2028four\u2029five",
    "tabs": "a\tb\t\tc",
    "combining": "e" + "\u0301" * 200,
    "long word": "x" * 10_000,
    "wide": "漢" * 500 + "👩‍👩‍👧‍👦" * 50,
}
LITERALS = ("[b]bold[/b]", "␛[31mred", "zero\\u200bwidth", "before␀after", "\\u202egnp.exe")
"""How some of them must look wherever there is room."""
OWN_CLICKS = {
    binding.action.removeprefix("screen.")
    for owner in (Browser, AuditPane, CompactDialog, ContextUsageScreen, Biggest)
    for binding in owner.BINDINGS
    if isinstance(binding, Binding)
}


REFUSED = re.compile(
    "["
    + "".join(
        re.escape(char)
        for char in map(chr, range(sys.maxunicode + 1))
        # What emoji are joined with is the one that may be there.
        if unicodedata.category(char) in ("Cc", "Cs", "Cf", "Zl", "Zp") and char != "\u200d"
    )
    + "]"
)
"""What has no business on a terminal."""


def check(hands: Hands, exported: bool = False) -> None:
    """Fails where the screen, as painted or as exported, holds what a terminal would obey."""
    for strip in hands.strips():
        for text, style, control in strip:
            assert not control
            assert not REFUSED.search(text), ascii(text)
            if style is not None:
                assert style.link is None
                # Titles and the footer have words to click on, none of which comes from a session.
                click = style.meta.get("@click")
                assert click is None or click.removeprefix("screen.") in OWN_CLICKS, click
    if exported:
        bad = set(REFUSED.findall(hands.app.export_screenshot())) - {"\n"}
        assert not bad, ascii(bad)


def write_hostile(path: Path) -> None:
    """A session for each attack, which stands in every column that can hold text."""
    with Database(path) as db:
        for age, (name, attack) in enumerate(ATTACKS.items(), 10):
            session = f"{name} {attack}"[:300]
            db.session(
                session,
                title=f"{name}: {attack}",
                age_s=age,
                model=attack,
                system_prompt=attack,
                config_json=json.dumps({attack: [attack, {"nested": attack}]}),
                status="active",
            )
            db.message(session, "user", attack)
            db.message(
                session, attack, attack, name=attack, tool_call_id=attack, meta_json=json.dumps({attack: attack})
            )
            db.message(session, "assistant", attack, tool_calls_json=calls((attack, attack, {attack: attack})))
            db.message(session, "tool", attack, name=attack, tool_call_id=attack)
            db.message(
                session,
                "assistant",
                f"# {attack}\n\n```\n{attack}\n```\n<b>{attack}</b>",
                tool_calls_json=attack,
                meta_json=attack,
            )
            db.message(session, "user", attack, state=attack)
            db.compact(session, 1, 2, note=attack)
            db.conn.execute(
                "UPDATE session_state SET pending_json = ? WHERE session_id = ?",
                (json.dumps({"pending": attack}), session),
            )
        child = db.session(
            f"child {ATTACKS['markup']}",
            parent_session_id=f"markup {ATTACKS['markup']}"[:300],
            kind=ATTACKS["sgr"],
            lifecycle=ATTACKS["bidi"],
            status=ATTACKS["c1"],
        )
        db.message(child, "user", ATTACKS["sgr"])
        broken = db.session("broken", age_s=5)
        db.message(broken, "user", "fine")
        for seq, stored in enumerate(
            (b"bad \xff\xfe utf-8", b"surrogate \xed\xa0\x80", b"\xc2\x9b31m", b"nul \x00 then more"), 2
        ):
            db.message(broken)
            db.conn.execute(
                "UPDATE messages SET content = CAST(? AS TEXT), name = CAST(? AS TEXT) "
                "WHERE session_id = 'broken' AND seq = ?",
                (stored, stored, seq),
            )
        db.message(
            broken,
            "assistant",
            "lone",
            tool_calls_json='[{"id":"\\ud800","function":{"name":"\\udfff\\u001b",'
            '"arguments":"{\\"\\\\ud800\\":\\"\\\\u009b31m\\"}"}}]',
        )
        db.conn.execute(
            'UPDATE sessions SET metadata_json = \'{"title": "lone \\ud800 \\u001b[31m"}\' '
            "WHERE session_id = 'broken'"
        )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # What an archive is called is text from elsewhere too.
    path = tmp_path_factory.mktemp("hostile") / f"[b]evil{ESC}[31m\u202e.db"
    write_hostile(path)
    return path


@pytest.mark.parametrize("size", [SMALL, MEDIUM, LARGE])
async def test_lists_and_header(hostile: Path, size: tuple[int, int]) -> None:
    async with browsing(hostile, size=size) as hands:
        check(hands, exported=True)
        assert "[b]evil␛[31m" in hands.lines()[0]
        tree = "\n".join(hands.pane("sessions"))
        assert "[b]bold[" in tree
        assert "␛[31mr" in tree
        for key in ("p", "end", "s", "E", "end", "t"):
            await hands.press(key)
            check(hands)


async def test_the_dialog_of_a_compaction_and_the_gauge(hostile: Path) -> None:
    async with browsing(hostile, size=MEDIUM) as hands:
        opened_archive = hands.browser.catalog.opened_archives[0]
        for at in range(len(opened_archive.session_table)):
            hands.controllers.opening.open_and_focus(opened_archive.node(at))
            await hands.settle()
            await hands.press("4", "g", "space", "G", "c")
            assert isinstance(hands.app.screen, CompactDialog) or not hands.timeline.count
            check(hands, exported=True)
            await hands.press("escape", "w")
            assert isinstance(hands.app.screen, ContextUsageScreen)
            check(hands, exported=True)
            await hands.press("escape")


async def test_every_session_in_every_pane(hostile: Path) -> None:
    async with browsing(hostile, size=MEDIUM) as hands:
        opened_archive = hands.browser.catalog.opened_archives[0]
        seen = ""
        for at in range(len(opened_archive.session_table)):
            hands.controllers.opening.open_and_focus(opened_archive.node(at))
            for view in View:
                hands.controllers.opening.choose_view(view)
                await hands.settle()
                check(hands)
            hands.controllers.opening.choose_view(View.ALL)
            for index in range(hands.timeline.count):
                hands.timeline.cursor = index
                # Every attack stands in more rows than there are modes.
                hands.controllers.inspection.mode, hands.controllers.inspection.subject = (
                    MODES[index % len(MODES)],
                    "message",
                )
                hands.controllers.inspection.show()
                seen += hands.inspector.plain
                bad = set(REFUSED.findall(hands.inspector.plain)) - {"\n"}
                assert not bad, (at, index, ascii(bad))
            check(hands, exported=True)
            await hands.press("a")
            check(hands)
            await hands.press("i")
            check(hands)
            await hands.press("i", "enter")
            check(hands)
        for literal in LITERALS:
            assert literal in seen


async def test_every_session_on_a_small_screen(hostile: Path) -> None:
    async with browsing(hostile, size=SMALL) as hands:
        opened_archive = hands.browser.catalog.opened_archives[0]
        for at in range(0, len(opened_archive.session_table), 3):
            hands.controllers.opening.open_and_focus(opened_archive.node(at))
            for key in ("home", "enter", "a", "i"):
                await hands.press(key)
                check(hands)


async def test_a_whole_attack_is_in_the_inspector(hostile: Path) -> None:
    async with browsing(hostile, size=LARGE) as hands:
        opened_archive = hands.browser.catalog.opened_archives[0]
        for at, (name, attack) in enumerate(ATTACKS.items()):
            hands.controllers.opening.open(opened_archive.node(at), 1)
            await hands.settle()
            squeezed = "".join(hands.inspector.plain.split())
            assert "".join(visible(attack, newlines=True).split()) in squeezed, name


async def test_notifications(tmp_path: Path) -> None:
    """A session that is closed by another process, a file that goes away: what is said of them is text too."""
    path = tmp_path / f"[b]gone{ESC}[31m.db"
    with Database(path) as db:
        db.message(db.session(f"[b]id[/b] {ATTACKS['sgr']}", age_s=1))
        db.message(db.session("other", age_s=2))
    async with browsing(path, size=LARGE) as hands:
        with sqlite3.connect(path) as conn:
            conn.execute("DELETE FROM sessions WHERE session_id LIKE '[b]%'")
        await hands.until(lambda: bool(hands.notes), "a notice of the closed session")
        await hands.settle()
        check(hands)
        assert "[b]id[/b] ␛[31mred" in hands.text()
        path.unlink()
        shown = len(hands.notes)
        await hands.press("s", "end", "enter", "1")
        await hands.until(lambda: len(hands.notes) > shown, "a notice of the missing file")
        await hands.settle()
        check(hands)
        assert any("[b]gone␛[31m.db: the file is gone" in note for note in hands.notes)


async def test_palette(hostile: Path) -> None:
    async with browsing(hostile, size=LARGE) as hands:
        for word in ("markup", "sgr", "bidi", "clipboard", "hidden", "lone"):
            await hands.press("ctrl+p")
            hands.app.screen.query_one(CommandInput).value = word
            await hands.until(lambda word=word: f"Open {word}" in hands.text(), f"{word} in the palette")
            await hands.settle()
            check(hands)
            if word == "markup":
                assert "[b]bold[/b]" in hands.text()
            await hands.press("escape")


async def test_text_that_is_typed(hostile: Path) -> None:
    async with browsing(hostile, size=LARGE) as hands:
        await hands.press("f")
        hands.browser.panes.prompt.query_one(Input).value = "[b]bold[/b]"
        await hands.settle()
        check(hands)
        assert "/[b]bold[/b]" in hands.text()
        await hands.press("escape", "enter", "slash")
        hands.browser.panes.prompt.query_one(Input).value = f"[b]{ESC}[31m"
        await hands.press("enter")
        await hands.until(lambda: bool(hands.notes), "an answer")
        await hands.settle()
        check(hands)


async def test_a_megabyte_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    with Database(path) as db:
        db.message(db.session("long", title="y" * 1_000_000), "user", "x" * 1_000_000, name="z" * 10_000)
    async with browsing(path, size=LARGE) as hands:
        check(hands)
        await hands.press("enter", "enter", "m", "m")
        check(hands)
        assert len(hands.inspector.plain) < 300_000
