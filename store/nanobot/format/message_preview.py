"""Previews of nanobot messages, without the text that only the model is meant to read. Pure.

Source: nanobot 0.2.0, `utils/subagent_channel_display.py` and `session/manager.py` (`_message_preview_text`); for the
runtime context 0.3.5, `runtime_context.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sessionscope.store.rules.preview import preview

LIMIT = 800
"""How many characters of a subagent's result are kept."""
# re.ASCII, since otherwise IGNORECASE also matches letters such as the dotted I and the long s.
_RESULT_MARKERS = tuple(re.compile(marker, re.IGNORECASE | re.ASCII) for marker in (r"\nresult:\n", r"\nresult:"))
"""What precedes the result in a subagent's report. The first that occurs counts."""
_INSTRUCTION = re.compile(r"summarize this naturally", re.IGNORECASE | re.ASCII)
"""The beginning of the instruction to the model that follows the result."""


def message_preview(message: Mapping[str, Any]) -> str:
    """Return the preview of a message's content: at most 120 characters on one line.

    Of a subagent's report, it is that of its header and result.
    """
    content = without_runtime_context(message)
    if message.get("injected_event") == "subagent_result" and isinstance(content, str):
        content = scrub_subagent_announce_body(content)
    return preview(content)


def scrub_subagent_announce_body(content: str) -> str:
    """Return the readable part of a subagent's report: header, blank line, and up to 800 characters of its result.

    The task before the result and the instruction after it are for the model. Of a text without a result only the
    header is returned, or the whole text if it has no header either.
    """
    text = content.replace("\r\n", "\n").strip()
    first = next(iter(text.splitlines()), "")
    header = first.strip() if first.startswith("[Subagent") else ""
    matches = (marker.search(text) for marker in _RESULT_MARKERS)
    match = next((match for match in matches if match is not None), None)
    if match is None:
        return header or text
    body = _INSTRUCTION.split(text[match.end() :], maxsplit=1)[0].strip()
    if len(body) > LIMIT:
        body = body[: LIMIT - 1].rstrip() + "…"
    if header and body:
        return f"{header}\n\n{body}"
    return header or body or text


def without_runtime_context(message: Mapping[str, Any]) -> Any:
    """Return a message's content without the runtime context that nanobot 0.3 appended for the model.

    The message records what was appended: the end of a text, or the last blocks of a list. If a text has become a list
    since, its end is searched in the last block. Content that does not end with the context is returned unchanged. The
    message is not modified.
    """
    content, marker = message.get("content"), message.get("_runtime_context")
    if marker is None or not isinstance(marker, Mapping) or marker.get("version") != 1:
        return content
    suffix, blocks = marker.get("suffix"), marker.get("blocks")
    if isinstance(content, str):
        return _without_suffix(content, suffix)
    if not isinstance(content, list) or not content:
        return content
    if isinstance(blocks, list) and content[-len(blocks) :] == blocks:
        return content[: -len(blocks)]
    last = content[-1]
    if isinstance(last, dict) and last.get("type") == "text" and isinstance(last.get("text"), str):
        return [*content[:-1], last | {"text": _without_suffix(last["text"], suffix)}]
    return content


def _without_suffix(text: str, suffix: Any) -> str:
    if not isinstance(suffix, str) or not suffix:
        return text
    return "" if text == suffix else text.removesuffix(f"\n\n{suffix}")
