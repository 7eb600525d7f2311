"""The messages that nanobot sends its model: the window, its first message, and its budget of tokens. Pure.

Source: nanobot 0.2.0 and, for `later`, 0.3.5: `session/manager.py` (`Session.get_history`) and `utils/helpers.py`. If
one message is malformed, upstream raises and the turn fails. Here that message is left out, or its malformed member
counts as absent, and the others are returned.
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
"""The members that are sent besides role and content."""
_WORTH_SENDING = ("tool_calls", "reasoning_content", "thinking_blocks")
"""The members for which an assistant message without text is sent."""
_OVERHEAD_TOKENS = 4
"""The tokens that every message takes besides its content."""
_MAX_APPS = 8
"""How many attached command line apps are named in a user's message."""


def history(
    messages: Sequence[ScannedMessage],
    max_messages: int = WINDOW,
    *,
    max_tokens: int = 0,
    include_timestamps: bool = False,
    later: bool = False,
) -> list[dict[str, Any]]:
    """Return what the model is sent of the messages that are not consolidated, oldest first.

    At most the last `max_messages` are considered (0 or less: 120). Of what is sent of these, the newest that fit
    `max_tokens` are returned, at least one (0 or less: all). `include_timestamps` writes its time above a user's text.
    Values are those of the messages, not copies.

    With `later`, it is what 0.3.5 sends: `max_messages` of 0 or less means all. Texts do not carry their time. The
    command line apps attached to a user's message are named in its text, unless the message has a runtime context.
    Each byte counts as a token.
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
    """Return what `history` returns, each entry with the index in `messages` of its message. Indexes ascend."""
    window = _window(messages, max_messages, later)
    first = _first_turn(window)
    first += find_legal_message_start(window[first:])
    skipped = len(messages) - len(window)
    entries = []
    for index, message in enumerate(window[first:], first):
        entry = _entry(message, include_timestamps, later)
        if entry is not None:
            entries.append((skipped + index, entry))
    if max_tokens <= 0:
        return entries
    tokens = later_message_tokens if later else estimate_message_tokens
    return entries[_fitting_start([entry for _, entry in entries], max_tokens, tokens) :]


def failure(messages: Sequence[Any], max_messages: int = WINDOW, later: bool = False) -> tuple[int, str] | None:
    """Return the index of the first message for which upstream raises instead of sending any, and why, or None."""
    window = _window(messages, max_messages, later)
    skipped, first = len(messages) - len(window), _first_turn(window)
    for index, message in enumerate(window[first:], first):
        calls = message.get("tool_calls")
        if message.get("role") == "assistant" and calls and not isinstance(calls, Iterable):
            return skipped + index, "tool_calls is no list"
    first += find_legal_message_start(window[first:])
    for index, message in enumerate(window[first:], first):
        if not message.get("_command") and "role" not in message:
            return skipped + index, "there is no role"
    return None


def _window(messages: Sequence[Any], max_messages: int, later: bool) -> list[ScannedMessage]:
    """Return the last messages, as many as are considered."""
    if max_messages <= 0:
        max_messages = 0 if later else WINDOW
    # With 0, the slice is the whole list.
    return legible(messages[-max_messages:])


def legible(rows: Iterable[Any]) -> list[ScannedMessage]:
    """Return the rows, with an empty object in place of each that is not an object."""
    # The check for dict is redundant but much faster than that for an abstract class.
    return [row if isinstance(row, (dict, Mapping)) else {} for row in rows]


def consolidated(offset: Any, count: int) -> int:
    """Return how many of `count` messages are consolidated, given the stored offset. An impossible offset counts as 0.

    Source: nanobot 0.3.5, `Session.__post_init__`. 0.2.0 trusts the offset, and hides the history or raises.
    """
    return offset if isinstance(offset, int) and not isinstance(offset, bool) and 0 <= offset <= count else 0


def _first_turn(window: Sequence[ScannedMessage]) -> int:
    """Return the index at which the first turn begins: a user's message, or the delivery that it answers.

    Return 0 if no message is a user's.
    """
    first = _first_user(window)
    if first is None:
        return 0
    return first - 1 if first and window[first - 1].get("_channel_delivery") else first


def _first_user(messages: Iterable[ScannedMessage]) -> int | None:
    return next((index for index, message in enumerate(messages) if message.get("role") == "user"), None)


def find_legal_message_start(messages: Sequence[ScannedMessage]) -> int:
    """Return the lowest index from which on every tool result follows the call that it answers."""
    declared_ids: set[str] = set()
    start = 0
    for index, message in enumerate(messages):
        if message.get("role") == "assistant":
            calls = message.get("tool_calls")
            declared_ids.update(
                str(call["id"])
                for call in (calls if isinstance(calls, list) else ())
                if isinstance(call, dict) and call.get("id")
            )
        elif message.get("role") == "tool":
            answered_id = message.get("tool_call_id")
            if answered_id and str(answered_id) not in declared_ids:
                start = index + 1
                declared_ids.clear()
    return start


def _entry(message: ScannedMessage, include_timestamps: bool, later: bool) -> dict[str, Any] | None:
    """Return a message as it is sent, or None if it is not sent."""
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
    placeholders = "\n".join(image_placeholder_text(path) for path in media if isinstance(path, str) and path)
    if later and not placeholders:
        return content
    # 0.2.0 adds an empty line if the list has no path.
    return _with_lines(content, placeholders)


def _with_apps(content: str, message: ScannedMessage) -> str:
    """Return a user's text, followed by a line for each attached app unless a runtime context of the message has it."""
    apps = message.get("cli_apps")
    if not isinstance(apps, list) or isinstance(message.get("_runtime_context"), dict):
        return content
    lines = [line for app in apps[:_MAX_APPS] if isinstance(app, dict) and (line := _app_line(app))]
    return _with_lines(content, "\n".join(lines)) if lines else content


