"""Checks of a session's bookkeeping, its values and its messages. Pure."""

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

_STATUSES = ("active", "archived")
_KINDS = ("root", "subagent")
_LIFECYCLES = ("ephemeral", "linked", "detached")
VALUE_CHARS = 40
"""How many characters of an unknown value a finding shows."""


def bookkeeping(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    """Check that the session has its row in session_state, and that the counters in it are not behind."""
    if facts.state is None or facts.state_rowid is None:
        yield _missing_bookkeeping(facts, layout)
        return
    next_seq = facts.state["next_seq"]
    if type(next_seq) is not int or next_seq <= facts.highest:
        yield check_result(
            "next-seq-behind",
            Severity.ERROR,
            facts.spot(),
            f"The next message would get seq {next_seq}, but there "
            f"is one with seq {facts.highest} already: every append fails.",
            f"The next message gets seq {facts.highest + 1}.",
            [Edit("session_state", facts.state_rowid, {"next_seq": facts.highest + 1}, facts.spot())],
        )
    audited = facts.highest_audit_number
    counted = facts.state.get("last_compact_seq", audited)
    if type(counted) is not int or counted < audited:
        yield check_result(
            "compact-seq-behind",
            Severity.ERROR,
            facts.spot(),
            f"Its bookkeeping counts {counted} compactions, but "
            f"there is one with number {audited} already: the next compaction fails.",
            f"The next one gets number {audited + 1}.",
            [Edit("session_state", facts.state_rowid, {"last_compact_seq": audited}, facts.spot())],
        )
    elif counted > audited:
        yield check_result(
            "compact-seq-ahead",
            Severity.INFO,
            facts.spot(),
            f"Its bookkeeping counts {counted} compactions, and the "
            f"audit knows of {audited}; numbers are not used twice, so nothing fails.",
        )


def _missing_bookkeeping(facts: SessionFacts, layout: Layout) -> CheckResult:
    """Return the finding about a session without a row in session_state; its fix inserts one."""
    values = {"session_id": facts.stored_id, "next_seq": facts.highest + 1}
    if layout.has("session_state", "round_index"):
        values["round_index"] = max((row.round_index for row in facts.rows if type(row.round_index) is int), default=0)
    if layout.has("session_state", "last_compact_seq"):
        values["last_compact_seq"] = facts.highest_audit_number
    return check_result(
        "state-missing",
        Severity.ERROR,
        facts.spot(),
        "Its bookkeeping is missing, so power-loop takes no message for it and says that the session is unknown.",
        "The bookkeeping is made from what the session holds.",
        [Edit("session_state", None, values, facts.spot())],
    )


def values(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    """Check the JSON columns of a session and its bookkeeping, and the columns that have a fixed set of values."""
    yield from _json(facts, "sessions", facts.key, facts.session, ("config_json", "metadata_json"), "{}")
    if facts.state is not None and facts.state_rowid is not None:
        yield from _json(facts, "session_state", facts.state_rowid, facts.state, ("pending_json",), None)
    for column, known in (("status", _STATUSES), ("kind", _KINDS), ("lifecycle", _LIFECYCLES)):
        value = facts.session.get(column, known[0])
        if value not in known:
            yield _unknown_value(facts.spot(), "sessions", facts.key, column, value, known)


def _json(
    facts: SessionFacts, table: str, rowid: int, values: Mapping[str, Any], columns: Sequence[str], empty: str | None
) -> Iterator[CheckResult]:
    """Check columns of a row that should hold JSON objects. `empty` is the value of a column without one."""
    invalid_json, wrong_type = json_problems(dict(values), columns)
    for column in invalid_json:
        edit = Edit(table, rowid, {column: empty}, facts.spot())
        yield check_result(
            "bad-json",
            Severity.ERROR,
            facts.spot(),
            f"{column} is no JSON, and power-loop loads no session of a list with one like it.",
            "It is emptied; what was there is kept aside.",
            [edit],
        )
    for column in wrong_type:
        edit = Edit(table, rowid, {column: empty}, facts.spot())
        yield check_result(
            "not-an-object",
            Severity.WARNING,
            facts.spot(),
            f"{column} is JSON, but no object.",
            choices={Choice("clear", "empty it; what was there is kept aside"): [edit]},
        )


def _unknown_value(spot: Spot, table: str, rowid: int, column: str, value: Any, known: Sequence[str]) -> CheckResult:
    """Return the finding about a value that is none of the `known` ones, with each of these as a choice."""
    return check_result(
        f"unknown-{column}",
        Severity.ERROR,
        spot,
        f"{column} is {str(value)[:VALUE_CHARS]!r}, which no release knows: power-loop loads nothing that holds it.",
        choices={Choice(name, f"make it {name!r}"): [Edit(table, rowid, {column: name}, spot)] for name in known},
    )


def messages(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    """Check seqs, states and JSON columns of a session's messages, and report missing seqs."""
    known_states = [State.ACTIVE.value, State.COMPACTED.value]
    # Releases with a send index also drop messages.
    if layout.has("messages", "send_index"):
        known_states.append(State.DROPPED.value)
    if facts.rows_without_seq:
        yield check_result(
            "odd-seq",
            Severity.WARNING,
            facts.spot(),
            f"The seq of {count_rows(len(facts.rows_without_seq))} is no whole number, so nothing can name them.",
        )
    for row in facts.rows:
        if row.state not in known_states:
            yield _unknown_value(facts.spot(row), "messages", row.rowid, "state", row.state, known_states)
        for column in (*row.invalid_json, *row.wrong_type):
            if column == "tool_calls_json":
                yield _bad_tool_calls(facts, row)
            else:
                yield _bad_meta(facts, layout, row)
    missing = gaps(runs_of(row.seq for row in facts.rows), 1, facts.highest)
    if missing:
        yield check_result(
            "holes",
            Severity.INFO,
            facts.spot(),
            f"{count_rows(size(missing))} of it are gone: pruned, or deleted by hand.",
        )


def _bad_tool_calls(facts: SessionFacts, row: MessageFacts) -> CheckResult:
    spot = facts.spot(row)
    return check_result(
        "bad-tool-calls",
        Severity.ERROR,
        spot,
        "Its tool calls are no list of calls in JSON, and power-loop loads no session that holds such a row.",
        choices={
            Choice("clear", "take the calls out; what was there is kept aside"): [
                Edit("messages", row.rowid, {"tool_calls_json": None}, spot)
            ]
        },
    )


def _bad_meta(facts: SessionFacts, layout: Layout, row: MessageFacts) -> CheckResult:
    """Return the finding about a meta that is not a JSON object. If it is not JSON at all, there is a safe fix."""
    spot = facts.spot(row)
    meta = _note_meta(facts, layout, row)
    edits = [Edit("messages", row.rowid, {"meta_json": dumps(meta)}, spot)]
    if "meta_json" in row.wrong_type:
        return check_result(
            "not-an-object",
            Severity.WARNING,
            spot,
            "Its meta is JSON, but no object.",
            choices={Choice("clear", "empty it; what was there is kept aside"): edits},
        )
    repaired = "It is made anew from the audit" if meta else "It is emptied"
    return check_result(
        "bad-json",
        Severity.ERROR,
        spot,
        "Its meta is no JSON, and power-loop loads no session that holds such a row.",
        f"{repaired}; what was there is kept aside.",
        edits,
    )


def _note_meta(facts: SessionFacts, layout: Layout, row: MessageFacts) -> dict[str, Any]:
    """Return the meta of a note as far as its audit row records it; {} for any other message."""
    if not row.note:
        return {}
    audit_row = next((audit_row for audit_row in facts.audit_rows if audit_row.note_seq == row.seq), None)
    if audit_row is None:
        return {}
    meta = {
        "compacted_at_round": audit_row.round_index,
        "from_seq": audit_row.from_seq,
        "to_seq": audit_row.to_seq,
        "original_tokens": audit_row.before_tokens,
        "summary_tokens": audit_row.after_tokens,
    }
    if layout.sorts_notes_by_ord:
        meta["ord"] = audit_row.from_seq
    return meta
