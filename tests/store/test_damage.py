"""One bad value marks its own row and hides nothing else: every column of every table, one row at a time."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from sessionscope.store import Certainty, Ref, State, View, open_archive

from .helpers import LAYOUTS, add_messages, add_session, build, call, everything, only, prefix_of, raw, rows, seqs

Said = dict[str, Any]
INTEGER, TEXT, ENUM, OBJECT, CALLS = "integer", "text", "enum", "object", "calls"
ALL = {INTEGER, TEXT, ENUM, OBJECT, CALLS}
# What is put into a row, and for which kinds of columns that is damage.
VALUES: dict[str, tuple[str, set[str]]] = {
    "broken utf-8": ("CAST(x'61FF62' AS TEXT)", ALL),
    "half a character": ("CAST(x'61E282' AS TEXT)", ALL),
    "blob": ("x'7B7D'", ALL),
    "word": ("'weird'", {INTEGER, ENUM, OBJECT, CALLS}),
    "empty": ("''", {INTEGER, ENUM}),
    "null": ("NULL", set()),
    "fraction": ("1.5", {INTEGER, ENUM, OBJECT, CALLS}),
    "infinity": ("9e999", {INTEGER, ENUM, OBJECT, CALLS}),
    "huge": ("9223372036854775807", {ENUM, OBJECT, CALLS}),
    "broken utf-8 in json": ("""CAST(x'7B227469746C65223A2022FF227D' AS TEXT)""", ALL),
    "torn json": ("""'{"title": "to'""", {INTEGER, ENUM, OBJECT, CALLS}),
    "not a number": ("'NaN'", {INTEGER, ENUM, OBJECT, CALLS}),
    "a list": ("""'["title", {"name": 5}]'""", {INTEGER, ENUM, OBJECT, CALLS}),
    "too deep": ("replace(hex(zeroblob(10000)), '00', '[')", {INTEGER, ENUM, OBJECT, CALLS}),
    "too many digits": ("'[' || replace(hex(zeroblob(5000)), '00', '9') || ']'", {INTEGER, ENUM, OBJECT, CALLS}),
    "half an emoji": ("""'"\\ud800 title"'""", {INTEGER, ENUM, OBJECT, CALLS}),
    "controls": ("char(27) || '[31m' || char(0) || char(8238)", {INTEGER, ENUM, OBJECT, CALLS}),
}
# Which of them tell something new of a column of a kind; of a second layout only the first few.
TRIED = {
    INTEGER: ("broken utf-8", "blob", "word", "infinity", "null", "empty", "fraction", "huge"),
    TEXT: ("broken utf-8", "blob", "null", "controls", "half a character", "empty", "huge"),
    ENUM: ("broken utf-8", "blob", "word", "null", "empty", "fraction", "controls"),
    OBJECT: tuple(VALUES),
    CALLS: tuple(VALUES),
}
FIRST = 5
MESSAGES = {
    "role": TEXT,
    "name": TEXT,
    "content": TEXT,
    "tool_calls_json": CALLS,
    "tool_call_id": TEXT,
    "round_index": INTEGER,
    "state": ENUM,
    "meta_json": OBJECT,
    "created_at": INTEGER,
    "send_index": INTEGER,
}
SESSIONS = {
    "created_at": INTEGER,
    "updated_at": INTEGER,
    "system_prompt": TEXT,
    "model": TEXT,
    "config_json": OBJECT,
    "status": ENUM,
    "kind": ENUM,
    "parent_session_id": TEXT,
    "spawn_tool_call_id": TEXT,
    "spawn_depth": INTEGER,
    "lifecycle": ENUM,
    "metadata_json": OBJECT,
}
STATES = {"next_seq": INTEGER, "round_index": INTEGER, "last_compact_seq": INTEGER, "pending_json": OBJECT}
COMPACTIONS = dict.fromkeys(
    ("compact_seq", "note_seq", "from_seq", "to_seq", "before_tokens", "after_tokens", "round_index", "created_at"),
    INTEGER,
)
USAGE = dict.fromkeys(
    ("send_index", "round_index", "prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "created_at"),
    INTEGER,
) | {"model": TEXT}


@cache
def _session_tree(layout: str) -> bytes:
    with TemporaryDirectory() as folder:
        return _write(Path(folder) / "session_tree.db", layout).read_bytes()


def session_tree(path: Path, layout: str) -> Path:
    """A parent, its child, and a session that has nothing to do with them; the child is the one to be damaged."""
    path.write_bytes(_session_tree(layout))
    return path


@cache
def calm_of(layout: str) -> Said:
    """What an archive says of a session_tree of which nothing is damaged."""
    with TemporaryDirectory() as folder:
        return everything(only(session_tree(Path(folder) / "calm.db", layout)))


def _write(path: Path, layout: str) -> Path:
    build(path, layout)
    prefix = prefix_of(layout)
    with closing(sqlite3.connect(path)) as conn, conn:
        for id_, parent in (("top", None), ("child", "top"), ("other", None)):
            add_session(
                conn,
                id_,
                prefix,
                8,
                parent_session_id=parent,
                kind="subagent" if parent else "root",
                metadata_json=json.dumps({"title": f"the {id_}"}),
            )
            add_messages(
                conn,
                id_,
                [
                    {"seq": 1, "content": f"question of {id_}", "state": "compacted_out"},
                    {
                        "seq": 2,
                        "role": "assistant",
                        "content": "",
                        "tool_calls_json": json.dumps([call("grep", "c1", a=1)]),
                        "state": "compacted_out",
                    },
                    {"seq": 3, "role": "tool", "content": "found", "tool_call_id": "c1", "state": "compacted_out"},
                    {
                        "seq": 4,
                        "role": "system",
                        "name": "compact_note",
                        "content": "so far",
                        "meta_json": json.dumps({"from_seq": 1, "to_seq": 3, "ord": 1}),
                    },
                    {"seq": 5, "role": "user", "content": "and now?", "name": "anna"},
                    {
                        "seq": 6,
                        "role": "assistant",
                        "content": "calling",
                        "tool_calls_json": json.dumps([call("grep", "c2", a=2)]),
                    },
                    {"seq": 7, "role": "tool", "content": "nothing", "tool_call_id": "c2"},
                ],
                prefix,
            )
            conn.execute(f"INSERT INTO {prefix}compactions VALUES (?, 1, 4, 1, 3, 900, 90, 0, 5)", (id_,))
            usage = "(?, 1, 0, 10, 20, 30, 5, 'm', 1)" if prefix else "(?, 0, 10, 20, 30, 'm', 1)"
            conn.execute(f"INSERT INTO {prefix}usage_rounds VALUES {usage}", (id_,))
            conn.execute(f"UPDATE {prefix}session_state SET last_compact_seq = 1 WHERE session_id = ?", (id_,))
    return path


def damage(path: Path, layout: str, table: str, column: str, value: str, where: str) -> bool:
    """Puts a value into one row; False where the table itself does not take it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA synchronous=OFF")
        try:
            changed = conn.execute(f"UPDATE {prefix_of(layout)}{table} SET {column} = {value} WHERE {where}").rowcount
        except sqlite3.IntegrityError:
            return False
    assert changed == 1
    os.utime(path, (1, 1))  # Long ago, so that no read waits for the clock to move on.
    return True


