"""What each fold took, worked out from audit rows and states, against histories of which we know what happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionscope.store import Certainty, Ref
from sessionscope.store.model.outline import runs_of
from sessionscope.store.rules import compaction_replay as r
from sessionscope.store.rules.compaction_history import (
    CompactionRecord,
    Taken,
    anomalies_of,
    explain,
    undone_compactions,
)

from .helpers import build, fill, only, raw


class History:
    """A session as power-loop writes it, row by row, and what each fold of it really took."""

    def __init__(self, rows: int = 0) -> None:
        self.states: dict[int, str] = {}
        self.ords: dict[int, int] = {}
        self.next_seq = 1
        self.compactions: list[CompactionRecord] = []
        self.truth: dict[int, set[int]] = {}
        self.append(rows)

    def append(self, rows: int) -> None:
        for _ in range(rows):
            self.states[self.next_seq] = "active"
            self.next_seq += 1

    def line(self) -> list[int]:
        """The active rows in logical order."""
        return sorted(
            (seq for seq, state in self.states.items() if state == "active"),
            key=lambda seq: (self.ords.get(seq, seq), seq),
        )

    def _note(self, from_seq: int, to_seq: int, took: set[int], order: int | None, recorded: bool) -> None:
        note, number = self.next_seq, len(self.compactions) + 1
        self.append(1)
        if order is not None:
            self.ords[note] = order
        self.truth[len(self.compactions)] = took
        self.compactions.append(
            CompactionRecord(
                number,
                from_seq,
                to_seq,
                note,
                1_000 + number,
                number,
                order,
                tuple(runs_of(sorted(took))) if recorded else None,
            )
        )

    def fold_span(self, from_seq: int, to_seq: int) -> None:
        """As 0.2.0 folds: whatever stands between, with a note without a place of its own."""
        took = {seq for seq, state in self.states.items() if state == "active" and from_seq <= seq <= to_seq}
        self._fold(took)
        self._note(from_seq, to_seq, took, None, False)

    def fold_exact(self, start: int, count: int, recorded: bool = False) -> None:
        """As 0.14.1 and later fold: a stretch of the logical order, of which the smallest and largest seq are kept."""
        line = self.line()
        if not line:
            return
        start %= len(line)
        took = line[start : start + count]
        self._fold(set(took))
        self._note(min(took), max(took), set(took), self.ords.get(took[0], took[0]), recorded)

    def _fold(self, took: set[int]) -> None:
        for seq in took:
            self.states[seq] = "compacted_out"

    def undo(self, which: int) -> None:
        """As our own Uncompact does it: rows and note change places, and a second audit row says so."""
        undone, undoing = undone_compactions(self.compactions)
        able = [
            at
            for at, compaction in enumerate(self.compactions)
            if at not in undone | undoing
            and at in self.truth
            and compaction.note_seq is not None
            and self.states.get(compaction.note_seq) == "active"
        ]
        if not able:
            return
        at = able[which % len(able)]
        compaction = self.compactions[at]
        assert compaction.note_seq is not None
        for seq in self.truth[at]:
            if seq in self.states:
                self.states[seq] = "active"
        self.states[compaction.note_seq] = "compacted_out"
        self.compactions.append(
            CompactionRecord(
                len(self.compactions) + 1,
                compaction.from_seq,
                compaction.to_seq,
                compaction.note_seq,
                compaction.after_tokens,
                compaction.before_tokens,
                compaction.ord,
                compaction.recorded,
            )
        )

    def prune(self, keep: int) -> None:
        """As 0.15 and later prune: the oldest folded rows are gone."""
        folded = sorted(seq for seq, state in self.states.items() if state == "compacted_out")
        for seq in folded[: len(folded) - keep]:
            del self.states[seq]

    def seen(self) -> list[CompactionRecord]:
        """The audit rows as a reader finds them: a pruned note tells nothing any more."""
        return [
            compaction
            if compaction.note_seq in self.states
            else CompactionRecord(
                compaction.number,
                compaction.from_seq,
                compaction.to_seq,
                compaction.note_seq,
                compaction.before_tokens,
                compaction.after_tokens,
                note_readable=not self.ords,
            )
            for compaction in self.compactions
        ]

    def explain(self) -> tuple[dict[int, Taken], list[tuple[int, int]]]:
        by_state = {
            state: runs_of(sorted(seq for seq, was in self.states.items() if was == state))
            for state in ("compacted_out", "active")
        }
        missing = runs_of(seq for seq in range(1, max(self.states, default=0)) if seq not in self.states)
        return explain(self.seen(), by_state["compacted_out"], by_state["active"], missing)

    def check(self) -> dict[int, Taken]:
        """Nothing that is said of a fold may be wrong."""
        taken, unexplained = self.explain()
        undone, undoing = undone_compactions(self.compactions)
        assert set(taken) == set(range(len(self.compactions))) - undoing
        accounted: set[int] = set()
        for at, found in taken.items():
            said, truth = _seqs(found.runs), self.truth[at]
            assert found.undone is (at in undone)
            if found.certainty is Certainty.UNKNOWN:
                assert found.rows is None
            else:
                assert said == truth, (at, found, truth)
                assert found.rows == len(truth)
            accounted |= said
        left = _seqs(unexplained)
        notes = {self.compactions[at].note_seq for at in undone}
        folded = {seq for seq, state in self.states.items() if state == "compacted_out"}
        assert left <= folded - accounted - notes
        return taken


def _seqs(runs: Any) -> set[int]:
    return {seq for first, last in runs for seq in range(first, last + 1)}


INTS = st.integers(0, 30)


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(-2, 40), st.integers(-2, 40)), max_size=8))
def test_folds_of_a_span_are_all_known(steps: list[tuple[int, int, int]]) -> None:
    history = History()
    for rows, first, last in steps:
        history.append(rows)
        history.fold_span(first, last)
    history.append(3)
    assert all(found.certainty is Certainty.INFERRED for found in history.check().values())
    assert history.explain()[1] == []


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, 6), INTS, st.integers(1, 12)), max_size=7))
def test_exact_folds_are_never_told_wrong(steps: list[tuple[int, int, int]]) -> None:
    history = History(4)
    for rows, start, count in steps:
        history.append(rows)
        history.fold_exact(start, count)
    taken = history.check()
    for at, found in taken.items():
        assert history.truth[at] <= _seqs(found.runs)
    assert history.explain()[1] == []


@given(st.integers(1, 3), st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=40))
def test_the_folds_of_an_agent_at_work_are_all_known(keep: int, steps: list[tuple[int, int]]) -> None:
    """The loop folds everything but a tail, the last note included."""
    history = History(keep + 1)
    for rows, tail in steps:
        history.append(rows + tail)
        history.fold_exact(0, max(1, len(history.line()) - tail))
    assert all(found.certainty is Certainty.INFERRED for found in history.check().values())


EVENTS = ("append", "exact", "recorded", "span", "undo", "prune")
STEPS = st.lists(st.tuples(st.sampled_from(EVENTS), INTS, st.integers(1, 12)), max_size=14)


def _happen(steps: list[tuple[str, int, int]]) -> History:
    history = History(6)
    for what, a, b in steps:
        match what:
            case "append":
                history.append(b)
            case "exact" | "recorded":
                history.fold_exact(a, b, recorded=what == "recorded")
            case "span":
                history.fold_span(a, a + b)
            case "undo":
                history.undo(a)
            case "prune":
                history.prune(b)
    return history


@settings(max_examples=500)
@given(STEPS)
def test_whatever_happened_nothing_is_told_wrong(steps: list[tuple[str, int, int]]) -> None:
    _happen(steps).check()


@pytest.mark.parametrize(
    ("events", "known"),
    [
        (("append", "exact"), 0.8),
        (("append", "exact", "recorded"), 0.95),
        (("append", "exact", "undo"), 0.3),
        (("append", "span", "exact"), 0.4),
        (("append", "span", "undo"), 0.3),
        (("append", "exact", "prune"), 0.2),
        (EVENTS, 0.4),
    ],
)
def test_many_histories_and_how_much_is_known_of_them(events: tuple[str, ...], known: float) -> None:
    """Nothing wrong in any of them, and not because all is called unknown."""
    chance, said = Random(1), []
    for _ in range(700):
        steps = [(chance.choice(events), chance.randint(0, 30), chance.randint(1, 12)) for _ in range(14)]
        said += [found.certainty for found in _happen(steps).check().values()]
    assert sum(certainty is not Certainty.UNKNOWN for certainty in said) / len(said) > known


def test_an_undo_pair_is_one_fold_taken_back() -> None:
    history = History(9)
    history.fold_exact(0, 4, recorded=True)
    history.undo(0)
    assert undone_compactions(history.compactions) == ({0}, {1})
    history.fold_exact(0, 5)
    taken = history.check()
    assert (taken[0].undone, taken[0].certainty, taken[0].runs) == (True, Certainty.RECORDED, ((1, 4),))
    assert (taken[2].undone, taken[2].certainty, taken[2].runs) == (False, Certainty.INFERRED, ((1, 5),))
    assert history.explain()[1] == []


def test_a_fold_and_its_undo_may_come_again() -> None:
    compaction = CompactionRecord(1, 1, 4, 9, 100, 10)
    back = CompactionRecord(2, 1, 4, 9, 10, 100)
    assert undone_compactions([compaction, back, compaction, back]) == ({0, 2}, {1, 3})
    assert undone_compactions([compaction, back, compaction]) == ({0}, {1})
    assert undone_compactions([compaction, CompactionRecord(2, 1, 5, 9, 10, 100)]) == (set(), set())
    assert undone_compactions([compaction, CompactionRecord(2, 1, 4, 8, 10, 100)]) == (set(), set())
    assert undone_compactions([CompactionRecord(1, 1, 4, None, 1, 2), CompactionRecord(2, 1, 4, None, 2, 1)]) == (
        set(),
        set(),
    )


def test_rows_folded_without_a_word_are_unexplained() -> None:
    history = History(12)
    history.fold_span(1, 3)
    for seq in (5, 6, 9):
        history.states[seq] = "compacted_out"
    assert history.explain()[1] == [(5, 6), (9, 9)]
    assert history.check()[0].runs == ((1, 3),)


def test_two_sets_that_fit_are_unknown() -> None:
    """Real 0.18.0: {1,4} then {2,3,5,6,13} leaves the same rows behind as {1,3,4} then {2,5,6,13}."""
    compactions = [CompactionRecord(1, 1, 4, 13, ord=1), CompactionRecord(2, 2, 13, 14, ord=1)]
    taken, left = explain(compactions, [(1, 6), (13, 13)], [(7, 12), (14, 14)])
    assert [found.certainty for found in taken.values()] == [Certainty.UNKNOWN] * 2
    assert left == []


def test_three_generations_are_told_apart() -> None:
    compactions = [
        CompactionRecord(1, 1, 4, 13, ord=1),
        CompactionRecord(2, 5, 13, 14, ord=1),
        CompactionRecord(3, 7, 14, 15, ord=1),
    ]
    taken, left = explain(compactions, [(1, 9), (13, 14)], [(10, 12), (15, 15)])
    assert [found.runs for found in taken.values()] == [((1, 4),), ((5, 6), (13, 13)), ((7, 9), (14, 14))]
    assert {found.certainty for found in taken.values()} == {Certainty.INFERRED}
    assert left == []


def test_a_fold_reaches_beyond_both_ends_of_its_span_in_logical_order() -> None:
    """An old note before its smallest seq, a row behind its largest."""
    history = History(12)
    history.fold_exact(0, 4)
    history.fold_exact(3, 2)
    history.fold_exact(0, 5)
    assert history.truth[2] == {13, 5, 6, 14, 9}
    taken = history.check()
    assert [found.certainty for found in taken.values()] == [Certainty.INFERRED] * 3


def test_a_fold_whose_end_came_back_is_unknown() -> None:
    taken, _ = explain([CompactionRecord(1, 1, 4, 9, ord=1)], [(1, 3)], [(4, 9)])
    assert (taken[0].certainty, taken[0].runs) == (Certainty.UNKNOWN, ((1, 3),))


def test_a_place_of_zero_is_a_place() -> None:
    """A note with ord 0 stands first, not at its seq."""
    compactions = [
        CompactionRecord(1, 1, 4, 13, ord=0),
        CompactionRecord(2, 5, 13, 14, ord=0),
        CompactionRecord(3, 7, 14, 15, ord=0),
    ]
    taken, _ = explain(compactions, [(1, 9), (13, 14)], [(10, 12), (15, 15)])
    assert {found.certainty for found in taken.values()} == {Certainty.INFERRED}


def test_recorded_sets_may_overlap_in_their_runs() -> None:
    taken, left = explain([CompactionRecord(1, 1, 9, 10, recorded=((1, 5), (7, 9)))], [(1, 9)], [(10, 10)])
    assert (taken[0].certainty, taken[0].rows) == (Certainty.RECORDED, 8)
    assert left == [(6, 6)]


@pytest.mark.parametrize(("first", "last", "note"), [(None, 4, 9), (1, None, 9), (None, None, None)])
def test_a_span_without_numbers_is_unknown(first: int | None, last: int | None, note: int | None) -> None:
    compaction = CompactionRecord(1, first, last, note)
    taken, left = explain([compaction], [(1, 4)], [(5, 9)])
    assert (taken[0].certainty, taken[0].runs, left) == (Certainty.UNKNOWN, (), [(1, 4)])
    assert anomalies_of(compaction, taken[0], [], [(1, 9)]) == ["its span is not recorded as numbers"]


@pytest.mark.parametrize(
    ("compaction", "earlier", "expected"),
    [
        (CompactionRecord(1, 1, 4, 9), [], []),
        (CompactionRecord(1, 4, 1, 9), [], ["its span is inverted", "it took no row that is still here"]),
        (CompactionRecord(1, 1, 9, 9), [], ["its span reaches past the end the session had"]),
        (CompactionRecord(1, 1, 4, 99), [], ["its note is missing"]),
        (CompactionRecord(1, 1, 4, None), [], ["its note is missing"]),
        (CompactionRecord(2, 3, 4, 9), [CompactionRecord(1, 1, 3, 8)], ["its span overlaps an earlier one"]),
        (CompactionRecord(2, 3, 4, 9, ord=1), [CompactionRecord(1, 1, 3, 8, ord=1)], []),
        (CompactionRecord(1, 5, 7, 9), [], ["it took no row that is still here"]),
    ],
)
def test_oddities(compaction: CompactionRecord, earlier: list[CompactionRecord], expected: list[str]) -> None:
    taken, _ = explain([compaction], [(1, 4)], [(5, 9)])
    assert anomalies_of(compaction, taken[0], earlier, [(1, 9)]) == expected


def test_pruned_rows_are_said_to_be_gone() -> None:
    history = History(9)
    history.fold_exact(0, 4)
    history.prune(1)
    taken = history.check()
    assert taken[0].certainty is Certainty.UNKNOWN
    assert anomalies_of(history.compactions[0], taken[0], [], [(4, 10)]) == ["rows in its span are gone"]


# -- size


def _agent(compactions: int, rows: int) -> History:
    history = History(2)
    for _ in range(compactions):
        history.append(rows)
        history.fold_exact(0, len(history.line()) - 2)
    return history


@pytest.mark.parametrize("compactions", [1, 200, 1_500])
def test_work_grows_with_the_folds_alone(compactions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is counted in atoms looked at; the rows between two folds weigh nothing."""
    made: list[r.Replay] = []
    init = r.Replay.__init__

    def remember(self: r.Replay, *args: Any) -> None:
        init(self, *args)
        made.append(self)

    monkeypatch.setattr(r.Replay, "__init__", remember)
    assert all(found.certainty is Certainty.INFERRED for found in _agent(compactions, 5).check().values())
    assert len(made) == 1
    assert made[0]._visits < 400 * compactions
    made.clear()
    few = _agent(compactions, 5).compactions
    wide = [
        CompactionRecord(f.number, f.from_seq * 1_000, f.to_seq * 1_000, f.note_seq * 1_000, ord=f.ord * 1_000)
        for f in few
        if f.from_seq and f.to_seq and f.note_seq and f.ord
    ]
    last = wide[-1].note_seq or 0
    taken, _ = explain(wide, [(1_000, wide[-1].to_seq or 0)], [(last, last)])
    assert len(taken) == compactions


