"""The verbs on nanobot's sessions: every sample, the promised keys, limits, time zones, hostile names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sessionscope.tui import config

from ..store.workspaces import DAMAGED, KEY, NAME, SAMPLES, damaged, talk, workspace, write
from .conftest import Cli
from .test_ls import KEYS

FOLDERS = [SAMPLES / name for name in ("v0.2.0", "v0.3.5", "loop-v0.2.0")]
MESSAGE = [
    "row",
    "seq",
    "role",
    "state",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "round_index",
    "created_at",
    "damage",
]
FOLD = [
    "number",
    "from_seq",
    "to_seq",
    "rows",
    "note_seq",
    "before_tokens",
    "after_tokens",
    "tokens_are",
    "set_is",
    "undone",
]


def document(cli: Cli, *words: object) -> dict[str, Any]:
    """What a verb answers in JSON, having done its work."""
    result = cli(*words, "--json")
    assert (result.status, result.err) == (0, "")
    answer: dict[str, Any] = json.loads(result.out)
    return answer


@pytest.mark.parametrize("path", [*FOLDERS, *DAMAGED], ids=lambda path: path.name)
def test_every_sample_opens_headless(cli: Cli, path: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(path, tmp_path / "sessions"))
    sessions = document(cli, "ls", folder)["sessions"]
    assert sessions
    for session in sessions:
        assert list(session) == KEYS
        assert session["file"]
        assert session["ref"] == f":{session['id']}@{session['file']}"
        for view in ("all", "active", "compacted", "context"):
            messages = document(cli, "show", folder, session["ref"], "--view", view)["messages"]
            assert all(list(message) == MESSAGE for message in messages)
            plain = cli("show", folder, session["ref"], "--view", view)
            assert (plain.status, "\x1b" in plain.out) == (0, False)
        rows = document(cli, "show", folder, session["ref"])["messages"]
        assert session["message_count"] == sum(row["seq"] is not None for row in rows)
        assert [row["seq"] is None for row in rows] == [row["state"] == "damaged" for row in rows]
        assert all(row["damage"] for row in rows if row["seq"] is None)
        compactions = document(cli, "compactions", folder, session["ref"])
        assert [list(compaction) for compaction in compactions["compactions"]] == [FOLD] * len(
            compactions["compactions"]
        )
        assert cli("compactions", folder, session["ref"]).status == 0
    tree = cli(folder)
    assert (tree.status, tree.err) == (0, "")
    assert len(tree.out.splitlines()) > len(sessions)


def test_the_tree_without_a_terminal_is_by_channel(cli: Cli, tmp_path: Path) -> None:
    for at, key in enumerate(("telegram:1", "heartbeat", "slack:C:1", "telegram:2")):
        write(
            tmp_path / "sessions",
            talk(2),
            f"{at}.jsonl",
            key,
            updated_at=f"2026-05-16T1{at}:00:00",
            metadata={"title": key.upper()},
        )
    lines = [" ".join(line.split()[:2]) for line in cli(tmp_path).out.splitlines()[1:]]
    assert lines == ["▾ telegram", "• TELEGRAM:2", "• TELEGRAM:1", "▾ slack", "• SLACK:C:1", "• HEARTBEAT"]


def test_the_audit_with_the_log(cli: Cli, tmp_path: Path) -> None:
    folder = workspace(tmp_path / "ws")
    (compaction,) = document(cli, "compactions", folder, "loop:consolidated")["compactions"]
    assert (
        compaction["from_seq"],
        compaction["to_seq"],
        compaction["rows"],
        compaction["note_seq"],
        compaction["set_is"],
    ) == (
        1,
        6,
        6,
        None,
        "recorded",
    )
    found = document(cli, "compactions", folder, "loop:plain")
    assert found == {
        "compactions": [],
        "archived": [
            {
                "number": 1,
                "content": "- summary of the old turns",
                "of_session": False,
                "created_at": "2026-11-20T19:57:00.000Z",
                "damage": None,
            }
        ],
    }
    plain = cli("compactions", folder, "loop:plain").out
    assert "no compactions" in plain
    assert "▤ 1  memory/history.jsonl, of which session is not said" in plain
    assert "1-6 into the summary" in cli("compactions", folder, "loop:consolidated").out


def test_limits_of_the_context(cli: Cli, tmp_path: Path, make: Any) -> None:
    folder = write(tmp_path / "sessions", talk(300)).parent

    def seqs(*limits: object) -> list[int]:
        return [row["seq"] for row in document(cli, "show", folder, KEY, "--view", "context", *limits)["messages"]]

    assert seqs() == list(range(181, 301))
    assert seqs("--max-messages", 4) == [297, 298, 299, 300]
    assert seqs("--max-messages", 4, "--max-tokens", 15) == [299, 300]
    assert "at most 4" in cli("show", folder, KEY, "--view", "context", "--max-messages", 4).out
    for words, why in (
        (("--max-messages", 4), "go with --view context"),
        (("--view", "context", "--max-tokens", -1), "0 for none"),
    ):
        result = cli("show", folder, KEY, *words)
        assert (result.status, result.out) == (2, "")
        assert why in result.err
    database = make(("a", {}, [{"content": "x"}]))
    result = cli("show", database, "a", "--view", "context", "--max-messages", 4)
    assert (result.status, "power-loop sessions have no context limits." in result.err) == (2, True)


def test_a_range_of_seqs(cli: Cli, tmp_path: Path) -> None:
    folder = damaged("10_two_objects_one_line", tmp_path / "sessions")
    rows = document(cli, "show", folder, "my_bot:42", "--from", 2, "--to", 4)["messages"]
    assert [row["seq"] for row in rows] == [2, 3, 4]
    damaged_rows = [row for row in document(cli, "show", folder, "my_bot:42")["messages"] if row["seq"] is None]
    assert [row["damage"] for row in damaged_rows] == [["line 4: more than one object on the line"]] * 2
    assert "#line 4 user (damaged)" in cli("show", folder, "my_bot:42").out


def test_a_session_by_any_of_its_names(cli: Cli, tmp_path: Path) -> None:
    folder = write(tmp_path / "sessions", talk(1)).parent
    for name in (KEY, f":{KEY}", NAME, NAME.removesuffix(".jsonl"), f":{KEY}@{NAME}"):
        assert len(document(cli, "show", folder, name)["messages"]) == 1
    result = cli("show", folder, "telegram")
    assert (result.status, KEY in result.err) == (2, True)
    write(folder, talk(2), "copy.jsonl")
    result = cli("show", folder, KEY)
    assert result.status == 2
    assert f":{KEY}@copy.jsonl" in result.err
    assert len(document(cli, "show", folder, "copy.jsonl")["messages"]) == 2


def test_times_are_read_in_the_configs_zone(cli: Cli, tmp_path: Path) -> None:
    folder = write(tmp_path / "sessions", [{"role": "user", "content": "x", "timestamp": "2026-05-16T12:00:00"}]).parent
    config.path().parent.mkdir(parents=True, exist_ok=True)
    try:
        config.path().write_text('timezone = "America/New_York"\n')
        (row,) = document(cli, "show", folder, KEY)["messages"]
        assert row["created_at"] == "2026-05-16T16:00:00.000Z"
        config.path().write_text('timezone = "Mars/Olympus"\n')
        result = cli("show", folder, KEY)
        assert (result.status, "does not know" in result.err, result.err.count("\n")) == (2, True, 1)
    finally:
        config.path().unlink()


def test_hostile_text_is_shown_and_not_obeyed(cli: Cli, tmp_path: Path) -> None:
    """A key, a title, a role, a tool's name and a file name that hold escapes, on purpose or through damage."""
    evil = "\x1b]0;owned\x07\x1b[31m\u202e"
    folder = tmp_path / "sessions"
    write(
        folder,
        [{"role": evil, "content": evil, "name": evil, "tool_calls": [{"id": evil, "name": evil}]}],
        f"a{evil.replace('/', '')}.jsonl",
        f"{evil}:1",
        metadata={"title": evil, "_last_summary": {"text": evil}},
        last_consolidated=evil,
    )
    (folder / "b.jsonl").write_bytes(f'{{"role": "user", "content": "{evil}'.encode())
    found = document(cli, "ls", folder)["sessions"]
    for words in (
        (folder,),
        ("ls", folder),
        *(("show", folder, one["ref"]) for one in found),
        *(("compactions", folder, one["ref"]) for one in found),
        ("show", folder, evil),
    ):
        result = cli(*words)
        assert not {"\x1b", "\x07", "\u202e"} & set(result.out + result.err)
    assert cli("ls", folder, "--json").out.isascii()


@pytest.mark.parametrize(
    ("make_it", "why"),
    [
        (lambda path: path.mkdir(), "holds no sessions"),
        (lambda path: (path.mkdir(), (path / "x.jsonl").write_text('{"a": 1}')), "holds no sessions"),
        (lambda path: None, "does not exist"),
    ],
)
def test_what_is_no_archive(cli: Cli, tmp_path: Path, make_it: Any, why: str) -> None:
    path = tmp_path / "place"
    make_it(path)
    for words in (("ls", path), ("show", path, "x"), (path,)):
        result = cli(*words)
        assert (result.status, result.out) == (2, "")
        assert why in result.err
        assert result.err.count("\n") == 1
