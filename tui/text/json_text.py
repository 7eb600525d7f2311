"""JSON values laid out for reading, as styled text."""

from __future__ import annotations

from typing import Any

from .fitting import one_line
from .visible import visible

Span = tuple[str, str]
"""A text and the name of its style."""
DEEPEST = 60
"""How many levels of nesting are shown. Deeper values are cut."""


def json_spans(value: Any, indent: int = 0) -> list[Span]:
    """Return a JSON value laid out for reading: keys before values, strings with their own line breaks."""
    pad = "  " * indent
    if indent > DEEPEST:
        return [(f"{pad}…\n", "hole")]
    if isinstance(value, dict) and value:
        spans: list[Span] = []
        for key, inner in value.items():
            spans.append((f"{pad}{one_line(str(key))}: ", "dim"))
            spans += _inner(inner, indent)
        return spans
    if isinstance(value, list) and value:
        spans = []
        for inner in value:
            spans.append((f"{pad}- ", "dim"))
            spans += _inner(inner, indent)
        return spans
    return [(f"{pad}{_scalar(value)}\n", "")]


def _inner(value: Any, indent: int) -> list[Span]:
    if isinstance(value, (dict, list)) and value:
        return [("\n", ""), *json_spans(value, indent + 1)]
    text = _scalar(value)
    if "\n" not in text:
        return [(f"{text}\n", "")]
    pad = "  " * (indent + 1)
    return [("\n", ""), ("".join(f"{pad}{line}\n" for line in text.split("\n")), "")]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return visible(value, newlines=True)
    # Rarely needed, and nothing else loads it at the start.
    import json

    return visible(json.dumps(value, ensure_ascii=False, default=str))
