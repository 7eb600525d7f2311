"""Runs, outlines and displays against sets and lists of single seqs."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sessionscope.store.model import outline as o
from sessionscope.store.model.outline import Display, Outline, Run, StretchKind

# Dense, so that runs of several seqs are common.
SEQS = st.lists(st.booleans(), max_size=20).map(lambda bits: {at - 3 for at, bit in enumerate(bits) if bit})


def seqs(runs: list[Run]) -> list[int]:
    return [seq for first, last in runs for seq in range(first, last + 1)]


def runs(wanted: set[int]) -> list[Run]:
    return o.runs_of(sorted(wanted))


def lines(display: Display) -> list[object]:
    """What each line shows: a seq, ("hole", first, last) or ("stray", key)."""
    found: list[object] = []
    for kind, first, last in display.slice(0, len(display)):
        if kind is StretchKind.ROWS:
            found += range(first, last + 1)
        else:
            found.append(("hole", first, last) if kind is StretchKind.HOLE else ("stray", first))
    return found


@given(SEQS)
def test_runs_are_the_seqs_in_as_few_runs_as_can_be(wanted: set[int]) -> None:
    found = runs(wanted)
    assert seqs(found) == sorted(wanted)
    assert o.size(found) == len(wanted)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(found))


@given(st.lists(SEQS, max_size=4))
def test_union(many: list[set[int]]) -> None:
    assert o.union(*map(runs, many)) == runs(set().union(*many))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6)), max_size=8))
def test_union_of_runs_that_overlap(raw: list[tuple[int, int]]) -> None:
    loose = [(first, first + more) for first, more in raw]
    assert o.union(loose) == runs(set(seqs(loose)))


@given(SEQS, SEQS)
def test_without(some: set[int], gone: set[int]) -> None:
    assert o.without(runs(some), runs(gone)) == runs(some - gone)


@given(SEQS, st.integers(-5, 20), st.integers(-5, 20))
def test_within_gaps_holds_and_following(some: set[int], first: int, last: int) -> None:
    inside = {seq for seq in some if first <= seq <= last}
    assert o.within(runs(some), first, last) == runs(inside)
    assert o.gaps(runs(some), first, last) == runs(set(range(first, last + 1)) - some)
    for seq in range(-6, 20):
        assert o.holds(runs(some), seq) is (seq in some)
        assert o.following(runs(some), seq) == min((later for later in some if later > seq), default=None)


STATES = st.dictionaries(
    st.integers(-3, 30), st.sampled_from(["active", "active", "compacted_out", "dropped", "odd"]), max_size=30
)


def outline(
    states: dict[int, str], notes: list[tuple[int, int]], rows_without_seq: list[int], next_seq: int | None
) -> Outline:
    by_state = {state: runs({seq for seq, was in states.items() if was == state}) for state in set(states.values())}
    return Outline(by_state, notes, rows_without_seq, next_seq)


@given(STATES, st.lists(st.integers(50, 60), unique=True, max_size=3), st.none() | st.integers(-2, 40))
def test_everything_shows_each_row_and_each_run_of_missing_seqs(
    states: dict[int, str], rows_without_seq: list[int], next_seq: int | None
) -> None:
    found = outline(states, [], rows_without_seq, next_seq)
    expected: list[object] = []
    ends = [*states, (next_seq or 1) - 1]
    missing = [seq for seq in range(min([*states, 1]), max([*ends, 0]) + 1) if seq not in states]
    holes = {first: ("hole", first, last) for first, last in o.runs_of(missing)}
    for seq in sorted({*states, *holes}):
        expected.append(seq if seq in states else holes[seq])
    assert lines(o.everything(found)) == expected + [("stray", key) for key in rows_without_seq]
    assert found.count() == len(states) + len(rows_without_seq)
    assert found.count("active") == sum(state == "active" for state in states.values())


@given(STATES, st.dictionaries(st.integers(-3, 30), st.integers(-5, 40), max_size=6))
def test_the_logical_order_is_by_ord_then_seq(states: dict[int, str], places: dict[int, int]) -> None:
    notes = [(order, seq) for seq, order in places.items()]
    found = lines(o.logical(runs(set(states)), notes))
    assert found == sorted(states, key=lambda seq: (places.get(seq, seq), seq))


@given(
    STATES,
    st.dictionaries(st.integers(-3, 30), st.integers(-5, 40), max_size=6),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_a_window_is_a_slice_and_locate_its_inverse(
    states: dict[int, str], places: dict[int, int], start: int, stop: int
) -> None:
    display = o.logical(runs(set(states)), [(order, seq) for seq, order in places.items()])
    whole = lines(display)
    assert len(display) == len(whole)
    cut = [seq for _, first, last in display.slice(start, stop) for seq in range(first, last + 1)]
    assert cut == whole[start:stop]
    for seq in range(-5, 35):
        assert display.locate(seq) == (whole.index(seq) if seq in states else None)
        near = display.nearest(seq)
        assert 0 <= near < max(1, len(whole))
        if seq in states:
            assert near == whole.index(seq)


@given(STATES, st.integers(0, 25), st.integers(0, 25))
def test_lines_of_everything_are_found_again(states: dict[int, str], start: int, stop: int) -> None:
    display = o.everything(outline(states, [], [99], 33))
    whole = lines(display)
    cut: list[object] = []
    for kind, first, last in display.slice(start, stop):
        cut += (
            range(first, last + 1)
            if kind is StretchKind.ROWS
            else [("hole", first, last) if kind is StretchKind.HOLE else ("stray", first)]
        )
    assert cut == whole[start:stop]
    for at, line in enumerate(whole):
        if isinstance(line, int):
            assert display.locate(line) == display.nearest(line) == at
        elif line != ("stray", 99):
            _, first, last = line
            for seq in (first, last):
                assert display.locate(seq) is None
                assert display.nearest(seq) == at


@given(STATES, st.dictionaries(st.integers(31, 45), st.sampled_from(["active", "dropped"]), max_size=8))
def test_appended_rows_extend_an_outline(states: dict[int, str], more: dict[int, str]) -> None:
    before = outline(states, [(1, 2)], [7], 31)
    after = before.extended(list(more.items()), 46)
    assert after == Outline(outline(states | more, [], [], None).states, [(1, 2)], [7], 46)
    assert before == outline(states, [(1, 2)], [7], 31)


def test_a_million_rows_weigh_a_few_runs() -> None:
    found = Outline({"active": [(500_001, 1_000_000)], "compacted_out": [(1, 500_000)]}, [(1, 700_000)])
    display = o.logical(found.runs("active"), found.notes)
    assert len(display) == 500_000
    assert display.locate(700_000) == 0
    assert display.locate(1_000_000) == 499_999
    assert o.everything(found).slice(999_999, 1_000_010) == [(StretchKind.ROWS, 1_000_000, 1_000_000)]