def cases(kinds: dict[str, str]) -> list[tuple[str, str]]:
    """Every column, in one layout or the other, as what reads them is the same."""
    later = ("send_index", "cached_tokens")
    return [(LAYOUTS[1] if column in later else LAYOUTS[at % 2], column) for at, column in enumerate(kinds)]


def tried(layout: str, kind: str) -> list[tuple[str, str, bool]]:
    """What to put into a column of a kind: its name, the value, and whether it is damage there."""
    return [
        (name, VALUES[name][0], kind in VALUES[name][1])
        for name in TRIED[kind][: None if kind in (OBJECT, CALLS) else FIRST]
    ]


def without(said: Said, *names: str) -> Said:
    return {name: value for name, value in said.items() if name not in names}


@pytest.mark.parametrize(("layout", "column"), cases(MESSAGES))
def test_a_message(layout: str, column: str, tmp_path: Path) -> None:
    calm = dict(calm_of(layout))
    for name, value, marked in tried(layout, MESSAGES[column]):
        path = session_tree(tmp_path / f"{name}.db", layout)
        if not damage(path, layout, "messages", column, value, "session_id = 'child' AND seq = 6"):
            continue
        archive = only(path)
        said = everything(archive)
        for id_ in ("top", "other"):
            assert said[id_] == calm[id_]
        was, now = calm["child"], said["child"]
        assert {row: line for row, line in now["rows"].items() if row != "6"} == {
            row: line for row, line in was["rows"].items() if row != "6"
        }
        assert {row: message for row, message in now["messages"].items() if row != "6"} == {
            row: message for row, message in was["messages"].items() if row != "6"
        }
        assert bool(now["rows"]["6"].damage) is marked, (name, now["rows"]["6"])
        assert bool(now["messages"]["6"].damage) is marked
        bad = column == "state" and marked
        for view in (View.ACTIVE, View.CONTEXT):
            assert now["views"][view] == [row for row in was["views"][view] if not (bad and row == "6")]
        for view in (View.ALL, View.COMPACTED):
            assert now["views"][view] == was["views"][view]
        assert now["audit"] == was["audit"]
        same = (
            ("summary", "detail", "follow")
            if column in ("state", "tool_calls_json", "role", "tool_call_id")
            else ("follow",)
        )
        assert without(now, "rows", "messages", "views", *same) == without(was, "rows", "messages", "views", *same)
        if bad:
            shown = {"blob": State.DAMAGED, "broken utf-8": "a\\xffb", "word": "weird"}
            assert now["rows"]["6"].state == shown.get(name, now["messages"]["6"].raw["state"])
            assert now["summary"][0].active_count.value == was["summary"][0].active_count.value - 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", ["2.5", "'abc'", "x'06'", "9e999", "-9e999", "CAST(x'ff' AS TEXT)", "''"])
