"""Pairs of tool calls and their results in a session, and the calls without a result. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from .session_facts import CallFacts, MessageFacts, SessionFacts


class ToolCallPairs(Struct):
    """Tool calls and their results. Results are named by the positions of their messages."""

    calls_by_result: dict[int, CallFacts]
    """The call of each result."""
    unanswered: list[CallFacts]
    """The calls without a result."""
    orphan_results: list[int]
    """The results without a call."""


def pair_tool_calls(rows: Sequence[MessageFacts]) -> ToolCallPairs:
    """Match each result with the latest call before it that has its id.

    A result without an id belongs to the oldest call without an id that has no result yet.
    """
    latest_by_id: dict[str, CallFacts] = {}
    without_id: deque[CallFacts] = deque()
    unanswered: dict[CallFacts, None] = {}
    calls_by_result: dict[int, CallFacts] = {}
    orphan_results: list[int] = []
    for index, row in enumerate(rows):
        for call_index, (id_, name) in enumerate(row.calls):
            made_call = CallFacts(index, call_index, id_, name)
            unanswered[made_call] = None
            if id_:
                latest_by_id[id_] = made_call
            else:
                without_id.append(made_call)
        if row.role != "tool":
            continue
        call: CallFacts | None = None
        if not row.tool_call_id:
            call = without_id.popleft() if without_id else None
        elif isinstance(row.tool_call_id, str):
            call = latest_by_id.get(row.tool_call_id)
        if call is None:
            orphan_results.append(index)
        else:
            calls_by_result[index] = call
            unanswered.pop(call, None)
    return ToolCallPairs(calls_by_result, list(unanswered), orphan_results)


def open_calls(facts: SessionFacts, pairs: ToolCallPairs) -> dict[int, list[CallFacts]]:
    """Return the calls without a result in active messages, by the position of the message."""
    calls_by_message: dict[int, list[CallFacts]] = {}
    for call in pairs.unanswered:
        if facts.rows[call.message_index].active:
            calls_by_message.setdefault(call.message_index, []).append(call)
    return calls_by_message


def awaited(facts: SessionFacts) -> tuple[set[str], bool]:
    """Return the call ids that the session's pending value waits for, and whether it also waits for something else."""
    pending = _pending(facts)
    call_ids: set[str] = set()
    stored_ids = pending.get("tool_call_ids")
    if isinstance(stored_ids, list):
        call_ids.update(id_ for id_ in stored_ids if isinstance(id_, str))
    stored_calls = pending.get("tool_calls")
    if isinstance(stored_calls, list):
        for call in stored_calls:
            if isinstance(call, dict) and isinstance(call.get("id"), str):
                call_ids.add(call["id"])
    return call_ids, bool(pending.get("pending_interactions"))


def _pending(facts: SessionFacts) -> dict[str, Any]:
    """Return the session's pending value, an empty one if it has none or an invalid one."""
    stored = facts.state.get("pending_json") if facts.state else None
    if not stored or not isinstance(stored, str):
        return {}
    try:
        value = json.loads(stored)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def dumps(value: Any) -> str:
    """Return JSON as power-loop writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def first_free(facts: SessionFacts, index: int) -> int:
    """Return the seq after the message at `index` and the results that directly follow it: where its results belong."""
    last = index
    while last + 1 < len(facts.rows) and facts.rows[last + 1].role == "tool":
        last += 1
    return facts.rows[last].seq + 1


def is_free(facts: SessionFacts, first: int, count: int) -> bool:
    """Return whether no message has any of the `count` seqs from `first` on."""
    return not any(first <= row.seq < first + count for row in facts.rows)
