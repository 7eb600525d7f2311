"""Writer of the sample database: the rows that power-loop 0.2.0 would have written in three days of work."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from hashlib import blake2s
from pathlib import Path
from typing import Any

from sessionscope.store.io import clock
from sessionscope.store.powerloop.format.layout import NOTE_NAME
from sessionscope.store.powerloop.format.schema import TABLES

from .steps import CallStep, CompactStep, SayStep, Script, Spawn, Step, Tool, UserStep

MINUTE_MS = 60_000
"""Milliseconds in a minute."""


def write_demo(path: Path, now_ms: int | None = None) -> None:
    """Write a new database of sample sessions, of which the newest was active two minutes before `now_ms`.

    `now_ms` is in epoch milliseconds, the current time by default. The same time gives the same rows. Raises
    FileExistsError if the file exists, OSError if it cannot be written.
    """
    # Imported here, since these texts are long and only this function needs them.
    from .importer import IMPORTER
    from .others import OTHERS

    now = clock.now_ms() if now_ms is None else now_ms
    path.touch(exist_ok=False)
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(TABLES)
        with conn:
            trees = [_SampleTree(script, now) for script in (IMPORTER, *OTHERS)]
            for tree in sorted(trees, key=lambda tree: tree.offset):
                tree.write(conn)


def _hex(*words: object) -> str:
    return blake2s(" ".join(map(str, words)).encode(), digest_size=12).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _SampleTree:
    """A root session and its subagents. Their times start at 0, and `offset` moves them to the planned end."""

    def __init__(self, script: Script, now: int) -> None:
        self.sessions: list[_SampleSession] = []
        root_end = self.play(script, 0, None, None, None)
        end = max([root_end, *(row["created_at"] for session in self.sessions for row in session.messages)])
        self.offset = now - round(script.ended * MINUTE_MS) - end

    def play(self, script: Script, start: int, parent: str | None, call: str | None, task: str | None) -> int:
        """Add a session that begins at `start`, with all of its steps. Return when it ended, in milliseconds."""
        session = _SampleSession(self, script, start, parent, call)
        self.sessions.append(session)
        if task is not None:
            session.add_user_message(task)
        for step in script.steps:
            session.play(step)
        return session.now

    def write(self, conn: sqlite3.Connection) -> None:
        """Insert the rows of all sessions, with their times moved by `offset`."""
        for session in self.sessions:
            for table, rows in session.tables().items():
                for row in rows:
                    moved = {
                        name: value + self.offset if name.endswith("_at") else value for name, value in row.items()
                    }
                    marks = ",".join("?" * len(moved))
                    conn.execute(f"INSERT INTO {table} ({','.join(moved)}) VALUES ({marks})", list(moved.values()))


class _SampleSession:
    """One session while its steps are played: its rows as dicts, and the counters that power-loop keeps."""

    def __init__(self, tree: _SampleTree, script: Script, start: int, parent: str | None, call: str | None) -> None:
        self.tree, self.script = tree, script
        self.started = start
        self.now = start
        """The time in the session, in milliseconds from the start of the tree."""
        self.id = f"sess_{_hex(script.key)}"
        self.parent, self.call = parent, call
        self.messages: list[dict[str, Any]] = []
        self.compactions: list[dict[str, Any]] = []
        self.usage: dict[int, dict[str, Any]] = {}
        """The rows of usage_rounds by round."""
        self.round = 0
        self.pending: dict[str, Any] | None = None

    def play(self, step: Step) -> None:
        match step:
            case UserStep():
                self.now += round(step.after * MINUTE_MS)
                self.add_user_message(step.text)
            case SayStep():
                self._think(step.text)
                self._append("assistant", step.text, round_index=self.round)
                self._record_usage(step.text)
            case CallStep():
                self._think(step.text)
                self._call_tools(step)
            case CompactStep():
                self._compact(step)

    def add_user_message(self, text: str) -> None:
        self.round = 0
        self._append("user", text)

    def _think(self, text: str) -> None:
        """Let pass the time that a model takes to write a text, with a part that only looks random."""
        self.now += 2_400 + 17 * len(text) + int(_hex(self.id, len(self.messages))[:4], 16) // 8

    def _append(self, role: str, content: str, **columns: Any) -> None:
        """Append a message; `columns` are values other than the defaults."""
        row = {
            "session_id": self.id,
            "seq": len(self.messages) + 1,
            "role": role,
            "name": None,
            "content": content,
            "tool_calls_json": None,
            "tool_call_id": None,
            "round_index": None,
            "state": "active",
            "meta_json": "{}",
            "created_at": self.now,
        }
        self.messages.append(row | columns)

    def _call_tools(self, step: CallStep) -> None:
        """Append an assistant message with tool calls, play the subagents that these start, and append the results."""
        call_ids = [f"call_{_hex(self.id, len(self.messages), index)}" for index in range(len(step.tools))]
        calls = [
            {"id": id_, "type": "function", "function": {"name": _name(tool), "arguments": _json(_arguments(tool))}}
            for id_, tool in zip(call_ids, step.tools, strict=True)
        ]
        self._append("assistant", step.text, round_index=self.round, tool_calls_json=_json(calls))
        assistant_seq = len(self.messages)
        unanswered = []
        for id_, tool in zip(call_ids, step.tools, strict=True):
            if isinstance(tool, Spawn):
                self._spawn(tool, id_)
            else:
                self.now += round(tool.took * 1_000) + 180 + int(_hex(id_)[:4], 16) // 12
            if tool.result is None:
                unanswered.append(id_)
            else:
                self._append("tool", tool.result, name=_name(tool), tool_call_id=id_, round_index=self.round)
        if unanswered:
            # After the first result, 0.2.0 keeps the ids of the calls without one, and nothing else of them.
            self.pending = {"assistant_seq": assistant_seq, "round_index": self.round, "tool_call_ids": unanswered}
        self.round += 1

    def _spawn(self, spawn: Spawn, call_id: str) -> None:
        """Play a subagent. A detached one does not delay its parent."""
        started = self.now + 3
        ended = self.tree.play(spawn.child, started, self.id, call_id if spawn.recorded else None, spawn.task)
        self.now = started + 40 if spawn.child.lifecycle == "detached" else ended + 12

    def _compact(self, step: CompactStep) -> None:
        """Compact messages as 0.2.0 does: all in the range, earlier notes included, and the note comes last."""
        self.now += 4_100
        for row in self.messages:
            if step.first <= row["seq"] <= step.last:
                row["state"] = "compacted_out"
        meta = {
            "compacted_at_round": self.round,
            "from_seq": step.first,
            "to_seq": step.last,
            "original_tokens": step.before,
            "summary_tokens": step.after,
        }
        self._append("system", step.note, name=NOTE_NAME, round_index=self.round, meta_json=_json(meta))
        self.compactions.append(
            {
                "session_id": self.id,
                "compact_seq": len(self.compactions) + 1,
                "note_seq": len(self.messages),
                "from_seq": step.first,
                "to_seq": step.last,
                "before_tokens": step.before,
                "after_tokens": step.after,
                "round_index": self.round,
                "created_at": self.now,
            }
        )

    def _record_usage(self, text: str) -> None:
        """Record usage as 0.2.0 does: only that of a send's last round, and a later send overwrites it."""
        prompt_tokens = 820 + sum(len(row["content"]) for row in self.messages if row["state"] == "active") // 4
        completion_tokens = 12 + len(text) // 4
        self.usage[self.round] = {
            "session_id": self.id,
            "round_index": self.round,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "model": None,
            "created_at": self.now,
        }

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of the session by table."""
        script = self.script
        metadata = {key: value for key, value in (("title", script.title), ("name", script.name)) if value}
        config: dict[str, Any] = {"max_rounds": 24, "max_tokens": 32_000, "temperature": 0.2}
        if script.spec:
            config = {
                "spec_name": script.spec,
                "max_rounds": 8,
                "max_tokens": 16_000,
                "temperature": 0.0,
                "model": None,
            }
        parent = f"sess_{_hex(script.parent)}" if script.parent else self.parent
        session = {
            "session_id": self.id,
            "created_at": self.started,
            "updated_at": self.now,
            "system_prompt": script.prompt,
            "model": None,
            "config_json": _json(config),
            "status": "archived" if script.archived else "active",
            "kind": "subagent" if script.spec else "root",
            "parent_session_id": parent,
            "spawn_tool_call_id": self.call,
            "spawn_depth": script.depth,
            "lifecycle": script.lifecycle,
            "metadata_json": _json(metadata),
        }
        state = {
            "session_id": self.id,
            "next_seq": len(self.messages) + 1,
            "round_index": self.round,
            "last_compact_seq": len(self.compactions),
            "pending_json": _json(self.pending) if self.pending else None,
        }
        return {
            "sessions": [session],
            "messages": self.messages,
            "compactions": self.compactions,
            "usage_rounds": list(self.usage.values()),
            "session_state": [state],
        }


def _name(tool: Tool | Spawn) -> str:
    return "run_agent" if isinstance(tool, Spawn) else tool.name


def _arguments(tool: Tool | Spawn) -> dict[str, Any]:
    if isinstance(tool, Spawn):
        return {"spec": {"name": tool.child.spec, "lifecycle": tool.child.lifecycle}, "input": tool.task}
    return tool.arguments
