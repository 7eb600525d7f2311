"""Which rows each compaction took, worked out from what the archive recorded. Pure.

power-loop before 0.14.1 folded every row of a span; its later releases fold an exact set of which only the smallest and
the largest seq are kept. A set is then found by replaying the folds over the logical order: each took a stretch of what
was active at that time. Where more than one history fits, the set is unknown, and we say so.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from .outline import Run, Runs, holds, size, union, within, without
from .rows import Certainty

ATOMS, STEPS = 2_000, 20_000


class Fold(Struct, frozen=True):
    """One audit row. `ord` is the note's place in the logical order where it has one; `recorded` a stored set."""

    number: int
    from_seq: int | None
    to_seq: int | None
    note_seq: int | None
    before_tokens: int | None = None
    after_tokens: int | None = None
    ord: int | None = None
    recorded: tuple[Run, ...] | None = None


class Taken(Struct, frozen=True):
    """What a fold took. Where the set is unknown, `runs` holds every row it may have taken."""

    runs: tuple[Run, ...]
    certainty: Certainty
    undone: bool = False

    @property
    def rows(self) -> int | None:
        return None if self.certainty is Certainty.UNKNOWN else size(self.runs)


def undone_folds(folds: Sequence[Fold]) -> tuple[set[int], set[int]]:
    """Positions of folds that were taken back, and of the audit rows that say so.

    An undo is a later audit row for the same note and span with the tokens swapped.
    """
    undone: set[int] = set()
    undoing: set[int] = set()
    open_folds: dict[int, int] = {}
    for at, fold in enumerate(folds):
        if fold.note_seq is None:
            continue
        before = open_folds.get(fold.note_seq)
        if before is not None and _takes_back(folds[before], fold):
            undone.add(before)
            undoing.add(at)
            del open_folds[fold.note_seq]
        else:
            open_folds[fold.note_seq] = at
    return undone, undoing


def _takes_back(fold: Fold, later: Fold) -> bool:
    return (fold.from_seq, fold.to_seq, fold.before_tokens, fold.after_tokens) == (
        later.from_seq,
        later.to_seq,
        later.after_tokens,
        later.before_tokens,
    )


def explain(folds: Sequence[Fold], folded: Runs, active: Runs) -> tuple[dict[int, Taken], list[Run]]:
    """What each fold took, by its position in `folds`, and the folded seqs that no fold accounts for.

    `folded` and `active` are the seqs that are compacted out and in context now. Audit rows that only take another back
    are left out of the answer.
    """
    undone, undoing = undone_folds(folds)
    taken: dict[int, Taken] = {}
    left = list(folded)
    for at, fold in enumerate(folds):
        if fold.recorded is not None and at not in undoing:
            taken[at] = Taken(fold.recorded, Certainty.RECORDED, at in undone)
            if at not in undone:
                left = without(left, fold.recorded)
    replayed: list[int] = []
    for at, fold in enumerate(folds):
        if at in taken or at in undoing:
            continue
        if at in undone or fold.from_seq is None or fold.to_seq is None:
            taken[at] = Taken((), Certainty.UNKNOWN, at in undone)
        elif fold.ord is None or fold.from_seq > fold.to_seq:
            runs = _span(fold, left)
            taken[at] = Taken(tuple(runs), Certainty.INFERRED)
            left = without(left, runs)
        else:
            replayed.append(at)
    if replayed:
        for at, found in _Replay([folds[at] for at in replayed], left, active).solve(replayed).items():
            taken[at] = found
        left = without(left, union(*(taken[at].runs for at in replayed)))
    return taken, left


def _span(fold: Fold, left: Runs) -> list[Run]:
    """The rows of a fold that took its whole span: whatever stood there before its note was written."""
    if fold.from_seq is None or fold.to_seq is None:
        return []
    last = fold.to_seq if fold.note_seq is None else min(fold.to_seq, fold.note_seq - 1)
    return within(left, fold.from_seq, last)


