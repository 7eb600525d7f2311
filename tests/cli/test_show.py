"""`show`: whole messages in the view and range that was asked for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sessionscope.tui.headless import reading

from .conftest import Cli, Make, insert

KEYS = [
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
ROOT_SESSION = "sess_root0000000000000000000"

Sample = Callable[[str], Path]


def shown(cli: Cli, *argv: object) -> list[dict[str, Any]]:
    result = cli("show", *argv, "--json")
    assert (result.status, result.err) == (0, "")
    document = json.loads(result.out, parse_constant=refuse)
    assert list(document) == ["messages"]
    found: list[dict[str, Any]] = document["messages"]
    return found


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


def test_json_has_exactly_the_promised_keys(cli: Cli, sample: Sample, sample_name: str) -> None:
    path = sample(sample_name)
    for session in json.loads(cli("ls", path, "--json").out)["sessions"]:
        for view in ("all", "active", "compacted", "context"):
            found = shown(cli, path, session["ref"], "--view", view)
            assert all(list(message) == KEYS for message in found)
            rows = [message for message in found if message["state"] != "hole"]
            if view == "all":
                assert len(rows) == session["message_count"]
            elif view in ("active", "context"):
                assert len(rows) == session["active_count"]


@pytest.mark.parametrize(
    ("name", "order"), [("v0.2.0", [13, 14, 15, 16, 17, 18, 19, 20]), ("v0.18.0", [17, 13, 14, 15, 16, 18, 19, 20])]
)
def test_the_context_comes_in_the_order_of_that_release(cli: Cli, sample: Sample, name: str, order: list[int]) -> None:
    path = sample(name)
    assert [message["seq"] for message in shown(cli, path, ROOT_SESSION, "--view", "context")] == order
    out = cli("show", path, ROOT_SESSION, "--view", "context").out
    assert out.startswith("context: not stored, so not shown: the prompt")


def test_a_message_is_given_whole(cli: Cli, sample: Sample) -> None:
    path = sample("v0.2.0")
    found = {message["seq"]: message for message in shown(cli, path, ROOT_SESSION)}
    with closing(sqlite3.connect(path)) as conn:
        stored = dict(conn.execute("SELECT seq, content FROM messages WHERE session_id = ?", (ROOT_SESSION,)))
    assert {seq: message["content"] for seq, message in found.items()} == stored
    assert found[2]["tool_calls"][0] == {"id": "tc1", "name": "read_file", "arguments": {"path": "ci/log.txt"}}
    assert (found[3]["name"], found[3]["tool_call_id"], found[3]["state"]) == ("read_file", "tc1", "compacted")
    assert found[1]["created_at"].endswith("Z")
    assert found[1]["damage"] is None


def test_ranges_are_of_seqs_and_include_both_ends(cli: Cli, sample: Sample) -> None:
    path = sample("v0.18.0")
    for view, expected in (("all", [5, 6, 7]), ("compacted", [5, 6, 7]), ("active", [])):
        found = shown(cli, path, ROOT_SESSION, "--view", view, "--from", 5, "--to", 7)
        assert [message["seq"] for message in found] == expected
    found = shown(cli, path, ROOT_SESSION, "--view", "context", "--from", 16, "--to", 18)
    assert [message["seq"] for message in found] == [17, 16, 18]
    assert [message["seq"] for message in shown(cli, path, ROOT_SESSION, "--from", 19)] == [19, 20]
    assert shown(cli, path, ROOT_SESSION, "--from", 10**30) == []


def test_an_inverted_range_is_refused(cli: Cli, sample: Sample) -> None:
    result = cli("show", sample("v0.2.0"), ROOT_SESSION, "--from", 7, "--to", 5)
    assert (result.status, result.out) == (2, "")
    assert result.err == "sessionscope: --from 7 is after --to 5; swap them.\n"


def test_missing_rows_are_one_hole(cli: Cli, sample: Sample) -> None:
    path = sample("v0.2.0")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("DELETE FROM messages WHERE session_id = ? AND seq BETWEEN 3 AND 9", (ROOT_SESSION,))
    hole = shown(cli, path, ROOT_SESSION)[2]
    assert hole == dict.fromkeys(KEYS) | {"row": "3-9", "state": "hole", "tool_calls": []}
    assert [message["row"] for message in shown(cli, path, ROOT_SESSION, "--from", 5, "--to", 6)] == ["3-9"]
    assert "rows 3 to 9 are gone" in cli("show", path, ROOT_SESSION).out


def test_multimodal_content_is_the_decoded_list(cli: Cli, make: Make) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    path = make(("a", {}, [{"content": json.dumps(parts), "meta_json": '{"content_encoding":"json"}'}]))
    assert shown(cli, path, "a")[0]["content"] == parts
    assert "    look\n" in cli("show", path, "a").out


def test_long_content_comes_in_pieces_and_is_whole(cli: Cli, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "“日本語” 🌏\n\x1b\\ " * 500
    path = make(("a", {}, [{"content": content}, {"content": "short"}]))
    text = cli("show", path, "a").out
    monkeypatch.setattr(reading, "PIECE", 997)
    assert [message["content"] for message in shown(cli, path, "a")] == [content, "short"]
    assert cli("show", path, "a").out == text


def test_whatever_a_value_holds_the_document_is_json(cli: Cli, make: Make) -> None:
    calls = '[{"id":"1","function":{"name":"f","arguments":"{\\"x\\": NaN, \\"y\\": [-Infinity]}"}}]'
    deep = '[{"id":"2","function":{"name":"g","arguments":' + json.dumps("[" * 900 + "]" * 900) + "}}]"
    path = make(
        (
            "a",
            {},
            [
                {"tool_calls_json": calls},
                {"tool_calls_json": deep},
                {"content": b"\xff\xfe blob"},
                {"content": 7},
                {"content": "\x7f\x9b\u202e"},
                {"tool_calls_json": "{broken"},
                {"state": "odd", "role": ""},
            ],
        )
    )
    found = shown(cli, path, "a")
    assert found[0]["tool_calls"][0]["arguments"] == {"x": "nan", "y": ["-inf"]}
    assert found[2]["damage"]
    assert found[5]["damage"]
    assert found[6]["state"] == "odd"
    assert cli("show", path, "a", "--json").out.isprintable() is False
    assert all(char == "\n" or " " <= char <= "~" for char in cli("show", path, "a", "--json").out)


def test_rows_without_a_number_for_a_seq_are_shown(cli: Cli, make: Make) -> None:
    path = make(("a", {}, [{"content": "first"}]))
    with closing(sqlite3.connect(path)) as conn, conn:
        insert(conn, "messages", {"session_id": "a", "seq": "oops", "role": "user", "content": "lost", "created_at": 1})
    unloaded = shown(cli, path, "a")[-1]
    assert (unloaded["seq"], unloaded["state"], unloaded["content"]) == (
        None,
        "damaged",
        "lost",
    )
    assert unloaded["damage"]


def test_a_damaged_page_hides_only_what_lies_on_it(cli: Cli, make: Make) -> None:
    path = make(("a", {}, [{"content": f"needle {at} " + "x" * 400} for at in range(1, 101)]))
    data = bytearray(path.read_bytes())
    start = data.index(b"needle 50 ") // 4096 * 4096
    data[start : start + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    found = shown(cli, path, "a")
    lost = [message for message in found if message["state"] == "damaged"]
    assert len(found) == 100
    assert 0 < len(lost) < 20
    assert all(message["damage"] for message in lost)
    assert cli("show", path, "a").status == 0


class TestSession:
    def test_a_ref_or_an_id(self, cli: Cli, sample: Sample) -> None:
        path = sample("v8.0.0")
        assert shown(cli, path, ROOT_SESSION) == shown(cli, path, f"pl_:{ROOT_SESSION}")
        assert shown(cli, f"{path}#pl_", ROOT_SESSION)

    def test_an_unknown_one_has_candidates(self, cli: Cli, sample: Sample) -> None:
        result = cli("show", sample("v0.2.0"), "root")
        assert (result.status, result.out) == (2, "")
        assert result.err == f"sessionscope: no session 'root'; did you mean {ROOT_SESSION}?\n"

    def test_an_ambiguous_one_is_refused_with_the_refs(self, cli: Cli, sample: Sample) -> None:
        path = sample("mixed-0.2.0-then-8.0.0")
        with closing(sqlite3.connect(path)) as conn, conn:
            conn.execute("UPDATE pl_sessions SET session_id = ?", (ROOT_SESSION,))
        for verb in ("show", "compactions"):
            result = cli(verb, path, ROOT_SESSION)
            assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
            assert f":{ROOT_SESSION}, pl_:{ROOT_SESSION}" in result.err
        assert len(shown(cli, path, f":{ROOT_SESSION}")) == 20
        assert cli("show", f"{path}#pl_", ROOT_SESSION).status == 0

    def test_ids_that_are_no_text_can_be_named(self, cli: Cli, make: Make) -> None:
        path = make((b"\xff\x00", {}, []), ("plain", {}, []))
        ids = [session["id"] for session in json.loads(cli("ls", path, "--json").out)["sessions"]]
        assert all(cli("show", path, id_).status == 0 for id_ in ids)
