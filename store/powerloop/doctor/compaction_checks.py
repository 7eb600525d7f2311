"""Checks of the compactions of a session: notes, audit rows, and messages out of the context. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sessionscope.store.model.findings import Choice, Severity
from sessionscope.store.model.outline import runs_of
from sessionscope.store.model.rows import Spot, State
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.read.session_facts import MessageFacts, SessionFacts

from .check_results import CheckResult, check_result, count_rows, named_seqs
from .edits import Edit

_SPANS = (
    ("inverted", "span-inverted"),
    ("past the end", "span-past-end"),
    ("overlaps", "span-overlaps"),
    ("not recorded as numbers", "span-unreadable"),
    ("took no row", "audit-without-rows"),
    ("note is missing", "audit-without-note"),
    ("is no compaction note", "audit-without-note"),
)


def compactions(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    audited = {audit_row.note_seq for audit_row in facts.audit_rows}
    lost = [row for row in facts.rows if row.note and row.seq not in audited]
    spans: list[tuple[int, int]] = []
    if layout.has("compactions"):
        number = max([audit_row.number for audit_row in facts.audit_rows if type(audit_row.number) is int], default=0)
        last = facts.state.get("last_compact_seq") if facts.state else 0
        number = max(number, last if type(last) is int else 0)
        for row in lost:
            number += 1
            yield _note_unrecorded(facts, row, number, spans)
    seqs = {row.seq: row for row in facts.rows}
    back = [
        seq
        for first, last in facts.audit.unexplained
        for seq in range(first, last + 1)
        if seq in seqs and seqs[seq] not in lost and not any(a <= seq <= b for a, b in spans)
    ]
    if back:
        runs = runs_of(back)
        place = facts.spot(seqs[back[0]])
        yield check_result(
            "fold-unrecorded",
            Severity.ERROR,
            place,
            f"{count_rows(len(back))} ({named_seqs(runs)}) left "
            "the context, but no compaction took them and no note stands for them: the model has lost them.",
            "They come back into the context.",
            [Edit("messages", seqs[seq].rowid, {"state": State.ACTIVE.value}, facts.spot(seqs[seq])) for seq in back],
        )
    yield from _spans(facts)


def _note_unrecorded(facts: SessionFacts, row: MessageFacts, number: int, spans: list[tuple[int, int]]) -> CheckResult:
    place, meta = facts.spot(row), row.meta if isinstance(row.meta, dict) else {}
    first, last = meta.get("from_seq"), meta.get("to_seq")
    message = "It is a compaction note, but the audit knows of no compaction that wrote it."
    if type(first) is not int or type(last) is not int:
        if not row.active:
            return check_result("note-unrecorded", Severity.INFO, place, message)
        return check_result(
            "note-unrecorded",
            Severity.WARNING,
            place,
            message,
            choices={
                Choice("retire", "take the note out of the context"): [
                    Edit("messages", row.rowid, {"state": State.COMPACTED.value}, place)
                ]
            },
        )
    spans.append((first, min(last, row.seq - 1)))
    made = row.created_at if type(row.created_at) is int else 0
    edits = [
        Edit(
            "compactions",
            None,
            {
                "session_id": facts.stored_id,
                "compact_seq": number,
                "note_seq": row.seq,
                "from_seq": first,
                "to_seq": last,
                "before_tokens": _int(meta.get("original_tokens")),
                "after_tokens": _int(meta.get("summary_tokens")),
                "round_index": _int(meta.get("compacted_at_round", row.round_index)),
                "created_at": made,
            },
            place,
        )
    ]
    if facts.state_rowid is not None:
        edits.append(Edit("session_state", facts.state_rowid, {"last_compact_seq": number}, place))
    return check_result(
        "note-unrecorded",
        Severity.ERROR,
        place,
        message,
        f"The audit gets compaction {number}, of {first} to {last}, as the note itself says.",
        edits,
    )


def _spans(facts: SessionFacts) -> Iterator[CheckResult]:
    """Yield what is strange about recorded compactions. Their release allows all of it, so it is only reported."""
    seen: set[tuple[Any, Any]] = set()
    for audit_row in facts.audit.compactions:
        place = (
            Spot(facts.ref, str(audit_row.note_seq), audit_row.note_seq)
            if audit_row.note_seq is not None
            else facts.spot()
        )
        span = (audit_row.from_seq, audit_row.to_seq)
        if audit_row.undone:
            continue
        reported: set[str] = set()
        for anomalies in audit_row.anomalies:
            code = next((code for words, code in _SPANS if words in anomalies), None)
            if code == "span-overlaps" and span in seen:
                code = "span-repeated"
            if code is not None and code not in reported:
                reported.add(code)
                yield check_result(
                    code,
                    Severity.INFO,
                    place,
                    f"Compaction {audit_row.number} ({audit_row.from_seq} to {audit_row.to_seq}): {anomalies}.",
                )
        seen.add(span)


def _int(value: Any) -> int | None:
    return value if type(value) is int else None
