"""The real power-loop 0.2.0 runs its agent loop on our `SessionStore`, and what it leaves is what it leaves on its own.

Each scenario is played three times by a model that answers from a script: on upstream's store, on ours as `store=`, and
on ours as the loop opens it by itself when our module stands where upstream's was imported from.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sessionscope.store.powerloop.dropin.session_store as ours

from . import histories

BIG = "line\n" * 12_000
TASK = {"system_prompt": "Be brief.", "max_rounds": 3}


class Crash(BaseException):
    """As if the process were killed: no handler of the loop stops it."""


def call(name: str, id_: str = "", **arguments: Any) -> dict[str, Any]:
    """A tool call as a model makes it."""
    return {
        "id": id_ or f"call_{name}",
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
    }


def spawn(name: str, lifecycle: str, **more: Any) -> dict[str, Any]:
    return call(
        "run_agent",
        f"call_{name}",
        input=f"do {name} 你好",
        spec={"name": name, "lifecycle": lifecycle, **TASK, **more},
    )


class Stage:
    """Where a scenario is played: loops on one database, all with the same script, and what they said and saw."""

    def __init__(self, path: Path, module: ModuleType | None) -> None:
        self.path, self.said, self.answers = path, [], []
        self.store = module.SessionStore.open(path) if module else None
        self.power_loop = import_module("power_loop")
        self.requests: list[Any] = []
        self.loops: list[Any] = []
        self.summaries = 0

    async def complete(self, request: Any, **_: Any) -> Any:
        """The model: its next answer is a text, tool calls, or an error. What is to be summarized needs no script."""
        self.requests.append(json.loads(json.dumps([request.system_prompt, request.messages])))
        if "conversation summarizer" in str(request.messages[0]["content"]):
            self.summaries += 1
            answer: Any = f"<summary>summary {self.summaries} 你好</summary>"
        else:
            answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        text, calls = ("", answer) if isinstance(answer, list) else (answer, [])
        llm = import_module("llm_client.interface")
        used = llm.LLMTokenUsage(prompt_tokens=10 * len(request.messages), completion_tokens=7, total_tokens=17)
        return llm.LLMResponse(raw_text=text, tool_calls=calls, token_usage=used)

    def loop(self, tools: bool = True, **config: Any) -> Any:
        """A loop that the script drives, on the shared store or on one that it opens itself."""
        where = {"store": self.store} if self.store else {"db_path": str(self.path)}
        made = self.power_loop.StatefulAgentLoop(
            llm=self,
            config=self.power_loop.AgentLoopConfig(**config),
            tool_registry=self.tools() if tools else None,
            **where,
        )
        self.loops.append(made)
        return made

    def tools(self) -> Any:
        registry = self.power_loop.ToolRegistry()
        for name, work in {
            "echo": lambda text="": f"<{text}>",
            "big": lambda: BIG,
            "rows": lambda: {"é": [1, None]},
            "fail": lambda: 1 // 0,
            "crash": _crash,
        }.items():
            registry.register(self.power_loop.ToolDefinition(name, name), work)
        self.power_loop.register_spawn_agent(registry)
        return registry

    async def send(self, loop: Any, text: Any, session_id: str | None = None, answers: Any = (), **more: Any) -> str:
        """Sends, with the model's answers to come, and gives the session."""
        self.answers.extend(answers)
        return self.note(await loop.send(text, session_id, **more))

    def note(self, result: Any) -> str:
        self.said.append(repr(result))
        return str(result.session_id)

    async def refused(self, work: Awaitable[Any]) -> None:
        try:
            self.said.append(await work)
        except self.power_loop.PowerLoopError as error:
            self.said.append(repr(error))

    def look(self, note: Any = None) -> None:
        """Notes all rows as they are now, but for their times."""
        rows = histories.dump(self.loops[-1].store._conn)
        for row in (row for table in rows.values() for row in table):
            row.update({name: row[name] > 1 for name in row.keys() & {"created_at", "updated_at"}})
        self.said.append([note, rows])

    def close(self) -> None:
        for loop in self.loops:
            loop.close()
        if self.store:
            self.store.close()


def _crash() -> None:
    raise Crash


def spans(loop: Any, session_id: str) -> list[tuple[int, int]]:
    return [(row.from_seq, row.to_seq) for row in loop.store.list_compactions(session_id)]


