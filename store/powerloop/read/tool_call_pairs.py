"""Which result belongs to which tool call of a session, and which calls have none. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from .session_facts import CallFacts, MessageFacts, SessionFacts


class ToolCallPairs(Struct):
    """Tool calls and their results, by the positions of their messages. `orphans` are results without a call."""

    answers: dict[int, CallFacts]
    unanswered: list[CallFacts]
    orphans: list[int]


def pair_tool_calls(rows: Sequence[MessageFacts]) -> ToolCallPairs:
    """Match each result with the latest call before it that has its id, or one without an id with any such call."""
    by_id: dict[str, CallFacts] = {}
    waiting: dict[CallFacts, None] = {}
    nameless: list[CallFacts] = []
    found = ToolCallPairs({}, [], [])
    for at, row in enumerate(rows):
        for place, (id_, name) in enumerate(row.calls):
            call = CallFacts(at, place, id_, name)
            waiting[call] = None
            if id_:
                by_id[id_] = call
            else:
                nameless.append(call)
        if row.role != "tool":
            continue
        call_of = by_id.get(row.answers) if isinstance(row.answers, str) and row.answers else None
        if call_of is None and not row.answers and nameless:
            call_of = nameless.pop(0)
        if call_of is None:
            found.orphans.append(at)
        else:
            found.answers[at] = call_of
            waiting.pop(call_of, None)
    found.unanswered = list(waiting)
    return found


def open_calls(facts: SessionFacts, pairs: ToolCallPairs) -> dict[int, list[CallFacts]]:
    """Return the calls without a result in active messages, by the position of the message."""
    found: dict[int, list[CallFacts]] = {}
    for call in pairs.unanswered:
        if facts.rows[call.row].active:
            found.setdefault(call.row, []).append(call)
    return found


def awaited(facts: SessionFacts) -> tuple[set[str], bool]:
    """Return the call ids that the session's pending value waits for, and whether it also waits for something else."""
    pending = _pending(facts)
    ids = pending.get("tool_call_ids")
    made = pending.get("tool_calls")
    waits = {one for one in ids if isinstance(one, str)} if isinstance(ids, list) else set()
    for one in made if isinstance(made, list) else ():
        if isinstance(one, dict) and isinstance(one.get("id"), str):
            waits.add(one["id"])
    return waits, bool(pending.get("pending_interactions"))


def _pending(facts: SessionFacts) -> dict[str, Any]:
    stored = facts.state.get("pending_json") if facts.state else None
    try:
        value = json.loads(stored) if isinstance(stored, str) and stored else None
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def dumps(value: Any) -> str:
    """Return JSON as power-loop writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def first_free(facts: SessionFacts, at: int) -> int:
    """Return the seq after a message and the results that directly follow it, where results of its calls belong."""
    last = at
    while last + 1 < len(facts.rows) and facts.rows[last + 1].role == "tool":
        last += 1
    return facts.rows[last].seq + 1


def is_free(facts: SessionFacts, first: int, many: int) -> bool:
    """Return whether no message has any of these seqs."""
    taken: Iterable[int] = (row.seq for row in facts.rows)
    return not any(first <= seq < first + many for seq in taken)
