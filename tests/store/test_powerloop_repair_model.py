"""Databases with any values: repaired once there is no fix left, a second repair changes nothing, undo is exact."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionscope.store import Repair

from .defects import dump, sample
from .helpers import only, raw
from .test_powerloop_repair import actions, findings

JUNK: dict[str, list[Any]] = {
    "sessions": [
        "config_json",
        "metadata_json",
        "status",
        "kind",
        "lifecycle",
        "parent_session_id",
        "spawn_depth",
        "created_at",
        "updated_at",
        "model",
    ],
    "messages": [
        "seq",
        "role",
        "name",
        "content",
        "tool_calls_json",
        "tool_call_id",
        "state",
        "meta_json",
        "round_index",
        "created_at",
        "session_id",
    ],
    "compactions": ["compact_seq", "note_seq", "from_seq", "to_seq", "before_tokens", "session_id"],
    "session_state": ["next_seq", "round_index", "last_compact_seq", "pending_json", "session_id"],
    "usage_rounds": ["session_id", "round_index"],
}
VALUES = st.sampled_from(
    [
        None,
        0,
        1,
        -1,
        7,
        13,
        17,
        21,
        99,
        2**62,
        1.5,
        "",
        "x",
        "{}",
        "[]",
        "[1]",
        "5",
        '{"a":',
        b"\xff\x00",
        "active",
        "compacted_out",
        "undone",
        "tool",
        "assistant",
        "compact_note",
        "call_1",
        '{"tool_call_ids": ["call_1"]}',
        '[{"id": "call_1", "function": {"name": "f", "arguments": "{}"}}]',
        '{"from_seq": 1, "to_seq": 4}',
        "root",
        "linked",
        "detached",
        "sess_root0000000000000000000",
        "sess_linked00000000000000001",
        "nobody",
        float("inf"),
    ]
)
PLACES = st.sampled_from([(table, column) for table, columns in JUNK.items() for column in columns])
CHANGES = st.lists(st.tuples(PLACES, VALUES, st.integers(0, 60)), min_size=1, max_size=6)
LOSSES = st.lists(st.tuples(st.sampled_from(list(JUNK)), st.integers(0, 60)), max_size=3)


@settings(max_examples=30, deadline=None)
@given(CHANGES, LOSSES, st.sampled_from(["v0.2.0", "v8.0.0-prefix-empty"]))
def test_any_values_are_repaired_once_and_for_all(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Any], losses: list[Any], name: str
) -> None:
    path: Path = sample(tmp_path_factory.mktemp("any") / "a.db", name)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA synchronous=OFF")
        for (table, column), value, at in changes:
            conn.execute(
                f'UPDATE OR IGNORE "{table}" SET "{column}" = ? WHERE rowid = (SELECT rowid FROM "{table}" '
                f'LIMIT 1 OFFSET (? % (SELECT max(1, count(*)) FROM "{table}")))',
                (value, at),
            )
        for table, at in losses:
            conn.execute(f'DELETE FROM "{table}" WHERE rowid = (SELECT rowid FROM "{table}" LIMIT 1 OFFSET ?)', (at,))
    before = dump(path)
    findings(path)
    assert dump(path) == before
    doing = actions(only(path))
    receipt = doing.apply(doing.plan(Repair()))
    after = path.read_bytes()
    left = findings(path)
    assert not [finding for finding in left if finding.fixable]
    doing = actions(only(path))
    assert doing.plan(Repair()).empty
    assert path.read_bytes() == after
    assert raw(path, "PRAGMA integrity_check") == [[("ok",)]]
    if receipt.undo is not None:
        doing.apply(doing.plan(receipt.undo))
        assert dump(path) == before