def test_a_fold_over_a_million_rows_is_one_run() -> None:
    taken, left = explain(
        [CompactionRecord(1, 1, 1_000_000, 1_000_001, ord=1)], [(1, 1_000_000)], [(1_000_001, 1_000_001)]
    )
    assert (taken[0].rows, taken[0].runs, left) == (1_000_000, ((1, 1_000_000),), [])


def test_a_puzzle_that_is_too_large_is_unknown_and_not_tried() -> None:
    """Every other row folded, by folds that overlap throughout: given up after a bounded number of looks."""
    scattered = [(seq, seq) for seq in range(1, 400_000, 2)]
    taken, left = explain([CompactionRecord(1, 1, 400_000, 400_001, ord=1)], scattered, [(400_001, 400_001)])
    assert (taken[0].certainty, len(taken[0].runs), left) == (Certainty.UNKNOWN, 200_000, [])
    compactions = [CompactionRecord(k, k, 8_000 - k, 10_000 + k, ord=k) for k in range(1, 1_000)]
    replay = r.Replay(
        compactions,
        [(1, 8_000)],
        [(10_000, 11_000)],
        {compaction.note_seq or 0: compaction.ord or 0 for compaction in compactions},
    )
    assert all(found.certainty is Certainty.UNKNOWN for found in replay.solve([True] * len(compactions)))
    assert replay._visits < 3 * r.MOST_VISITS


