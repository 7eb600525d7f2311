"""Which seqs a session has, in which state and order. Runs instead of rows: a million rows take a few runs. Pure.

A run is a pair (first, last), both included. A list of runs is sorted, and its runs neither overlap nor touch.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from enum import IntEnum
from operator import itemgetter

from msgspec import Struct

Run = tuple[int, int]
Runs = Sequence[Run]


def runs_of(seqs: Iterable[int]) -> list[Run]:
    """Return ascending seqs as runs."""
    runs: list[Run] = []
    first = last = None
    for seq in seqs:
        if last is not None and seq == last + 1:
            last = seq
            continue
        if first is not None and last is not None:
            runs.append((first, last))
        first = last = seq
    if first is not None and last is not None:
        runs.append((first, last))
    return runs


def size(runs: Runs) -> int:
    """Return how many seqs the runs hold."""
    return sum(last - first + 1 for first, last in runs)


def union(*many: Runs) -> list[Run]:
    """Return every seq that is in any of the lists of runs."""
    merged: list[Run] = []
    for first, last in sorted(run for runs in many for run in runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def without(runs: Runs, gone: Runs) -> list[Run]:
    """Return the seqs of `runs` that are not in `gone`."""
    left: list[Run] = []
    index = 0
    for first, last in runs:
        while index and gone[index - 1][1] >= first:
            index -= 1
        while index < len(gone) and gone[index][0] <= last:
            cut_first, cut_last = gone[index]
            if cut_last >= first:
                if cut_first > first:
                    left.append((first, cut_first - 1))
                first = cut_last + 1
            index += 1
        if first <= last:
            left.append((first, last))
    return left


def within(runs: Runs, first: int, last: int) -> list[Run]:
    """Return the seqs of `runs` from `first` to `last`."""
    result: list[Run] = []
    for at in range(max(0, bisect_right(runs, first, key=itemgetter(0)) - 1), len(runs)):
        a, b = runs[at]
        if a > last:
            break
        if b >= first:
            result.append((max(a, first), min(b, last)))
    return result if first <= last else []


def gaps(runs: Runs, first: int, last: int) -> list[Run]:
    """Return the seqs from `first` to `last` that are in none of the runs."""
    return without([(first, last)], runs) if first <= last else []


def holds(runs: Runs, seq: int) -> bool:
    """Return whether a seq is in the runs."""
    at = bisect_right(runs, seq, key=itemgetter(0)) - 1
    return at >= 0 and runs[at][0] <= seq <= runs[at][1]


class Outline(Struct, frozen=True):
    """The rows of a session by state.

    `notes` are (ord, seq) of the active notes whose place differs from their seq. `rows_without_seq` are the storage
    keys of rows whose seq is no number. `next_seq` and `last_compact_seq` are the session's own bookkeeping at that
    moment.
    """

    states: dict[str, list[Run]]
    notes: list[tuple[int, int]] = []
    rows_without_seq: list[int] = []
    next_seq: int | None = None
    last_compact_seq: int | None = None

    def runs(self, state: str | None = None) -> list[Run]:
        """Return the runs of one state, or of all."""
        return self.states.get(state, []) if state is not None else union(*self.states.values())

    def count(self, state: str | None = None) -> int:
        """Return how many rows are in a state, or how many there are in all, rows without a seq included."""
        if state is not None:
            return size(self.states.get(state, []))
        return sum(size(runs) for runs in self.states.values()) + len(self.rows_without_seq)

    @property
    def needs_full_read(self) -> bool:
        """Whether appended rows cannot be added to it, so that everything must be read again."""
        return bool(self.rows_without_seq)

    def extended(self, rows: Iterable[tuple[int, str]], next_seq: int | None) -> Outline:
        """Return the outline after `rows` of (seq, state) were appended and nothing else happened."""
        fresh: dict[str, list[int]] = {}
        for seq, state in rows:
            fresh.setdefault(state, []).append(seq)
        states = dict(self.states)
        for state, seqs in fresh.items():
            states[state] = union(states.get(state, []), runs_of(sorted(seqs)))
        return Outline(states, self.notes, self.rows_without_seq, next_seq, self.last_compact_seq)


class StretchKind(IntEnum):
    """What a stretch of a display shows."""

    ROWS = 0
    HOLE = 1
    """Missing seqs, however many, as one line."""
    WITHOUT_SEQ = 2
    """A row without a usable seq. First and last are its storage key."""


Stretch = tuple[StretchKind, int, int]


class Display:
    """Stretches in the order in which they are shown. Finds a stretch by index, and the index of a seq, in O(log n)."""

    def __init__(self, stretches: Iterable[Stretch]) -> None:
        self._stretches = [stretch for stretch in stretches if stretch[1] <= stretch[2]]
        self._starts = array("q", [0])
        for kind, first, last in self._stretches:
            self._starts.append(self._starts[-1] + (last - first + 1 if kind is StretchKind.ROWS else 1))
        self._order = sorted(
            (i for i, stretch in enumerate(self._stretches) if stretch[0] is not StretchKind.WITHOUT_SEQ),
            key=lambda i: self._stretches[i][1],
        )
        self._firsts = array("q", (self._stretches[i][1] for i in self._order))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def highest(self) -> int:
        """The highest seq that is shown or known to be missing, 0 if there is none."""
        return max((last for kind, _, last in self._stretches if kind is not StretchKind.WITHOUT_SEQ), default=0)

    def slice(self, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of lines `start` to `stop`, cut to these lines."""
        start, stop = max(0, start), min(stop, len(self))
        stretches: list[Stretch] = []
        index = bisect_right(self._starts, start) - 1
        while start < stop:
            kind, first, last = self._stretches[index]
            if kind is StretchKind.ROWS:
                begin = first + start - self._starts[index]
                end = min(last, begin + stop - start - 1)
                stretches.append((kind, begin, end))
                start += end - begin + 1
            else:
                stretches.append((kind, first, last))
                start += 1
            index += 1
        return stretches

    def _stretch(self, seq: int) -> int | None:
        at = bisect_right(self._firsts, seq) - 1
        return self._order[at] if at >= 0 else None

    def locate(self, seq: int) -> int | None:
        """Return the line of a seq, None if it is not shown as a row."""
        index = self._stretch(seq)
        if index is None:
            return None
        kind, first, last = self._stretches[index]
        return self._starts[index] + seq - first if kind is StretchKind.ROWS and first <= seq <= last else None

    def nearest(self, seq: int) -> int:
        """Return the line of a seq, or the line at or before which it would be; 0 if nothing is shown."""
        index = self._stretch(seq)
        if index is None:
            return self._starts[self._order[0]] if self._order else 0
        kind, first, last = self._stretches[index]
        return self._starts[index] + (min(seq, last) - first if kind is StretchKind.ROWS else 0)


