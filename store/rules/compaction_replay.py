"""Finds the exact sets of a series of compactions by replaying them over the logical order. Pure.

Each took a contiguous stretch of what was active at that time. Rows are handled as atoms: runs in which no compaction
begins or ends, numbered in logical order. If an atom could be shared between two compactions, it could also belong to
either as a whole. So two answers over atoms mean that the rows are ambiguous.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Optional

from msgspec import Struct

from sessionscope.store.model.outline import Run, Runs, size, union, within
from sessionscope.store.model.rows import Certainty

NO_ATOM = -1
"""Stands for an end of a span at which there is no row."""
SHARED = -1
"""Stands for the owner of an atom that several compactions may have taken."""
MOST_ATOMS = 20_000
"""How many atoms a replay handles."""
MOST_VISITS = 2_000_000
"""How many atoms a replay visits before it gives up: about a second of work."""
_Path = tuple[Optional["_Path"], list[int]]
"""The atoms that a compaction took, after those that the compactions before it took."""


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
        """The seqs that it may have compacted: those of its span that are older than its note.

        None at all if the span is inverted or no number.
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


class Replay:
    """The compactions of a session whose sets are not recorded, and the rows that they may have taken."""

    def __init__(
        self, compactions: list[CompactionRecord], compacted: Runs, active: Runs, orders: dict[int, int]
    ) -> None:
        """`orders` gives the place in the logical order of each note that has one, by its seq."""
        self._compactions, self._compacted = compactions, compacted
        self._answers: list[_Path] = []
        self._visits = MOST_VISITS + 1
        if len(compacted) + len(active) + 4 * len(compactions) + 2 * len(orders) > MOST_ATOMS:
            return
        self._atoms, is_compacted = _atoms(compactions, compacted, active, orders)
        by_seq = sorted(range(len(self._atoms)), key=self._atoms.__getitem__)
        firsts = [self._atoms[atom][0] for atom in by_seq]
        bounds = [
            (bisect_left(firsts, compaction.span[0]), bisect_right(firsts, compaction.span[1]))
            for compaction in compactions
        ]
        self._visits = sum(high - low for low, high in bounds)
        if self._visits > MOST_VISITS:
            return
        self._candidates = [{atom for atom in by_seq[low:high] if is_compacted[atom]} for low, high in bounds]
        """The atoms that each compaction may have taken."""
        atom_at = dict(zip(firsts, by_seq, strict=True))
        self._ends = [
            {atom_at.get(seq, NO_ATOM) for seq in (compaction.from_seq, compaction.to_seq) if seq is not None}
            for compaction in compactions
        ]
        """The atoms at the ends of the span of each compaction."""
        noted_at = [
            len(firsts) if compaction.note_seq is None else bisect_left(firsts, compaction.note_seq)
            for compaction in compactions
        ]
        self._written_before = [by_seq[before:now] for before, now in pairwise([0, *noted_at])]
        """The atoms that were written between the compaction before and each compaction."""
        self._in_order = noted_at == sorted(noted_at)
        self._last_end = {atom: index for index, ends in enumerate(self._ends) for atom in ends}
        """The last compaction at an end of whose span each atom is."""
        last_candidate = {atom: index for index, atoms in enumerate(self._candidates) for atom in atoms}
        self._must_take: list[list[int]] = [[] for _ in compactions]
        """The atoms that no later compaction may have taken, for each compaction."""
        for atom, index in sorted(last_candidate.items()):
            self._must_take[index].append(atom)

    def solve(self, certain: Sequence[bool]) -> list[Taken]:
        """Return what each compaction took.

        If it is not `certain` that all took a contiguous stretch, none can be inferred from the others.
        """
        if self._visits > MOST_VISITS:
            return [
                Taken(tuple(within(self._compacted, *compaction.span)), Certainty.UNKNOWN)
                for compaction in self._compactions
            ]
        if all(certain) and self._in_order:
            self._search()
        if len(self._answers) == 1 and self._visits <= MOST_VISITS:
            return self._unique_answer()
        return self._by_candidates(certain)

    def _unique_answer(self) -> list[Taken]:
        taken: list[Taken] = []
        path: _Path | None = self._answers[0]
        while path is not None:
            path, atoms = path
            taken.append(self._taken(atoms, Certainty.INFERRED))
        return taken[::-1]

    def _taken(self, atoms: Iterable[int], certainty: Certainty) -> Taken:
        return Taken(tuple(union([self._atoms[atom] for atom in atoms])), certainty)

    def _search(self) -> None:
        """Go through the compactions in order, depth first, until two answers are found or it takes too long."""
        # The index of a compaction, the atoms that are active, the stretch of them that the compaction before took, and
        # what those before that took.
        pending: list[tuple[int, list[int], Run, _Path | None]] = [(0, [], (0, -1), None)]
        while pending and len(self._answers) < 2 and self._visits <= MOST_VISITS:
            index, active, (first, last), path = pending.pop()
            path = (path, active[first : last + 1]) if index else None
            if index == len(self._compactions):
                self._answers.extend([path] if path else [])
                continue
            active = sorted(active[:first] + active[last + 1 :] + self._written_before[index])
            self._visits += 1 + len(active) // 16
            for stretch in self._stretches(index, active):
                self._visits += 1
                if self._visits > MOST_VISITS:
                    break
                pending.append((index + 1, active, stretch, path))

    def _stretches(self, index: int, active: list[int]) -> Iterator[Run]:
        """Yield the stretches of the active atoms that a compaction may have taken, as first and last index.

        Each holds both ends of its span, and every atom that no later compaction may have taken.
        """
        ends = self._ends[index]
        low, high = bisect_left(active, min(ends)), bisect_left(active, max(ends))
        ends_are_active = high < len(active) and {active[low], active[high]} == ends
        if not ends_are_active or not self._candidates[index].issuperset(active[low : high + 1]):
            return
        first, last = low, high
        while first and self._may_add(index, active[first - 1]):
            first -= 1
        while last + 1 < len(active) and self._may_add(index, active[last + 1]):
            last += 1
        self._visits += last - first
        must_take = [at for atom in self._must_take[index] if (at := _index_of(active, atom)) is not None]
        for start in range(first, min([low, *must_take[:1]]) + 1):
            for stop in range(max([high, *must_take[-1:]]), last + 1):
                yield start, stop

    def _may_add(self, index: int, atom: int) -> bool:
        """Return whether a compaction may have taken an atom that is no end of a later span."""
        return atom in self._candidates[index] and self._last_end.get(atom, 0) <= index

    def _by_candidates(self, certain: Sequence[bool]) -> list[Taken]:
        """Return what each took without assuming stretches: for certain only rows that fit no other compaction."""
        owner: dict[int, int] = {}
        for index, atoms in enumerate(self._candidates):
            owner.update((atom, SHARED if atom in owner else index) for atom in atoms)
        if self._answers:
            # There are answers, so each took an exact set, which includes the ends of its span.
            for index, ends in reversed(list(enumerate(self._ends))):
                owner.update((atom, index) for atom in ends & self._candidates[index])
        taken: list[Taken] = []
        for index, atoms in enumerate(self._candidates):
            own = {atom for atom in atoms if owner[atom] == index}
            shared = {atom for atom in atoms if owner[atom] == SHARED}
            inferred = certain[index] and not shared and self._ends[index] <= own
            taken.append(self._taken(own | shared, Certainty.INFERRED if inferred else Certainty.UNKNOWN))
        return taken


