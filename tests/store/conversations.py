"""Generated conversations for what nanobot sends its model, and what the real 0.2.0 made of them.

    python tests/store/conversations.py      records the answers, with an interpreter that has nanobot-ai 0.2.0

The same seed gives the same conversation on every Python: only `Random.random` promises its sequence.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

ANSWERS = Path(__file__).parents[1] / "data" / "nanobot-history.json"
CASES, KEPT = 400, 12
TEXTS = ("", "  ", "hi", "[Message Time: 2026]\nhello", "[image: /a.png]\nx", "message(x)", "a\u2028b", "x" * 90, "名")
CALLS: tuple[Any, ...] = ([{"id": "a"}], [{"id": "b"}, {"id": "c"}], [], None, [{"id": ""}, {"x": 1}, 3], [{"id": 5}])
Case = tuple[list[dict[str, Any]], int, dict[str, Any]]
"""Messages, how many of them are consolidated, and the arguments of `get_history`."""


def case(seed: int) -> Case:
    random = Random(seed)

    def pick(*values: Any) -> Any:
        return values[int(random.random() * len(values))]

    def message() -> dict[str, Any]:
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
            ("name", pick(*TEXTS)), ("reasoning_content", pick(*TEXTS, None)), ("thinking_blocks", [{"t": 1}]),
            ("timestamp", pick("2026-01-01", "")), ("media", pick(["/a", "", 3], [], "x")), ("_command", True),
            ("_channel_delivery", True), ("latency_ms", 1),
        ):
            if pick(*range(7)) == 0:
                made[key] = value
        return made

    messages = [message() for _ in range(pick(*range(15)))]
    return messages, pick(0, 0, 0, 1, 3, 20), {
        "max_messages": pick(120, 0, -3, 1, 2, 3, 5, 8), "max_tokens": pick(0, 0, -1, 1, 10, 30, 60, 200),
        "include_timestamps": bool(pick(0, 1)),
    }


def answer(asked: Case, get_history: Callable[..., Any], legal: Callable[..., Any], tokens: Callable[..., Any]) -> Any:
    """All that is compared: the history, where it may begin, and what each message counts."""
    messages, consolidated, arguments = asked
    return [get_history(messages[consolidated:], **arguments), legal(messages), [tokens(one) for one in messages]]


def digest(said: Any) -> str:
    """With the order of keys, which is the order in which a model reads them."""
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()[:KEPT]


def real() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """The functions of the real package, kept from fetching a vocabulary. Raises ImportError where it is missing."""
    import tiktoken
    from nanobot.session.manager import Session
    from nanobot.utils.helpers import estimate_message_tokens, find_legal_message_start

    def refuse(*_: Any) -> None:
        raise OSError

    tiktoken.get_encoding = refuse
    return (lambda messages, **arguments: Session("k", messages=messages).get_history(**arguments),
            find_legal_message_start, estimate_message_tokens)


if __name__ == "__main__":
    functions = real()
    ANSWERS.write_text(json.dumps([digest(answer(case(seed), *functions)) for seed in range(CASES)], indent=0) + "\n")
    sys.exit(0)
