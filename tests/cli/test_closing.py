"""close, archive, reopen, trash, restore on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT as CHECKOUT
from .conftest import Cli

DATA = CHECKOUT / "tests" / "data"
ROOT, LINKED, DETACHED = "sess_root0000000000000000000", "sess_linked00000000000000001", "sess_detached000000000000002"
ARCHIVED = "sess_archived00000000000000"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(DATA / "power-loop" / "v0.2.0.db", tmp_path / "a.db"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "nanobot" / "v0.2.0", tmp_path / "sessions"))


def document(cli: Cli, *argv: object, status: int = 0) -> Any:
    done = cli(*argv, "--json")
    assert (done.status, done.err) == (status, "")
    return json.loads(done.out)


def test_closing_is_a_plan_first(cli: Cli, database: Path) -> None:
    before = database.read_bytes()
    found = document(cli, "close", database, ROOT, "--dry-run")
    plan = found["plan"]
    assert (found["applied"], found["bundle"], plan["action"]) == (False, None, "close")
    assert plan["delete"][:2] == [ROOT, LINKED]
    assert plan["detach"] == [DETACHED]
    assert plan["sessions"][0]["title"] == "Fix the flaky CI job"
    assert any("a turn is open" in warning for warning in plan["warnings"])
    assert database.read_bytes() == before
    shown = cli("close", database, ROOT, "--dry-run").out
    assert "✕ Fix the flaky CI job" in shown
    assert "↥" in shown


def test_what_speaks_against_it_needs_a_word(cli: Cli, database: Path) -> None:
    done = cli("close", database, ROOT)
    assert done.status == 3
    assert "--anyway" in done.err
    found = document(cli, "close", database, ROOT, "--anyway")
    assert found["applied"] is True
    assert ROOT not in cli("ls", database).out
    assert DETACHED in cli("ls", database, "--json").out
    kept = document(cli, "trash", "list", database)["bundles"]
    assert [one["path"] for one in kept] == [found["bundle"]]
    assert kept[0]["sessions"][0]["id"] == ROOT
    assert "Fix the flaky CI job" in cli("trash", "show", database, Path(found["bundle"]).name).out
    lines = [json.loads(line) for line in cli("trash", "export", database, found["bundle"]).out.splitlines()]
    assert {line["table"] for line in lines} >= {"sessions", "messages", "compactions"}
    assert cli("restore", found["bundle"]).status == 0
    assert ROOT in cli("ls", database, "--json").out
    assert document(cli, "trash", "list", database)["bundles"] == []
    assert cli("restore", found["bundle"]).status == 2


def test_without_cascade_and_several(cli: Cli, database: Path) -> None:
    plan = document(cli, "close", database, ROOT, ARCHIVED, "--no-cascade", "--anyway")["plan"]
    assert plan["delete"] == [ROOT, ARCHIVED]
    assert LINKED in plan["detach"]
    assert "orphan" not in cli("doctor", database).out


def test_archive_and_reopen(cli: Cli, database: Path, folder: Path) -> None:
    assert document(cli, "archive", database, LINKED)["applied"] is True
    sessions = {one["id"]: one["status"] for one in document(cli, "ls", database)["sessions"]}
    assert sessions[LINKED] == "archived"
    assert document(cli, "archive", database, LINKED)["applied"] is False
    assert cli("reopen", database, LINKED).status == 0
    assert document(cli, "ls", database)["sessions"][0]["status"] == "active"
    done = cli("archive", folder, "telegram:42")
    assert done.status == 2
    assert done.err.endswith("nanobot sessions cannot be marked as archived.\n")


def test_a_session_of_nanobots(cli: Cli, folder: Path) -> None:
    done = cli("close", folder, "telegram:42")
    assert done.status == 2
    assert "--offline" in done.err
    found = document(cli, "close", folder, "telegram:42", "--offline")
    assert not (folder / "telegram_42.jsonl").exists()
    assert cli("restore", found["bundle"], "--offline").status == 0
    assert (folder / "telegram_42.jsonl").exists()


def test_the_trash_is_emptied_by_age(cli: Cli, database: Path) -> None:
    document(cli, "close", database, ARCHIVED)
    assert "nothing is that old" in cli("trash", "empty", database, "--older-than", "30").out
    assert len(document(cli, "trash", "empty", database, "--older-than", "0", "--dry-run")["bundles"]) == 1
    assert len(document(cli, "trash", "list", database)["bundles"]) == 1
    assert document(cli, "trash", "empty", database, "--older-than", "0")["applied"] is True
    assert cli("trash", "list", database).out == "nothing is kept\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("trash", "list", "x", "y"), "takes no BUNDLE"),
        (("trash", "show", "x"), "takes a BUNDLE"),
        (("trash", "empty", "x"), "--older-than"),
        (("trash", "list", "x", "--older-than", "3"), "--older-than"),
        (("trash", "empty", "x", "--older-than", "soon"), "no number of days"),
        (("close", "x"), "SESSION"),
        (("trash", "burn", "x"), "invalid choice"),
    ],
)
def test_wrong_usage_is_one_line(cli: Cli, argv: tuple[str, ...], words: str) -> None:
    done = cli(*argv)
    assert done.status == 2
    assert words in done.err
    assert done.err.count("\n") == 1


def test_what_is_kept_of_another_archive_is_not_found(cli: Cli, database: Path, folder: Path) -> None:
    found = document(cli, "close", database, ARCHIVED)
    done = cli("trash", "show", folder, found["bundle"])
    assert done.status == 2
    assert "nothing that was kept" in done.err
