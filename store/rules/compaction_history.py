"""Which rows each compaction compacted, worked out from what the archive recorded. Pure.

power-loop before 0.14.1 compacted every row of a span. Later releases compact an exact set, of which only the smallest
and the largest seq are recorded. Such a set is found by replaying the compactions over the logical order: each took a
contiguous stretch of what was active at that time. If more than one history fits, the set is unknown.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Optional

from msgspec import Struct

from sessionscope.store.model.outline import Run, Runs, gaps, holds, size, union, within, without
from sessionscope.store.model.rows import Certainty

NOWHERE = SHARED = -1
_Took = tuple[Optional["_Took"], list[int]]
"""The atoms of the last of some folds, behind those of the folds before it."""
ATOMS, VISITS = 20_000, 2_000_000
"""How many atoms a replay handles, and how many it looks at before it gives up: about a second of work."""


class CompactionRecord(Struct, frozen=True):
    """One audit row. `ord` is the place of the note in the logical order, if it has one; `recorded` is a stored set.

    `note_readable` is False if the note, which tells how the compaction worked, is gone or cannot be read.
    """

    number: int
    from_seq: int | None
    to_seq: int | None
    note_seq: int | None
    before_tokens: int | None = None
    after_tokens: int | None = None
    ord: int | None = None
    recorded: tuple[Run, ...] | None = None
    note_readable: bool = True

    @property
    def span(self) -> Run:
        """The seqs that it may have compacted: none after its own note, and none at all if the span is inverted or no
        number.
        """
        if self.from_seq is None or self.to_seq is None:
            return (1, 0)
        return self.from_seq, self.to_seq if self.note_seq is None else min(self.to_seq, self.note_seq - 1)


class Taken(Struct, frozen=True):
    """What a compaction compacted. If the set is unknown, `runs` holds every row that it may have compacted."""

    runs: tuple[Run, ...]
    certainty: Certainty
    undone: bool = False

    @property
    def rows(self) -> int | None:
        return None if self.certainty is Certainty.UNKNOWN else size(self.runs)


def undone_compactions(compactions: Sequence[CompactionRecord]) -> tuple[set[int], set[int]]:
    """Return the positions of compactions that were undone, and of the audit rows that undo them.

    An undo is a later audit row for the same note and span with the tokens swapped.
    """
    undone: set[int] = set()
    undoing: set[int] = set()
    in_force_by_note: dict[int, int] = {}
    for at, compaction in enumerate(compactions):
        if compaction.note_seq is None:
            continue
        before = in_force_by_note.get(compaction.note_seq)
        if before is not None and _takes_back(compactions[before], compaction):
            undone.add(before)
            undoing.add(at)
            del in_force_by_note[compaction.note_seq]
        else:
            in_force_by_note[compaction.note_seq] = at
    return undone, undoing


def _takes_back(compaction: CompactionRecord, later: CompactionRecord) -> bool:
    return (compaction.from_seq, compaction.to_seq, compaction.before_tokens, compaction.after_tokens) == (
        later.from_seq,
        later.to_seq,
        later.after_tokens,
        later.before_tokens,
    )


def explain(
    compactions: Sequence[CompactionRecord], compacted: Runs, active: Runs, missing: Runs = ()
) -> tuple[dict[int, Taken], list[Run]]:
    """What each fold took, by its position in `folds`, and the folded seqs that no fold accounts for.

    `folded` and `active` are the seqs that are compacted out and in context now, `missing` those of which that cannot
    be said: pruned or damaged. Audit rows that only take another back are left out of the answer.
    """
    undone, undoing = undone_compactions(compactions)
    taken: dict[int, Taken] = {}
    # An undo leaves its note compacted out, so no fold needs to account for that.
    left = without(compacted, union([(note, note) for at in undone if (note := compactions[at].note_seq) is not None]))
    for at, compaction in enumerate(compactions):
        if compaction.recorded is not None and at not in undoing:
            taken[at] = Taken(compaction.recorded, Certainty.RECORDED, at in undone)
            if at not in undone:
                left = without(left, compaction.recorded)
    doubtful = _between_undos(compactions, undone, undoing)
    replayed: list[int] = []
    for at, compaction in enumerate(compactions):
        if at in taken or at in undoing:
            continue
        if at in undone or compaction.from_seq is None or compaction.to_seq is None:
            taken[at] = Taken((), Certainty.UNKNOWN, at in undone)
        elif compaction.from_seq > compaction.to_seq:
            taken[at] = Taken((), Certainty.INFERRED)
        elif (
            compaction.note_readable
            and compaction.ord is None
            and at not in doubtful
            and not any(_meet(compaction.span, compactions[before].span) for before in replayed)
        ):
            # It took its whole span: whatever stood there before its note was written.
            taken[at] = Taken(tuple(within(left, *compaction.span)), Certainty.INFERRED)
            left = without(left, taken[at].runs)
        else:
            replayed.append(at)
            if compaction.ord is None:
                doubtful.add(at)
    if replayed:
        places = {
            compaction.note_seq: compaction.ord
            for compaction in compactions
            if compaction.note_seq is not None and compaction.ord is not None
        }
        certain = [at not in doubtful for at in replayed]
        answers = _Replay([compactions[at] for at in replayed], left, active, places).solve(certain)
        taken.update(zip(replayed, answers, strict=True))
        left = without(left, union(*(answer.runs for answer in answers)))
    for at, found in taken.items():
        if found.certainty is Certainty.INFERRED and within(missing, *compactions[at].span):
            taken[at] = Taken(found.runs, Certainty.UNKNOWN)
    return taken, left


def _between_undos(compactions: Sequence[CompactionRecord], undone: set[int], undoing: set[int]) -> set[int]:
    """Folds made while another, since taken back, was in force over the same rows: what they saw is not known."""
    found: set[int] = set()
    for at in undone:
        until = next(
            later for later in sorted(undoing) if later > at and compactions[later].note_seq == compactions[at].note_seq
        )
        note = compactions[at].note_seq or 0
        for between in range(at + 1, until):
            span = compactions[between].span
            if _meet(span, compactions[at].span) or _meet(span, (note, note)):
                found.add(between)
    return found


def _meet(one: Run, other: Run) -> bool:
    return max(one[0], other[0]) <= min(one[1], other[1])


class _Replay:
    """Finds the stretches that a series of folds took, at most two different answers.

    Rows are handled as atoms: runs in which no fold begins or ends, numbered in logical order. Wherever an atom could
    be shared between two folds it could also go to either as a whole, so two answers over atoms mean that the rows are
    ambiguous.
    """

    def __init__(
        self, compactions: list[CompactionRecord], compacted: Runs, active: Runs, places: dict[int, int]
    ) -> None:
        self.compactions, self.compacted = compactions, compacted
        self.answers: list[_Took] = []
        self.visits = VISITS + 1
        if len(compacted) + len(active) + 4 * len(compactions) + 2 * len(places) > ATOMS:
            return
        seqs = {
            *places,
            *(
                seq
                for compaction in compactions
                for seq in (compaction.from_seq, compaction.to_seq, compaction.note_seq)
            ),
        }
        cuts = sorted({cut for seq in seqs if seq is not None for cut in (seq, seq + 1)})
        atoms = [(run, True) for run in _cut(compacted, cuts)] + [(run, False) for run in _cut(active, cuts)]
        atoms.sort(key=lambda atom: (places.get(atom[0][0], atom[0][0]), atom[0][0]))
        self.atoms = [run for run, _ in atoms]
        by_seq = sorted(range(len(atoms)), key=self.atoms.__getitem__)
        firsts = [self.atoms[i][0] for i in by_seq]
        bounds = [
            (bisect_left(firsts, compaction.span[0]), bisect_right(firsts, compaction.span[1]))
            for compaction in compactions
        ]
        self.visits = sum(high - low for low, high in bounds)
        if self.visits > VISITS:
            return
        # What each fold may have taken, what stands at the ends of its span, and what came to be since the one before.
        self.may = [{i for i in by_seq[low:high] if atoms[i][1]} for low, high in bounds]
        at = dict(zip(firsts, by_seq, strict=True))
        self.ends = [
            {at.get(seq, NOWHERE) for seq in (compaction.from_seq, compaction.to_seq) if seq is not None}
            for compaction in compactions
        ]
        notes = [
            0,
            *(
                len(atoms) if compaction.note_seq is None else bisect_left(firsts, compaction.note_seq)
                for compaction in compactions
            ),
        ]
        self.born = [by_seq[before:now] for before, now in pairwise(notes)]
        self.in_order = notes == sorted(notes)
        self.last_may = {i: k for k, may in enumerate(self.may) for i in may}
        self.last_end = {i: k for k, ends in enumerate(self.ends) for i in ends}
        self.due: list[list[int]] = [[] for _ in compactions]
        for i, k in sorted(self.last_may.items()):
            self.due[k].append(i)

    def solve(self, certain: Sequence[bool]) -> list[Taken]:
        """What each fold took. Where one is not `sure` to have taken a stretch, the others cannot lean on it."""
        if self.visits > VISITS:
            return [
                Taken(tuple(within(self.compacted, *compaction.span)), Certainty.UNKNOWN)
                for compaction in self.compactions
            ]
        if all(certain) and self.in_order:
            self._search()
        if len(self.answers) == 1 and self.visits <= VISITS:
            took: list[Taken] = []
            link: _Took | None = self.answers[0]
            while link is not None:
                took.append(self._taken(link[1], Certainty.INFERRED))
                link = link[0]
            return took[::-1]
        return self._by_candidates(certain)

    def _taken(self, atoms: Iterable[int], certainty: Certainty) -> Taken:
        return Taken(tuple(union([self.atoms[i] for i in atoms])), certainty)

    def _search(self) -> None:
        """Goes through the folds in order, depth first, until two answers are found or it takes too long."""
        # A line, the stretch of it to try for the fold before k, and what the folds before that took.
        open_: list[tuple[int, list[int], Run, _Took | None]] = [(0, [], (0, -1), None)]
        while open_ and len(self.answers) < 2 and self.visits <= VISITS:
            k, line, (first, last), took = open_.pop()
            took = (took, line[first : last + 1]) if k else None
            if k == len(self.compactions):
                self.answers.extend([took] if took else [])
                continue
            line = sorted(line[:first] + line[last + 1 :] + self.born[k])
            self.visits += 1 + len(line) // 16
            for stretch in self._stretches(k, line):
                self.visits += 1
                if self.visits > VISITS:
                    break
                open_.append((k + 1, line, stretch, took))

    def _stretches(self, k: int, line: list[int]) -> Iterator[Run]:
        """The stretches of the line that fold k may have taken: with both of its ends and all that no later one may."""
        low, high = (bisect_left(line, end) for end in (min(self.ends[k]), max(self.ends[k])))
        stands = high < len(line) and {line[low], line[high]} == self.ends[k]
        if not stands or not self.may[k].issuperset(line[low : high + 1]):
            return
        first, last = low, high
        while first and self._spare(k, line[first - 1]):
            first -= 1
        while last + 1 < len(line) and self._spare(k, line[last + 1]):
            last += 1
        self.visits += last - first
        due = [at for i in self.due[k] if (at := bisect_left(line, i)) < len(line) and line[at] == i]
        for a in range(first, min([low, *due[:1]]) + 1):
            for b in range(max([high, *due[-1:]]), last + 1):
                yield a, b

    def _spare(self, k: int, i: int) -> bool:
        return i in self.may[k] and self.last_end.get(i, 0) <= k

    def _by_candidates(self, certain: Sequence[bool]) -> list[Taken]:
        """Without the assumption of stretches: a row belongs to a fold for certain if it is the only one it fits."""
        owner: dict[int, int] = {}
        for k, may in enumerate(self.may):
            owner.update((i, SHARED if i in owner else k) for i in may)
        if self.answers:
            # Each fold did take the ends of its span if it took an exact set, which answers speak for.
            owner.update((i, k) for k, ends in reversed(list(enumerate(self.ends))) for i in ends & self.may[k])
        taken: list[Taken] = []
        for k, may in enumerate(self.may):
            own = {i for i in may if owner[i] == k}
            shared = {i for i in may if owner[i] == SHARED}
            inferred = certain[k] and not shared and self.ends[k] <= own
            taken.append(self._taken(own | shared, Certainty.INFERRED if inferred else Certainty.UNKNOWN))
        return taken


def _cut(runs: Runs, cuts: list[int]) -> list[Run]:
    """Cut runs so that each seq of `cuts` begins a run."""
    pieces: list[Run] = []
    for first, last in runs:
        starts = [first, *cuts[bisect_right(cuts, first) : bisect_right(cuts, last)]]
        pieces += zip(starts, [*(start - 1 for start in starts[1:]), last], strict=True)
    return pieces


def anomalies_of(
    compaction: CompactionRecord, taken: Taken, earlier: Sequence[CompactionRecord], seqs: Runs
) -> list[str]:
    """Return what is strange about a compaction, in words. `seqs` are all seqs of the session now."""
    anomalies: list[str] = []
    if compaction.from_seq is None or compaction.to_seq is None:
        return ["its span is not recorded as numbers"]
    if compaction.from_seq > compaction.to_seq:
        anomalies.append("its span is inverted")
    if compaction.note_seq is not None and max(compaction.from_seq, compaction.to_seq) >= compaction.note_seq:
        anomalies.append("its span reaches past the end the session had")
    if compaction.note_seq is None or not holds(seqs, compaction.note_seq):
        anomalies.append("its note is missing")
    if compaction.ord is None and any(_meet(_stated(compaction), _stated(other)) for other in earlier):
        anomalies.append("its span overlaps an earlier one")
    if taken.rows == 0 and not taken.undone:
        anomalies.append("it took no row that is still here")
    if taken.certainty is Certainty.UNKNOWN and not taken.undone:
        pruned = gaps(seqs, max(1, compaction.span[0]), compaction.span[1])
        anomalies.append("rows in its span are gone" if pruned else "more than one set of rows fits what is recorded")
    return anomalies


def _stated(compaction: CompactionRecord) -> Run:
    return (
        (1, 0) if compaction.from_seq is None or compaction.to_seq is None else (compaction.from_seq, compaction.to_seq)
    )
