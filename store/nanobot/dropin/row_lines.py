"""Values and messages as lines of a session's file, or an error that says which value cannot be written."""

from __future__ import annotations

import json
from typing import Any

from sessionscope.store.nanobot.format.file_head import METADATA, PROVIDER_STATE


class Unwritable(TypeError):
    """A value cannot be written as JSON. The text says where it is."""


def line_of(value: Any, place: str) -> bytes:
    """Return a value as a line, as nanobot writes it: NaN and Infinity as they are, since nanobot reads them.

    Half of a surrogate pair, for which UTF-8 has no bytes, is written as the escape that it came from. Raises
    Unwritable with the place of the value that cannot be written.
    """
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unwritable(f"{_where(value, place)} cannot be written: {error}.") from error
    if isinstance(value, (dict, list, tuple)):
        _check_keys(value, place)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"


def row_line(row: Any, at: int) -> bytes:
    """Return the line of a session's row, of which `at` is the index. Raises Unwritable."""
    if not isinstance(row, dict):
        raise Unwritable(f"messages[{at}] cannot be written: a message is a dict.")
    if row.get("_type") in (METADATA, PROVIDER_STATE):
        raise Unwritable(f"messages[{at}]['_type'] cannot be written: whoever reads it would take it for no message.")
    return line_of(row, f"messages[{at}]")


def _inside(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, (list, tuple)) else []


def _check_keys(value: Any, place: str) -> None:
    """Raise Unwritable for keys that would become the same text: JSON has only text for keys."""
    stack = [value]
    for inner in stack:
        if isinstance(inner, dict):
            if not all(type(key) is str for key in inner):
                break
            inner = inner.values()
        stack += [deeper for deeper in inner if isinstance(deeper, (dict, list, tuple))]
    else:
        return
    found = [(value, place)]
    while found:
        inner, at = found.pop()
        if isinstance(inner, dict) and len(json.loads(json.dumps(dict.fromkeys(inner)))) < len(inner):
            raise Unwritable(f"{at} cannot be written: two of its keys are the same in JSON.")
        found += [
            (deeper, f"{at}[{key!r}]") for key, deeper in _inside(inner) if isinstance(deeper, (dict, list, tuple))
        ]


def _where(value: Any, place: str) -> str:
    """Return the innermost place that cannot be written."""
    met: set[int] = set()
    while id(value) not in met:
        met.add(id(value))
        for key, deeper in _inside(value):
            try:
                json.dumps(deeper)
            except RecursionError:
                return place
            except (TypeError, ValueError):
                value, place = deeper, f"{place}[{key!r}]"
                break
    return place
