"""Checks of the tool calls of a session, their results, and the turn that waits for them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sessionscope.store.model import wording
from sessionscope.store.model.findings import Choice, Severity
from sessionscope.store.model.outline import runs_of
from sessionscope.store.model.rows import State
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.read.session_facts import MessageFacts, SessionFacts, troubles
from sessionscope.store.powerloop.read.tool_call_pairs import awaited, dumps, is_free, open_calls, pair_tool_calls

from .check_results import CheckResult, check_result, named_seqs
from .edits import Edit
from .room import Rooms, count_on, make_room


def calls_and_results(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    pairs = pair_tool_calls(facts.rows)
    back = {seq for first, last in facts.audit.unexplained for seq in range(first, last + 1)}
    waits, _ = awaited(facts)
    groups: dict[int, list[MessageFacts]] = {}
    for at, call in pairs.answers.items():
        groups.setdefault(call.row, [facts.rows[call.row]]).append(facts.rows[at])
    for group in groups.values():
        gone = [row for row in group if row.state == State.COMPACTED.value and row.seq not in back]
        if gone and any(row.active or row.seq in back for row in group):
            named = named_seqs(runs_of(sorted(row.seq for row in gone)))
            what = "results without their call" if gone[0] is group[0] else "a call without all of its results"
            yield check_result(
                "split-pair",
                Severity.WARNING,
                facts.spot(group[0]),
                f"The context holds {what}: {named} left it.",
                choices={
                    Choice("reactivate", f"bring {named} back into the context"): [
                        Edit("messages", row.rowid, {"state": State.ACTIVE.value}, facts.spot(row)) for row in gone
                    ]
                },
            )
    for at in pairs.orphans:
        yield _orphan_result(facts, facts.rows[at])
    for at, calls in open_calls(facts, pairs).items():
        left = [call for call in calls if call.id not in waits]
        if left:
            names = [call.name or call.id or "?" for call in left]
            yield check_result(
                "unanswered-calls",
                Severity.WARNING,
                facts.spot(facts.rows[at]),
                wording.unanswered_calls(names),
            )


def _orphan_result(facts: SessionFacts, row: MessageFacts) -> CheckResult:
    place = facts.spot(row)
    message = f"It is the result of a call {str(row.answers)[:40]!r} that no row before it makes."
    if not row.answers:
        message = "It is the result of a call, but does not say of which, and none waits for one."
    if not row.active or not isinstance(row.answers, str) or not row.answers:
        return check_result("orphan-result", Severity.WARNING if row.active else Severity.INFO, place, message)
    free = row.seq > 1 and is_free(facts, row.seq - 1, 1)
    rooms = Rooms(() if free else ((row.seq, 1),))
    moves = [*make_room(facts, rooms), *count_on(facts, rooms.moved(facts.highest))]
    call = {
        "id": row.answers,
        "type": "function",
        "function": {"name": row.name if isinstance(row.name, str) and row.name else "unknown", "arguments": "{}"},
    }
    values = {
        "session_id": facts.stored_id,
        "seq": row.seq - 1 if free else row.seq,
        "role": "assistant",
        "content": "",
        "tool_calls_json": dumps([call]),
        "round_index": row.round_index,
        "state": State.ACTIVE.value,
        "meta_json": "{}",
        "created_at": row.created_at,
    }
    values |= {"send_index": row.send_index} if row.send_index is not None else {}
    return check_result(
        "orphan-result",
        Severity.WARNING,
        place,
        message,
        choices={
            Choice("insert-call", "put an empty call before it, so that every release can send it"): [
                *moves,
                Edit("messages", None, values, place),
            ]
        },
    )


def pending(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    stored = facts.state.get("pending_json") if facts.state else None
    if not stored or facts.state_rowid is None or troubles({"pending_json": stored}, ("pending_json",)) != ((), ()):
        return
    place = facts.spot()
    waits, more = awaited(facts)
    clear = [Edit("session_state", facts.state_rowid, {"pending_json": None}, place)]
    pairs = pair_tool_calls(facts.rows)
    unanswered = {call.id for call in pairs.unanswered}
    nameless = any(call.id is None for calls in open_calls(facts, pairs).values() for call in calls)
    if more or waits & unanswered or (not waits and nameless):
        many = len(waits & unanswered)
        what = f"{many} {'call' if many == 1 else 'calls'}" if many else "an answer"
        yield check_result(
            "open-turn",
            Severity.INFO,
            place,
            wording.open_turn(f"it waits for {what}"),
        )
    elif not waits or waits <= {id_ for row in facts.rows for id_, _ in row.calls}:
        yield check_result(
            "pending-answered",
            Severity.ERROR,
            place,
            "Its bookkeeping waits for calls, but all of them are answered: power-loop refuses to go on.",
            "It waits for nothing any more.",
            clear,
        )
    else:
        yield check_result(
            "pending-unknown",
            Severity.ERROR,
            place,
            "Its bookkeeping waits for calls that no message makes: power-loop refuses to go on.",
            choices={Choice("clear", "wait for nothing any more"): clear},
        )
