"""Results for calls that a crash left open, as power-loop's `abort_pending` gives them, but each in its right place."""

from __future__ import annotations

from typing import Any

from sessionscope.store.model.rows import State
from sessionscope.store.powerloop.doctor.edits import Edit
from sessionscope.store.powerloop.doctor.room import Rooms, count_on, make_room
from sessionscope.store.powerloop.read.session_facts import CallFacts, SessionFacts
from sessionscope.store.powerloop.read.tool_call_pairs import awaited, first_free, is_free, open_calls, pair_tool_calls

REASON = "settled by sessionscope"


def settle(facts: SessionFacts, reason: str, now_ms: int) -> tuple[list[Edit], list[str]]:
    """Return the edits that answer all open calls of a session and end its turn, and what they do in words."""
    current_session = [
        (at, first_free(facts, at), calls) for at, calls in open_calls(facts, pair_tool_calls(facts.rows)).items()
    ]
    rooms = Rooms(
        tuple((first, len(calls)) for _, first, calls in current_session if not is_free(facts, first, len(calls)))
    )
    edits, said, highest = make_room(facts, rooms), [], rooms.moved(facts.highest)
    for at, first, calls in current_session:
        start = rooms.start(first)
        edits += [_answer(facts, at, start + place, call, reason, now_ms) for place, call in enumerate(calls)]
        highest = max(highest, start + len(calls) - 1)
        said.append(_said(facts.rows[at].seq, calls))
    if current_session:
        edits += count_on(facts, highest)
        updated = facts.session.get("updated_at")
        edits.append(
            Edit(
                "sessions", facts.key, {"updated_at": max(now_ms, updated if type(updated) is int else 0)}, facts.spot()
            )
        )
    if facts.state is not None and facts.state.get("pending_json"):
        _, more = awaited(facts)
        said.append("The question that it waits for is given up." if more else "It waits for nothing any more.")
        edits.append(Edit("session_state", facts.state_rowid, {"pending_json": None}, facts.spot()))
    return edits, said


def _answer(facts: SessionFacts, at: int, seq: int, call: CallFacts, reason: str, now_ms: int) -> Edit:
    caller = facts.rows[at]
    values: dict[str, Any] = {
        "session_id": facts.stored_id,
        "seq": seq,
        "role": "tool",
        "content": f"<aborted: {reason or REASON}>",
        "tool_call_id": call.id,
        "name": call.name,
        "round_index": caller.round_index,
        "state": State.ACTIVE.value,
        "meta_json": "{}",
        "created_at": now_ms,
    }
    if caller.send_index is not None:
        values["send_index"] = caller.send_index
    return Edit("messages", None, values, facts.spot(caller))


def _said(seq: int, calls: list[CallFacts]) -> str:
    names = ", ".join(str(call.name or call.id or "?")[:40] for call in calls[:5])
    many = "1 call" if len(calls) == 1 else f"{len(calls)} calls"
    return f"{many} of seq {seq} {'is' if len(calls) == 1 else 'are'} answered as aborted: {names}."
