"""Rows of the store as JSON: the keys that a headless verb promises, written as they come, in one document."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from types import TracebackType
from typing import Any, TextIO

from sessionscope.store import Archived, Compaction, Count, Message, State, TimelineRow, ToolCall

from .reading import SessionNode

DEEPEST = 100
_ASCII = json.JSONEncoder(allow_nan=False).encode
_UNICODE = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Document:
    """One JSON object with lists, on a stream, as a context manager. Items are written at once, in pure ASCII."""

    def __init__(self, out: TextIO, name: str) -> None:
        self._out, self._name, self._empty = out, name, True

    def __enter__(self) -> Document:
        self._out.write(f'{{"{self._name}": [')
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._out.write("]}\n" if self._empty else "\n]}\n")

    def begin(self, name: str) -> None:
        """End the list and begin another."""
        self._out.write(("]" if self._empty else "\n]") + f', "{name}": [')
        self._empty = True

    def add(self, item: dict[str, Any]) -> None:
        """Write an item. A value that is an iterator of texts is written as one string, piece by piece."""
        self._out.write("\n" if self._empty else ",\n")
        self._empty = False
        if not any(isinstance(value, Iterator) for value in item.values()):
            self._out.write(dumps(item))
            return
        mark = "{"
        for key, value in item.items():
            self._out.write(f'{mark}"{key}": ')
            mark = ", "
            if not isinstance(value, Iterator):
                self._out.write(dumps(value))
                continue
            self._out.write('"')
            for piece in value:
                self._out.write(dumps(piece)[1:-1])
            self._out.write('"')
        self._out.write("}")


def dumps(value: Any, ascii_only: bool = True) -> str:
    """Return a value as strict JSON, whatever it holds."""
    encode = _ASCII if ascii_only else _UNICODE
    try:
        text = encode(value)
    except (ValueError, RecursionError):
        text = encode(_tamed(value, DEEPEST))
    # The one control character that JSON does not escape.
    return text.replace("\x7f", "\\u007f")


def _tamed(value: Any, depth: int) -> Any:
    """Return what JSON can hold: NaN, infinities, and what is nested too deeply become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (dict, list)) and not depth:
        return "…"
    if isinstance(value, dict):
        return {key: _tamed(inner, depth - 1) for key, inner in value.items()}
    return [_tamed(inner, depth - 1) for inner in value] if isinstance(value, list) else value


def moment(ms: int | None) -> str | None:
    """Return epoch milliseconds as ISO 8601 in UTC, None if that is no time."""
    if ms is None:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return None


def session(node: SessionNode) -> dict[str, Any]:
    """Return a session as `ls` promises it."""
    summary = node.summary
    return {
        "ref": str(summary.ref),
        "id": summary.ref.id,
        "layout": summary.ref.layout,
        "file": summary.ref.file,
        "parent_id": summary.parent_id,
        "kind": summary.kind or None,
        "lifecycle": summary.lifecycle or None,
        "status": summary.status or None,
        "depth": node.depth,
        "group": summary.group,
        "title": summary.title,
        "preview": summary.preview,
        "message_count": _exactly(summary.message_count),
        "active_count": _exactly(summary.active_count),
        "compaction_count": summary.compaction_count,
        "created_at": moment(summary.created_at),
        "updated_at": moment(summary.updated_at),
    }


def _exactly(count: Count) -> int | None:
    return count.value if count.exact else None


def state_name(state: str) -> str:
    """Return what our JSON calls a state of a message: power-loop's own word for compacted is only in its files."""
    return "compacted" if state == State.COMPACTED else state


def message(row: TimelineRow, pieces: Iterator[Message]) -> dict[str, Any]:
    """Return a row of a timeline as `show` promises it.

    `pieces` are its message, and more of its content if there is any.
    """
    first_piece = next(pieces, None)
    if first_piece is None:
        name = f"{row.hole[0]}-{row.hole[1]}" if row.hole else row.row
        return {
            "row": name,
            "seq": row.seq,
            "role": row.role or None,
            "state": state_name(row.state),
            "content": None,
            "name": row.name,
            "tool_calls": [],
            "tool_call_id": row.tool_call_id,
            "round_index": row.round_index,
            "created_at": moment(row.created_at),
            "damage": list(row.damage) or None,
        }
    damage = list(first_piece.damage)
    if first_piece.created_at is not None and moment(first_piece.created_at) is None:
        damage.append("created_at is no possible time")
    return {
        "row": first_piece.row,
        "seq": first_piece.seq,
        "role": first_piece.role,
        "state": state_name(first_piece.state),
        "content": _content(first_piece, pieces),
        "name": first_piece.name,
        "tool_calls": [_call(call) for call in first_piece.tool_calls],
        "tool_call_id": first_piece.tool_call_id,
        "round_index": first_piece.round_index,
        "created_at": moment(first_piece.created_at),
        "damage": damage or None,
    }


def _content(first_piece: Message, pieces: Iterator[Message]) -> Any:
    if first_piece.parts is not None or first_piece.content is None:
        return first_piece.parts
    if first_piece.stop >= first_piece.size:
        return first_piece.content
    return (piece.content or "" for piece in chain([first_piece], pieces))


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "name": call.name, "arguments": call.arguments}


def archived(entry: Archived) -> dict[str, Any]:
    """Return a summary from the log next to the sessions.

    `of_session` is whether the log says that it is of this one.
    """
    return {
        "number": entry.number,
        "content": entry.text,
        "of_session": entry.of_this_session,
        "created_at": moment(entry.created_at),
        "damage": list(entry.damage) or None,
    }


def compaction_record(compaction: Compaction) -> dict[str, Any]:
    """Return a compaction as `compactions` promises it. Counts are rows, figures are tokens."""
    return {
        "number": compaction.number,
        "from_seq": compaction.from_seq,
        "to_seq": compaction.to_seq,
        "rows": compaction.rows,
        "note_seq": compaction.note_seq,
        "before_tokens": compaction.before_tokens,
        "after_tokens": compaction.after_tokens,
        "tokens_are": compaction.tokens_are,
        "set_is": compaction.set_is,
        "undone": compaction.undone,
    }
