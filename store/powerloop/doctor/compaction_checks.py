"""Checks of a session's compactions: notes, audit rows, and messages that left the context. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from sessionscope.store.model.findings import Choice, Severity
from sessionscope.store.model.outline import Run, runs_of
from sessionscope.store.model.rows import Compaction, Spot, State
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.read.session_facts import MessageFacts, SessionFacts

from .check_results import CheckResult, check_result, count_rows, named_seqs
from .edits import Edit

_CODES_BY_ANOMALY = (
    ("inverted", "span-inverted"),
    ("past the end", "span-past-end"),
    ("overlaps", "span-overlaps"),
    ("not recorded as numbers", "span-unreadable"),
    ("took no row", "audit-without-rows"),
    ("note is missing", "audit-without-note"),
    ("is no compaction note", "audit-without-note"),
)
"""Words of an anomaly of a compaction, and the code of the finding about it."""


def compactions(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    """Check that every note has an audit row, that every compacted message has a note, and that spans are sensible."""
    audited_notes = {audit_row.note_seq for audit_row in facts.audit_rows}
    unrecorded_notes = [row for row in facts.rows if row.note and row.seq not in audited_notes]
    repaired_spans: list[Run] = []
    if layout.has("compactions"):
        first_number = _highest_number(facts) + 1
        for number, note in enumerate(unrecorded_notes, first_number):
            yield _unrecorded_note(facts, note, number)
            span = _span(note)
            if span is not None:
                repaired_spans.append((span[0], min(span[1], note.seq - 1)))
    yield from _unexplained_messages(facts, {note.seq for note in unrecorded_notes}, repaired_spans)
    yield from _anomalies(facts)


def _highest_number(facts: SessionFacts) -> int:
    """Return the highest number that a compaction of the session has, by its audit rows or its bookkeeping."""
    counted = facts.state.get("last_compact_seq") if facts.state else None
    return max(facts.highest_audit_number, counted if type(counted) is int else 0)


def _span(note: MessageFacts) -> Run | None:
    """Return the first and the last seq that a note's meta records, None if they are not integers."""
    meta = note.meta if isinstance(note.meta, dict) else {}
    first, last = meta.get("from_seq"), meta.get("to_seq")
    return (first, last) if type(first) is int and type(last) is int else None


def _unrecorded_note(facts: SessionFacts, note: MessageFacts, number: int) -> CheckResult:
    """Return the finding about a note without an audit row; its fix inserts that row with this number."""
    spot = facts.spot(note)
    message = "It is a compaction note, but the audit knows of no compaction that wrote it."
    span = _span(note)
    if span is not None:
        return check_result(
            "note-unrecorded",
            Severity.ERROR,
            spot,
            message,
            f"The audit gets compaction {number}, of {span[0]} to {span[1]}, as the note itself says.",
            _insert_audit_row(facts, note, number, span),
        )
    if not note.active:
        return check_result("note-unrecorded", Severity.INFO, spot, message)
    return check_result(
        "note-unrecorded",
        Severity.WARNING,
        spot,
        message,
        choices={
            Choice("retire", "take the note out of the context"): [
                Edit("messages", note.rowid, {"state": State.COMPACTED.value}, spot)
            ]
        },
    )


def _insert_audit_row(facts: SessionFacts, note: MessageFacts, number: int, span: Run) -> list[Edit]:
    spot = facts.spot(note)
    values = {
        "session_id": facts.stored_id,
        "compact_seq": number,
        "note_seq": note.seq,
        "from_seq": span[0],
        "to_seq": span[1],
        "before_tokens": _int(note.meta.get("original_tokens")),
        "after_tokens": _int(note.meta.get("summary_tokens")),
        "round_index": _int(note.meta.get("compacted_at_round", note.round_index)),
        "created_at": note.created_at if type(note.created_at) is int else 0,
    }
    edits = [Edit("compactions", None, values, spot)]
    if facts.state_rowid is not None:
        edits.append(Edit("session_state", facts.state_rowid, {"last_compact_seq": number}, spot))
    return edits


def _unexplained_messages(
    facts: SessionFacts, unrecorded_notes: Collection[int], repaired_spans: list[Run]
) -> Iterator[CheckResult]:
    """Find compacted messages that neither an audit row nor the fix for an unrecorded note explains.

    `unrecorded_notes` are the seqs of the notes without an audit row, which have a finding of their own;
    `repaired_spans` are the spans that their fixes record.
    """
    rows_by_seq = {row.seq: row for row in facts.rows}
    rows = [
        rows_by_seq[seq]
        for first, last in facts.audit.unexplained
        for seq in range(first, last + 1)
        if seq in rows_by_seq
        and seq not in unrecorded_notes
        and not any(span_first <= seq <= span_last for span_first, span_last in repaired_spans)
    ]
    if not rows:
        return
    yield check_result(
        "fold-unrecorded",
        Severity.ERROR,
        facts.spot(rows[0]),
        f"{count_rows(len(rows))} ({named_seqs(runs_of(row.seq for row in rows))}) left "
        "the context, but no compaction took them and no note stands for them: the model has lost them.",
        "They come back into the context.",
        [Edit("messages", row.rowid, {"state": State.ACTIVE.value}, facts.spot(row)) for row in rows],
    )


def _anomalies(facts: SessionFacts) -> Iterator[CheckResult]:
    """Report anomalies of recorded compactions. The releases that wrote them accept them, so nothing is repaired."""
    earlier_spans: set[tuple[Any, Any]] = set()
    for compaction in facts.audit.compactions:
        if compaction.undone:
            continue
        span = (compaction.from_seq, compaction.to_seq)
        reported_codes: set[str] = set()
        for anomaly in compaction.anomalies:
            code = _code_of(anomaly)
            if code == "span-overlaps" and span in earlier_spans:
                code = "span-repeated"
            if code is None or code in reported_codes:
                continue
            reported_codes.add(code)
            yield check_result(
                code,
                Severity.INFO,
                _note_spot(facts, compaction),
                f"Compaction {compaction.number} ({compaction.from_seq} to {compaction.to_seq}): {anomaly}.",
            )
        earlier_spans.add(span)


def _code_of(anomaly: str) -> str | None:
    """Return the code of the finding about an anomaly, None if it has none."""
    return next((code for words, code in _CODES_BY_ANOMALY if words in anomaly), None)


def _note_spot(facts: SessionFacts, compaction: Compaction) -> Spot:
    """Return the spot of a compaction's note, or of the session if its seq is not recorded."""
    if compaction.note_seq is None:
        return facts.spot()
    return Spot(facts.ref, str(compaction.note_seq), compaction.note_seq)


def _int(value: Any) -> int | None:
    return value if type(value) is int else None