# -- from a file


def _write(path: Path, history: History, layout: str) -> Path:
    rows = []
    for seq, state in history.states.items():
        compaction = next((compaction for compaction in history.compactions if compaction.note_seq == seq), None)
        meta: dict[str, Any] = {}
        if compaction is not None:
            meta = {"from_seq": compaction.from_seq, "to_seq": compaction.to_seq}
            meta |= {"ord": compaction.ord} if compaction.ord is not None else {}
            meta |= {"fold_seqs": [list(run) for run in compaction.recorded]} if compaction.recorded else {}
        rows.append(
            {"seq": seq, "state": state, "name": "compact_note" if compaction else None, "meta_json": json.dumps(meta)}
        )
    prefix = "" if layout == "0.2.0" else "pl_"
    fill(build(path, layout), "s", rows, layout, next_seq=history.next_seq)
    raw(
        path,
        *(
            f"INSERT INTO {prefix}compactions "
            f"VALUES ('s', {compaction.number}, {compaction.note_seq}, {compaction.from_seq}, "
            f"{compaction.to_seq}, {compaction.before_tokens}, {compaction.after_tokens}, NULL, 1)"
            for compaction in history.compactions
        ),
        f"UPDATE {prefix}session_state SET last_compact_seq = {len(history.compactions)}",
    )
    return path