def test_a_seq_that_is_no_whole_number(value: str, layout: str, tmp_path: Path) -> None:
    calm = dict(calm_of(layout))
    path = session_tree(tmp_path / "bad.db", layout)
    assert damage(path, layout, "messages", "seq", value, "session_id = 'child' AND seq = 6")
    archive = only(path)
    reader, ref, said = archive.reader(), Ref(prefix_of(layout), "child"), everything(archive)
    assert {id_: said[id_] for id_ in ("top", "other")} == {id_: calm[id_] for id_ in ("top", "other")}
    lines = rows(reader, ref)
    assert [line.seq for line in lines] == [1, 2, 3, 4, 5, None, 7, None]
    assert lines[5].hole == (6, 6)
    unloaded = lines[7]
    assert (unloaded.state, unloaded.head, unloaded.tools) == (
        State.DAMAGED,
        "calling",
        ("grep",),
    )
    assert unloaded.row is not None
    assert unloaded.row.startswith("@")
    assert unloaded.damage == ("seq is not a whole number",)
    assert reader.message(ref, unloaded.row).content == "calling"
    assert reader.follow(ref, unloaded.row) is None
    assert [said["child"]["rows"][row] for row in "123457"] == [calm["child"]["rows"][row] for row in "123457"]
    assert seqs(reader, ref, View.ACTIVE) == [4, 5, 7]
    detail = reader.session(ref)
    assert (detail.damage, detail.unanswered) == ((), ())
    assert reader.find(ref, "nothing", 1, True) == 7
    assert reader.find(ref, "question", 7, False) == 1
    assert reader.timeline(ref, View.ALL).length.value == 8


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**40, 0])
def test_a_seq_far_away(value: int, layout: str, tmp_path: Path) -> None:
    calm = dict(calm_of(layout))
    path = session_tree(tmp_path / "bad.db", layout)
    assert damage(path, layout, "messages", "seq", str(value), "session_id = 'child' AND seq = 6")
    archive = only(path)
    said, reader, ref = everything(archive), archive.reader(), Ref(prefix_of(layout), "child")
    assert {id_: said[id_] for id_ in ("top", "other")} == {id_: calm[id_] for id_ in ("top", "other")}
    timeline = reader.timeline(ref, View.ALL)
    lines = timeline.window(0, timeline.length.value)
    assert sorted(line.seq for line in lines if line.seq is not None) == sorted([1, 2, 3, 4, 5, 7, value])
    assert not any(line.damage for line in lines)
    at = timeline.locate(value)
    assert at is not None
    assert lines[at].head == "calling"
    assert reader.find(ref, "calling", 1, value > 0) == value
    reader.follow(ref, str(value))


