"""Lenient readers for the JSON values of a message: a bad value is reported and kept as text, never raised. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from sessionscope.store.model.rows import ToolCall

from .preview import text_of

_NAME = re.compile(rb'"name"\s*:\s*("(?:[^"\\]|\\.){0,200}")')


class Damages(list[str]):
    """What is wrong with the values of one row, in words, each once."""

    def note(self, what: str) -> None:
        if what not in self:
            self.append(what)


def parse(stored: str | None, what: str, damages: Damages) -> Any:
    """Decode JSON text. If it does not parse, return the text itself and report that. Empty means None."""
    if not stored:
        return None
    stored = str(stored)
    try:
        return msgspec.json.decode(stored)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    # Imported only here: msgspec reads nearly everything that agents write.
    import json

    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        damages.note(f"{what} is not valid JSON")
        return stored


def parse_object(stored: str | None, what: str, damages: Damages) -> Any:
    """Decode JSON text that should hold an object or nothing. Anything else is reported."""
    known = len(damages)
    value = parse(stored, what, damages)
    if value is not None and not isinstance(value, dict) and len(damages) == known:
        damages.note(f"{what} is not an object")
    return value


def tool_calls(value: Any, damages: Damages) -> tuple[ToolCall, ...]:
    """Return the calls of an assistant row in the OpenAI shape, each part leniently."""
    calls = []
    for id_, name, arguments in _calls(value, damages):
        parsed = True
        if isinstance(arguments, str):
            trial = Damages()
            arguments = parse(arguments, "arguments", trial)
            parsed = not trial
        calls.append(ToolCall(id_, name, arguments, parsed))
    return tuple(calls)


def calls_made(value: Any, damages: Damages) -> tuple[tuple[str | None, str | None], ...]:
    """Return the id and the name of each of the same calls, without decoding their arguments."""
    return tuple((id_, name) for id_, name, _ in _calls(value, damages))


def _calls(value: Any, damages: Damages) -> Iterator[tuple[str | None, str | None, Any]]:
    if value is not None and not isinstance(value, list):
        damages.note("tool_calls is not a list")
        return
    for item in value or ():
        if not isinstance(item, dict):
            damages.note("a tool call is not an object")
            continue
        function = item.get("function")
        function = function if isinstance(function, dict) else item
        name, id_ = function.get("name"), item.get("id")
        yield str(id_) if id_ else None, str(name) if name else None, function.get("arguments")


def names_in(prefix: bytes) -> tuple[str, ...]:
    """Return tool names from the beginning of a list of calls that is too long to be read whole."""
    damages = Damages()
    found = (parse(quoted.decode("utf-8", "replace"), "name", damages) for quoted in _NAME.findall(prefix))
    return tuple(name for name in found if isinstance(name, str))


def words_of(content: Any) -> str:
    """Return the text of a multimodal content, with a word for each block that is not text."""
    if not isinstance(content, list):
        return text_of(content)
    words = []
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        words.append(text_of([block]) if kind == "text" else f"[{kind or 'block'}]")
    return " ".join(words)


def character_at(data: bytes, at: int) -> int:
    """Return where the UTF-8 character begins that continues at byte `at`, or `at` itself if none does."""
    if at < len(data) and data[at] & 0xC0 != 0x80:
        return at
    for back in range(1, min(at, 3) + 1):
        byte = data[at - back]
        if byte & 0xC0 == 0xC0:
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2
            return at - back if length > back else at
        if byte < 0x80:
            break
    return at
