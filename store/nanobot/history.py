"""What nanobot sends its model of a session: the window, where it may begin, and how it fits a budget of tokens. Pure.

Source: nanobot 0.2.0, `session/manager.py` (`Session.get_history`) and `utils/helpers.py`. Where one row is malformed
upstream raises and the turn fails; here that row is left out, or its odd field counts as absent, and the window stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..preview import sanitize

Row = Mapping[str, Any]
WINDOW = 120
"""Messages that are sent unless a caller asks for another number."""
_SENT = ("tool_calls", "tool_call_id", "name", "reasoning_content", "thinking_blocks")
_WORTH_SENDING = ("tool_calls", "reasoning_content", "thinking_blocks")
_LEAST_TOKENS = 4


def history(
    messages: Sequence[Row], max_messages: int = WINDOW, *, max_tokens: int = 0, include_timestamps: bool = False
) -> list[dict[str, Any]]:
    """The messages that the model would be sent out of those not yet consolidated, oldest first.

    At most `max_messages` rows are looked at (0 and less mean 120); of what they give, the newest are kept that fit
    `max_tokens` (0 and less: all), at least one. Values are those of the rows, not copies.
    """
    window = messages[-(max_messages if max_messages > 0 else WINDOW):]
    window = window[_first_turn(window):]
    window = window[find_legal_message_start(window):]
    sent = [entry for message in window if (entry := _entry(message, include_timestamps)) is not None]
    return within_budget(sent, max_tokens) if max_tokens > 0 and sent else sent


def _first_turn(window: Sequence[Row]) -> int:
    """Where the first turn begins: at a user's message, or at the delivery that it answers; 0 where there is none."""
    first = _first_user(window)
    if first is None:
        return 0
    return first - 1 if first and window[first - 1].get("_channel_delivery") else first


def _first_user(messages: Iterable[Row]) -> int | None:
    return next((at for at, message in enumerate(messages) if message.get("role") == "user"), None)


def find_legal_message_start(messages: Sequence[Row]) -> int:
    """The first index from which every tool result follows the call that it answers."""
    declared: set[str] = set()
    start = 0
    for at, message in enumerate(messages):
        if message.get("role") == "assistant":
            calls = message.get("tool_calls")
            declared.update(str(call["id"]) for call in (calls if isinstance(calls, list) else ())
                            if isinstance(call, dict) and call.get("id"))
        elif message.get("role") == "tool":
            answered = message.get("tool_call_id")
            if answered and str(answered) not in declared:
                start = at + 1
                declared.clear()
    return start


def _entry(message: Row, include_timestamps: bool) -> dict[str, Any] | None:
    """A message as it is sent, None where it is not."""
    role = message.get("role")
    if message.get("_command") or role is None:
        return None
    content = message.get("content", "")
    if role == "assistant" and isinstance(content, str):
        content = sanitize(content)
        if not content.strip() and not any(key in message for key in _WORTH_SENDING):
            return None
    if role == "user" and isinstance(content, str):
        content = _with_media(content, message.get("media"))
        if include_timestamps:
            content = annotate_message_time(message, content)
    return {"role": role, "content": content} | {key: message[key] for key in _SENT if key in message}


def _with_media(content: str, media: Any) -> str:
    if not isinstance(media, list) or not media:
        return content
    crumbs = "\n".join(image_placeholder_text(path) for path in media if isinstance(path, str) and path)
    return f"{content}\n{crumbs}" if content else crumbs


def annotate_message_time(message: Row, content: Any) -> Any:
    """A user's text behind the time at which it came, where the row has one; any other content as it is."""
    timestamp = message.get("timestamp")
    if not timestamp or not isinstance(content, str) or message.get("role") != "user":
        return content
    return f"[Message Time: {timestamp}]\n{content}"


def image_placeholder_text(path: str | None, *, empty: str = "[image]") -> str:
    """What stands for an image in text."""
    return f"[image: {path}]" if path else empty


def within_budget(messages: list[dict[str, Any]], max_tokens: int) -> list[dict[str, Any]]:
    """The newest messages that fit, beginning with a user's: the last of those even where it does not fit."""
    used, start = 0, len(messages)
    while start:
        used += estimate_message_tokens(messages[start - 1])
        if start < len(messages) and used > max_tokens:
            break
        start -= 1
    kept = messages[start:]
    first = _first_user(kept)
    if first is None:
        last = _first_user(reversed(messages))
        kept = kept if last is None else messages[len(messages) - 1 - last:]
    else:
        kept = kept[first:]
    return kept[find_legal_message_start(kept):]


def estimate_message_tokens(message: Row) -> int:
    """About how many tokens a message takes, at least 4: a quarter of its characters, and 4.

    That is upstream's estimate where it has no vocabulary of cl100k_base, which it would fetch over the network.
    """
    payload = "\n".join(_counted(message))
    return max(_LEAST_TOKENS, len(payload) // 4 + 4) if payload else _LEAST_TOKENS


def _counted(message: Row) -> Iterable[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") == "text":
                if text := part.get("text"):
                    yield text if isinstance(text, str) else _json(text)
            else:
                yield _json(part)
    elif content is not None:
        yield _json(content)
    for key in ("name", "tool_call_id"):
        value = message.get(key)
        if isinstance(value, str) and value:
            yield value
    if message.get("tool_calls"):
        yield _json(message["tool_calls"])
    reasoning = message.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        yield reasoning


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""
