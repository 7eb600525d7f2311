"""Themes, light and dark and of the terminal's own sixteen colours, and none at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionscope.tui.config import Config

from .harness import LARGE, MEDIUM, Hands, browsing


def colours(hands: Hands) -> set[tuple[str, str]]:
    """Every pair of colours on the screen."""
    return {(str(style.color), str(style.bgcolor)) for strip in hands.strips() for _, style, _ in strip if style}


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark", "ansi-light"])
async def test_every_pane(demo_db: Path, theme: str) -> None:
    async with browsing(demo_db, size=MEDIUM, config=Config(theme=theme)) as hands:
        await hands.press("enter", "[", "m", "a", "i", "?")
        assert len(colours(hands)) > 3
        await hands.press("escape")
        for strip in hands.strips():
            for text, style, _ in strip:
                # A letter in the colour of its background could not be read.
                if text.strip() and text.strip("█▌▏▔▁ ") and style and style.color and style.bgcolor:
                    if style.color.is_default:
                        continue
                    assert style.color != style.bgcolor, text


async def test_changed_while_it_runs(demo_db: Path) -> None:
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", "[")
        before = colours(hands)
        hands.app.theme = "textual-light"
        await hands.settle()
        assert not before & {pair for pair in colours(hands) if "None" not in pair and "default" not in pair}


async def test_no_colour(demo_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with browsing(demo_db, size=LARGE) as hands:
        await hands.press("enter", ":", "4", "3", "enter")
        for strip in hands.strips():
            for _, style, _ in strip:
                for colour in (style.color, style.bgcolor) if style else ():
                    if colour is not None and colour.triplet is not None:
                        assert len(set(colour.triplet)) == 1, "only greys are left"
        glyphs = {line[4] for line in hands.pane("timeline") if line[:3].strip().isdigit()}
        assert {"○", "●", "◆", "◇"} <= glyphs