def test_an_undone_fold_in_a_file_is_listed_once(tmp_path: Path) -> None:
    history = History(9)
    history.fold_exact(0, 4, recorded=True)
    history.undo(0)
    history.fold_exact(1, 3, recorded=True)
    reader = only(_write(tmp_path / "s.db", history, "8.0.0")).reader()
    ref = Ref("pl_", "s")
    audit = reader.audit(ref, reader.outline(ref))
    assert [
        (compaction.number, compaction.undone, compaction.set_is, compaction.set_runs)
        for compaction in audit.compactions
    ] == [
        (1, True, Certainty.RECORDED, ((1, 4),)),
        (3, False, Certainty.RECORDED, ((2, 4),)),
    ]
    assert audit.unexplained == ()
    (summary,) = reader.summaries([reader.key(ref) or 0])
    assert summary.compaction_count == 1


@pytest.mark.parametrize("damage", ["'{'", "'[1]'", "NULL", "x'00ff'"])
def test_a_note_that_cannot_be_read_makes_its_fold_unknown(damage: str, tmp_path: Path) -> None:
    history = _agent(2, 6)
    path = _write(tmp_path / "s.db", history, "8.0.0")
    raw(path, f"UPDATE pl_messages SET meta_json = {damage} WHERE seq = {history.compactions[1].note_seq}")
    reader = only(path).reader()
    audit = reader.audit(Ref("pl_", "s"), reader.outline(Ref("pl_", "s")))
    assert audit.compactions[1].set_is is Certainty.UNKNOWN
    for at, compaction in enumerate(audit.compactions):
        assert compaction.set_is is Certainty.UNKNOWN or _seqs(compaction.set_runs) == history.truth[at]