def _app_line(app: Mapping[str, Any]) -> str:
    """Return the line that names an app, empty for an app without a name."""
    name = str(app.get("name") or "").strip().lower()
    if not name:
        return ""
    entry_point = str(app.get("entry_point") or "").strip() or "unknown"
    skill = f"skills/cli-app-{name}/SKILL.md"
    return f"[CLI App Attachment: @{name}; tool=run_cli_app; entry_point={entry_point}; skill={skill}]"


def _with_lines(content: str, lines: str) -> str:
    return f"{content}\n{lines}" if content else lines


def annotate_message_time(message: ScannedMessage, content: Any) -> Any:
    """Return a user's text with its time above it, if the message has one. Return any other content unchanged."""
    timestamp = message.get("timestamp")
    if not timestamp or not isinstance(content, str) or message.get("role") != "user":
        return content
    return f"[Message Time: {timestamp}]\n{content}"


def image_placeholder_text(path: str | None, *, empty: str = "[image]") -> str:
    """Return the text that replaces an image."""
    return f"[image: {path}]" if path else empty


def _fitting_start(messages: list[dict[str, Any]], max_tokens: int, tokens: Callable[[ScannedMessage], int]) -> int:
    """Return the index from which on the messages fit a budget of tokens.

    It is that of a user's message if one of the fitting messages is a user's. Otherwise it is that of the last user's
    message, even if that does not fit.
    """
    used_tokens, start = 0, len(messages)
    while start:
        used_tokens += tokens(messages[start - 1])
        # The newest message is sent even if it does not fit.
        if start < len(messages) and used_tokens > max_tokens:
            break
        start -= 1
    first_user = _first_user(messages[start:])
    if first_user is not None:
        start += first_user
    elif (from_the_end := _first_user(reversed(messages))) is not None:
        start = len(messages) - 1 - from_the_end
    return start + find_legal_message_start(messages[start:])


def estimate_message_tokens(message: ScannedMessage) -> int:
    """Return an estimate of the tokens of a message: a quarter of its characters, plus 4.

    Upstream estimates so if it does not have the vocabulary of cl100k_base, which it would fetch over the network.
    """
    return len("\n".join(_counted_texts(message))) // 4 + _OVERHEAD_TOKENS


def later_message_tokens(message: ScannedMessage) -> int:
    """Return the estimate of 0.3.5: a token for each byte, plus 4. No script takes more tokens than that."""
    return len("\n".join(_counted_texts(message)).encode("utf-8", "surrogatepass")) + _OVERHEAD_TOKENS


def _counted_texts(message: ScannedMessage) -> Iterable[str]:
    """Yield the texts of a message that count for its tokens."""
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
