"""The preview of a session: nanobot's rule, kept to the character. Pure.

Source: nanobot 0.2.0, `session/manager.py`, `_text_preview` and `_sanitize_assistant_replay_text`.
"""

from __future__ import annotations

import re
from typing import Any

LIMIT = 120
_TIME = re.compile(r"^\[Message Time: [^\]]+\]\n?")
_NOISE = re.compile(r"^\[image: (?:/|~)[^\]]+\]\s*$|^\s*(?:generate_image|message)\([^)]*\)\s*$")
_SPACE = re.compile(r"\s+")


def text_of(content: Any) -> str:
    """Return the text of a content: itself, or the text blocks of a multimodal list joined by a space, else nothing."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = (block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text")
    return " ".join(text for text in blocks if isinstance(text, str))


def sanitize(content: str) -> str:
    """Return text without time stamp, image breadcrumbs and echoes of tool calls that an assistant may have copied."""
    content = _TIME.sub("", content, count=1)
    return "\n".join(line for line in content.splitlines() if not _NOISE.match(line)).strip()


def preview(content: Any) -> str:
    """Return at most 120 characters on one line, sanitized."""
    line = _SPACE.sub(" ", sanitize(text_of(content))).strip()
    return line if len(line) <= LIMIT else line[: LIMIT - 1].rstrip() + "…"
