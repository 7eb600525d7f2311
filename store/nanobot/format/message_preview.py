"""The preview of one nanobot message, without what only its model is to read. Pure.

Source: nanobot 0.2.0, `utils/subagent_channel_display.py` and `session/manager.py` (`_message_preview_text`); for the
runtime context 0.3.5, `runtime_context.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sessionscope.store.rules.preview import preview

LIMIT = 800
# ASCII, so that positions are valid in the text itself, and no similar letter of another script matches.
_RESULT = tuple(re.compile(mark, re.IGNORECASE | re.ASCII) for mark in (r"\nresult:\n", r"\nresult:"))
_INSTRUCTION = re.compile(r"summarize this naturally", re.IGNORECASE | re.ASCII)


def message_preview(message: Mapping[str, Any]) -> str:
    """Return at most 120 characters on one line: the preview of a message's content, or of a subagent's report its
    result.
    """
    content = without_runtime_context(message)
    if message.get("injected_event") == "subagent_result" and isinstance(content, str):
        content = scrub_subagent_announce_body(content)
    return preview(content)


def scrub_subagent_announce_body(content: str) -> str:
    """Return what people read of a subagent's report: its header, a blank line, and at most 800 characters of its
    result.

    The task before the result and the instruction after it are for the model. Of a text without a result, it is the
    header, or everything if there is none.
    """
    text = content.replace("\r\n", "\n").strip()
    first = next(iter(text.splitlines()), "")
    header = first.strip() if first.startswith("[Subagent") else ""
    found = next(filter(None, (mark.search(text) for mark in _RESULT)), None)
    if found is None:
        return header or text
    body = _INSTRUCTION.split(text[found.end() :], maxsplit=1)[0].strip()
    if len(body) > LIMIT:
        body = body[: LIMIT - 1].rstrip() + "…"
    return f"{header}\n\n{body}" if header and body else header or body or text


def without_runtime_context(message: Mapping[str, Any]) -> Any:
    """Return a message's content without the context that nanobot 0.3 added after it for the model, if it ends with
    that.

    The row says what was added: the end of a text, or the last blocks of a list. A text that was made a list since is
    looked for at the end of its last block. The row is not changed.
    """
    content, marker = message.get("content"), message.get("_runtime_context")
    if marker is None or not isinstance(marker, Mapping) or marker.get("version") != 1:
        return content
    suffix, blocks = marker.get("suffix"), marker.get("blocks")
    if isinstance(content, str):
        return _without(content, suffix)
    if not isinstance(content, list) or not content:
        return content
    if isinstance(blocks, list) and content[-len(blocks) :] == blocks:
        return content[: -len(blocks)]
    last = content[-1]
    if isinstance(last, dict) and last.get("type") == "text" and isinstance(last.get("text"), str):
        return [*content[:-1], last | {"text": _without(last["text"], suffix)}]
    return content


def _without(text: str, suffix: Any) -> str:
    if not isinstance(suffix, str) or not suffix:
        return text
    return "" if text == suffix else text.removesuffix(f"\n\n{suffix}")
