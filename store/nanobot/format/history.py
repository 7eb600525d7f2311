"""What nanobot sends its model of a session: the window, where it may begin, and how it fits a budget of tokens. Pure.

Source: nanobot 0.2.0 and, if a caller says `later`, 0.3.5: `session/manager.py` (`Session.get_history`) and
`utils/helpers.py`. If one row is malformed, upstream raises and the turn fails. Here that row is left out, or its bad
field counts as absent, and the window stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sessionscope.store.rules.preview import sanitize

ScannedMessage = Mapping[str, Any]
WINDOW = 120
"""How many messages are sent unless a caller asks for another number."""
_SENT = ("tool_calls", "tool_call_id", "name", "reasoning_content", "thinking_blocks")
_WORTH_SENDING = ("tool_calls", "reasoning_content", "thinking_blocks")
_OVERHEAD, _APPS = 4, 8


def history(
    messages: Sequence[ScannedMessage],
    max_messages: int = WINDOW,
    *,
    max_tokens: int = 0,
    include_timestamps: bool = False,
    later: bool = False,
) -> list[dict[str, Any]]:
    """Return the messages that the model would be sent of those not yet consolidated, oldest first.

    At most `max_messages` rows are used (0 and less mean 120). Of their messages, the newest that fit `max_tokens` are
    kept (0 and less: all), at least one. `include_timestamps` writes its time above a user's text. Values are those of
    the rows, not copies. With `later` it is what 0.3.5 sends: 0 and less mean all rows, no text carries its time, a
    user's text names the command line apps attached to it unless the row already holds runtime context, and each byte
    counts as a token.
    """
    return [
        entry
        for _, entry in sent(
            messages, max_messages, max_tokens=max_tokens, include_timestamps=include_timestamps, later=later
        )
    ]


def sent(
    messages: Sequence[ScannedMessage],
    max_messages: int = WINDOW,
    *,
    max_tokens: int = 0,
    include_timestamps: bool = False,
    later: bool = False,
) -> list[tuple[int, dict[str, Any]]]:
    """Return what `history` returns, each entry with the index in `messages` of its row. Indexes ascend."""
    # As a slice from the end of a list, 0 means all of it.
    limit = max_messages if max_messages > 0 else 0 if later else WINDOW
    window = legible(messages[-limit:])
    first = _first_turn(window)
    first += find_legal_message_start(window[first:])
    skipped = len(messages) - len(window)
    pairs = [
        (skipped + at, entry)
        for at, message in enumerate(window[first:], first)
        if (entry := _entry(message, include_timestamps, later)) is not None
    ]
    if max_tokens <= 0:
        return pairs
    tokens = later_message_tokens if later else estimate_message_tokens
    return pairs[_fitting([entry for _, entry in pairs], max_tokens, tokens) :]


def failure(messages: Sequence[Any], max_messages: int = WINDOW, later: bool = False) -> tuple[int, str] | None:
    """Return the first row for which upstream raises instead of sending anything, by its index, and why; None for
    none.
    """
    limit = max_messages if max_messages > 0 else 0 if later else WINDOW
    window = legible(messages[-limit:])
    skipped, first = len(messages) - len(window), _first_turn(window)
    for at, message in enumerate(window[first:], first):
        calls = message.get("tool_calls")
        if message.get("role") == "assistant" and calls and not isinstance(calls, Iterable):
            return skipped + at, "tool_calls is no list"
    first += find_legal_message_start(window[first:])
    return next(
        (
            (skipped + at, "there is no role")
            for at, message in enumerate(window[first:], first)
            if not message.get("_command") and "role" not in message
        ),
        None,
    )


def legible(rows: Iterable[Any]) -> list[ScannedMessage]:
    """Return the rows, with an empty one for each that is no object."""
    # Recognising a dict is fast; an abstract class is slow.
    return [row if isinstance(row, (dict, Mapping)) else {} for row in rows]


def consolidated(offset: Any, count: int) -> int:
    """Return how many of `count` rows are consolidated by the stored offset, 0 if it makes no sense.

    Source: nanobot 0.3.5, `Session.__post_init__`. 0.2.0 trusts the value, and hides the history or raises.
    """
    return offset if isinstance(offset, int) and not isinstance(offset, bool) and 0 <= offset <= count else 0


def _first_turn(window: Sequence[ScannedMessage]) -> int:
    """Return where the first turn begins: at a user message, or at the delivery that it answers; 0 if there is none."""
    first = _first_user(window)
    if first is None:
        return 0
    return first - 1 if first and window[first - 1].get("_channel_delivery") else first


def _first_user(messages: Iterable[ScannedMessage]) -> int | None:
    return next((at for at, message in enumerate(messages) if message.get("role") == "user"), None)


def find_legal_message_start(messages: Sequence[ScannedMessage]) -> int:
    """Return the first index from which every tool result follows the call that it answers."""
    declared: set[str] = set()
    start = 0
    for at, message in enumerate(messages):
        if message.get("role") == "assistant":
            calls = message.get("tool_calls")
            declared.update(
                str(call["id"])
                for call in (calls if isinstance(calls, list) else ())
                if isinstance(call, dict) and call.get("id")
            )
        elif message.get("role") == "tool":
            answered = message.get("tool_call_id")
            if answered and str(answered) not in declared:
                start = at + 1
                declared.clear()
    return start


def _entry(message: ScannedMessage, include_timestamps: bool, later: bool) -> dict[str, Any] | None:
    """Return a message as it is sent, None if it is not sent."""
    role = message.get("role")
    if message.get("_command") or "role" not in message:
        return None
    content = message.get("content", "")
    if role == "assistant" and isinstance(content, str):
        content = sanitize(content)
        if not content.strip() and not any(key in message for key in _WORTH_SENDING):
            return None
    if role == "user" and isinstance(content, str):
        content = _with_media(content, message.get("media"), later)
        if later:
            content = _with_apps(content, message)
        elif include_timestamps:
            content = annotate_message_time(message, content)
    return {"role": role, "content": content} | {key: message[key] for key in _SENT if key in message}


def _with_media(content: str, media: Any, later: bool) -> str:
    if not isinstance(media, list) or not media:
        return content
    crumbs = "\n".join(image_placeholder_text(path) for path in media if isinstance(path, str) and path)
    # 0.2.0 leaves a blank line if a list names no path.
    return content if later and not crumbs else _above(content, crumbs)


def _with_apps(content: str, message: ScannedMessage) -> str:
    """Return a user's text above a line for each app attached to it, unless the row's runtime context says so
    already.
    """
    apps = message.get("cli_apps")
    if not isinstance(apps, list) or isinstance(message.get("_runtime_context"), dict):
        return content
    lines = [_app(app) for app in apps[:_APPS] if isinstance(app, dict)]
    return _above(content, "\n".join(filter(None, lines))) if any(lines) else content


def _app(app: Mapping[str, Any]) -> str:
    name = str(app.get("name") or "").strip().lower()
    start = str(app.get("entry_point") or "").strip() or "unknown"
    skill = f"skills/cli-app-{name}/SKILL.md"
    return f"[CLI App Attachment: @{name}; tool=run_cli_app; entry_point={start}; skill={skill}]" if name else ""


def _above(content: str, lines: str) -> str:
    return f"{content}\n{lines}" if content else lines


def annotate_message_time(message: ScannedMessage, content: Any) -> Any:
    """Return a user's text after the time of the message, if the row has one; any other content unchanged."""
    timestamp = message.get("timestamp")
    if not timestamp or not isinstance(content, str) or message.get("role") != "user":
        return content
    return f"[Message Time: {timestamp}]\n{content}"


