"""Databases with one defect each, made on purpose as the real packages make them, or as hands and crashes do."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import Struct

from .helpers import DATA, LINKED, ROOT, call, raw

ARCHIVED = "sess_archived00000000000000"
CALLS = json.dumps([call("bash", "call-x", cmd="ls"), call("bash", "call-y", cmd="ps")])
_COLUMNS = (
    "session_id",
    "seq",
    "role",
    "name",
    "content",
    "tool_calls_json",
    "tool_call_id",
    "state",
    "meta_json",
    "created_at",
)


class Defect(Struct, frozen=True):
    """A defect: the code that is found, how bad it is, what makes it, in SQL on the sample of 0.2.0, and the choice
    that mends it where one has to be made.
    """

    code: str
    severity: str
    statements: tuple[str, ...]
    choice: str = ""


def _set(table: str, id_: str, assignment: str) -> str:
    return f"UPDATE {table} SET {assignment} WHERE session_id = '{id_}'"


def _row(seq: int, role: str, id_: str = "plain", **columns: Any) -> str:
    """A message of a session, by default of `plain`."""
    values = (
        dict.fromkeys(_COLUMNS)
        | {
            "session_id": id_,
            "seq": seq,
            "role": role,
            "content": f"m{seq}",
            "state": "active",
            "meta_json": "{}",
            "created_at": 5,
        }
        | columns
    )
    shown = ", ".join(
        "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value) for value in values.values()
    )
    return f"INSERT INTO messages ({', '.join(_COLUMNS)}) VALUES ({shown})"


def _plain(*rows: str, next_seq: int | None = None) -> tuple[str, ...]:
    """A session of these rows."""
    return (
        "INSERT INTO sessions (session_id, created_at, updated_at) VALUES ('plain', 1, 2)",
        f"INSERT INTO session_state (session_id, next_seq) VALUES ('plain', {next_seq or len(rows) + 1})",
        *rows,
    )


_SPLIT = _plain(
    _row(1, "assistant", tool_calls_json=CALLS, state="compacted_out"),
    _row(2, "tool", tool_call_id="call-x"),
    _row(3, "tool", tool_call_id="call-y", state="compacted_out"),
    _row(4, "system", name="compact_note", meta_json='{"from_seq":1,"to_seq":3}'),
)
_GHOST = _row(1, "user", "ghost")

DEFECTS = {
    "half an append": Defect("next-seq-behind", "error", (_set("session_state", ROOT, "next_seq = 20"),)),
    "a next seq that is none": Defect("next-seq-behind", "error", (_set("session_state", ROOT, "next_seq = 'x'"),)),
    "half a fold": Defect(
        "fold-unrecorded",
        "error",
        _plain(_row(1, "user", state="compacted_out"), _row(2, "assistant", state="compacted_out"), _row(3, "user")),
    ),
    "a note without its audit row": Defect(
        "note-unrecorded",
        "error",
        (
            f"DELETE FROM compactions WHERE session_id = '{ROOT}' AND compact_seq = 2",
            _set("session_state", ROOT, "last_compact_seq = 1"),
        ),
    ),
    "half a fold and its note": Defect(
        "note-unrecorded",
        "error",
        _plain(
            _row(1, "user", state="compacted_out"),
            _row(2, "user"),
            _row(3, "system", name="compact_note", meta_json='{"from_seq":1,"to_seq":1}'),
            next_seq=3,
        ),
    ),
    "a note that says nothing": Defect(
        "note-unrecorded", "warning", _plain(_row(1, "system", name="compact_note")), "retire"
    ),
    "a compaction number behind": Defect(
        "compact-seq-behind", "error", (_set("session_state", ROOT, "last_compact_seq = 1"),)
    ),
    "no state": Defect("state-missing", "error", (f"DELETE FROM session_state WHERE session_id = '{ARCHIVED}'",)),
    "bad config": Defect("bad-json", "error", (_set("sessions", ROOT, "config_json = '{\"a\":'"),)),
    "bad metadata": Defect("bad-json", "error", (_set("sessions", ROOT, "metadata_json = CAST(x'ff00' AS TEXT)"),)),
    "bad meta of a note": Defect("bad-json", "error", (_set("messages", ROOT, "meta_json = 'x'") + " AND seq = 17",)),
    "bad pending": Defect("bad-json", "error", (_set("session_state", ARCHIVED, "pending_json = '[[['"),)),
    "metadata that is a list": Defect(
        "not-an-object", "warning", (_set("sessions", ROOT, "metadata_json = '[1]'"),), "clear"
    ),
    "bad tool calls": Defect("bad-tool-calls", "error", _plain(_row(1, "assistant", tool_calls_json="[{")), "clear"),
    "tool calls that are none": Defect(
        "bad-tool-calls", "error", _plain(_row(1, "assistant", tool_calls_json="5")), "clear"
    ),
    "an unknown status": Defect("unknown-status", "error", (_set("sessions", ROOT, "status = 'paused'"),), "active"),
    "an unknown kind": Defect("unknown-kind", "error", (_set("sessions", ROOT, "kind = 'x'"),), "root"),
    "an unknown lifecycle": Defect(
        "unknown-lifecycle", "error", (_set("sessions", LINKED, "lifecycle = 'Linked'"),), "linked"
    ),
    "an unknown state": Defect("unknown-state", "error", (_set("messages", ARCHIVED, "state = 'undone'"),), "active"),
    "a parent of itself": Defect("parent-cycle", "error", (_set("sessions", ROOT, "parent_session_id = session_id"),)),
    "a circle": Defect("parent-cycle", "error", (_set("sessions", ROOT, f"parent_session_id = '{LINKED}'"),)),
    "a depth": Defect("wrong-depth", "warning", (_set("sessions", LINKED, "spawn_depth = -5"),)),
    "an orphan": Defect("orphan", "warning", (_set("sessions", LINKED, "parent_session_id = 'gone'"),), "detach"),
    "messages of nobody": Defect("ownerless-messages", "warning", (_GHOST,), "adopt"),
    "messages to be removed": Defect("ownerless-messages", "warning", (_GHOST,), "remove"),
    "a ghost state": Defect(
        "ownerless-state", "warning", ("INSERT INTO session_state (session_id) VALUES ('ghost')",), "remove"
    ),
    "usage of nobody": Defect(
        "ownerless-rows",
        "warning",
        ("INSERT INTO usage_rounds (session_id, round_index, created_at) VALUES ('ghost', 0, 1)",),
        "remove",
    ),
    "a split pair": Defect(
        "split-pair",
        "warning",
        (
            *_SPLIT,
            "INSERT INTO compactions VALUES ('plain', 1, 4, 1, 3, 9, 1, 0, 8)",
            _set("session_state", "plain", "last_compact_seq = 1"),
        ),
        "reactivate",
    ),
    "an orphan result": Defect(
        "orphan-result", "warning", _plain(_row(1, "user"), _row(2, "tool", tool_call_id="call-q")), "insert-call"
    ),
    "pending that is answered": Defect(
        "pending-answered",
        "error",
        (_set("session_state", ARCHIVED, 'pending_json = \'{"assistant_seq":5,"tool_call_ids":[]}\''),),
    ),
    "pending that nothing made": Defect(
        "pending-unknown",
        "error",
        (_set("session_state", ARCHIVED, 'pending_json = \'{"tool_call_ids":["never"]}\''),),
        "clear",
    ),
    "a crash before pending": Defect(
        "unanswered-calls", "warning", _plain(_row(1, "assistant", tool_calls_json=CALLS))
    ),
}
_FOLD = f"INSERT INTO compactions SELECT '{ROOT}', 3"
TOLD = {
    "a span that is inverted": ("span-inverted", f"{_FOLD}, 17, 9, 4, 1, 1, 0, 1"),
    "a span past the end": ("span-past-end", f"{_FOLD}, 17, 18, 99, 1, 1, 0, 1"),
    "a span that overlaps": ("span-overlaps", f"{_FOLD}, 17, 2, 3, 1, 1, 0, 1"),
    "a span twice": (
        "span-repeated",
        f"{_FOLD}, note_seq, from_seq, to_seq, 5, 4, 0, 1 FROM compactions "
        f"WHERE session_id = '{ROOT}' AND compact_seq = 2",
    ),
    "an audit row without a note": ("audit-without-note", f"{_FOLD}, 777, 1, 2, 1, 1, 0, 1"),
    "an audit row without rows": ("audit-without-rows", f"{_FOLD}, 17, 18, 18, 1, 1, 0, 1"),
    "holes": ("holes", f"DELETE FROM messages WHERE session_id = '{ROOT}' AND seq = 2"),
    "a number ahead": ("compact-seq-ahead", _set("session_state", ROOT, "last_compact_seq = 9")),
}


def sample(path: Path, name: str = "v0.2.0") -> Path:
    """A copy of a sample in rollback mode, so that its bytes can be compared."""
    shutil.copyfile(DATA / "power-loop" / f"{name}.db", path)
    raw(path)
    return path


def made(path: Path, defect: Defect) -> Path:
    """The sample with a defect."""
    sample(path)
    raw(path, script=";".join(defect.statements))
    return path


def dump(path: Path) -> list[Any]:
    """Every value of every table with its type, and each row's own number."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as conn:
        conn.text_factory = bytes
        found: list[Any] = []
        for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
            table = name.decode()
            columns = [row[1].decode() for row in conn.execute(f'PRAGMA table_info("{table}")')]
            shown = ", ".join(f'typeof("{column}"), CAST("{column}" AS BLOB)' for column in columns)
            found += [(table, *row) for row in conn.execute(f'SELECT rowid, {shown} FROM "{table}" ORDER BY rowid')]
        return found
