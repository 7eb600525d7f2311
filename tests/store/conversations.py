"""Generated conversations for what nanobot sends its model and keeps of a session, and what real releases made of them.

    python tests/store/conversations.py      records the answers of the nanobot-ai that the interpreter has

The same seed gives the same conversation on every Python: only `Random.random` promises its sequence.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

ANSWERS = Path(__file__).parents[1] / "data" / "nanobot-history.json"
EARLY, LATE = "0.2.0", "0.3.5"
CASES, TEXT_CASES, KEPT = 400, 100, 12
TEXTS = ("", "  ", "hi", "[Message Time: 2026]\nhello", "[image: /a.png]\nx", "message(x)", "a\u2028b", "x" * 90, "名")
CALLS: tuple[Any, ...] = ([{"id": "a"}], [{"id": "b"}, {"id": "c"}], [], None, [{"id": ""}, {"x": 1}, 3], [{"id": 5}])
APPS: tuple[Any, ...] = (
    [{"name": " GIT ", "entry_point": " g "}, {"name": "a"}, "x", {"entry_point": "b"}, {"name": 5}],
    [{"name": f"app{at}"} for at in range(10)],
    [{"name": ""}],
    [],
    "x",
    None,
)
BLOCKS = [{"type": "text", "text": "名"}, {"type": "text", "text": "hi"}]
CONTEXTS: tuple[Any, ...] = (
    {"version": 1, "suffix": "名"},
    {"version": 1, "suffix": "名", "blocks": BLOCKS},
    {"version": 1, "blocks": BLOCKS},
    {"version": 2, "suffix": "hi"},
    {},
    "hi",
    None,
)
REPORT = (
    "[Subagent",
    "[Subagent 'a' done]",
    "\n",
    "\r\n",
    "\nResult:\n",
    "\nRESULT:",
    "Result:",
    "\nTask: x",
    " ",
    "\x0b",
    "Summarize this naturally",
    "sUMMARIZE THIS NATURALLY",
    "found",
    "x" * 799,
    "y" * 90,
    "名",
    "\u2028",
)
NAME = (":", "/", "\\", "..", " ", "\t", "\u3000", "a", "名", "\0", "?*", '<">|', "~", "telegram:42", "e\u0301")
HELPERS = (
    "find_legal_message_start",
    "estimate_message_tokens",
    "image_placeholder_text",
    "safe_filename",
    "scrub_subagent_announce_body",
    "_sanitize_assistant_replay_text",
    "_text_preview",
    "_message_preview_text",
)
Case = tuple[list[dict[str, Any]], int, dict[str, Any]]
"""Messages, how many of them are consolidated, and the arguments of `get_history`."""
Pick = Callable[..., Any]


def chooser(seed: int) -> Pick:
    random = Random(seed)
    return lambda *values: values[int(random.random() * len(values))]


def some_message(pick: Pick) -> dict[str, Any]:
    role = pick("user", "assistant", "tool", "assistant", "tool", "system")
    blocks = [{"type": "text", "text": pick(*TEXTS)}, {"type": "image_url", "image_url": {"url": "u"}}, "s"]
    made = {"role": role, "content": pick(pick(*TEXTS), pick(*TEXTS), pick(*TEXTS), None, blocks, {"a": 1})}
    if pick(*range(10)) == 0:
        del made["content"]
    if role == "assistant" and pick(0, 1):
        made["tool_calls"] = pick(*CALLS)
    if role == "tool" and pick(*range(10)):
        made["tool_call_id"] = pick("a", "b", "c", "d", "", None, 5)
    for key, value in (
        ("name", pick(*TEXTS)),
        ("reasoning_content", pick(*TEXTS, None)),
        ("thinking_blocks", [{"t": 1}]),
        ("timestamp", pick("2026-01-01", "")),
        ("media", pick(["/a", "", 3], [], "x")),
        ("_command", True),
        ("_channel_delivery", True),
        ("latency_ms", 1),
    ):
        if pick(*range(7)) == 0:
            made[key] = value
    return made


def case(seed: int) -> Case:
    pick = chooser(seed)
    messages = [some_message(pick) for _ in range(pick(*range(15)))]
    return (
        messages,
        pick(0, 0, 0, 1, 3, 20),
        {
            "max_messages": pick(120, 0, -3, 1, 2, 3, 5, 8),
            "max_tokens": pick(0, 0, -1, 1, 10, 30, 60, 200),
            "include_timestamps": bool(pick(0, 1)),
        },
    )


def later_case(seed: int) -> Case:
    """The same conversation with what later releases add to its rows, asked as they are."""
    messages, known, asked = case(seed)
    pick = chooser(seed + 1_000_000)
    for message in messages:
        for key, values in (("cli_apps", APPS), ("_runtime_context", CONTEXTS), ("media", (["", 3], ["/a", "/b"]))):
            if pick(0, 0, 1):
                message[key] = pick(*values)
        content, added = message.get("content"), pick(0, "\n\n名", BLOCKS)
        if type(content) is type(added):
            message["content"] = content + added
    return messages, known, {"max_messages": asked["max_messages"], "max_tokens": pick(0, 0, -1, 1, 20, 60, 150, 400)}


def answer(asked: Case, get_history: Callable[..., Any], legal: Callable[..., Any], tokens: Callable[..., Any]) -> Any:
    """All that is compared: the history, where it may begin, and what each message counts."""
    messages, consolidated, arguments = asked
    return [get_history(messages[consolidated:], **arguments), legal(messages), [tokens(one) for one in messages]]


def digest(said: Any) -> str:
    """With the order of keys, which is the order in which a model reads them."""
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()[:KEPT]


def recorded(release: str) -> dict[str, Any]:
    return json.loads(ANSWERS.read_text())[release]


def installed(release: str) -> ModuleType:
    """The real module, kept from fetching a vocabulary. Skips a test where it is missing, or of another release."""
    try:
        found = version("nanobot-ai")
    except PackageNotFoundError:
        found = "missing"
    if found != release:
        raise SkipTest(f"nanobot-ai {release} is needed, and is {found}")

    def refuse(*_: Any) -> None:
        raise OSError

    importlib.import_module("tiktoken").get_encoding = refuse
    importlib.import_module("loguru").logger.disable("nanobot")
    return importlib.import_module("nanobot.session.manager")


def functions(module: ModuleType) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """What `answer` asks of a release's module."""
    return (
        lambda messages, **arguments: module.Session("k", messages=messages).get_history(**arguments),
        module.find_legal_message_start,
        module.estimate_message_tokens,
    )


