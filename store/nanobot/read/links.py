"""Links of a row: from a call to its result and back, and from a subagent's report to the call that started it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sessionscope.store.model.errors import Cancelled
from sessionscope.store.model.rows import Certainty
from sessionscope.store.nanobot.format.file import OpenFile
from sessionscope.store.nanobot.format.lines import FileOutline
from sessionscope.store.protocols import Cancel
from sessionscope.store.rules.values import Damages, tool_calls

from .record import LONG_ROW_BYTES, decode, plain

NEAR, WHOLE, REACH, BURST = 300, 1 << 17, 2_000_000, 1 << 20
"""How many rows around one are searched, the longest row in bytes that is decoded whole, how many bytes of the file
are read at most, and how many a search reads at once.
"""
_SEARCHED = ("content", "tool_calls", "name")


def value_of(file: OpenFile, outline: FileOutline, seq: int) -> Mapping[str, Any]:
    """Return what is stored of a message or, if it is very long, what its first bytes hold."""
    start, stop = outline.span(outline.row_of(seq))
    whole = stop - start <= WHOLE
    return decode(file.read(start, stop if whole else start + LONG_ROW_BYTES), whole, None).value


def follow(file: OpenFile, outline: FileOutline, seq: int) -> tuple[int, Certainty, str] | None:
    """Return the seq that a row leads to, how that is known, and what it is; None if it leads nowhere."""
    value = value_of(file, outline, seq)
    before = _near(outline, range(seq - 1, max(0, seq - NEAR - 1), -1))
    if value.get("injected_event") == "subagent_result" and value.get("subagent_task_id"):
        return _sender(file, outline, str(value["subagent_task_id"]), before)
    if value.get("role") == "assistant":
        ids = {call.id for call in tool_calls(value.get("tool_calls") or None, Damages()) if call.id}
        after = _near(outline, range(seq + 1, min(outline.messages, seq + NEAR) + 1))
        found = next((at for at in after if _answers(value_of(file, outline, at), ids)), None)
        return (found, Certainty.RECORDED, "the result") if found else None
    if value.get("role") == "tool" and value.get("tool_call_id"):
        found = _call(file, outline, str(value["tool_call_id"]), before)
        return (found, Certainty.RECORDED, "the call") if found else None
    return None


def _near(outline: FileOutline, seqs: range) -> range:
    """Return those seqs whose rows are within reach of the first."""
    if not seqs:
        return seqs
    begin = outline.starts[outline.row_of(seqs[0])]
    far = next((at for at, seq in enumerate(seqs) if abs(outline.starts[outline.row_of(seq)] - begin) > REACH), None)
    return seqs if far is None else seqs[:far]


def _answers(value: Mapping[str, Any], ids: set[str]) -> bool:
    return value.get("role") == "tool" and str(value.get("tool_call_id") or "") in ids


def _call(file: OpenFile, outline: FileOutline, id_: str, before: Iterable[int]) -> int | None:
    for at in before:
        calls = tool_calls(value_of(file, outline, at).get("tool_calls") or None, Damages())
        if any(call.id == id_ for call in calls):
            return at
    return None


def _sender(
    file: OpenFile, outline: FileOutline, task: str, before: Iterable[int]
) -> tuple[int, Certainty, str] | None:
    """Return the row that mentions the task's id. No release records the call itself."""
    for at in before:
        value = value_of(file, outline, at)
        if value.get("role") == "tool" and f"(id: {task})" in plain(value.get("content")):
            called = _call(
                file,
                outline,
                str(value.get("tool_call_id") or ""),
                _near(outline, range(at - 1, max(0, at - NEAR), -1)),
            )
            return called or at, Certainty.INFERRED, "the call that sent the subagent off"
    return None


def find(file: OpenFile, outline: FileOutline, words: str, start: int, forward: bool, cancel: Cancel) -> int | None:
    """Return the seq of the next message from `start` on, or before it, that holds `words` in any case."""
    needle = words.casefold()
    at, step = (max(1, start), 1) if forward else (min(start, outline.messages), -1)
    while 1 <= at <= outline.messages:
        if cancel():
            raise Cancelled("stopped")
        rows = [(at, *outline.span(outline.row_of(at)))]
        while 1 <= at + step <= outline.messages and abs(rows[-1][1] - rows[0][1]) < BURST:
            at += step
            rows.append((at, *outline.span(outline.row_of(at))))
        base = min(row[1] for row in rows)
        data = file.read(base, max(row[2] for row in rows))
        for seq, first, last in rows:
            value = decode(data[first - base : last - base], True, None).value
            if any(needle in plain(value[key]).casefold() for key in _SEARCHED if value.get(key) is not None):
                return seq
        at += step
    return None
