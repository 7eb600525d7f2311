"""Writes a sample database, as power-loop 0.2.0 would have left it after three days of work."""

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
_COLUMNS = {"sessions": 13, "messages": 11, "compactions": 9, "usage_rounds": 7, "session_state": 5}


def write_demo(path: Path, now_ms: int | None = None) -> None:
    """Write a new database of sample sessions, the newest active two minutes before `now_ms` (epoch milliseconds).

    The same `now_ms` gives the same rows. Raises FileExistsError if the file exists, and OSError.
    """
    from .importer import IMPORTER
    from .others import OTHERS

    now = clock.now_ms() if now_ms is None else now_ms
    path.touch(exist_ok=False)
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript(TABLES)
        with conn:
            families = [_Family(script, now) for script in (IMPORTER, *OTHERS)]
            for family in sorted(families, key=lambda family: family.offset):
                family.write(conn)


def _hex(*words: object) -> str:
    return blake2s(" ".join(map(str, words)).encode(), digest_size=12).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Family:
    """A root and its subagents. They are played from time 0, then moved to their real time."""

    def __init__(self, script: Script, now: int) -> None:
        self.players: list[_Player] = []
        end = self.play(script, 0, None, None, None)
        end = max([end, *(row["created_at"] for player in self.players for row in player.messages)])
        self.offset = now - round(script.ended * MINUTE_MS) - end

    def play(self, script: Script, start: int, parent: str | None, call: str | None, task: str | None) -> int:
        """Play a session from `start` on, and return when it ended."""
        player = _Player(self, script, start, parent, call)
        self.players.append(player)
        if task is not None:
            player.user(task)
        for step in script.steps:
            player.take(step)
        return player.now

    def write(self, conn: sqlite3.Connection) -> None:
        """Insert the rows of all sessions, with their real times."""
        for player in self.players:
            for table, rows in player.tables().items():
                for row in rows:
                    moved = {
                        name: value + self.offset if name.endswith("_at") else value for name, value in row.items()
                    }
                    marks = ",".join("?" * _COLUMNS[table])
                    conn.execute(f"INSERT INTO {table} ({','.join(moved)}) VALUES ({marks})", list(moved.values()))


class _Player:
    """One session while it is played: its rows as dicts, and the bookkeeping that power-loop does."""

    def __init__(self, family: _Family, script: Script, start: int, parent: str | None, call: str | None) -> None:
        self.family, self.script, self.started, self.now = family, script, start, start
        self.id = f"sess_{_hex(script.key)}"
        self.parent, self.call = parent, call
        self.messages: list[dict[str, Any]] = []
        self.compactions: list[dict[str, Any]] = []
        self.usage: dict[int, dict[str, Any]] = {}
        self.round = 0
        self.pending: dict[str, Any] | None = None

    def take(self, step: Step) -> None:
        match step:
            case UserStep():
                self.now += round(step.after * MINUTE_MS)
                self.user(step.text)
            case SayStep():
                self.think(step.text)
                self.append("assistant", step.text, round_index=self.round)
                self.count(step.text)
            case CallStep():
                self.think(step.text)
                self.use(step)
            case CompactStep():
                self.compact(step)

    def user(self, text: str) -> None:
        self.round = 0
        self.append("user", text)

    def think(self, text: str) -> None:
        self.now += 2_400 + 17 * len(text) + int(_hex(self.id, len(self.messages))[:4], 16) // 8

    def append(self, role: str, content: str, **more: Any) -> None:
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
        self.messages.append(row | more)

    def use(self, step: CallStep) -> None:
        """Add an assistant row with calls, what they start, and their results."""
        ids = [f"call_{_hex(self.id, len(self.messages), at)}" for at in range(len(step.tools))]
        calls = [
            {"id": id_, "type": "function", "function": {"name": _name(tool), "arguments": _json(_input(tool))}}
            for id_, tool in zip(ids, step.tools, strict=True)
        ]
        self.append("assistant", step.text, round_index=self.round, tool_calls_json=_json(calls))
        assistant_seq = len(self.messages)
        unanswered = []
        for id_, tool in zip(ids, step.tools, strict=True):
            if isinstance(tool, Spawn):
                started = self.now + 3
                ended = self.family.play(tool.child, started, self.id, id_ if tool.recorded else None, tool.task)
                # The parent does not wait for a detached child.
                self.now = started + 40 if tool.child.lifecycle == "detached" else ended + 12
            else:
                self.now += round(tool.took * 1_000) + 180 + int(_hex(id_)[:4], 16) // 12
            if tool.result is None:
                unanswered.append(id_)
            else:
                self.append("tool", tool.result, name=_name(tool), tool_call_id=id_, round_index=self.round)
        if unanswered:
            # Once one call of the row has a result, 0.2.0 keeps only the ids of the others.
            self.pending = {"assistant_seq": assistant_seq, "round_index": self.round, "tool_call_ids": unanswered}
        self.round += 1

    def compact(self, step: CompactStep) -> None:
        """Compact as 0.2.0 does: every row of the span, earlier notes included, is compacted, and the note comes
        last.
        """
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
        self.append("system", step.note, name=NOTE_NAME, round_index=self.round, meta_json=_json(meta))
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

    def count(self, text: str) -> None:
        """Record usage as 0.2.0 does: only of a send's last round, and a later send overwrites an earlier one."""
        prompt = 820 + sum(len(row["content"]) for row in self.messages if row["state"] == "active") // 4
        completion = 12 + len(text) // 4
        self.usage[self.round] = {
            "session_id": self.id,
            "round_index": self.round,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "model": None,
            "created_at": self.now,
        }

    def tables(self) -> dict[str, list[dict[str, Any]]]:
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


def _input(tool: Tool | Spawn) -> dict[str, Any]:
    if isinstance(tool, Spawn):
        return {"spec": {"name": tool.child.spec, "lifecycle": tool.child.lifecycle}, "input": tool.task}
    return tool.arguments