async def plain_sends(stage: Stage) -> None:
    loop = stage.loop(system_prompt="You are 😀.", temperature=0.5)
    one = await stage.send(loop, "hi 你好", answers=["hello", "again"], metadata={"title": "t", "tags": ["x"]})
    await stage.send(loop, {"role": "user", "name": "eva", "content": [{"type": "text", "text": "é"}]}, one)
    stage.look()
    other = await stage.send(loop, "", answers=[""])
    await stage.refused(loop.send("x", "sess_nobody"))
    loop.store.archive_session(one)
    await stage.send(loop, "still there?", one, ["yes"])
    stage.look([loop.get_messages(one), loop.get_messages(other, include_compacted=True), loop.get_pending(one)])
    stage.said.append([loop.close_session(other), loop.close_session(other)])


async def tool_rounds(stage: Stage) -> None:
    loop = stage.loop()
    calls = [
        call("echo", "c1", text="a"),
        call("fail", "c2"),
        call("nobody", "c3"),
        call("rows", "c4"),
        {"id": "c5", "type": "function", "function": {"name": "echo", "arguments": "{not json"}},
    ]
    one = await stage.send(loop, "work", None, [calls, [call("big", "c6"), call("spawn_agent", "c7")], "done"])
    await stage.send(loop, "more", one, [[{**call("echo"), "id": None}, call("echo", "c1")], "done again"])
    stage.look(loop.get_messages(one))


async def subagents(stage: Stage) -> None:
    """Of each lifecycle, to the greatest depth and one more; one that completes is closed, one that does not is kept.

    The answers are in the order in which a child's run lies within its parent's.
    """
    loop = stage.loop()
    one = await stage.send(
        loop,
        "delegate",
        None,
        [
            [
                spawn("brief", "ephemeral"),
                spawn("stuck", "ephemeral", max_rounds=1),
                spawn("kept", "linked"),
                spawn("free", "detached", metadata={"título": "ü"}),
                call("spawn_agent", task="last"),
                spawn("odd", "?"),
            ],
            [spawn("below", "detached")],
            "below is done",
            "brief is done",
            [call("echo", text="busy")],
            "stuck at the limit",
            [spawn("two", "linked")],
            [spawn("three", "linked")],
            [spawn("four", "linked")],
            "three",
            "two",
            "kept is done",
            [spawn("under", "linked", tools=["echo"])],
            "under is done",
            "free is done",
            "last is done",
            "all done",
        ],
    )
    stage.look([child.lifecycle.value for child in loop.store.list_children(one)])
    stage.said.append(loop.close_session(one))
    stage.look()


async def compactions_in_one_run(stage: Stage) -> None:
    """The first row is a system's, which is kept, so the note stands second and the next fold begins with it."""
    compactor = import_module("power_loop.runtime.compact").DefaultCompactor(keep_last_n=3)
    plan = compactor.maybe_compact

    async def keep_less_each_time(*arguments: Any, **named: Any) -> Any:
        found = await plan(*arguments, **named)
        compactor.keep_last_n -= found is not None
        return found

    compactor.maybe_compact = keep_less_each_time
    large = stage.loop()
    one = await stage.send(large, {"role": "system", "content": "the rules"}, None, ["noted"])
    for n in range(5):
        await stage.send(large, f"question {n} " + "word " * 40, one, [f"answer {n} " + "words " * 40])
    loop = stage.loop(max_tokens=200, compactor=compactor)
    await stage.send(loop, "work", one, [[call("echo", text="word " * 100)], [call("echo", "c2", text="x")], "done"])
    stage.look(loop.get_messages(one))
    assert spans(loop, one) == [(2, 8), (14, 10), (17, 12)]
    await stage.send(loop, "what was that?", one, ["that"])
    stage.look(loop.get_messages(one))


async def compactions_of_the_default(stage: Stage) -> None:
    """As it comes: a note is folded into the next, by a threshold that the environment sets."""
    large, small = stage.loop(), stage.loop(max_rounds=4)
    one = await stage.send(large, {"role": "system", "content": "the rules"}, None, ["noted"])
    for n in range(5):
        await stage.send(large, f"question {n}", one, [f"answer {n} " + "word " * 100])
    os.environ["CONTEXT_COMPACT_THRESHOLD"] = "300"
    await stage.send(small, "go", one, [[call("echo", text="word " * 300)], "end"])
    assert spans(small, one) == [(2, 6), (14, 14)]
    stage.look(small.get_messages(one))


