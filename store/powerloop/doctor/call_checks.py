"""Checks of a session's tool calls, their results, and the turn that waits for them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sessionscope.store.model import wording
from sessionscope.store.model.findings import Choice, Severity
from sessionscope.store.model.outline import runs_of
from sessionscope.store.model.rows import State
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.read.session_facts import MessageFacts, SessionFacts, json_problems
from sessionscope.store.powerloop.read.tool_call_pairs import (
    ToolCallPairs,
    awaited,
    dumps,
    is_free,
    open_calls,
    pair_tool_calls,
)

from .check_results import CheckResult, check_result, named_seqs
from .edits import Edit
from .room import Rooms, count_on, make_room

SHOWN_CHARS = 40
"""How many characters of a call's name or id a finding shows."""


def calls_and_results(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    """Check that calls and results come in pairs, and that both of a pair are in the context or neither is."""
    pairs = pair_tool_calls(facts.rows)
    yield from _split_pairs(facts, pairs)
    for index in pairs.orphan_results:
        yield _orphan_result(facts, facts.rows[index])
    yield from _unanswered_calls(facts, pairs)


def _split_pairs(facts: SessionFacts, pairs: ToolCallPairs) -> Iterator[CheckResult]:
    """Find messages with calls of which only they, or only some of their results, are in the context."""
    # The fix of "fold-unrecorded" makes these active again, so here they count as active.
    unexplained = {seq for first, last in facts.audit.unexplained for seq in range(first, last + 1)}
    groups: dict[int, list[MessageFacts]] = {}
    for result_index, call in pairs.calls_by_result.items():
        group = groups.setdefault(call.message_index, [facts.rows[call.message_index]])
        group.append(facts.rows[result_index])
    for group in groups.values():
        compacted = [row for row in group if row.state == State.COMPACTED.value and row.seq not in unexplained]
        if not compacted or not any(row.active or row.seq in unexplained for row in group):
            continue
        caller = group[0]
        seqs = named_seqs(runs_of(sorted(row.seq for row in compacted)))
        held = "results without their call" if compacted[0] is caller else "a call without all of its results"
        yield check_result(
            "split-pair",
            Severity.WARNING,
            facts.spot(caller),
            f"The context holds {held}: {seqs} left it.",
            choices={
                Choice("reactivate", f"bring {seqs} back into the context"): [
                    Edit("messages", row.rowid, {"state": State.ACTIVE.value}, facts.spot(row)) for row in compacted
                ]
            },
        )


def _unanswered_calls(facts: SessionFacts, pairs: ToolCallPairs) -> Iterator[CheckResult]:
    """Find calls without a result in active messages, except those that the pending turn waits for."""
    awaited_ids, _ = awaited(facts)
    for index, calls in open_calls(facts, pairs).items():
        abandoned = [call for call in calls if call.id not in awaited_ids]
        if not abandoned:
            continue
        yield check_result(
            "unanswered-calls",
            Severity.WARNING,
            facts.spot(facts.rows[index]),
            wording.unanswered_calls([call.name or call.id or "?" for call in abandoned]),
        )


def _orphan_result(facts: SessionFacts, row: MessageFacts) -> CheckResult:
    """Return the finding about a result without a call; if it is active and names its call, with a choice."""
    spot = facts.spot(row)
    message = f"It is the result of a call {str(row.tool_call_id)[:SHOWN_CHARS]!r} that no row before it makes."
    if not row.tool_call_id:
        message = "It is the result of a call, but does not say of which, and none waits for one."
    if not row.active:
        return check_result("orphan-result", Severity.INFO, spot, message)
    if not isinstance(row.tool_call_id, str) or not row.tool_call_id:
        return check_result("orphan-result", Severity.WARNING, spot, message)
    choice = Choice("insert-call", "put an empty call before it, so that every release can send it")
    return check_result(
        "orphan-result", Severity.WARNING, spot, message, choices={choice: _insert_call_before(facts, row)}
    )


def _insert_call_before(facts: SessionFacts, row: MessageFacts) -> list[Edit]:
    """Return the edits that insert a message with an empty call before a result, moving later messages if needed."""
    seq_before_is_free = row.seq > 1 and is_free(facts, row.seq - 1, 1)
    rooms = Rooms(() if seq_before_is_free else ((row.seq, 1),))
    moves = [*make_room(facts, rooms), *count_on(facts, rooms.moved(facts.highest))]
    call = {
        "id": row.tool_call_id,
        "type": "function",
        "function": {"name": row.name if isinstance(row.name, str) and row.name else "unknown", "arguments": "{}"},
    }
    values = {
        "session_id": facts.stored_id,
        "seq": row.seq - 1 if seq_before_is_free else row.seq,
        "role": "assistant",
        "content": "",
        "tool_calls_json": dumps([call]),
        "round_index": row.round_index,
        "state": State.ACTIVE.value,
        "meta_json": "{}",
        "created_at": row.created_at,
    }
    if row.send_index is not None:
        values["send_index"] = row.send_index
    return [*moves, Edit("messages", None, values, facts.spot(row))]


def pending(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    """Check that the calls which the session's bookkeeping waits for exist and have no result yet."""
    stored = facts.state.get("pending_json") if facts.state else None
    if not stored or facts.state_rowid is None:
        return
    if json_problems({"pending_json": stored}, ("pending_json",)) != ((), ()):
        return
    awaited_ids, waits_for_more = awaited(facts)
    pairs = pair_tool_calls(facts.rows)
    open_count = len(awaited_ids & {call.id for call in pairs.unanswered})
    waits_without_id = not awaited_ids and any(
        call.id is None for calls in open_calls(facts, pairs).values() for call in calls
    )
    if waits_for_more or open_count or waits_without_id:
        yield _open_turn(facts, open_count)
        return
    clear = [Edit("session_state", facts.state_rowid, {"pending_json": None}, facts.spot())]
    made_ids = {id_ for row in facts.rows for id_, _ in row.calls}
    if awaited_ids <= made_ids:
        yield check_result(
            "pending-answered",
            Severity.ERROR,
            facts.spot(),
            "Its bookkeeping waits for calls, but all of them are answered: power-loop refuses to go on.",
            "It waits for nothing any more.",
            clear,
        )
    else:
        yield check_result(
            "pending-unknown",
            Severity.ERROR,
            facts.spot(),
            "Its bookkeeping waits for calls that no message makes: power-loop refuses to go on.",
            choices={Choice("clear", "wait for nothing any more"): clear},
        )


def _open_turn(facts: SessionFacts, open_count: int) -> CheckResult:
    """Return the finding about a turn that waits for `open_count` calls, or for another answer if that is 0."""
    awaited_in_words = "an answer"
    if open_count:
        awaited_in_words = "1 call" if open_count == 1 else f"{open_count} calls"
    return check_result(
        "open-turn",
        Severity.INFO,
        facts.spot(),
        wording.open_turn(f"it waits for {awaited_in_words}"),
    )
