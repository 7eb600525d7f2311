"""`ls`: every session of every layout, with the promised keys and exact counts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .conftest import AppliedCompaction, Cli, Make

KEYS = [
    "ref",
    "id",
    "layout",
    "file",
    "parent_id",
    "kind",
    "lifecycle",
    "status",
    "depth",
    "group",
    "title",
    "preview",
    "message_count",
    "active_count",
    "compaction_count",
    "created_at",
    "updated_at",
]

Sample = Callable[[str], Path]


def test_json_has_exactly_the_promised_keys(cli: Cli, sample: Sample, sample_name: str) -> None:
    result = cli("ls", sample(sample_name), "--json")
    document = json.loads(result.out)
    assert (result.status, result.err) == (0, "")
    assert list(document) == ["sessions"]
    assert document["sessions"]
    assert all(list(session) == KEYS for session in document["sessions"])


def test_counts_and_depths_are_those_of_the_tables(cli: Cli, sample: Sample) -> None:
    path = sample("v0.2.0")
    found = {session["id"]: session for session in json.loads(cli("ls", path, "--json").out)["sessions"]}
    with closing(sqlite3.connect(path)) as conn:
        counted = {
            id_: (total, active)
            for id_, total, active in conn.execute(
                "SELECT session_id, (SELECT count(*) FROM messages m WHERE m.session_id = s.session_id), "
                "(SELECT count(*) FROM messages m "
                "WHERE m.session_id = s.session_id AND state = 'active') FROM sessions s"
            )
        }
    assert {id_: (session["message_count"], session["active_count"]) for id_, session in found.items()} == counted
    assert found["sess_ephem000000000000000003"]["depth"] == 3
    assert found["sess_root0000000000000000000"]["compaction_count"] == 2
    assert found["sess_root0000000000000000000"]["title"] == "Fix the flaky CI job"


def test_children_follow_their_parents(cli: Cli, sample: Sample) -> None:
    sessions = json.loads(cli("ls", sample("v8.0.0"), "--json").out)["sessions"]
    seen: set[str] = set()
    for session in sessions:
        assert session["depth"] == 0 or session["parent_id"] in seen
        seen.add(session["id"])


def test_a_bare_path_covers_all_layouts_and_a_prefix_one(cli: Cli, sample: Sample) -> None:
    path = sample("mixed-0.2.0-then-8.0.0")
    sessions = json.loads(cli("ls", path, "--json").out)["sessions"]
    assert {session["layout"] for session in sessions} == {"", "pl_"}
    assert len(json.loads(cli("ls", f"{path}#pl_", "--json").out)["sessions"]) == 1
    assert len(json.loads(cli("ls", f"{path}#", "--json").out)["sessions"]) == len(sessions) - 1
    assert "pl_:" in cli("ls", path).out


def test_counts_are_exact_however_many_messages(cli: Cli, make: Make) -> None:
    messages = [{"state": "compacted_out" if at % 3 else "active"} for at in range(1_800)]
    session = json.loads(cli("ls", make(("big", {}, messages)), "--json").out)["sessions"][0]
    assert (session["message_count"], session["active_count"]) == (1_800, 600)


def test_times_are_iso_with_zone_and_impossible_ones_null(cli: Cli, make: Make) -> None:
    path = make(("a", {"created_at": 1_700_000_000_123, "updated_at": 2**62}, []))
    session = json.loads(cli("ls", path, "--json").out)["sessions"][0]
    assert (session["created_at"], session["updated_at"]) == ("2023-11-14T22:13:20.123Z", None)
    assert cli("ls", path).status == cli(path).status == 0


def test_depth_has_no_limit_and_circles_end(cli: Cli, make: Make) -> None:
    chain: list[AppliedCompaction] = [
        (f"s{at}", {"parent_session_id": f"s{at - 1}" if at else None}, []) for at in range(3_000)
    ]
    circle: list[AppliedCompaction] = [("x", {"parent_session_id": "y"}, []), ("y", {"parent_session_id": "x"}, [])]
    path = make(*chain, *circle)
    depths = {session["id"]: session["depth"] for session in json.loads(cli("ls", path, "--json").out)["sessions"]}
    assert depths == {f"s{at}": at for at in range(3_000)} | {"x": 0, "y": 1}
    assert "↻ cycle" in cli("ls", path).out


def test_text_has_a_line_for_each_session(cli: Cli, sample: Sample, sample_name: str) -> None:
    path = sample(sample_name)
    result = cli("ls", path)
    sessions = json.loads(cli("ls", path, "--json").out)["sessions"]
    head, *lines = result.out.splitlines()
    assert head.startswith("SESSION")
    assert len(lines) == len(sessions)
    assert all(session["id"] in line for session, line in zip(sessions, lines, strict=True))
