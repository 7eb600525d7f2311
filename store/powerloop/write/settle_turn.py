"""Results for tool calls that a crash left unanswered, as power-loop's `abort_pending` writes them.

Unlike `abort_pending`, each result gets a seq directly after the message that made the call.
"""

from __future__ import annotations

from typing import Any

from sessionscope.store.model.rows import State
from sessionscope.store.powerloop.doctor.edits import Edit
from sessionscope.store.powerloop.doctor.room import Rooms, count_on, make_room
from sessionscope.store.powerloop.read.session_facts import CallFacts, SessionFacts
from sessionscope.store.powerloop.read.tool_call_pairs import awaited, first_free, is_free, open_calls, pair_tool_calls

REASON = "settled by sessionscope"
"""The reason that a result gives if the action has none."""
SHOWN_CALLS = 5
"""How many calls of one message a sentence names."""
SHOWN_CHARS = 40
"""To how many characters the name of a call is cut."""


def settle(facts: SessionFacts, reason: str, now_ms: int) -> tuple[list[Edit], list[str]]:
    """Return the edits that answer all open calls of a session and end its turn, and a sentence for each part."""
    unanswered = [
        (index, first_free(facts, index), calls)
        for index, calls in open_calls(facts, pair_tool_calls(facts.rows)).items()
    ]
    rooms = Rooms(tuple((seq, len(calls)) for _, seq, calls in unanswered if not is_free(facts, seq, len(calls))))
    edits = make_room(facts, rooms)
    sentences = []
    highest_seq = rooms.moved(facts.highest)
    for index, seq, calls in unanswered:
        first_seq = rooms.start(seq)
        for offset, call in enumerate(calls):
            edits.append(_result(facts, index, first_seq + offset, call, reason, now_ms))
        highest_seq = max(highest_seq, first_seq + len(calls) - 1)
        sentences.append(_answered_sentence(facts.rows[index].seq, calls))
    if unanswered:
        edits += count_on(facts, highest_seq)
        edits.append(_touch_session(facts, now_ms))
    if facts.state is not None and facts.state.get("pending_json"):
        _, awaits_more_than_calls = awaited(facts)
        if awaits_more_than_calls:
            sentences.append("The question that it waits for is given up.")
        else:
            sentences.append("It waits for nothing any more.")
        edits.append(Edit("session_state", facts.state_rowid, {"pending_json": None}, facts.spot()))
    return edits, sentences


def _result(facts: SessionFacts, index: int, seq: int, call: CallFacts, reason: str, now_ms: int) -> Edit:
    """Return the edit that inserts the result of a call; `index` is the position of the message with the call."""
    caller = facts.rows[index]
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


def _touch_session(facts: SessionFacts, now_ms: int) -> Edit:
    """Return the edit that sets `updated_at` to `now_ms`, unless it is later already."""
    stored = facts.session.get("updated_at")
    updated_at = max(now_ms, stored if type(stored) is int else 0)
    return Edit("sessions", facts.key, {"updated_at": updated_at}, facts.spot())


def _answered_sentence(seq: int, calls: list[CallFacts]) -> str:
    names = ", ".join(str(call.name or call.id or "?")[:SHOWN_CHARS] for call in calls[:SHOWN_CALLS])
    if len(calls) == 1:
        return f"1 call of seq {seq} is answered as aborted: {names}."
    return f"{len(calls)} calls of seq {seq} are answered as aborted: {names}."
