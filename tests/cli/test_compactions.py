"""`compactions`: what each fold took and how that is known."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .conftest import Cli

KEYS = [
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
ROOT_SESSION = "sess_root0000000000000000000"

Sample = Callable[[str], Path]


def test_json_has_exactly_the_promised_keys(cli: Cli, sample: Sample, sample_name: str) -> None:
    path = sample(sample_name)
    for session in json.loads(cli("ls", path, "--json").out)["sessions"]:
        result = cli("compactions", path, session["ref"], "--json")
        document = json.loads(result.out)
        assert (result.status, result.err, list(document)) == (0, "", ["compactions"])
        assert all(list(compaction) == KEYS for compaction in document["compactions"])
        assert sum(not compaction["undone"] for compaction in document["compactions"]) == session["compaction_count"]
        assert cli("compactions", path, session["ref"]).out


def test_a_fold_says_what_it_took(cli: Cli, sample: Sample) -> None:
    compactions = json.loads(cli("compactions", sample("v0.2.0"), ROOT_SESSION, "--json").out)["compactions"]
    assert compactions[1] == {
        "number": 2,
        "from_seq": 6,
        "to_seq": 12,
        "rows": 7,
        "note_seq": 17,
        "before_tokens": 7000,
        "after_tokens": 700,
        "tokens_are": "recorded",
        "set_is": "inferred",
        "undone": False,
    }


def test_a_set_that_cannot_be_known_is_null(cli: Cli, sample: Sample) -> None:
    path = sample("folds-0.18.0-ambiguous")
    session = json.loads(cli("ls", path, "--json").out)["sessions"][0]["id"]
    compactions = json.loads(cli("compactions", path, session, "--json").out)["compactions"]
    assert [(compaction["rows"], compaction["set_is"]) for compaction in compactions] == [(None, "unknown")] * 2
    assert "unknown number of rows" in cli("compactions", path, session).out


def test_what_is_odd_and_what_nobody_folded_is_said(cli: Cli, sample: Sample) -> None:
    path = sample("v0.2.0")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("UPDATE compactions SET from_seq = 12, to_seq = 6 WHERE compact_seq = 2")
    out = cli("compactions", path, ROOT_SESSION).out
    assert "its span is inverted" in out
    assert "folded, but no compaction explains it: 6-12" in out
