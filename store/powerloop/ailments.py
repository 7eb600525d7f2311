"""What may be wrong with one session, rule by rule, and the edits that put it right. Pure.

Severity follows what the real package does with it: an error is what it cannot load, append to or keep in context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from ..outline import gaps, runs_of, size
from ..repair import KEEP, Choice, Finding, Severity
from ..rows import Spot, State
from .chart import Chart, Row, troubles
from .edits import Edit
from .layout import Layout
from .pairing import Rooms, awaited, count_on, dumps, is_free, make_room, open_calls, pair

_STATUSES, _KINDS = ("active", "archived"), ("root", "subagent")
_LIFECYCLES = ("ephemeral", "linked", "detached")
_SPANS = (("inverted", "span-inverted"), ("past the end", "span-past-end"), ("overlaps", "span-overlaps"),
          ("not recorded as numbers", "span-unreadable"), ("took no row", "audit-without-rows"),
          ("note is missing", "audit-without-note"), ("is no compaction note", "audit-without-note"))


class Ailment(Struct, frozen=True):
    """A finding, and the edits for its safe fix (under "") or for each of its choices."""

    finding: Finding
    edits: Mapping[str, tuple[Edit, ...]] = {}


def ailment(
    code: str, severity: Severity, place: Spot, message: str, fix: str = "", edits: Sequence[Edit] = (),
    choices: Mapping[Choice, Sequence[Edit]] | None = None,
) -> Ailment:
    """One that has a safe fix, choices beside that of leaving it, or neither."""
    offered = choices or {}
    by_name = {choice.name: tuple(some) for choice, some in offered.items()}
    return Ailment(Finding(code, severity, place, message, fix, (KEEP, *offered) if offered else ()),
                   by_name | ({"": tuple(edits)} if fix else {}))


def examine(chart: Chart, layout: Layout) -> Iterator[Ailment]:
    """All that is wrong with a session, the bookkeeping first."""
    for rule in (_bookkeeping, _values, _messages, _folds, _pairs, _pending):
        yield from rule(chart, layout)


# -- bookkeeping


def _bookkeeping(chart: Chart, layout: Layout) -> Iterator[Ailment]:
    place, highest = chart.spot(), chart.highest
    numbers = [fold.number for fold in chart.folds if type(fold.number) is int]
    folds = max(numbers, default=0)
    if chart.state is None or chart.state_rowid is None:
        rounds = max((row.round_index for row in chart.rows if type(row.round_index) is int), default=0)
        values = {"session_id": chart.stored_id, "next_seq": highest + 1}
        for column, value in (("round_index", rounds), ("last_compact_seq", folds)):
            values |= {column: value} if layout.has("session_state", column) else {}
        yield ailment("state-missing", Severity.ERROR, place, "Its bookkeeping is missing, so power-loop takes no "
                      "message for it and says that the session is unknown.", "The bookkeeping is made from what the "
                      "session holds.", [Edit("session_state", None, values, place)])
        return
    next_seq = chart.state["next_seq"]
    if type(next_seq) is not int or next_seq <= highest:
        yield ailment("next-seq-behind", Severity.ERROR, place, f"The next message would get seq {next_seq}, but there "
                      f"is one with seq {highest} already: every append fails.",
                      f"The next message gets seq {highest + 1}.",
                      [Edit("session_state", chart.state_rowid, {"next_seq": highest + 1}, place)])
    last = chart.state.get("last_compact_seq", folds)
    if type(last) is not int or last < folds:
        yield ailment("compact-seq-behind", Severity.ERROR, place, f"Its bookkeeping counts {last} compactions, but "
                      f"there is one with number {folds} already: the next compaction fails.",
                      f"The next one gets number {folds + 1}.",
                      [Edit("session_state", chart.state_rowid, {"last_compact_seq": folds}, place)])
    elif last > folds:
        yield ailment("compact-seq-ahead", Severity.INFO, place, f"Its bookkeeping counts {last} compactions, and the "
                      f"audit knows of {folds}; numbers are not used twice, so nothing fails.")


# -- values


def _values(chart: Chart, layout: Layout) -> Iterator[Ailment]:
    yield from _json(chart, "sessions", chart.key, chart.session, ("config_json", "metadata_json"), "{}")
    if chart.state is not None and chart.state_rowid is not None:
        yield from _json(chart, "session_state", chart.state_rowid, chart.state, ("pending_json",), None)
    for column, known in (("status", _STATUSES), ("kind", _KINDS), ("lifecycle", _LIFECYCLES)):
        value = chart.session.get(column, known[0])
        if value not in known:
            yield _unknown(chart, chart.spot(), "sessions", chart.key, column, value, known)


def _json(
    chart: Chart, table: str, rowid: int, values: Mapping[str, Any], columns: Sequence[str], empty: str | None
) -> Iterator[Ailment]:
    bad, odd = troubles(dict(values), columns)
    for column in bad:
        edit = Edit(table, rowid, {column: empty}, chart.spot())
        yield ailment("bad-json", Severity.ERROR, chart.spot(), f"{column} is no JSON, and power-loop loads no session "
                      "of a list with one like it.", "It is emptied; what was there is kept aside.", [edit])
    for column in odd:
        edit = Edit(table, rowid, {column: empty}, chart.spot())
        yield ailment("not-an-object", Severity.WARNING, chart.spot(), f"{column} is JSON, but no object.",
                      choices={Choice("clear", "empty it; what was there is kept aside"): [edit]})


def _unknown(
    chart: Chart, place: Spot, table: str, rowid: int, column: str, value: Any, known: Sequence[str]
) -> Ailment:
    shown = str(value)[:40]
    return ailment(f"unknown-{column}", Severity.ERROR, place, f"{column} is {shown!r}, which no release knows: "
                   "power-loop loads nothing that holds it.",
                   choices={Choice(name, f"make it {name!r}"): [Edit(table, rowid, {column: name}, place)]
                            for name in known})


def _messages(chart: Chart, layout: Layout) -> Iterator[Ailment]:
    states = (State.ACTIVE.value, State.COMPACTED.value)
    known = (*states, State.DROPPED.value) if layout.has("messages", "send_index") else states
    if chart.strays:
        yield ailment("odd-seq", Severity.WARNING, chart.spot(), f"The seq of {_rows(len(chart.strays))} is no whole "
                      "number, so nothing can name them.")
    for row in chart.rows:
        if row.state not in known:
            yield _unknown(chart, chart.spot(row), "messages", row.rowid, "state", row.state, known)
        for column in (*row.bad, *row.odd):
            yield _bad_column(chart, layout, row, column)
    if missing := gaps(runs_of(row.seq for row in chart.rows), 1, chart.highest):
        yield ailment("holes", Severity.INFO, chart.spot(), f"{_rows(size(missing))} of it are gone: pruned, or "
                      "deleted by hand.")


def _bad_column(chart: Chart, layout: Layout, row: Row, column: str) -> Ailment:
    place = chart.spot(row)
    if column == "tool_calls_json":
        return ailment("bad-tool-calls", Severity.ERROR, place, "Its tool calls are no list of calls in JSON, and "
                       "power-loop loads no session that holds such a row.", choices={
                           Choice("clear", "take the calls out; what was there is kept aside"):
                           [Edit("messages", row.rowid, {column: None}, place)]})
    meta = dumps(_note_meta(chart, layout, row))
    if column in row.odd:
        return ailment("not-an-object", Severity.WARNING, place, "Its meta is JSON, but no object.", choices={
            Choice("clear", "empty it; what was there is kept aside"):
            [Edit("messages", row.rowid, {column: meta}, place)]})
    rebuilt = "It is made anew from the audit" if meta != "{}" else "It is emptied"
    return ailment("bad-json", Severity.ERROR, place, "Its meta is no JSON, and power-loop loads no session that holds "
                   "such a row.", f"{rebuilt}; what was there is kept aside.",
                   [Edit("messages", row.rowid, {column: meta}, place)])


def _note_meta(chart: Chart, layout: Layout, row: Row) -> dict[str, Any]:
    """What a note says of its fold, as far as the audit says it too."""
    fold = next((fold for fold in chart.folds if fold.note_seq == row.seq), None) if row.note else None
    if fold is None:
        return {}
    meta = {"compacted_at_round": fold.round_index, "from_seq": fold.from_seq, "to_seq": fold.to_seq,
            "original_tokens": fold.before, "summary_tokens": fold.after}
    return meta | ({"ord": fold.from_seq} if layout.by_ord else {})


# -- compactions


def _folds(chart: Chart, layout: Layout) -> Iterator[Ailment]:
    audited = {fold.note_seq for fold in chart.folds}
    lost = [row for row in chart.rows if row.note and row.seq not in audited]
    spans: list[tuple[int, int]] = []
    if layout.has("compactions"):
        number = max([fold.number for fold in chart.folds if type(fold.number) is int], default=0)
        last = chart.state.get("last_compact_seq") if chart.state else 0
        number = max(number, last if type(last) is int else 0)
        for row in lost:
            number += 1
            yield _note_unrecorded(chart, row, number, spans)
    seqs = {row.seq: row for row in chart.rows}
    back = [seq for first, last in chart.audit.unexplained for seq in range(first, last + 1)
            if seq in seqs and seqs[seq] not in lost and not any(a <= seq <= b for a, b in spans)]
    if back:
        runs = runs_of(back)
        place = chart.spot(seqs[back[0]])
        yield ailment("fold-unrecorded", Severity.ERROR, place, f"{_rows(len(back))} ({_named(runs)}) left the "
                      "context, but no compaction took them and no note stands for them: the model has lost them.",
                      "They come back into the context.",
                      [Edit("messages", seqs[seq].rowid, {"state": State.ACTIVE.value}, chart.spot(seqs[seq]))
                       for seq in back])
    yield from _spans(chart)


def _note_unrecorded(chart: Chart, row: Row, number: int, spans: list[tuple[int, int]]) -> Ailment:
    place, meta = chart.spot(row), row.meta if isinstance(row.meta, dict) else {}
    first, last = meta.get("from_seq"), meta.get("to_seq")
    message = "It is a compaction note, but the audit knows of no compaction that wrote it."
    if type(first) is not int or type(last) is not int:
        if not row.active:
            return ailment("note-unrecorded", Severity.INFO, place, message)
        return ailment("note-unrecorded", Severity.WARNING, place, message, choices={
            Choice("retire", "take the note out of the context"):
            [Edit("messages", row.rowid, {"state": State.COMPACTED.value}, place)]})
    spans.append((first, min(last, row.seq - 1)))
    made = row.created_at if type(row.created_at) is int else 0
    edits = [Edit("compactions", None, {
        "session_id": chart.stored_id, "compact_seq": number, "note_seq": row.seq, "from_seq": first, "to_seq": last,
        "before_tokens": _int(meta.get("original_tokens")), "after_tokens": _int(meta.get("summary_tokens")),
        "round_index": _int(meta.get("compacted_at_round", row.round_index)), "created_at": made}, place)]
    if chart.state_rowid is not None:
        edits.append(Edit("session_state", chart.state_rowid, {"last_compact_seq": number}, place))
    return ailment("note-unrecorded", Severity.ERROR, place, message,
                   f"The audit gets compaction {number}, of {first} to {last}, as the note itself says.", edits)


def _spans(chart: Chart) -> Iterator[Ailment]:
    """What is strange about recorded folds: all of it is what that release allows, so it is only told."""
    seen: set[tuple[Any, Any]] = set()
    for fold in chart.audit.compactions:
        place = Spot(chart.ref, str(fold.note_seq), fold.note_seq) if fold.note_seq is not None else chart.spot()
        span = (fold.from_seq, fold.to_seq)
        if fold.undone:
            continue
        told: set[str] = set()
        for odd in fold.odd:
            code = next((code for words, code in _SPANS if words in odd), None)
            if code == "span-overlaps" and span in seen:
                code = "span-repeated"
            if code is not None and code not in told:
                told.add(code)
                yield ailment(code, Severity.INFO, place, f"Compaction {fold.number} ({fold.from_seq} to "
                              f"{fold.to_seq}): {odd}.")
        seen.add(span)


# -- calls and results


def _pairs(chart: Chart, layout: Layout) -> Iterator[Ailment]:
    pairing = pair(chart.rows)
    back = {seq for first, last in chart.audit.unexplained for seq in range(first, last + 1)}
    waits, _ = awaited(chart)
    groups: dict[int, list[Row]] = {}
    for at, call in pairing.answers.items():
        groups.setdefault(call.row, [chart.rows[call.row]]).append(chart.rows[at])
    for group in groups.values():
        gone = [row for row in group if row.state == State.COMPACTED.value and row.seq not in back]
        if gone and any(row.active or row.seq in back for row in group):
            named = _named(runs_of(sorted(row.seq for row in gone)))
            what = "results without their call" if gone[0] is group[0] else "a call without all of its results"
            yield ailment("split-pair", Severity.WARNING, chart.spot(group[0]), f"The context holds {what}: {named} "
                          "left it.", choices={
                              Choice("reactivate", f"bring {named} back into the context"):
                              [Edit("messages", row.rowid, {"state": State.ACTIVE.value}, chart.spot(row))
                               for row in gone]})
    for at in pairing.orphans:
        yield _orphan_result(chart, chart.rows[at])
    for at, calls in open_calls(chart, pairing).items():
        left = [call for call in calls if call.id not in waits]
        if left:
            names = ", ".join(str(call.name or call.id or "?")[:40] for call in left[:5])
            yield ailment("unanswered-calls", Severity.WARNING, chart.spot(chart.rows[at]), f"Nobody answered "
                          f"{len(left)} of its calls ({names}), and no turn is open that would; settle answers them.")


def _orphan_result(chart: Chart, row: Row) -> Ailment:
    place = chart.spot(row)
    message = f"It is the result of a call {str(row.answers)[:40]!r} that no row before it makes."
    if not row.answers:
        message = "It is the result of a call, but does not say of which, and none waits for one."
    if not row.active or not isinstance(row.answers, str) or not row.answers:
        return ailment("orphan-result", Severity.WARNING if row.active else Severity.INFO, place, message)
    free = row.seq > 1 and is_free(chart, row.seq - 1, 1)
    rooms = Rooms(() if free else ((row.seq, 1),))
    moves = [*make_room(chart, rooms), *count_on(chart, rooms.moved(chart.highest))]
    call = {"id": row.answers, "type": "function",
            "function": {"name": row.name if isinstance(row.name, str) and row.name else "unknown", "arguments": "{}"}}
    values = {"session_id": chart.stored_id, "seq": row.seq - 1 if free else row.seq, "role": "assistant",
              "content": "", "tool_calls_json": dumps([call]), "round_index": row.round_index,
              "state": State.ACTIVE.value, "meta_json": "{}", "created_at": row.created_at}
    values |= {"send_index": row.send_index} if row.send_index is not None else {}
    return ailment("orphan-result", Severity.WARNING, place, message, choices={
        Choice("insert-call", "put an empty call before it, so that every release can send it"):
        [*moves, Edit("messages", None, values, place)]})


def _pending(chart: Chart, layout: Layout) -> Iterator[Ailment]:
    stored = chart.state.get("pending_json") if chart.state else None
    if not stored or chart.state_rowid is None or troubles({"pending_json": stored}, ("pending_json",)) != ((), ()):
        return
    place = chart.spot()
    waits, more = awaited(chart)
    clear = [Edit("session_state", chart.state_rowid, {"pending_json": None}, place)]
    pairing = pair(chart.rows)
    unanswered = {call.id for call in pairing.unanswered}
    nameless = any(call.id is None for calls in open_calls(chart, pairing).values() for call in calls)
    if more or waits & unanswered or (not waits and nameless):
        many = len(waits & unanswered)
        what = f"{many} {'call' if many == 1 else 'calls'}" if many else "an answer"
        yield ailment("open-turn", Severity.INFO, place, f"A turn is open: it waits for {what}. Its agent may go on "
                      "with it; if it never will, settle ends it.")
    elif not waits or waits <= {id_ for row in chart.rows for id_, _ in row.calls}:
        yield ailment("pending-answered", Severity.ERROR, place, "Its bookkeeping waits for calls, but all of them are "
                      "answered: power-loop refuses to go on.", "It waits for nothing any more.", clear)
    else:
        yield ailment("pending-unknown", Severity.ERROR, place, "Its bookkeeping waits for calls that no message "
                      "makes: power-loop refuses to go on.",
                      choices={Choice("clear", "wait for nothing any more"): clear})


def _rows(many: int) -> str:
    return "1 row" if many == 1 else f"{many:,} rows"


def _named(runs: Sequence[tuple[int, int]]) -> str:
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs[:6]]
    return ", ".join([*shown, "…"] if len(runs) > 6 else shown)


def _int(value: Any) -> int | None:
    return value if type(value) is int else None


