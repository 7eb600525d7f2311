"""The screenshots that the README shows: they must be what the browser looks like now.

SESSIONSCOPE_UPDATE_SCREENSHOTS=1 python -m pytest tests/tui/test_screenshots.py          writes them anew
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sessionscope.tui.text import clock

from ..store.workspaces import damaged, workspace
from .damaged_sample import damaged_sample, kept
from .harness import MEDIUM, NANOBOT_NOW, SMALL, browsing

FOLDER = Path(__file__).parents[2] / "screenshots"
UPDATE = "SESSIONSCOPE_UPDATE_SCREENSHOTS"
SHOTS: dict[str, tuple[tuple[int, int], list[str]]] = {
    "browser": (MEDIUM, ["E", "enter"]),
    "timeline": (MEDIUM, ["enter", "["]),
    "audit": (MEDIUM, ["a"]),
    "narrow": (SMALL, ["enter", "["]),
    "context": (MEDIUM, ["enter", "4"]),
    "compact": (MEDIUM, ["enter", "k", "k", "shift+up", "shift+up", "shift+up", "c"]),
    "gauge": (MEDIUM, ["enter", "w"]),
}
SICK = {"doctor": ["r", "j"], "repair": ["r", "R"]}
CLOSED = {"close": ["x"], "trash": ["x", "x", "T"]}
NANOBOT = {"nanobot": ["enter", "["], "damage": ["enter", "g", "j", "j"]}


@pytest.mark.parametrize("name", SHOTS)
async def test_screenshot(name: str, demo_db: Path) -> None:
    await compare(name, demo_db, *SHOTS[name])


@pytest.mark.parametrize("name", CLOSED)
async def test_screenshot_of_closing(name: str, demo_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(monkeypatch)
    await compare(name, demo_db, MEDIUM, CLOSED[name])


@pytest.mark.parametrize("name", SICK)
async def test_screenshot_of_the_doctor(name: str, tmp_path: Path) -> None:
    await compare(name, damaged_sample(tmp_path), MEDIUM, SICK[name])


@pytest.mark.parametrize("name", NANOBOT)
async def test_screenshot_of_nanobot(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now_ms", lambda: NANOBOT_NOW)
    places = {
        "nanobot": lambda: workspace(tmp_path / "my-agent"),
        "damage": lambda: damaged("10_two_objects_one_line", tmp_path / "damaged"),
    }
    await compare(name, places[name](), MEDIUM, NANOBOT[name])


async def compare(name: str, place: Path, size: tuple[int, int], keys: list[str]) -> None:
    """Compares a screenshot with the one that is kept, or writes it."""
    async with browsing(place, size=size) as hands:
        await hands.press(*keys)
        hands.app.clear_notifications()
        await hands.settle()
        svg = stable(hands.app.export_screenshot(title="sessionscope", simplify=True), name)
    path = FOLDER / f"{name}.svg"
    if os.environ.get(UPDATE):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(svg, encoding="utf-8")
    assert path.exists(), f"{path.name} is missing; set {UPDATE}=1 to write it"
    assert path.read_text(encoding="utf-8") == svg, f"{path.name} is stale; set {UPDATE}=1 to write it anew"


def stable(svg: str, name: str) -> str:
    """A screenshot with an id of its own instead of a random one, whose spaces survive any viewer."""
    svg = re.sub(r"terminal-\d+", f"terminal-{name}", svg)
    return svg.replace("<text ", '<text xml:space="preserve" ')