class _Replay:
    """Finds the stretches that a series of folds took, at most two different answers.

    Rows are handled as atoms: runs in which no fold begins or ends. Wherever an atom could be shared between two folds
    it could also go to either as a whole, so two answers over atoms mean that the rows are ambiguous.
    """

    def __init__(self, folds: list[Fold], folded: Runs, active: Runs) -> None:
        self.folds, self.folded = folds, folded
        places = {fold.note_seq: fold.ord for fold in folds if fold.note_seq is not None and fold.ord is not None}
        cuts = sorted({cut for fold in folds for seq in (fold.from_seq, fold.to_seq, fold.note_seq)
                       if seq is not None for cut in (seq, seq + 1)})
        atoms = [(run, True) for run in _cut(folded, cuts)] + [(run, False) for run in _cut(active, cuts)]
        atoms.sort(key=lambda atom: (places.get(atom[0][0]) or atom[0][0], atom[0][0]))
        self.atoms = [run for run, _ in atoms]
        self.gone = [was for _, was in atoms]
        self.ends = [{i for i, (first, last) in enumerate(self.atoms) if first in ends or last in ends}
                     for ends in ((fold.from_seq, fold.to_seq) for fold in folds)]
        self.may = [[k for k, fold in enumerate(folds) if self._may(k, i)] for i in range(len(self.atoms))]
        self.steps = 0
        self.answers: list[list[frozenset[int]]] = []

    def _may(self, k: int, i: int) -> bool:
        fold, (first, last) = self.folds[k], self.atoms[i]
        return (
            self.gone[i] and fold.from_seq is not None and fold.to_seq is not None
            and fold.from_seq <= first and last <= fold.to_seq
            and (fold.note_seq is None or last < fold.note_seq)
        )

    def solve(self, positions: list[int]) -> dict[int, Taken]:
        if len(self.atoms) <= ATOMS:
            self._try(0, [])
        if len(self.answers) == 1 and self.steps <= STEPS:
            return {at: self._taken(took, Certainty.INFERRED)
                    for at, took in zip(positions, self.answers[0], strict=True)}
        return self._by_candidates(positions)

    def _taken(self, atoms: frozenset[int], certainty: Certainty) -> Taken:
        return Taken(tuple(union([self.atoms[i] for i in atoms])), certainty)

    def _try(self, k: int, took: list[frozenset[int]]) -> None:
        self.steps += 1
        if len(self.answers) > 1 or self.steps > STEPS:
            return
        before = frozenset().union(*took)
        if k == len(self.folds):
            if all(i in before or not self.may[i] for i in range(len(self.atoms))):
                self.answers.append(took)
            return
        note = self.folds[k].note_seq
        line = [i for i, (_, last) in enumerate(self.atoms) if i not in before and (note is None or last < note)]
        at = [x for x, i in enumerate(line) if i in self.ends[k]]
        if len({self.atoms[line[x]] for x in at}) < len({self.folds[k].from_seq, self.folds[k].to_seq}):
            return
        low, high = at[0], at[-1]
        if not all(k in self.may[i] for i in line[low : high + 1]):
            return
        lows, highs = [low], [high]
        while lows[-1] and self._spare(k, line[lows[-1] - 1]):
            lows.append(lows[-1] - 1)
        while highs[-1] + 1 < len(line) and self._spare(k, line[highs[-1] + 1]):
            highs.append(highs[-1] + 1)
        for first in reversed(lows):
            for last in reversed(highs):
                rest = line[:first] + line[last + 1 :]
                if all(any(later > k for later in self.may[i]) or not self.may[i] for i in rest):
                    self._try(k + 1, [*took, frozenset(line[first : last + 1])])

    def _spare(self, k: int, i: int) -> bool:
        return k in self.may[i] and not any(i in ends for ends in self.ends[k + 1 :])

    def _by_candidates(self, positions: list[int]) -> dict[int, Taken]:
        """Without the assumption of stretches: a row belongs to a fold for certain if it is the only one it fits."""
        owner = [next((k for k in may if i in self.ends[k]), may[0] if len(may) == 1 else None)
                 for i, may in enumerate(self.may)]
        taken: dict[int, Taken] = {}
        for k, at in enumerate(positions):
            sure = frozenset(i for i, own in enumerate(owner) if own == k)
            maybe = frozenset(i for i, may in enumerate(self.may) if k in may and owner[i] is None)
            ends = {seq for seq in (self.folds[k].from_seq, self.folds[k].to_seq) if seq is not None}
            found = all(any(first <= seq <= last for first, last in (self.atoms[i] for i in sure)) for seq in ends)
            certain = not maybe and found and len(self.atoms) <= ATOMS
            taken[at] = self._taken(sure | maybe, Certainty.INFERRED if certain else Certainty.UNKNOWN)
        return taken


def _cut(runs: Runs, cuts: list[int]) -> list[Run]:
    """The runs, cut so that each seq of `cuts` begins a run."""
    pieces: list[Run] = []
    for first, last in runs:
        for cut in cuts:
            if first < cut <= last:
                pieces.append((first, cut - 1))
                first = cut
        pieces.append((first, last))
    return pieces


def oddities(fold: Fold, taken: Taken, earlier: Sequence[Fold], seqs: Runs) -> list[str]:
    """What is strange about a fold, in words; `seqs` are all seqs of the session now."""
    odd: list[str] = []
    if fold.from_seq is None or fold.to_seq is None:
        return ["its span is not recorded as numbers"]
    if fold.from_seq > fold.to_seq:
        odd.append("its span is inverted")
    if fold.note_seq is not None and max(fold.from_seq, fold.to_seq) >= fold.note_seq:
        odd.append("its span reaches past the end the session had")
    if fold.note_seq is None or not holds(seqs, fold.note_seq):
        odd.append("its note is missing")
    if fold.ord is None and any(_overlap(fold, other) for other in earlier):
        odd.append("its span overlaps an earlier one")
    if taken.rows == 0 and not taken.undone:
        odd.append("it took no row that is still here")
    if taken.certainty is Certainty.UNKNOWN and not taken.undone:
        odd.append("more than one set of rows fits what is recorded")
    return odd


def _overlap(fold: Fold, other: Fold) -> bool:
    if None in (fold.from_seq, fold.to_seq, other.from_seq, other.to_seq):
        return False
    assert fold.from_seq is not None and fold.to_seq is not None
    assert other.from_seq is not None and other.to_seq is not None
    return fold.from_seq <= other.to_seq and other.from_seq <= fold.to_seq