# -- a session and its methods


class Clock:
    """In the place of a module's `datetime`: a minute passes when a test says so."""

    def __init__(self) -> None:
        self.minutes = 0

    def now(self) -> datetime:
        return datetime(2026, 1, 1) + timedelta(minutes=self.minutes)


def play(module: ModuleType, seed: int, length: int = 30) -> list[Any]:
    """What a session's methods return and leave behind, step by step, of a generated use of it.

    No step has a turn that is longer than what is to be kept of it, nor an offset that cannot be: there ours differs.
    """
    pick, clock, said = chooser(seed), Clock(), []
    with patch.object(module, "datetime", clock):
        session = module.Session(
            "k",
            created_at=clock.now(),
            updated_at=clock.now(),
            metadata=pick({}, {"title": "t", "_last_summary": {"text": "s"}}),
        )
        for _ in range(length):
            clock.minutes += 1
            step = pick(*STEPS)
            said.append(
                [
                    step.__name__,
                    step(session, pick),
                    session.messages,
                    session.last_consolidated,
                    session.metadata,
                    session.created_at.isoformat(),
                    session.updated_at.isoformat(),
                ]
            )
            # Texts at once, since a session goes on with the same list.
            said[-1] = json.dumps(said[-1], ensure_ascii=False)
    return said


def _add(session: Any, pick: Pick) -> None:
    message = some_message(pick)
    session.add_message(message.pop("role"), message.pop("content", "") or pick(*TEXTS), **message)


def _turns(session: Any, pick: Pick) -> None:
    """Turns as an agent has them, in which a result follows its call; without them few rows would ever stay."""
    for turn in range(pick(1, 2, 4)):
        session.add_message("user", pick(*TEXTS))
        for call in range(pick(0, 1, 3)):
            ids = [f"call_{turn}_{call}_{at}" for at in range(pick(1, 1, 2))]
            session.add_message("assistant", "", tool_calls=[{"id": id_} for id_ in ids])
            for id_ in ids:
                session.add_message("tool", pick(*TEXTS), tool_call_id=id_, name="t")
        session.add_message("assistant", pick(*TEXTS), latency_ms=5)


def _asks(session: Any, pick: Pick) -> Any:
    return session.get_history(pick(120, 0, 1, 5, 9), max_tokens=pick(0, 30, 90), include_timestamps=bool(pick(0, 1)))