def everything(outline: Outline) -> Display:
    """Return all rows in storage order. Each run of missing seqs is one line, and rows without a seq come last."""
    runs = outline.runs()
    last = max(runs[-1][1] if runs else 0, (outline.next_seq or 1) - 1)
    first = min(runs[0][0], 1) if runs else 1
    stretches = [(StretchKind.ROWS, *run) for run in runs] + [
        (StretchKind.HOLE, *gap) for gap in gaps(runs, first, last)
    ]
    stretches.sort(key=lambda stretch: stretch[1])
    return Display(stretches + [(StretchKind.WITHOUT_SEQ, key, key) for key in outline.rows_without_seq])


def only(runs: Runs) -> Display:
    """Return the seqs of the runs in storage order."""
    return Display((StretchKind.ROWS, *run) for run in runs)


def logical(runs: Runs, notes: Iterable[tuple[int, int]]) -> Display:
    """Return the seqs of the runs in order of (ord, seq): each note (ord, seq) is moved to where its ord says."""
    moved = sorted(note for note in notes if holds(runs, note[1]))
    rest = without(runs, [(seq, seq) for seq in sorted(seq for _, seq in moved)])
    stretches: list[Stretch] = []
    index = 0
    for order, seq in moved:
        # A row whose seq equals the ord of a note comes first if it is older than the note.
        before = order if order < seq else order - 1
        while index < len(rest) and rest[index][1] <= before:
            stretches.append((StretchKind.ROWS, *rest[index]))
            index += 1
        if index < len(rest) and rest[index][0] <= before:
            stretches.append((StretchKind.ROWS, rest[index][0], before))
            rest[index] = (before + 1, rest[index][1])
        stretches.append((StretchKind.ROWS, seq, seq))
    return Display(stretches + [(StretchKind.ROWS, *run) for run in rest[index:]])


def following(runs: Runs, seq: int) -> int | None:
    """Return the first seq in the runs after `seq`."""
    index = bisect_left(runs, (seq + 1, seq + 1))
    if index and runs[index - 1][1] > seq:
        return seq + 1
    return runs[index][0] if index < len(runs) else None
