"""The lines of a session file as nanobot writes them, and the error for a value that no line can hold."""

from __future__ import annotations

import json
from typing import Any

from sessionscope.store.nanobot.format.file_head import METADATA, PROVIDER_STATE


class Unwritable(TypeError):
    """A value cannot be written as JSON. The text says which one, as a path such as `messages[3]['content']`."""


def line_of(value: Any, path: str) -> bytes:
    """Return a value as a line, as nanobot writes it. `path` names the value in an error.

    NaN and Infinity are written as such, since nanobot reads them. Half of a surrogate pair has no bytes in UTF-8, so
    it is written as the escape that it came from. Raises Unwritable.
    """
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unwritable(f"{_unwritable_path(value, path)} cannot be written: {error}.") from error
    if isinstance(value, (dict, list, tuple)):
        _check_keys(value, path)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"


def row_line(row: Any, index: int) -> bytes:
    """Return the line of a session's row. `index` is its position in `messages`. Raises Unwritable."""
    if not isinstance(row, dict):
        raise Unwritable(f"messages[{index}] cannot be written: a message is a dict.")
    if row.get("_type") in (METADATA, PROVIDER_STATE):
        raise Unwritable(
            f"messages[{index}]['_type'] cannot be written: whoever reads it would take it for no message."
        )
    return line_of(row, f"messages[{index}]")


def _members(value: Any) -> list[tuple[Any, Any]]:
    """Return the keys or indexes of a container with their values; empty for any other value."""
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, (list, tuple)) else []


def _check_keys(value: Any, path: str) -> None:
    """Raise Unwritable if two keys of one dict are the same in JSON, where every key is text."""
    if not _has_other_keys_than_text(value):
        return
    containers = [(value, path)]
    while containers:
        container, container_path = containers.pop()
        if isinstance(container, dict) and len(json.loads(json.dumps(dict.fromkeys(container)))) < len(container):
            raise Unwritable(f"{container_path} cannot be written: two of its keys are the same in JSON.")
        containers += [
            (member, f"{container_path}[{key!r}]")
            for key, member in _members(container)
            if isinstance(member, (dict, list, tuple))
        ]


def _has_other_keys_than_text(value: Any) -> bool:
    # The list grows while it is iterated. Every saved row is checked, so no paths are made here.
    containers = [value]
    for container in containers:
        if isinstance(container, dict):
            if not all(type(key) is str for key in container):
                return True
            container = container.values()
        containers += [member for member in container if isinstance(member, (dict, list, tuple))]
    return False


def _unwritable_path(value: Any, path: str) -> str:
    """Return the path of the innermost value that cannot be written."""
    seen_ids: set[int] = set()
    while id(value) not in seen_ids:
        seen_ids.add(id(value))
        for key, member in _members(value):
            try:
                json.dumps(member)
            except RecursionError:
                return path
            except (TypeError, ValueError):
                value, path = member, f"{path}[{key!r}]"
                break
    return path