@pytest.mark.parametrize(("layout", "column"), cases(SESSIONS))
def test_a_session(layout: str, column: str, tmp_path: Path) -> None:
    calm = dict(calm_of(layout))
    for name, value, marked in tried(layout, SESSIONS[column]):
        path = session_tree(tmp_path / f"{name}.db", layout)
        if not damage(path, layout, "sessions", column, value, "session_id = 'child'"):
            continue
        said = everything(only(path))
        assert list(said) == list(calm)
        for id_ in ("top", "other"):
            assert said[id_] == calm[id_]
        was, now = calm["child"], said["child"]
        assert bool(now["detail"].damage) is marked, (name, now["detail"].damage)
        if column not in ("system_prompt", "config_json"):
            assert bool(now["summary"][0].damage) is marked
        apart = ("summary", "detail", "place", "parent", "title", "spawner")
        assert without(now, *apart) == without(was, *apart)
        if column != "metadata_json":
            assert now["title"] == was["title"]
        if column not in ("parent_session_id", "kind"):
            assert (now["place"], now["parent"]) == (was["place"], was["parent"])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", ["CAST(x'61FF62' AS TEXT)", "x'63'", "x''", "x'6368696c64'"])
def test_a_session_id_that_is_no_text(value: str, layout: str, tmp_path: Path) -> None:
    """The session is there under a name with its row in it, and its messages with it, whichever reader asks."""
    prefix = prefix_of(layout)
    calm = everything(only(session_tree(tmp_path / "calm.db", layout)))
    path = session_tree(tmp_path / "bad.db", layout)
    tables = ("sessions", "messages", "session_state", "compactions", "usage_rounds")
    raw(
        path,
        *(f"UPDATE {prefix}{table} SET session_id = {value} WHERE session_id = 'child'" for table in tables),
        f"UPDATE {prefix}sessions SET parent_session_id = {value} WHERE session_id = 'other'",
    )
    archive = only(path)
    said = everything(archive)
    anomalies = next(id_ for id_ in said if id_ not in ("top", "other"))
    assert anomalies.endswith("@2")
    assert said["top"] == calm["top"]
    assert without(said["other"], "summary", "detail", "place", "spawner") == without(
        calm["other"], "summary", "detail", "place", "spawner"
    )
    apart = ("summary", "detail", "follow")
    assert without(said[anomalies], *apart) == without(calm["child"], *apart)
    assert "session_id is not plain text" in said[anomalies]["detail"].damage
    assert said[anomalies]["detail"].summary.message_count.value == 7
    reader = archive.reader()
    assert reader.resolve(anomalies) == Ref(prefix, anomalies)
    assert seqs(archive.reader(), Ref(prefix, anomalies), View.CONTEXT) == seqs(
        only(tmp_path / "calm.db").reader(), Ref(prefix, "child"), View.CONTEXT
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_session_without_id(layout: str, tmp_path: Path) -> None:
    path = session_tree(tmp_path / "bad.db", layout)
    raw(path, f"UPDATE {prefix_of(layout)}sessions SET session_id = NULL WHERE session_id = 'other'")
    archive = only(path)
    said = everything(archive)
    assert list(said) == ["top", "child", "null@3"]
    assert said["null@3"]["rows"] == {}
    assert archive.reader().resolve("null@3").id == "null@3"


@pytest.mark.parametrize(("layout", "column"), cases(STATES))
def test_the_bookkeeping(layout: str, column: str, tmp_path: Path) -> None:
    calm = dict(calm_of(layout))
    for name, value, marked in tried(layout, STATES[column]):
        path = session_tree(tmp_path / f"{name}.db", layout)
        if not damage(path, layout, "session_state", column, value, "session_id = 'child'"):
            continue
        said = everything(only(path))
        for id_ in ("top", "other"):
            assert said[id_] == calm[id_]
        now, was = said["child"], calm["child"]
        assert bool(now["detail"].damage) is marked, (name, now["detail"].damage)
        if (column, name) == ("next_seq", "huge"):
            assert now["rows"].popitem()[0] == (8, 2**63 - 2)
            now["views"][View.ALL].pop()
        assert without(now, "detail") == without(was, "detail")


@pytest.mark.parametrize(("layout", "column"), cases(COMPACTIONS))
def test_an_audit_row(layout: str, column: str, tmp_path: Path) -> None:
    calm = dict(calm_of(layout))
    for name, value, marked in tried(layout, COMPACTIONS[column]):
        path = session_tree(tmp_path / f"{name}.db", layout)
        if not damage(path, layout, "compactions", column, value, "session_id = 'child'"):
            continue
        said = everything(only(path))
        for id_ in ("top", "other"):
            assert said[id_] == calm[id_]
        now, was = said["child"], calm["child"]
        assert without(now, "audit") == without(was, "audit")
        (compaction,), (before,) = now["audit"].compactions, was["audit"].compactions
        if marked:
            assert f"{column} is not a whole number" in compaction.anomalies
            if column in ("from_seq", "to_seq"):
                assert (compaction.rows, compaction.set_is, compaction.set_runs) == (None, Certainty.UNKNOWN, ())
                assert now["audit"].unexplained == ((1, 3),)
            elif column in ("before_tokens", "after_tokens"):
                assert compaction.tokens_are is Certainty.UNKNOWN
        elif column not in ("note_seq", "to_seq", "from_seq"):
            assert compaction.set_runs == before.set_runs


@pytest.mark.parametrize(("layout", "column"), cases(USAGE))
def test_a_usage_row(layout: str, column: str, tmp_path: Path) -> None:
    calm = dict(calm_of(layout))
    for name, value, marked in tried(layout, USAGE[column]):
        path = session_tree(tmp_path / f"{name}.db", layout)
        if not damage(path, layout, "usage_rounds", column, value, "session_id = 'child'"):
            continue
        said = everything(only(path))
        for id_ in ("top", "other"):
            assert said[id_] == calm[id_]
        assert without(said["child"], "usage") == without(calm["child"], "usage")
        assert ("some figures cannot be read" in said["child"]["usage"].coverage) is marked, name


@pytest.mark.parametrize("table", ["session_state", "compactions", "usage_rounds", "messages"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_nobody(layout: str, table: str, tmp_path: Path) -> None:
    """A row whose session_id is broken is nobody's; it takes no other row along."""
    calm = dict(calm_of(layout))
    for name, value, _ in tried(layout, TEXT)[:FIRST]:
        path = session_tree(tmp_path / f"{name}.db", layout)
        where = "session_id = 'child'" + (" AND seq = 7" if table == "messages" else "")
        if damage(path, layout, table, "session_id", value, where):
            said = everything(only(path))
            assert list(said) == list(calm)
            for id_ in ("top", "other"):
                assert said[id_] == calm[id_]


@pytest.mark.parametrize(
    "table",
    [
        "notes",
        "timers",
        "follow_up_queue",
        "session_leases",
        "session_stats",
        "session_runtime_state",
        "project_messages",
        "background_tasks",
    ],
)
def test_what_later_releases_keep(table: str, tmp_path: Path) -> None:
    """Whatever stands in these tables, the session reads."""
    path = session_tree(tmp_path / "bad.db", "8.0.0")
    calm = everything(only(path))
    with closing(sqlite3.connect(path)) as conn:
        names = [name for (name,) in conn.execute(f"SELECT name FROM pragma_table_info('pl_{table}')")]
        for number, (value, _) in enumerate(VALUES.values()):
            values = ["'child'" if name == "session_id" else str(number) if name == "id" else value for name in names]
            conn.execute(
                f"INSERT OR REPLACE INTO pl_{table} ({', '.join(names)}) SELECT {', '.join(values)} WHERE 1"
            ) if "NULL" not in values else None
        conn.commit()
    said = everything(only(path))
    assert said["child"]["detail"].extras
    for id_ in calm:
        if id_ == "child":
            for each in said, calm:
                each[id_]["usage"] = each[id_]["detail"] = None
        assert said[id_] == calm[id_]


def test_a_stamp_that_is_no_number(tmp_path: Path) -> None:
    path = session_tree(tmp_path / "bad.db", "8.0.0")
    raw(path, "UPDATE pl_schema_migrations SET version = 'nine'")
    assert [archive.info.format for archive in open_archive(path)] == ["power-loop 8.0"]
    raw(path, "DELETE FROM pl_schema_migrations")
    assert [archive.info.format for archive in open_archive(path)] == ["power-loop 8.0"]
