"""Which rows each compaction compacted, worked out from what the archive recorded. Pure.

power-loop before 0.14.1 compacted every row of a span. Later releases compact an exact set, of which only the smallest
and the largest seq are recorded. Such a set is found by replaying the compactions over the logical order: each took a
contiguous stretch of what was active at that time. If more than one history fits, the set is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from sessionscope.store.model.outline import Run, Runs, gaps, holds, union, within, without
from sessionscope.store.model.rows import Certainty

from .compaction_replay import CompactionRecord, Replay, Taken

__all__ = ["CompactionRecord", "Taken", "anomalies_of", "explain", "undone_compactions"]


def undone_compactions(compactions: Sequence[CompactionRecord]) -> tuple[set[int], set[int]]:
    """Return the positions of compactions that were undone, and of the audit rows that undo them.

    An undo is a later audit row for the same note and span with the tokens swapped.
    """
    undone: set[int] = set()
    undoing: set[int] = set()
    in_force_by_note: dict[int, int] = {}
    for index, compaction in enumerate(compactions):
        if compaction.note_seq is None:
            continue
        before = in_force_by_note.get(compaction.note_seq)
        if before is not None and _undoes(compaction, compactions[before]):
            undone.add(before)
            undoing.add(index)
            del in_force_by_note[compaction.note_seq]
        else:
            in_force_by_note[compaction.note_seq] = index
    return undone, undoing


def _undoes(later: CompactionRecord, compaction: CompactionRecord) -> bool:
    return (compaction.from_seq, compaction.to_seq, compaction.before_tokens, compaction.after_tokens) == (
        later.from_seq,
        later.to_seq,
        later.after_tokens,
        later.before_tokens,
    )


def explain(
    compactions: Sequence[CompactionRecord], compacted: Runs, active: Runs, missing: Runs = ()
) -> tuple[dict[int, Taken], list[Run]]:
    """Return what each compaction took, by its position, and the compacted seqs that none accounts for.

    `compacted` and `active` are the seqs that are compacted and in the context now, `missing` those that are pruned or
    damaged, so that it cannot be said. Audit rows that only undo another are left out of the answer.
    """
    explanation = _Explanation(compactions, compacted)
    explanation.take_recorded()
    explanation.take_whole_spans()
    explanation.replay_the_rest(active)
    explanation.doubt_where_rows_are(missing)
    return explanation.taken, explanation.left


class _Explanation:
    """What each compaction took, as far as it is worked out, and the compacted seqs that are left to account for."""

    def __init__(self, compactions: Sequence[CompactionRecord], compacted: Runs) -> None:
        self._compactions = compactions
        self._undone, self._undoing = undone_compactions(compactions)
        self._doubtful = _between_undos(compactions, self._undone, self._undoing)
        """Compactions of which it is not known what they saw."""
        self._to_replay: list[int] = []
        self.taken: dict[int, Taken] = {}
        # An undo leaves its note compacted, so no compaction needs to account for that.
        undone_notes = [note for at in self._undone if (note := compactions[at].note_seq) is not None]
        self.left = without(compacted, union([(note, note) for note in undone_notes]))

    def take_recorded(self) -> None:
        """Take the sets that the archive recorded."""
        for index, compaction in enumerate(self._compactions):
            if compaction.recorded is not None and index not in self._undoing:
                undone = index in self._undone
                self.taken[index] = Taken(compaction.recorded, Certainty.RECORDED, undone)
                if not undone:
                    self.left = without(self.left, compaction.recorded)

    def take_whole_spans(self) -> None:
        """Take the spans of compactions that took everything in them. The others are to be replayed."""
        for index, compaction in enumerate(self._compactions):
            if index in self.taken or index in self._undoing:
                continue
            if index in self._undone or compaction.from_seq is None or compaction.to_seq is None:
                self.taken[index] = Taken((), Certainty.UNKNOWN, index in self._undone)
            elif compaction.from_seq > compaction.to_seq:
                self.taken[index] = Taken((), Certainty.INFERRED)
            elif self._took_whole_span(index):
                self.taken[index] = Taken(tuple(within(self.left, *compaction.span)), Certainty.INFERRED)
                self.left = without(self.left, self.taken[index].runs)
            else:
                self._to_replay.append(index)
                if compaction.ord is None:
                    self._doubtful.add(index)

    def _took_whole_span(self, index: int) -> bool:
        """Return whether a compaction took every row of its span that was there before its note was written.

        One whose note has a place in the logical order took an exact set.
        """
        compaction = self._compactions[index]
        if not compaction.note_readable or compaction.ord is not None or index in self._doubtful:
            return False
        return not any(_meet(compaction.span, self._compactions[before].span) for before in self._to_replay)

    def replay_the_rest(self, active: Runs) -> None:
        """Find the exact sets that are not recorded."""
        if not self._to_replay:
            return
        orders = {
            compaction.note_seq: compaction.ord
            for compaction in self._compactions
            if compaction.note_seq is not None and compaction.ord is not None
        }
        certain = [at not in self._doubtful for at in self._to_replay]
        replay = Replay([self._compactions[at] for at in self._to_replay], self.left, active, orders)
        answers = replay.solve(certain)
        self.taken.update(zip(self._to_replay, answers, strict=True))
        self.left = without(self.left, union(*(answer.runs for answer in answers)))

    def doubt_where_rows_are(self, missing: Runs) -> None:
        """Infer nothing of a span in which rows are missing."""
        for index, taken in self.taken.items():
            if taken.certainty is Certainty.INFERRED and within(missing, *self._compactions[index].span):
                self.taken[index] = Taken(taken.runs, Certainty.UNKNOWN)


def _between_undos(compactions: Sequence[CompactionRecord], undone: set[int], undoing: set[int]) -> set[int]:
    """Return the compactions made while another, undone since, was in force over the same rows.

    What they saw is not known.
    """
    doubtful: set[int] = set()
    for index in undone:
        note = compactions[index].note_seq
        undone_at = next(later for later in sorted(undoing) if later > index and compactions[later].note_seq == note)
        for between in range(index + 1, undone_at):
            span = compactions[between].span
            if _meet(span, compactions[index].span) or _meet(span, (note or 0, note or 0)):
                doubtful.add(between)
    return doubtful


def _meet(run: Run, other: Run) -> bool:
    """Return whether two runs share a seq."""
    return max(run[0], other[0]) <= min(run[1], other[1])


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
