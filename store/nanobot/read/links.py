"""Links between messages: from a call to its result and back, and from a subagent's report to the call that sent it."""

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

MAX_NEAR_MESSAGES = 300
"""How many messages before or after a message are searched for the other end of its link."""
MAX_NEAR_BYTES = 2_000_000
"""How far from the first of them a searched message may begin."""
WHOLE_ROW_BYTES = 1 << 17
"""A row of at most so many bytes is decoded whole."""
BURST_BYTES = 1 << 20
"""About how many bytes a text search reads at once."""
_SEARCHED_MEMBERS = ("content", "tool_calls", "name")


def value_of(file: OpenFile, outline: FileOutline, seq: int) -> Mapping[str, Any]:
    """Return the members of a message. If it is very long, only those in its first bytes."""
    start, stop = outline.span(outline.row_of(seq))
    complete = stop - start <= WHOLE_ROW_BYTES
    return decode(file.read(start, stop if complete else start + LONG_ROW_BYTES), complete).value


def follow(file: OpenFile, outline: FileOutline, seq: int) -> tuple[int, Certainty, str] | None:
    """Return where the link of a message leads, or None if it has none.

    It is the seq of the other message, how that is known, and what that message is, in words.
    """
    value = value_of(file, outline, seq)
    role = value.get("role")
    if value.get("injected_event") == "subagent_result" and value.get("subagent_task_id"):
        return _subagent_call(file, outline, str(value["subagent_task_id"]), seq)
    if role == "assistant":
        call_ids = {call.id for call in tool_calls(value.get("tool_calls") or None, Damages()) if call.id}
        result_seq = _find_result(file, outline, call_ids, seq)
        return (result_seq, Certainty.RECORDED, "the result") if result_seq is not None else None
    if role == "tool" and value.get("tool_call_id"):
        call_seq = _find_call(file, outline, str(value["tool_call_id"]), _seqs_before(outline, seq, MAX_NEAR_MESSAGES))
        return (call_seq, Certainty.RECORDED, "the call") if call_seq is not None else None
    return None


def _seqs_before(outline: FileOutline, seq: int, count: int) -> range:
    """Return the `count` seqs before a message, descending, as far as they are near."""
    return _near(outline, range(seq - 1, max(0, seq - count - 1), -1))


def _seqs_after(outline: FileOutline, seq: int, count: int) -> range:
    """Return the `count` seqs after a message, as far as they are near."""
    return _near(outline, range(seq + 1, min(outline.messages, seq + count) + 1))


def _near(outline: FileOutline, seqs: range) -> range:
    """Return the first seqs, up to one whose row begins too far from the first row."""
    if not seqs:
        return seqs
    first_start = outline.starts[outline.row_of(seqs[0])]
    for index, seq in enumerate(seqs):
        if abs(outline.starts[outline.row_of(seq)] - first_start) > MAX_NEAR_BYTES:
            return seqs[:index]
    return seqs


def _find_result(file: OpenFile, outline: FileOutline, call_ids: set[str], seq: int) -> int | None:
    """Return the seq of the first message after `seq` that is a result of one of the calls."""
    for near_seq in _seqs_after(outline, seq, MAX_NEAR_MESSAGES):
        value = value_of(file, outline, near_seq)
        if value.get("role") == "tool" and str(value.get("tool_call_id") or "") in call_ids:
            return near_seq
    return None


def _find_call(file: OpenFile, outline: FileOutline, call_id: str, seqs: Iterable[int]) -> int | None:
    """Return the first of the seqs whose message makes the call."""
    for seq in seqs:
        calls = tool_calls(value_of(file, outline, seq).get("tool_calls") or None, Damages())
        if any(call.id == call_id for call in calls):
            return seq
    return None


def _subagent_call(file: OpenFile, outline: FileOutline, task_id: str, seq: int) -> tuple[int, Certainty, str] | None:
    """Return the call that sent a subagent, or else its result.

    No release stores which call it was, but its result names the id of the task.
    """
    for result_seq in _seqs_before(outline, seq, MAX_NEAR_MESSAGES):
        value = value_of(file, outline, result_seq)
        if value.get("role") == "tool" and f"(id: {task_id})" in plain(value.get("content")):
            call_id = str(value.get("tool_call_id") or "")
            call_seq = _find_call(file, outline, call_id, _seqs_before(outline, result_seq, MAX_NEAR_MESSAGES - 1))
            return call_seq or result_seq, Certainty.INFERRED, "the call that sent the subagent off"
    return None


def find(file: OpenFile, outline: FileOutline, words: str, start: int, forward: bool, cancel: Cancel) -> int | None:
    """Return the seq of the first message from `start` on, up or down, that contains `words` in any case.

    Raises Cancelled.
    """
    needle = words.casefold()
    seq, step = (max(1, start), 1) if forward else (min(start, outline.messages), -1)
    while 1 <= seq <= outline.messages:
        if cancel():
            raise Cancelled("stopped")
        rows = _burst(outline, seq, step)
        data_start = min(row_start for _, row_start, _ in rows)
        data = file.read(data_start, max(row_stop for _, _, row_stop in rows))
        for row_seq, row_start, row_stop in rows:
            value = decode(data[row_start - data_start : row_stop - data_start]).value
            if _contains(value, needle):
                return row_seq
        seq += step * len(rows)
    return None


def _burst(outline: FileOutline, seq: int, step: int) -> list[tuple[int, int, int]]:
    """Return the rows from a seq on that are read at once, as (seq, start, stop)."""
    first_start, stop = outline.span(outline.row_of(seq))
    rows = [(seq, first_start, stop)]
    seq += step
    while 1 <= seq <= outline.messages and abs(rows[-1][1] - first_start) < BURST_BYTES:
        rows.append((seq, *outline.span(outline.row_of(seq))))
        seq += step
    return rows


def _contains(value: Mapping[str, Any], needle: str) -> bool:
    for key in _SEARCHED_MEMBERS:
        member = value.get(key)
        if member is not None and needle in plain(member).casefold():
            return True
    return False