def _consolidates(session: Any, pick: Pick) -> None:
    session.last_consolidated = pick(*range(len(session.messages) + 1))


def _clears(session: Any, pick: Pick) -> Any:
    return session.clear() if pick(0, 0, 0, 1) else None


def _room(session: Any, pick: Pick) -> int:
    """A number of rows in which the last user's row is, if there is one."""
    users = [at for at, row in enumerate(session.messages) if row["role"] == "user"]
    return max(pick(1, 2, 4, 8), len(session.messages) - users[-1] if users else 0)


def _retains(session: Any, pick: Pick) -> Any:
    return session.retain_recent_legal_suffix(pick(_room(session, pick), _room(session, pick), 2000, pick(0, -1, 2000)))


def _caps(session: Any, pick: Pick) -> Any:
    given: list[Any] = []
    callback = pick(None, given.append, given.append)
    limit = pick(*[_room(session, pick)] * 5, 0, -1)
    return [session.enforce_file_cap(callback, limit), session.enforce_file_cap(), given]


STEPS = (_add, _turns, _turns, _asks, _asks, _consolidates, _clears, _retains, _caps)


# -- the helpers, and what a module looks like


def ask_helpers(module: ModuleType, seed: int) -> dict[str, Any]:
    """What the helpers make of generated texts."""
    pick = chooser(seed)
    report = "".join(pick(*REPORT) for _ in range(pick(*range(12))))
    name = "".join(pick(*NAME) for _ in range(pick(*range(6))))
    message = some_message(pick) | {"injected_event": pick("subagent_result", "subagent_result", "x")}
    message["content"] = pick(report, report, message.get("content"))
    return {
        "safe_filename": module.safe_filename(name),
        "image_placeholder_text": [module.image_placeholder_text(name), module.image_placeholder_text(name, empty="-")],
        "scrub_subagent_announce_body": module.scrub_subagent_announce_body(report),
        "_sanitize_assistant_replay_text": module._sanitize_assistant_replay_text(pick(report, *TEXTS)),
        "_text_preview": module._text_preview(message["content"]),
        "_message_preview_text": module._message_preview_text(message),
        "_annotate_message_time": module.Session._annotate_message_time(message, message["content"]),
    }


def describe(module: ModuleType) -> dict[str, Any]:
    """What a caller sees of a module without calling it."""
    methods = [
        name
        for name, value in vars(module.Session).items()
        if name in ("__init__", "_annotate_message_time") or (callable(value) and not name.startswith("_"))
    ]
    return {
        "limit": module.FILE_MAX_MESSAGES,
        "fields": [
            [field.name, "" if field.default is MISSING else repr(field.default), field.default_factory is not MISSING]
            for field in fields(module.Session)
        ],
        "methods": {name: _parameters(getattr(module.Session, name)) for name in sorted(methods)},
        "helpers": {name: _parameters(getattr(module, name)) for name in HELPERS},
        "shown": repr(module.Session("k", created_at=1, updated_at=2)),
        "hashable": module.Session.__hash__ is not None,
    }


def _parameters(function: Any) -> str:
    """Without annotations, which are words of upstream's."""
    signature = inspect.signature(function)
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def previews(module: ModuleType, seed: int) -> list[str]:
    """What stands for each message of a later conversation in a list."""
    return [module._message_preview_text(message) for message in later_case(seed)[0]]


RECORDED: dict[str, dict[str, Callable[[ModuleType], Any]]] = {
    EARLY: {
        "history": lambda module: [digest(answer(case(seed), *functions(module))) for seed in range(CASES)],
        "sessions": lambda module: [digest(play(module, seed)) for seed in range(CASES)],
        "helpers": lambda module: [digest(ask_helpers(module, seed)) for seed in range(TEXT_CASES)],
        "module": describe,
    },
    LATE: {
        "history": lambda module: [digest(answer(later_case(seed), *functions(module))) for seed in range(CASES)],
        "previews": lambda module: [digest(previews(module, seed)) for seed in range(TEXT_CASES)],
    },
}
"""What is recorded of each release, and how a module is asked for it."""


def record() -> None:
    known, release = json.loads(ANSWERS.read_text()), version("nanobot-ai")
    module = installed(release)
    known[release] = {what: ask(module) for what, ask in RECORDED[release].items()}
    ANSWERS.write_text(json.dumps(known, indent=0) + "\n")


if __name__ == "__main__":
    sys.exit(record())
