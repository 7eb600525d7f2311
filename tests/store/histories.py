"""Histories of calls on a power-loop session store, as plain data, and what a store answers to one.

    python tests/store/histories.py --record      writes the answers of the installed power-loop to histories.json

A step is `[method, arguments, keyword arguments]`, "dump" being all that is stored; a divergence that is allowed stands
behind it. A string with "@" in front is a value that JSON has none for: one of `ODD`, or a member of an enum.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import secrets
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import MISSING, asdict, fields, is_dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

Step = list[Any]
RELEASE, MODULE = "0.2.0", "power_loop.runtime.session_store"
RECORDED = Path(__file__).parents[1] / "data" / "histories.json"
TABLES = ("sessions", "messages", "compactions", "usage_rounds", "session_state")
ENUMS = ("SessionKind", "SessionStatus", "SubagentLifecycle", "MessageState")
ROWS = ("SessionRow", "MessageRow", "SessionStateRow", "CompactionRow")
EPOCH_MS, READABLE, HISTORIES = 1_700_000_000_000, 60, 36
IDS, UNKNOWN = ("a", "b", "c", "d", "é😀", "x'y %_"), ("nobody", "", "A", "sess_0")
TEXTS = ("", "hi", "你好, 世界", "😀 e\u0301 \u202e", 'say "so\\" \n\t', "word " * 40, "null", "0", "@control")
ODD: dict[str, Any] = {
    "@int keys": {1: "one", "1": "uno", 2.5: 0, None: [], False: {}},
    "@nan": {"x": math.nan, "y": [math.inf, -math.inf]},
    "@huge": [2**63, -(2**70), 1e300, -0.0, 5e-324, 0.1],
    "@control": "a\0b\x1f\x7f\u2028\ufeff",
    "@surrogate": "\ud800",
    "@object": object(),
    "@set": {1},
}


class Author:
    """Writes one history. It keeps a tree of the sessions that should exist, so that most calls find one."""

    def __init__(self, random: Random, divergent: bool) -> None:
        self.random, self.divergent = random, divergent
        self.tree: dict[str, tuple[str | None, int, str]] = {}
        self.steps: list[Step] = []

    def write(self, length: int) -> list[Step]:
        """A history of so many calls, and the dumps between them."""
        calls = [call for call, weight in _CALLS.items() for _ in range(weight)]
        self.create()
        while len(self.steps) < length:
            getattr(self, self.pick(calls))()
            if self.chance(0.12):
                self.step("dump")
        self.step("dump")
        return self.steps

    def pick(self, values: Sequence[Any]) -> Any:
        """Any of these. Of a `Random`, only `random` is promised to be the same in every release of Python."""
        return values[int(self.random.random() * len(values))]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def step(self, method: str, *arguments: Any, diverges: str = "", **named: Any) -> None:
        self.steps.append([method, list(arguments), named, *([diverges] if diverges else [])])

    def some(self, known: float = 0.9) -> str:
        """The id of a session, which likely exists, and likely for long."""
        alive = list(self.tree)
        if not alive or not self.chance(known):
            return self.pick([*IDS, *UNKNOWN])
        return self.pick(alive[:2] if self.chance(0.5) else alive)

    def json(self, depth: int = 0, finite: bool = False) -> Any:
        """Any value of JSON, and some of Python's that JSON takes."""
        kind = self.pick(range(9 if depth < 3 else 6))
        if kind == 5:
            return self.pick(["@int keys", "@huge", *([] if finite else ["@nan"])])
        if kind == 6:
            return [self.json(depth + 1, finite) for _ in range(self.pick(range(4)))]
        if kind > 6:
            return self.object(depth, finite)
        return self.pick([None, True, False, 0, -7, 2**53 + 1, 0.1, 1e300, *TEXTS])

    def object(self, depth: int = 0, finite: bool = False) -> dict[str, Any]:
        keys = ["k", "title", "", "ключ", "😀", "a.b", '"']
        return {self.pick(keys): self.json(depth + 1, finite) for _ in range(self.pick(range(4)))}

    def few(self, **choices: Any) -> dict[str, Any]:
        """Some of these arguments, each with one of its values; a callable makes its value."""
        taken = {}
        for name, values in choices.items():
            if self.chance(0.4):
                taken[name] = values() if callable(values) else self.pick(values)
        return taken

    # -- calls

    def create(self) -> None:
        named = self.few(
            system_prompt=TEXTS,
            model=["m-1", None],
            config=self.json,
            metadata=self.json,
            spawn_tool_call_id=["call_1", None],
            kind=["@SessionKind.ROOT", "@SessionKind.SUBAGENT"],
            lifecycle=["@SubagentLifecycle.EPHEMERAL", "@SubagentLifecycle.LINKED", "@SubagentLifecycle.DETACHED"],
        )
        parent, depth = None, 0
        if self.tree and self.chance(0.75):
            deepest = max(self.tree, key=lambda id_: self.tree[id_][1])
            named["parent_session_id"] = parent = deepest if self.chance(0.4) else self.some()
            depth = self.tree[parent][1] + 1 if parent in self.tree else 9
        fine = depth <= 3
        if fine and self.chance(0.1):
            broken = [
                ("config", "@set"),
                ("metadata", "@object"),
                ("config", {"x": "@surrogate"}),
                ("model", {}),
                ("system_prompt", "@surrogate"),
                ("lifecycle", "linked"),
                *([] if parent else [("kind", "root")]),
            ]
            named.update([self.pick(broken)])
            fine = False
        id_ = f"sess_{len(self.steps):024x}"
        if self.chance(0.8):
            free = [known for known in IDS if known not in self.tree]
            named["session_id"] = id_ = self.pick(free if free and self.chance(0.9) else IDS)
        self.step("create_session", **named)
        if fine and id_ not in self.tree:
            self.tree[id_] = (parent, depth, named.get("lifecycle", ""))

    def append(self) -> None:
        for _ in range(self.pick(range(1, 4))):
            self.append_one()

    def append_one(self) -> None:
        named = self.few(
            content=[None, 5, *TEXTS],
            tool_calls=[[], None, ["@huge"], [{"id": "call_1", "function": {"name": "x"}}]],
            tool_call_id=["call_1", "call_2"],
            name=["compact_note", "eva", ""],
            round_index=[None, 0, 1, 2**40],
            meta=self.json,
        )
        id_ = self.some()
        if id_ in self.tree and self.chance(0.06):
            named.update(
                [self.pick([("content", {}), ("content", "@surrogate"), ("meta", "@set"), ("tool_calls", ["@object"])])]
            )
        role = None if self.chance(0.02) else self.pick(["user", "assistant", "tool", "system", "", "Ünïque"])
        self.step("append_message", id_, role=role, **named)

    def compact(self) -> None:
        low, high = self.pick(range(-1, 9)), self.pick(range(-1, 12))
        high = self.pick([low, high, high, 10**6])
        named = {
            "from_seq": low,
            "to_seq": high,
            "note_content": self.pick(TEXTS),
            "before_tokens": self.pick([None, 900]),
            "after_tokens": self.pick([None, 0, 30]),
            "round_index": self.pick([None, 0, 3]),
            **self.few(note_meta=lambda: None if self.chance(0.2) else self.object(finite=True)),
        }
        diverges = ""
        if self.divergent and self.chance(0.2):
            diverges = "compaction that cannot be stored"
            named.update(
                [
                    self.pick(
                        [
                            ("from_seq", "1"),
                            ("to_seq", None),
                            ("to_seq", 2.0),
                            ("note_meta", "@nan"),
                            ("note_meta", {"x": "@set"}),
                        ]
                    )
                ]
            )
        self.step("record_compaction", self.some(), diverges=diverges, **named)

    def close(self) -> None:
        id_, cascade = self.some(), self.pick([{}, {"cascade": True}, {"cascade": False}])
        leaves = cascade.get("cascade") is False
        children = [child for child, (parent, _, _) in self.tree.items() if parent == id_]
        if leaves and children and not self.divergent:
            return
        self.step("close_session", id_, **cascade, diverges="parent of the closed" if leaves and children else "")
        self._forget(id_, not leaves)

    def _forget(self, id_: str, cascade: bool) -> None:
        self.tree.pop(id_, None)
        for child, (parent, depth, lifecycle) in list(self.tree.items()):
            if parent == id_ and cascade and not lifecycle.endswith("DETACHED"):
                self._forget(child, True)
            elif parent == id_:
                self.tree[child] = (None, depth, lifecycle)

    def touch(self) -> None:
        """The calls that go unheard upstream where there is no such session."""
        id_ = self.some(0.8 if self.divergent else 1)
        unknown = "" if id_ in self.tree else "unknown session"
        if unknown and not self.divergent:
            return
        kind = self.pick(range(3))
        if kind == 0:
            self.step("archive_session", id_, diverges=unknown)
        elif kind == 1:
            self.step("update_session_prompt", id_, self.pick([None, *TEXTS]), diverges=unknown)
        else:
            self.step(
                "record_usage",
                id_,
                diverges=unknown,
                round_index=self.pick(range(3)),
                prompt_tokens=self.pick([None, 0, 70]),
                completion_tokens=self.pick([None, 7]),
                total_tokens=self.pick([77, 2**40]),
                **self.few(model=["m-1", None]),
            )

    def state(self) -> None:
        if self.chance(0.4):
            self.step("set_round_index", self.some(), self.pick([0, 1, 2, None]))
        else:
            pending = self.pick([None, {}, [], "@set", self.object(), self.json()])
            self.step("set_pending", self.some(), pending)

    def look(self) -> None:
        self.step(
            self.pick(
                [
                    "get_session",
                    "list_children",
                    "load_active_messages",
                    "load_all_messages",
                    "list_compactions",
                    "get_state",
                ]
            ),
            self.some(),
        )

    def look_closer(self) -> None:
        self.step("get_message", self.some(), self.pick([1, 2, 3, 4, 5, 0, -1, "2", 2**64]))


