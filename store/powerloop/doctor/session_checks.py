"""What may be wrong with a session's bookkeeping, its values and its messages. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sessionscope.store.model.findings import Choice, Severity
from sessionscope.store.model.outline import gaps, runs_of, size
from sessionscope.store.model.rows import Spot, State
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.read.session_facts import MessageFacts, SessionFacts, json_problems
from sessionscope.store.powerloop.read.tool_call_pairs import dumps

from .check_results import CheckResult, check_result, count_rows
from .edits import Edit

_STATUSES, _KINDS = ("active", "archived"), ("root", "subagent")
_LIFECYCLES = ("ephemeral", "linked", "detached")


def bookkeeping(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    place, highest = facts.spot(), facts.highest
    numbers = [audit_row.number for audit_row in facts.audit_rows if type(audit_row.number) is int]
    audit_rows = max(numbers, default=0)
    if facts.state is None or facts.state_rowid is None:
        rounds = max((row.round_index for row in facts.rows if type(row.round_index) is int), default=0)
        values = {"session_id": facts.stored_id, "next_seq": highest + 1}
        for column, value in (("round_index", rounds), ("last_compact_seq", audit_rows)):
            values |= {column: value} if layout.has("session_state", column) else {}
        yield check_result(
            "state-missing",
            Severity.ERROR,
            place,
            "Its bookkeeping is missing, so power-loop takes no message for it and says that the session is unknown.",
            "The bookkeeping is made from what the session holds.",
            [Edit("session_state", None, values, place)],
        )
        return
    next_seq = facts.state["next_seq"]
    if type(next_seq) is not int or next_seq <= highest:
        yield check_result(
            "next-seq-behind",
            Severity.ERROR,
            place,
            f"The next message would get seq {next_seq}, but there "
            f"is one with seq {highest} already: every append fails.",
            f"The next message gets seq {highest + 1}.",
            [Edit("session_state", facts.state_rowid, {"next_seq": highest + 1}, place)],
        )
    last = facts.state.get("last_compact_seq", audit_rows)
    if type(last) is not int or last < audit_rows:
        yield check_result(
            "compact-seq-behind",
            Severity.ERROR,
            place,
            f"Its bookkeeping counts {last} compactions, but "
            f"there is one with number {audit_rows} already: the next compaction fails.",
            f"The next one gets number {audit_rows + 1}.",
            [Edit("session_state", facts.state_rowid, {"last_compact_seq": audit_rows}, place)],
        )
    elif last > audit_rows:
        yield check_result(
            "compact-seq-ahead",
            Severity.INFO,
            place,
            f"Its bookkeeping counts {last} compactions, and the "
            f"audit knows of {audit_rows}; numbers are not used twice, so nothing fails.",
        )


def values(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    yield from _json(facts, "sessions", facts.key, facts.session, ("config_json", "metadata_json"), "{}")
    if facts.state is not None and facts.state_rowid is not None:
        yield from _json(facts, "session_state", facts.state_rowid, facts.state, ("pending_json",), None)
    for column, known in (("status", _STATUSES), ("kind", _KINDS), ("lifecycle", _LIFECYCLES)):
        value = facts.session.get(column, known[0])
        if value not in known:
            yield _unknown(facts, facts.spot(), "sessions", facts.key, column, value, known)


def _json(
    facts: SessionFacts, table: str, rowid: int, values: Mapping[str, Any], columns: Sequence[str], empty: str | None
) -> Iterator[CheckResult]:
    bad, unusual = json_problems(dict(values), columns)
    for column in bad:
        edit = Edit(table, rowid, {column: empty}, facts.spot())
        yield check_result(
            "bad-json",
            Severity.ERROR,
            facts.spot(),
            f"{column} is no JSON, and power-loop loads no session of a list with one like it.",
            "It is emptied; what was there is kept aside.",
            [edit],
        )
    for column in unusual:
        edit = Edit(table, rowid, {column: empty}, facts.spot())
        yield check_result(
            "not-an-object",
            Severity.WARNING,
            facts.spot(),
            f"{column} is JSON, but no object.",
            choices={Choice("clear", "empty it; what was there is kept aside"): [edit]},
        )


def _unknown(
    facts: SessionFacts, place: Spot, table: str, rowid: int, column: str, value: Any, known: Sequence[str]
) -> CheckResult:
    shown = str(value)[:40]
    return check_result(
        f"unknown-{column}",
        Severity.ERROR,
        place,
        f"{column} is {shown!r}, which no release knows: power-loop loads nothing that holds it.",
        choices={Choice(name, f"make it {name!r}"): [Edit(table, rowid, {column: name}, place)] for name in known},
    )


def messages(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    states = (State.ACTIVE.value, State.COMPACTED.value)
    known = (*states, State.DROPPED.value) if layout.has("messages", "send_index") else states
    if facts.rows_without_seq:
        yield check_result(
            "odd-seq",
            Severity.WARNING,
            facts.spot(),
            f"The seq of {count_rows(len(facts.rows_without_seq))} is no whole number, so nothing can name them.",
        )
    for row in facts.rows:
        if row.state not in known:
            yield _unknown(facts, facts.spot(row), "messages", row.rowid, "state", row.state, known)
        for column in (*row.invalid_json, *row.wrong_type):
            yield _bad_column(facts, layout, row, column)
    if missing := gaps(runs_of(row.seq for row in facts.rows), 1, facts.highest):
        yield check_result(
            "holes",
            Severity.INFO,
            facts.spot(),
            f"{count_rows(size(missing))} of it are gone: pruned, or deleted by hand.",
        )


def _bad_column(facts: SessionFacts, layout: Layout, row: MessageFacts, column: str) -> CheckResult:
    place = facts.spot(row)
    if column == "tool_calls_json":
        return check_result(
            "bad-tool-calls",
            Severity.ERROR,
            place,
            "Its tool calls are no list of calls in JSON, and power-loop loads no session that holds such a row.",
            choices={
                Choice("clear", "take the calls out; what was there is kept aside"): [
                    Edit("messages", row.rowid, {column: None}, place)
                ]
            },
        )
    meta = dumps(_note_meta(facts, layout, row))
    if column in row.wrong_type:
        return check_result(
            "not-an-object",
            Severity.WARNING,
            place,
            "Its meta is JSON, but no object.",
            choices={
                Choice("clear", "empty it; what was there is kept aside"): [
                    Edit("messages", row.rowid, {column: meta}, place)
                ]
            },
        )
    rebuilt = "It is made anew from the audit" if meta != "{}" else "It is emptied"
    return check_result(
        "bad-json",
        Severity.ERROR,
        place,
        "Its meta is no JSON, and power-loop loads no session that holds such a row.",
        f"{rebuilt}; what was there is kept aside.",
        [Edit("messages", row.rowid, {column: meta}, place)],
    )


def _note_meta(facts: SessionFacts, layout: Layout, row: MessageFacts) -> dict[str, Any]:
    """What a note says of its fold, as far as the audit says it too."""
    audit_row = (
        next((audit_row for audit_row in facts.audit_rows if audit_row.note_seq == row.seq), None) if row.note else None
    )
    if audit_row is None:
        return {}
    meta = {
        "compacted_at_round": audit_row.round_index,
        "from_seq": audit_row.from_seq,
        "to_seq": audit_row.to_seq,
        "original_tokens": audit_row.before_tokens,
        "summary_tokens": audit_row.after_tokens,
    }
    return meta | ({"ord": audit_row.from_seq} if layout.by_ord else {})
