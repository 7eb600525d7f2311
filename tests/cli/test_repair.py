"""doctor, repair, settle, restore on the command line: what they print, what they do, and their exit status."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import Busy
from sessionscope.store.powerloop.reader import PowerLoopReader

from .conftest import ROOT as CHECKOUT
from .conftest import SAMPLES, Cli

DATA = CHECKOUT / "tests" / "data"
ROOT = "sess_root0000000000000000000"


@pytest.fixture
def bricked(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(DATA / "power-loop" / "damaged-0.2.0-half-append.db", tmp_path / "a.db"))


@pytest.fixture
def glued(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions"
    shutil.copytree(DATA / "nanobot-damaged" / "10_two_objects_one_line", folder)
    (folder / "EXPECTED.json").unlink()
    return folder


def document(cli: Cli, *argv: object, status: int = 0) -> Any:
    done = cli(*argv, "--json")
    assert (done.status, done.err) == (status, "")
    return json.loads(done.out)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_doctor_speaks_of_every_sample(cli: Cli, name: str) -> None:
    path = DATA / "power-loop" / f"{name}.db"
    found = document(cli, "doctor", path, status=int(name.startswith(("damaged", "poisoned"))))["findings"]
    assert all(
        list(one) == ["code", "severity", "session_id", "place", "message", "fixable", "fix", "choices", "salvage"]
        and list(one["place"]) == ["session_id", "ref", "row", "seq", "file", "line", "start", "stop"]
        for one in found
    )
    told = cli("doctor", path).out
    assert all(one["message"] in told for one in found)
    if not found:
        assert told == "nothing found\n"


def test_the_doctor_of_one_session(cli: Cli, bricked: Path) -> None:
    assert {one["session_id"] for one in document(cli, "doctor", bricked, ROOT, status=1)["findings"]} == {ROOT}
    assert document(cli, "doctor", bricked, "sess_empty00000000000000000")["findings"] == []
    assert cli("doctor", bricked, "nobody").status == 2


def test_a_dry_run_changes_nothing_and_shows_a_diff(cli: Cli, bricked: Path) -> None:
    before = bricked.read_bytes()
    done = cli("repair", bricked, "--dry-run")
    assert done.status == 1
    assert "- 21" in done.out
    assert "+ 22" in done.out
    assert bricked.read_bytes() == before
    assert [path.name for path in bricked.parent.iterdir()] == ["a.db"]
    found = document(cli, "repair", bricked, "--dry-run", status=1)
    assert (found["applied"], found["bundle"], found["plan"]["rows"]) == (False, None, 1)


def test_repair_restore_and_repair_again(cli: Cli, bricked: Path) -> None:
    found = document(cli, "repair", bricked)
    assert found["applied"] is True
    assert [one["code"] for one in found["findings"]] == ["open-turn"]
    assert document(cli, "repair", bricked)["applied"] is False
    done = cli("restore", found["bundle"])
    assert (done.status, done.err) == (0, "")
    assert document(cli, "doctor", bricked, status=1)["findings"][0]["code"] == "next-seq-behind"
    again = cli("restore", found["bundle"])
    assert again.status == 3
    assert "put back already" in again.err


def test_a_choice_is_taken_and_a_wrong_one_is_refused(cli: Cli, tmp_path: Path) -> None:
    path = Path(shutil.copyfile(DATA / "power-loop" / "damaged-0.2.0-orphans.db", tmp_path / "a.db"))
    for argument, words in (
        ("orphan", "CODE=CHOICE"),
        ("orphan=eat", "offers detach or keep"),
        ("nothing=keep", "was not found here"),
    ):
        done = cli("repair", path, "--choose", argument)
        assert done.status == 2
        assert words in done.err
    left = document(cli, "repair", path, "--choose", "ownerless-messages=adopt", "--choose", "orphan=detach")
    assert all(one["severity"] == "info" for one in left["findings"])


def test_a_folder_of_nanobots_needs_a_persons_word(cli: Cli, glued: Path) -> None:
    done = cli("repair", glued)
    assert done.status == 2
    assert "--offline" in done.err
    assert document(cli, "repair", glued, "--dry-run", status=1)["plan"]["offline"] is True
    found = document(cli, "repair", glued, "--offline")
    assert found["findings"] == []
    assert cli("restore", found["bundle"]).status == 2
    assert cli("restore", found["bundle"], "--offline").status == 0


def test_settle(cli: Cli, bricked: Path) -> None:
    found = document(cli, "settle", bricked, ROOT, "--reason", "power cut")
    assert found["applied"] is True
    done = cli("settle", bricked, ROOT)
    assert (done.status, done.out) == (0, "nothing to do: No call is open in it, and no turn.\n")
    assert "<aborted: power cut>" in cli("show", bricked, ROOT).out


def test_of_several_layouts_one_has_to_be_named(cli: Cli, tmp_path: Path) -> None:
    path = Path(shutil.copyfile(DATA / "power-loop" / "mixed-0.2.0-then-8.0.0.db", tmp_path / "a.db"))
    done = cli("repair", path)
    assert done.status == 2
    assert f"{path}#pl_" in done.err
    assert document(cli, "repair", f"{path}#pl_")["applied"] is False


def test_what_is_no_archive_and_no_bundle(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    for argv in (
        ("doctor", tmp_path / "x.txt"),
        ("doctor", tmp_path / "none"),
        ("repair", tmp_path),
        ("restore", tmp_path),
        ("settle", tmp_path / "x.txt", "y"),
        ("doctor",),
        ("restore",),
    ):
        done = cli(*argv)
        assert done.status == 2, argv
        assert done.err.count("\n") == 1 or "usage" in done.err


def test_where_nothing_opens_the_doctor_speaks_and_salvage_saves(cli: Cli, tmp_path: Path) -> None:
    data = bytearray((DATA / "power-loop" / "v0.2.0.db").read_bytes())
    data[:100] = bytes(100)
    path = tmp_path / "a.db"
    path.write_bytes(data)
    assert cli("ls", path).status == 2
    (found,) = document(cli, "doctor", path, status=1)["findings"]
    assert found["code"] == "not-a-database"
    assert found["salvage"]
    assert "--salvage NEW.db" in cli("doctor", path).out
    saved = document(cli, "repair", path, "--salvage", tmp_path / "b.db")["salvaged"]
    assert {one["name"] for one in saved["tables"]} >= {"sessions", "messages"}
    assert ROOT in cli("ls", tmp_path / "b.db").out
    for argv, words in (((), "is there already"), (("--dry-run",), "goes with no")):
        done = cli("repair", path, "--salvage", tmp_path / "b.db", *argv)
        assert done.status == 2
        assert words in done.err


def test_a_hostile_name_is_made_visible(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    folder.mkdir()
    head = {"_type": "metadata", "key": "a\x1b]0;owned\x07:1", "created_at": "x", "updated_at": "x", "metadata": {}}
    (folder / "a_1.jsonl").write_text(json.dumps(head) + '\n{"role": "user", "content": "\\u001b[2J"}\n\x1b[2J\n')
    for argv in (("doctor", folder), ("repair", folder, "--offline")):
        out = cli(*argv).out
        assert "\x1b" not in out
        assert "\x07" not in out


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_repair_is_told_also_where_the_look_after_it_fails(
    cli: Cli, bricked: Path, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may hold the file by then: "try again" would be untrue of what was done."""
    real, calls = PowerLoopReader.findings, []

    def findings(self: PowerLoopReader, *args: Any, **options: Any) -> Any:
        calls.append(1)
        raise Busy("another process holds it exclusively")

    monkeypatch.setattr(PowerLoopReader, "findings", findings)
    result = cli("repair", bricked, *more)
    monkeypatch.setattr(PowerLoopReader, "findings", real)
    assert calls
    assert result.status == 1
    assert result.err.startswith("sessionscope: The check after it failed")
    if more:
        assert json.loads(result.out)["applied"] is True
    else:
        assert "To undo it: sessionscope restore" in result.out
    assert "next-seq-behind" not in cli("doctor", bricked).out


@pytest.mark.parametrize("name", ["a.db", "it's a $(place).db"])
def test_the_undo_is_a_command_line(cli: Cli, bricked: Path, name: str) -> None:
    path = bricked.rename(bricked.with_name(name))
    before = path.read_bytes()
    undo = document(cli, "repair", path)["undo"]
    assert path.read_bytes() != before
    program, *words = shlex.split(undo)
    assert program == "sessionscope"
    assert cli(*words).status == 0
    assert "next-seq-behind" in cli("doctor", path).out
    assert document(cli, "repair", path, "--dry-run", status=1)["undo"] is None