async def pending_and_resumed(stage: Stage) -> None:
    bare, loop = stage.loop(tools=False), stage.loop()
    one = await stage.send(bare, "work", None, [[call("echo", "c1", text="a"), call("fail", "c2")]])
    stage.look(bare.get_pending(one))
    await stage.refused(loop.send("hello?", one))
    stage.answers.append("resumed")
    stage.note(await loop.resume(one))
    stage.look(loop.get_pending(one))
    await stage.send(bare, "once more", one, [[call("echo", "c3"), call("echo", "c4")]])
    stage.said.append([loop.abort_pending(one, reason="no 你好"), loop.abort_pending(one), loop.get_pending(one)])
    await stage.send(loop, "on", one, ["going on"])
    stage.answers.append("nothing was pending")
    stage.note(await loop.resume(one))
    await stage.refused(loop.resume("sess_nobody"))
    stage.look()


async def killed_between_tools(stage: Stage) -> None:
    loop = stage.loop()
    stage.answers.extend([[call("echo", "c1"), call("crash", "c2"), call("echo", "c3")]])
    with suppress(Crash):
        await loop.send("work")
    one = loop.store._conn.execute("SELECT session_id FROM sessions").fetchone()["session_id"]
    stage.look(loop.get_pending(one))
    await stage.refused(loop.send("hello?", one))
    stage.said.append(loop.abort_pending(one))
    await stage.send(loop, "on", one, ["going on"])
    stage.look()


async def limits_and_troubles(stage: Stage) -> None:
    loop = stage.loop(max_rounds=2)
    one = await stage.send(loop, "loop", None, [[call("echo", "c1")], [call("echo", "c2")], "ran out"])
    policy = stage.power_loop.LLMRetryPolicy(max_attempts=2, backoff_initial=0)
    await stage.send(stage.loop(retry_policy=policy), "again", one, [OSError("down"), OSError("still down")])
    token = stage.power_loop.CancellationToken()
    token.cancel()
    await stage.send(loop, "never mind", one, stop_event=token)
    stage.look()


Scenario = Callable[[Stage], Awaitable[None]]
SCENARIOS: list[Scenario] = [
    plain_sends,
    tool_rounds,
    subagents,
    compactions_in_one_run,
    compactions_of_the_default,
    pending_and_resumed,
    killed_between_tools,
    limits_and_troubles,
]


@contextmanager
def in_place_of_upstreams() -> Iterator[None]:
    """Imports power-loop anew with our module where its own store was."""

    def of_package() -> dict[str, ModuleType]:
        return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "power_loop"}

    before = of_package()
    for name in before:
        del sys.modules[name]
    try:
        sys.modules[histories.MODULE] = ours
        assert import_module("power_loop").SessionStore is ours.SessionStore
        yield
    finally:
        for name in of_package():
            del sys.modules[name]
        sys.modules.update(before)


def played(scenario: Scenario, path: Path, module: ModuleType | None, monkeypatch: pytest.MonkeyPatch) -> str:
    """All that a scenario said, stored and let the model see, with numbers in place of ids that were made."""
    # Large tool results would be kept beside the package.
    monkeypatch.setattr(import_module("power_loop.core.state"), "AGENT_DIR", path.parent)
    monkeypatch.setenv("CONTEXT_COMPACT_THRESHOLD", "")
    stage = Stage(path, module)
    try:
        asyncio.run(scenario(stage))
        stage.look()
        assert not stage.answers, "the script is longer than the play"
    finally:
        stage.close()
    ids: dict[str, str] = {}
    told = histories.text(histories.plain([stage.said, stage.requests]))
    return re.sub(r"sess_[0-9a-f]{24}", lambda id_: ids.setdefault(id_[0], f"session {len(ids)}"), told)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_real_loop_leaves_the_same_rows(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = played(scenario, tmp_path / "real.db", histories.installed(), monkeypatch)
    assert played(scenario, tmp_path / "ours.db", ours, monkeypatch) == alone
    with in_place_of_upstreams():
        assert played(scenario, tmp_path / "by itself.db", None, monkeypatch) == alone
