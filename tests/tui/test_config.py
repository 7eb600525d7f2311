"""The config file: archives, theme, keymap; a bad one is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionscope.tui import config
from sessionscope.tui.app import Sessionscope, binding_ids, check
from sessionscope.tui.config import Config, ConfigError

from .harness import MEDIUM, browsing


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setattr(config, "path", lambda: path)
    return path


def test_none(file: Path) -> None:
    assert config.load() == Config()


def test_all(file: Path) -> None:
    file.write_text('archives = ["a.db", "b.db#pl_"]\ntheme = "textual-light"\n[keymap]\n"view.cycle" = "x"\n')
    found = config.load()
    assert found == Config(["a.db", "b.db#pl_"], "textual-light", {"view.cycle": "x"})
    check(found, Sessionscope([]).available_themes)


@pytest.mark.parametrize(
    "text",
    [
        "archives = 5",
        "archives = [1]",
        "theme = []",
        "unknown = 1",
        "keymap = 3",
        "[keymap]\nquit = 3",
        "no toml at all",
        "theme = 'unclosed",
    ],
)
def test_what_is_wrong_is_one_sentence(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load()
    said = str(caught.value)
    assert said.startswith(str(file))
    assert "\n" not in said
    assert said.endswith(".")


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(b"theme = '\xff'")
    with pytest.raises(ConfigError):
        config.load()


def test_a_folder_in_its_place(file: Path) -> None:
    file.mkdir()
    with pytest.raises(ConfigError):
        config.load()


@pytest.mark.parametrize("bad", [Config(theme="no-such-theme"), Config(keymap={"no.such.binding": "x"})])
def test_what_is_not_there_is_named_with_what_is(bad: Config) -> None:
    with pytest.raises(ConfigError, match=r"no.such") as caught:
        check(bad, Sessionscope([]).available_themes)
    assert "textual-dark" in str(caught.value) or "view.cycle" in str(caught.value)


async def test_a_theme(demo_db: Path) -> None:
    async with browsing(demo_db, config=Config(theme="textual-light")) as hands:
        assert hands.app.theme == "textual-light"


async def test_a_keymap(demo_db: Path) -> None:
    assert {"view.cycle", "list.down", "tree.unfold", "inspector.top", "quit"} <= binding_ids()
    settings = Config(keymap={"view.cycle": "x", "list.down": "J,down"})
    async with browsing(demo_db, size=MEDIUM, config=settings) as hands:
        await hands.press("enter", "x")
        assert hands.view.value == "active"
        await hands.press("v")
        assert hands.view.value == "active"
        await hands.press("1", "g", "J")
        assert hands.seq == 2


async def test_a_keymap_reaches_the_screens_on_top(demo_db: Path) -> None:
    names = {
        "compact.leave": "f4",
        "gauge.leave": "f4",
        "doctor.leave": "f4",
        "trash.leave": "f4",
        "plan.leave": "f4",
        "close.leave": "f4",
    }
    settings = Config(keymap=names)
    check(settings, ["textual-dark"])
    async with browsing(demo_db, config=settings) as hands:
        for key in ("c", "w", "r", "T", "x"):
            await hands.press("enter", key)
            assert hands.app.screen is not hands.browser, key
            await hands.press("f4")
            assert hands.app.screen is hands.browser, key