_CALLS = {"create": 6, "append": 7, "compact": 3, "close": 2, "touch": 3, "state": 3, "look": 8, "look_closer": 2}


def generate(seed: int, length: int = 50, *, divergent: bool = False) -> list[Step]:
    """The history that belongs to a seed; with `divergent` also calls in which ours is to differ from upstream's."""
    return Author(Random(seed), divergent).write(length)


def installed() -> ModuleType:
    """The real module. Skips a test where it is not installed, or of another release."""
    try:
        found = version("power-loop")
    except PackageNotFoundError:
        found = "missing"
    if found != RELEASE:
        raise SkipTest(f"power-loop {RELEASE} is needed, and is {found}")
    return importlib.import_module(MODULE)


# -- what a store answers


class _Clock:
    """Time and chance that depend on the step alone, so that a failed call leaves no trace in what follows."""

    def __init__(self) -> None:
        self.at = self.ticks = 0

    def time_ns(self) -> int:
        self.ticks += 1
        return (EPOCH_MS + self.at * 1_000 + self.ticks) * 1_000_000 + 999_999

    def token_hex(self, size: int) -> str:
        return f"{self.at:0{2 * size}x}"


def replay(history: list[Step], *modules: ModuleType, path: Path | str = ":memory:") -> list[str]:
    """What each step returns or raises, as JSON. Several modules take over from each other, by parts, in one file."""
    clock, answers = _Clock(), []
    share = math.ceil(len(history) / len(modules))
    with patch.object(time, "time_ns", clock.time_ns), patch.object(secrets, "token_hex", clock.token_hex):
        for part, module in enumerate(modules):
            with module.SessionStore.open(path) as store:
                for at, step in enumerate(history[part * share : (part + 1) * share], part * share):
                    clock.at, clock.ticks = at, 0
                    answers.append(answer(module, store, step))
    return answers