def image_placeholder_text(path: str | None, *, empty: str = "[image]") -> str:
    """Return what stands for an image in text."""
    return f"[image: {path}]" if path else empty


def _fitting(messages: list[dict[str, Any]], max_tokens: int, tokens: Callable[[ScannedMessage], int]) -> int:
    """Return where the newest messages that fit begin: at a user message, and at the last one even if it does not
    fit.
    """
    used, start = 0, len(messages)
    while start:
        used += tokens(messages[start - 1])
        if start < len(messages) and used > max_tokens:
            break
        start -= 1
    first = _first_user(messages[start:])
    if first is not None:
        start += first
    elif (last := _first_user(reversed(messages))) is not None:
        start = len(messages) - 1 - last
    return start + find_legal_message_start(messages[start:])


def estimate_message_tokens(message: ScannedMessage) -> int:
    """Return the estimated tokens of a message, at least 4: a quarter of its characters, plus 4.

    Upstream uses this estimate if it has no vocabulary of cl100k_base, which it would fetch over the network.
    """
    return len("\n".join(_counted(message))) // 4 + _OVERHEAD


def later_message_tokens(message: ScannedMessage) -> int:
    """Return the estimate of 0.3.5, which counts each byte as a token, so that no script takes more than estimated."""
    return len("\n".join(_counted(message)).encode("utf-8", "surrogatepass")) + _OVERHEAD


def _counted(message: ScannedMessage) -> Iterable[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") == "text":
                text = part.get("text")
                if isinstance(text, str) and text:
                    yield text
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
