"""Browsing: the tree where there is no terminal, what the app is handed where there is one, the places, the sample."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionscope.tui import app as tui_app

from .conftest import Cli, Make

Sample = Callable[[str], Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with a config folder of its own below it."""
    folder = tmp_path / "home"
    (folder / ".config" / "sessionscope").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / ".config"))
    return folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An app that only notes what it is asked to browse."""
    calls: list[Any] = []

    def run(places: list[str], strict: bool = True, summarizer: str | None = None) -> int:
        calls.append((places, strict) if summarizer is None else (places, strict, summarizer))
        return 0

    monkeypatch.setattr(tui_app, "run", run)
    return calls


def test_the_tree_is_printed_where_there_is_no_terminal(cli: Cli, sample: Sample, sample_name: str) -> None:
    path = sample(sample_name)
    result = cli(path)
    sessions = json.loads(cli("ls", path, "--json").out)["sessions"]
    lines = [line for line in result.out.splitlines() if line.lstrip().startswith(("▾", "•"))]
    assert (result.status, result.err) == (0, "")
    assert len(lines) == len(sessions)
    for session, line in zip(sessions, lines, strict=True):
        assert line.startswith("  " * session["depth"] + ("▾", "•")[line.lstrip().startswith("•")])


def test_places_and_states_are_marked(cli: Cli, sample: Sample) -> None:
    assert cli(sample("damaged-0.2.0-orphans")).out.count("! orphan") == 2
    assert "archived · Old chat" in cli(sample("v0.2.0")).out
    assert "no release loads this layout" in cli(sample("poisoned-0.2.0-opened-by-8.0.0-prefix-empty")).out


def test_one_bad_archive_does_not_hide_the_others(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    result = cli(tmp_path / "nowhere.db", sample("v0.2.0"))
    assert result.status == 2
    assert "Fix the flaky CI job" in result.out
    assert result.err.count("\n") == 1
    assert "nowhere.db" in result.err


@pytest.mark.usefixtures("home")
def test_nothing_found_says_what_was_looked_for(cli: Cli) -> None:
    result = cli()
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert "power_loop_sessions.db" in result.err
    assert "config.toml" in result.err


def test_the_usual_places_and_the_config_are_browsed(cli: Cli, sample: Sample, home: Path) -> None:
    shutil.copy(sample("v0.2.0"), home / "power_loop_sessions.db")
    (home / ".config" / "sessionscope" / "config.toml").write_text(f"archives = [{str(sample('v8.0.0'))!r}]")
    out = cli().out
    assert "power_loop_sessions.db · power-loop 0.2" in out
    assert "v8.0.0.db · power-loop 8.0" in out


def test_one_missing_archive_of_the_config_does_not_stop_the_browser(
    cli: Cli, app: list[tuple[list[str], bool]], home: Path
) -> None:
    (home / ".config" / "sessionscope" / "config.toml").write_text("archives = ['/there/is/none.db']")
    assert cli(terminal=True).status == 0
    assert app == [(["/there/is/none.db"], False)]


def test_a_broken_config_is_one_sentence(cli: Cli, home: Path) -> None:
    (home / ".config" / "sessionscope" / "config.toml").write_text("archives = [")
    result = cli()
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert "config.toml" in result.err


def test_a_terminal_gets_the_app(cli: Cli, app: list[tuple[list[str], bool]], tmp_path: Path) -> None:
    # Not even looked at: the app opens what it browses.
    assert cli("a.db", tmp_path / "b.db#pl_", terminal=True).status == 0
    assert app == [(["a.db", str(tmp_path / "b.db#pl_")], True)]


class TestDemo:
    def test_it_is_printed_and_deleted(self, cli: Cli, temporary: Path) -> None:
        result = cli("demo")
        assert (result.status, result.err) == (0, "")
        assert "Fix the flaky importer" in result.out
        assert list(temporary.iterdir()) == []

    def test_it_is_browsed_and_deleted(self, cli: Cli, app: list[tuple[list[str], bool]], temporary: Path) -> None:
        assert cli("demo", terminal=True).status == 0
        assert [Path(place).name for places, _ in app for place in places] == ["demo.db"]
        assert list(temporary.iterdir()) == []

    def test_json_keeps_it(self, cli: Cli, temporary: Path) -> None:
        document = json.loads(cli("demo", "--json").out)
        path = Path(document["path"])
        assert list(document) == ["path"]
        assert path.parent.parent == temporary
        assert cli("ls", path).status == 0


def test_a_summarizer_is_handed_on(cli: Cli, app: list[Any]) -> None:
    assert cli("--summarizer", "llm -m any", "a.db", terminal=True).status == 0
    assert app == [(["a.db"], True, "llm -m any")]


def test_hostile_text_is_shown_and_never_obeyed(cli: Cli, make: Make) -> None:
    evil = "\x1b[31m[bold red]x[/]\x1b]0;t\x07\r\x9b2J\u202e\x00\x7f"
    function = {"name": evil, "arguments": json.dumps({evil: evil})}
    message = {
        "role": f"user{evil}",
        "name": evil,
        "content": f"{evil}\n{evil}",
        "tool_call_id": evil,
        "state": evil,
        "tool_calls_json": json.dumps([{"id": evil, "function": function}]),
    }
    columns = {
        "kind": evil,
        "lifecycle": evil,
        "status": evil,
        "metadata_json": json.dumps({"title": evil}),
        "parent_session_id": evil,
    }
    path = make((f"id{evil}", columns, [message]), ("plain", {}, []), name="a\x1b[31m\n.db")
    runs = [
        cli(path),
        cli("ls", path),
        cli("show", path, f"id{evil}"),
        cli("compactions", path, f"id{evil}"),
        cli("show", path, "id"),
        cli("show", path, evil),
        cli(f"{path}{evil}"),
        cli("ls", path, evil),
        cli("ls", path, "--json"),
        cli("show", path, f"id{evil}", "--json"),
    ]
    for status, out, err in runs:
        assert status in (0, 2)
        assert err.count("\n") <= 1
        assert "Traceback" not in err
        assert not {char for char in out + err if char != "\n" and (char < " " or "\x7f" <= char <= "\x9f")}
        assert "\u202e" not in out + err
    assert json.loads(runs[-1].out)["messages"][0]["content"] == f"{evil}\n{evil}"
    assert "[bold red]x[/]" in runs[2].out
