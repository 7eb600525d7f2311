"""compact and uncompact on the command line."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ..store.real import check_context, check_history
from .conftest import ROOT as CHECKOUT
from .conftest import Cli

DATA = CHECKOUT / "tests" / "data"
ROOT = "sess_root0000000000000000000"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(DATA / "power-loop" / "v0.2.0.db", tmp_path / "a.db"))


def document(cli: Cli, *argv: object) -> Any:
    done = cli(*argv, "--json")
    assert (done.status, done.err) == (0, "")
    return json.loads(done.out)


def active(cli: Cli, database: Path) -> list[int]:
    return [one["seq"] for one in document(cli, "show", database, ROOT, "--view", "active")["messages"]]


def test_a_range_is_folded_and_taken_back(cli: Cli, database: Path, tmp_path: Path) -> None:
    before = active(cli, database)
    plan = document(cli, "compact", database, ROOT, "--from", "13", "--to", "16", "--dry-run")["plan"]
    assert (plan["action"], plan["from_seq"], plan["to_seq"], plan["leaves"]) == ("compact", 13, 16, 4)
    assert plan["tokens_are"] == "estimated"
    assert active(cli, database) == before
    (tmp_path / "note.txt").write_text("Facts so far.")
    found = document(cli, "compact", database, ROOT, "--from", "13", "--to", "16", "--note-file", tmp_path / "note.txt")
    assert found["applied"] is True
    assert active(cli, database) == [seq for seq in before if not 13 <= seq <= 16] + [21]
    assert "Facts so far." in cli("show", database, ROOT, "--from", "21").out
    compactions = document(cli, "compactions", database, ROOT)["compactions"]
    assert (compactions[-1]["number"], compactions[-1]["set_is"], compactions[-1]["rows"]) == (3, "recorded", 4)
    assert document(cli, "uncompact", database, ROOT, "3", "--dry-run")["applied"] is False
    assert document(cli, "uncompact", database, ROOT, "3")["applied"] is True
    assert active(cli, database) == before
    assert document(cli, "compactions", database, ROOT)["compactions"][-1]["undone"] is True


@pytest.mark.parametrize("name", ["v0.2.0", "v0.18.0", "v2.2.0", "v8.0.0", "v8.0.0-prefix-empty"])
def test_a_session_of_each_release_is_folded_and_taken_back(cli: Cli, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copyfile(DATA / "power-loop" / f"{name}.db", tmp_path / "a.db"))
    before = document(cli, "show", path, ROOT, "--view", "context")
    assert document(cli, "compact", path, ROOT, "--from", "13", "--to", "16", "--note", "so far")["applied"] is True
    folded = [one["seq"] for one in document(cli, "show", path, ROOT, "--view", "context")["messages"]]
    assert set(folded) == {one["seq"] for one in before["messages"]} - {13, 14, 15, 16} | {max(folded)}
    check_context(path, name, ROOT, folded)
    assert document(cli, "uncompact", path, ROOT, "3")["applied"] is True
    assert document(cli, "show", path, ROOT, "--view", "context") == before
    check_context(path, name, ROOT, [one["seq"] for one in before["messages"]])


CHANGING = """\
import sqlite3, sys
sys.stdin.read()
sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])
print("from the command")
"""


def test_what_a_summarizer_read_is_folded_and_nothing_else(
    cli: Cli, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    proposed = document(cli, "compact", database, ROOT, "--keep", "1", "--dry-run")["plan"]
    before = active(cli, database)
    append = (
        f"INSERT INTO messages (session_id, seq, role, content, state, round_index, created_at) VALUES "
        f"('{ROOT}', 21, 'user', 'meanwhile', 'active', 0, 0); UPDATE session_state SET next_seq = 22 "
        f"WHERE session_id = '{ROOT}'"
    )
    compaction = f"UPDATE messages SET state = 'compacted_out' WHERE session_id = '{ROOT}' AND seq = 14"

    def summarized(statement: str) -> Any:
        command = shlex.join([sys.executable, "-c", CHANGING, str(database), statement])
        return cli("compact", database, ROOT, "--keep", "1", "--summarizer", command)

    # With one more message, the proposal would be another by now.
    assert summarized(append).status == 0
    left = [seq for seq in before if seq not in (13, 14, 15, 16, 17)]
    assert (proposed["from_seq"], proposed["to_seq"]) == (13, 17)
    assert active(cli, database) == [*left, 21, 22]
    assert cli("uncompact", database, ROOT, "3").status == 0
    done = summarized(compaction)
    assert done.status == 3
    assert "have changed meanwhile; nothing was done" in done.err
    (kept,) = tmp_path.glob("sessionscope-note-*.md")
    assert str(kept) in done.err
    assert kept.read_text() == "from the command"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--from", "3", "--note", "x"), "go together"),
        (("--from", "3", "--to", "2", "--note", "x"), "no range"),
        (("--from", "1", "--to", "999", "--note", "x"), "no message 999"),
        (("--from", "13", "--to", "14"), "needs a --note"),
        (("--keep", "0", "--note", "x"), "--keep"),
        (("--note", "x", "--note-file", "y"), "not allowed"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(cli: Cli, database: Path, argv: tuple[str, ...], words: str) -> None:
    before = database.read_bytes()
    done = cli("compact", database, ROOT, *argv)
    assert done.status == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert database.read_bytes() == before


def context(cli: Cli, folder: Path, session: str) -> list[Any]:
    """What is sent; a row's own name tells where its line stands, and those move."""
    found = document(cli, "show", folder, session, "--view", "context")["messages"]
    return [{name: value for name, value in one.items() if name != "row"} for one in found]


def test_an_unknown_compaction_is_said(cli: Cli, database: Path) -> None:
    done = cli("uncompact", database, ROOT, "9")
    assert done.status == 2
    assert "there is 1, 2" in done.err


@pytest.mark.parametrize(
    ("name", "session"), [("v0.2.0", "telegram:42"), ("v0.3.5", "telegram:42"), ("loop-v0.2.0", "loop:consolidated")]
)
def test_a_nanobot_session_is_folded_and_taken_back(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, session: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = Path(shutil.copytree(DATA / "nanobot" / name, tmp_path / "sessions"))
    shown = context(cli, folder, session)
    plan = document(cli, "compact", folder, session, "--keep", "1", "--dry-run")["plan"]
    assert plan["offline"] is True
    done = cli("compact", folder, session, "--keep", "1", "--note", "Facts.")
    assert done.status == 2
    assert "--offline" in done.err
    assert document(cli, "compact", folder, session, "--keep", "1", "--note", "Facts.", "--offline")["applied"] is True
    number = document(cli, "compactions", folder, session)["compactions"][-1]["number"]
    assert context(cli, folder, session) == shown[plan["leaves"] :]
    check_history(folder, name, session, shown[plan["leaves"] :], "Facts.")
    assert cli("uncompact", folder, session, number, "--offline").status == 0
    assert context(cli, folder, session) == shown
    assert document(cli, "compactions", folder, session)["compactions"][-1]["undone"] is True
