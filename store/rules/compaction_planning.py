"""Which messages can be compacted together, and what that does to the context. Pure.

A range is compacted whole: a call and all of its results stay on one side of the cut. A leading system message and
recalled memories, which every agent loop keeps, are never compacted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from sessionscope.store.model.context import KEPT_EXCHANGES, Candidate, Context, Cut
from sessionscope.store.model.errors import Misused
from sessionscope.store.model.outline import Run

NOTE_BYTES = 1_000_000
"""The longest note, in bytes."""


def plan_cut(context: Context, first: int, last: int) -> Cut:
    """Return what compacting from message `first` to `last` takes, widened to what must be compacted together.

    The range is in the order of the context, in which a note may come before messages of a lower seq. Raises Misused
    for a range in which nothing can be compacted.
    """
    asked = _cut(context.rows, first, last, context.highest)
    if not context.prefix:
        return asked
    start, end, widened = context.rows[0].seq, 0, asked
    # A result may come after the next turn has begun. Then that turn is included.
    while (reached := _turn_end(context.rows, widened)) > end:
        end = reached
        widened = _cut(context.rows, start, end, context.highest)
    span, reasons = asked.span, []
    if span[0] > start:
        reasons.append(f"it begins at {start}: this agent folds only what comes first")
    if span[1] < end:
        reasons.append(f"it ends at {end}: this agent folds whole turns")
    return Cut(widened.leaves, widened.stays, (*reasons, *asked.reasons))


def propose_range(context: Context, exchanges: int = KEPT_EXCHANGES) -> tuple[int, int] | None:
    """Return the range that keeps the newest exchanges, each beginning with a user message.

    None if nothing is older.
    """
    users = [at for at, row in enumerate(context.rows) if row.role == "user"]
    if exchanges < 1 or len(users) <= exchanges:
        return None
    older = [row.seq for row in context.rows[: users[-exchanges]] if not row.kept]
    return (older[0], older[-1]) if older else None


def usual_exchanges(context: Context) -> int:
    """Return how many exchanges a proposal keeps by default: fewer if the session is short."""
    return next((keep for keep in range(KEPT_EXCHANGES, 1, -1) if propose_range(context, keep) is not None), 1)


def stored_range(context: Context, first: int, last: int) -> tuple[int, int]:
    """Return the range of the context that a selection of stored seqs from `first` to `last` means.

    A note that has another place in the context is left out, unless nothing else is selected.
    """
    rows_in_range = [row for row in context.rows if first <= row.seq <= last]
    rows_in_range = [row for row in rows_in_range if row.position == row.seq] or rows_in_range
    return (rows_in_range[0].seq, rows_in_range[-1].seq) if rows_in_range else (first, last)


def cut_or_proposal(context: Context, first: int | None, last: int | None, exchanges: int) -> Cut:
    """Return what compacting a range takes or, without a range, what is proposed.

    Raises Misused if there is nothing.
    """
    return plan_cut(context, *range_or_proposal(context, first, last, exchanges))


def range_or_proposal(context: Context, first: int | None, last: int | None, exchanges: int) -> tuple[int, int]:
    """Return the range or, without one, what is proposed. Raises Misused if there is nothing to propose."""
    if not context.rows:
        raise Misused("nothing of it is in the context any more.")
    if first is not None and last is not None:
        return first, last
    proposed = propose_range(context, exchanges)
    if proposed is None:
        many = f"{exchanges} exchanges" if exchanges != 1 else "exchange"
        raise Misused(f"there is nothing older than the newest {many}; choose a range.")
    return proposed


def growth(messages: Iterable[tuple[int, str, int]], compactions: Iterable[tuple[int, Sequence[Run]]]) -> list[int]:
    """Return the estimated tokens in the context at each call of a model.

    Each assistant message is the answer of one call. Messages are (seq, role, tokens) in the order in which they were
    written. A compaction is the seq of its note, and the runs that it compacted.
    """
    leaving = dict(compactions)
    seqs: list[int] = []
    inside: dict[int, int] = {}
    total, tokens_at_calls = 0, []
    for seq, role, size in messages:
        for first, last in leaving.get(seq, ()):
            gone = seqs[bisect_left(seqs, first) : bisect_right(seqs, last)]
            total -= sum(inside.pop(at, 0) for at in gone)
        if role == "assistant":
            tokens_at_calls.append(total)
        seqs.append(seq)
        inside[seq] = size
        total += size
    return tokens_at_calls


def check_note(note: str) -> None:
    """Raise Misused for a note that no archive takes."""
    if len(note.encode("utf-8", "surrogatepass")) > NOTE_BYTES or "\0" in note:
        raise Misused("a note is text of at most a megabyte, without NUL characters.")


def _cut(rows: Sequence[Candidate], first: int, last: int, highest: int) -> Cut:
    place = {row.seq: row.position for row in rows}
    begin, end = place.get(first, first), place.get(last, last)
    if begin > end:
        stands = f"{last} is a note that stands before {first}" if first < last else "it ends before it begins"
        raise Misused(f"{first} to {last} is no range: {stands}.")
    if first > highest:
        raise Misused(f"there is no message {first}; the newest is {highest}.")
    if last > highest:
        raise Misused(f"there is no message {last} yet; the newest is {highest}.")
    asked = {row.seq for row in rows if begin <= row.position <= end and not row.kept}
    if not asked:
        kept = any(begin <= row.position <= end for row in rows)
        raise Misused(
            f"{first} to {last}: "
            + ("only what is always kept is in there." if kept else "none of it is in the context any more.")
        )
    groups = {row.group for row in rows if row.seq in asked}
    leaves: list[Candidate] = []
    stays: list[Candidate] = []
    for row in rows:
        (leaves if not row.kept and row.group in groups else stays).append(row)
    return Cut(tuple(leaves), tuple(stays), tuple(_widened(leaves, asked)))


def _turn_end(rows: Sequence[Candidate], widened: Cut) -> int:
    """Return the last message of the turn in which a cut ends. The next turn begins with a user message."""
    end = widened.span[1]
    for row in rows:
        if row.seq > end:
            if row.role == "user":
                break
            end = row.seq
    return end


def _widened(leaves: Sequence[Candidate], asked: set[int]) -> Iterable[str]:
    """Return why more is compacted than was asked for."""
    added: dict[int, list[int]] = {}
    for row in leaves:
        if row.seq not in asked:
            added.setdefault(row.group, []).append(row.seq)
    for row in leaves if added else ():
        if row.seq in asked and (more := added.pop(row.group, None)):
            relation = "calls a tool that" if row.role != "tool" else "is the result of a call in"
            verb = " answers" if row.role != "tool" else ""
            yield f"widened by {', '.join(map(str, more))}: message {row.seq} {relation} {more[0]}{verb}"