def test_an_old_layout_knows_no_places(tmp_path: Path) -> None:
    """0.2.0 folds whole spans, whatever `ord` a later hand wrote into a note."""
    history = History(12)
    history.fold_span(1, 5)
    history.fold_span(4, 13)
    path = _write(tmp_path / "s.db", history, "0.2.0")
    raw(path, "UPDATE messages SET meta_json = '{\"ord\": 1}' WHERE name = 'compact_note'")
    reader = only(path).reader()
    audit = reader.audit(Ref("", "s"), reader.outline(Ref("", "s")))
    assert [compaction.set_runs for compaction in audit.compactions] == [((1, 5),), ((6, 13),)]
    assert audit.compactions[1].anomalies == ("its span overlaps an earlier one",)


def test_a_fold_that_parts_a_call_from_its_result_is_odd(sample: Callable[[str], Path]) -> None:
    path = sample("v0.2.0")
    raw(
        path,
        "UPDATE compactions SET to_seq = 2 WHERE compact_seq = 1",
        "UPDATE messages SET state = 'active' WHERE seq BETWEEN 3 AND 5 AND session_id LIKE 'sess_root%'",
    )
    reader = only(path).reader()
    ref = Ref("", "sess_root0000000000000000000")
    first, second = reader.audit(ref, reader.outline(ref)).compactions
    assert first.anomalies == ("it splits a tool call from its result",)
    assert second.anomalies == ()