def answer(module: ModuleType, store: Any, step: Step) -> str:
    """What one step returns or raises. The words of an error are compared where callers may look for them."""
    method, arguments, named = step[:3]
    try:
        said = (
            dump(store._conn)
            if method == "dump"
            else getattr(store, method)(*_python(module, arguments), **_python(module, named))
        )
    except Exception as error:
        said = {"raised": [type(error).__name__, *([str(error)] if type(error) is ValueError else [])]}
    return text(plain(said))


def text(value: Any) -> str:
    """A value as JSON; equal texts are equal values of equal types, NaN among them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def dump(conn: sqlite3.Connection) -> dict[str, list[dict[str, Any]]]:
    """All rows as they are stored. Needs rows that know their columns' names."""
    return {table: [dict(row) for row in conn.execute(f"SELECT * FROM {table} ORDER BY rowid")] for table in TABLES}


def plain(value: Any) -> Any:
    """A returned value for JSON, with the names of its types where JSON would lose them."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: plain(asdict(value))}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [*(["tuple"] if isinstance(value, tuple) else []), *map(plain, value)]
    return {"bytes": value.hex()} if isinstance(value, bytes) else value


def short(said: str) -> str:
    """An answer, or the fingerprint of a long one."""
    return said if len(said) <= READABLE else f'"#{hashlib.sha256(said.encode()).hexdigest()[:12]}"'


def _python(module: ModuleType, value: Any) -> Any:
    if isinstance(value, str) and value.startswith("@"):
        kind, _, member = value[1:].partition(".")
        return getattr(getattr(module, kind), member) if member else ODD[value]
    if isinstance(value, dict):
        return {key: _python(module, item) for key, item in value.items()}
    return [_python(module, item) for item in value] if isinstance(value, list) else value


# -- what a module looks like


def describe(module: ModuleType) -> dict[str, Any]:
    """What a caller sees of a module without calling it: signatures, enums, rows, tables."""
    store = module.SessionStore
    return {
        "constants": [module.DEFAULT_DB_PATH, module.MAX_SPAWN_DEPTH],
        "enums": {
            name: [
                [member.name, member.value, str(member), repr(member), member == member.value]
                for member in getattr(module, name)
            ]
            for name in ENUMS
        },
        "rows": {
            name: [
                [field.name, field.default is MISSING, field.default_factory is MISSING]
                for field in fields(getattr(module, name))
            ]
            for name in ROWS
        },
        "methods": {
            name: [type(inspect.getattr_static(store, name)).__name__, _parameters(getattr(store, name))]
            for name in dir(store)
            if not name.startswith("_") or name in ("__init__", "__enter__", "__exit__")
        },
        "schema": schema(module.SCHEMA_SQL),
    }


def _parameters(function: Any) -> list[list[str]]:
    return [
        [parameter.name, parameter.kind.name, repr(parameter.default)]
        for parameter in inspect.signature(function).parameters.values()
    ]


def schema(script: str) -> dict[str, list[Any]]:
    """The columns and indexes that a script makes, by table."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.executescript(script)
        return {
            table: [
                conn.execute(f"PRAGMA table_info({table})").fetchall(),
                [
                    [*index, conn.execute(f"PRAGMA index_xinfo({index[1]})").fetchall()]
                    for index in conn.execute(f"PRAGMA index_list({table})").fetchall()
                ],
            ]
            for (table,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        }


def record() -> None:
    module = installed()
    names = [
        name
        for name, value in vars(module).items()
        if name.isupper() or (getattr(value, "__module__", "") == MODULE and not name.startswith("_"))
    ]
    lines = [text({"release": RELEASE, "names": sorted(names), **describe(module)})]
    for history in map(generate, range(HISTORIES)):
        said = [json.loads(short(said)) for said in replay(history, module)]
        lines.append(text(list(zip(history, said, strict=True))))
    RECORDED.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        raise SystemExit("usage: histories.py --record")
    record()