def _atoms(
    compactions: Sequence[CompactionRecord], compacted: Runs, active: Runs, orders: dict[int, int]
) -> tuple[list[Run], list[bool]]:
    """Return the atoms in logical order, and whether each is compacted now."""
    seqs: set[int | None] = {*orders}
    for compaction in compactions:
        seqs |= {compaction.from_seq, compaction.to_seq, compaction.note_seq}
    cuts = sorted({cut for seq in seqs if seq is not None for cut in (seq, seq + 1)})
    atoms = [(run, True) for run in _cut(compacted, cuts)] + [(run, False) for run in _cut(active, cuts)]
    atoms.sort(key=lambda atom: (orders.get(atom[0][0], atom[0][0]), atom[0][0]))
    return [run for run, _ in atoms], [is_compacted for _, is_compacted in atoms]


def _cut(runs: Runs, cuts: list[int]) -> list[Run]:
    """Cut runs so that each seq of `cuts` begins a run."""
    pieces: list[Run] = []
    for first, last in runs:
        starts = [first, *cuts[bisect_right(cuts, first) : bisect_right(cuts, last)]]
        pieces += zip(starts, [*(start - 1 for start in starts[1:]), last], strict=True)
    return pieces


def _index_of(ascending: list[int], value: int) -> int | None:
    """Return the index of a value in an ascending list, None if it is not there."""
    index = bisect_left(ascending, value)
    return index if index < len(ascending) and ascending[index] == value else None
