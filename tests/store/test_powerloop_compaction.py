"""Compacting power-loop's sessions by hand: legal ranges, what is recorded, and taking it back to the former self."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionscope.store import Certainty, Compact, Misused, Plan, Receipt, Refused, Uncompact, View
from sessionscope.store.model.context import Candidate, Context
from sessionscope.store.model.rows import Ref
from sessionscope.store.powerloop import SessionStore
from sessionscope.store.rules.compaction_planning import growth, plan_cut, propose_range, stored_range

from .defects import sample
from .helpers import ROOT, build, call, fill, only, prefix_of, raw, seqs
from .real import WRITTEN, installed, power_loop
from .test_powerloop_repair import actions, codes, findings

SAMPLES = ("v0.2.0", "v0.18.0", "v2.2.0", "v8.0.0", "v8.0.0-prefix-empty")


def compact(path: Path, id_: str, first: int | None, last: int | None, note: str = "so far") -> tuple[Plan, Receipt]:
    doing = actions(only(path))
    plan = doing.plan(Compact(Ref(only(path).info.layout, id_), first, last, note))
    return plan, doing.apply(plan)


def unfold(path: Path, receipt: Receipt) -> Receipt:
    doing = actions(only(path))
    assert isinstance(receipt.undo, Uncompact)
    return doing.apply(doing.plan(receipt.undo))


def context(path: Path, id_: str) -> list[int | None]:
    archive = only(path)
    return seqs(archive.reader(), Ref(archive.info.layout, id_), View.CONTEXT)


def states(path: Path, id_: str) -> dict[float, str]:
    prefix = only(path).info.layout
    return dict(raw(path, f"SELECT seq, state FROM \"{prefix}messages\" WHERE session_id = '{id_}'")[0])


def talk(path: Path, layout: str = "0.2.0") -> Path:
    """Six exchanges; the third and the fifth call a tool."""
    rows: list[dict[str, Any]] = []
    for at in range(6):
        rows.append({"role": "user", "content": f"question {at}"})
        if at in (2, 4):
            rows.append({"role": "assistant", "content": "", "tool_calls_json": json.dumps([call("grep", f"c{at}")])})
            rows.append({"role": "tool", "tool_call_id": f"c{at}", "content": "found"})
        rows.append({"role": "assistant", "content": f"answer {at}"})
    return fill(build(path, layout), "s", [row | {"seq": at} for at, row in enumerate(rows, 1)], layout)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_session_of_each_release_folds_and_unfolds_to_its_former_self(tmp_path: Path, name: str) -> None:
    path = sample(tmp_path / "a.db", name)
    before, seen = states(path, ROOT), context(path, ROOT)
    plan, receipt = compact(path, ROOT, 13, 16)
    assert plan.compaction is not None
    assert len(plan.compaction.cut.leaves) == plan.rows == len(plan.changes) - 1
    after = states(path, ROOT)
    note = max(after)
    folded = {seq for seq in before if before[seq] != after[seq]}
    assert folded == {13, 14, 15, 16}
    assert after[note] == "active"
    assert set(context(path, ROOT)) == set(seen) - folded | {note}
    reader = only(path).reader()
    ref = Ref(only(path).info.layout, ROOT)
    newest = reader.audit(ref, reader.outline(ref)).compactions[-1]
    assert (newest.number, newest.note_seq, newest.set_is) == (3, note, Certainty.RECORDED)
    assert newest.set_runs == ((13, 16),)
    assert codes(findings(path), "error", "warning") == []
    unfold(path, receipt)
    assert {seq: state for seq, state in states(path, ROOT).items() if seq != note} == before
    assert states(path, ROOT)[note] == "compacted_out"
    assert context(path, ROOT) == seen
    compactions = only(path).reader().audit(ref, only(path).reader().outline(ref)).compactions
    assert [one.undone for one in compactions] == [False, False, True]
    assert codes(findings(path), "error", "warning") == []
    with pytest.raises(Misused, match="taken back already"):
        unfold(path, receipt)


@pytest.mark.parametrize(
    ("layout", "first"),
    [("0.2.0", [9, 10, 11, 12, 13, 14, 15, 16, 17]), ("8.0.0", [17, 9, 10, 11, 12, 13, 14, 15, 16])],
)
def test_the_note_stands_where_that_release_puts_it(tmp_path: Path, layout: str, first: list[int]) -> None:
    path = talk(tmp_path / "a.db", layout)
    compact(path, "s", 1, 8)
    assert context(path, "s") == first


def test_a_call_and_its_result_stay_on_one_side(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db")
    plan, _ = compact(path, "s", 1, 6)
    assert plan.compaction is not None
    assert (plan.compaction.cut.span, len(plan.compaction.cut.leaves)) == ((1, 7), 7)
    assert any("Widened by 7" in reason for reason in plan.reasons)


@pytest.mark.parametrize(
    ("first", "last", "why"),
    [
        (5, 4, "ends before it begins"),
        (90, 99, "there is no message 90"),
        (1, 99, "there is no message 99 yet"),
    ],
)
def test_an_illegal_range_is_refused_with_the_reason(tmp_path: Path, first: int, last: int, why: str) -> None:
    path = talk(tmp_path / "a.db")
    with pytest.raises(Misused, match=why):
        compact(path, "s", first, last)
    compact(path, "s", 1, 4)
    with pytest.raises(Misused, match="none of it is in the context"):
        compact(path, "s", 1, 4)


def test_a_proposal_keeps_the_newest_exchanges(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db")
    plan, _ = compact(path, "s", None, None)
    assert plan.compaction is not None
    assert plan.compaction.cut.span == (1, 4)
    with pytest.raises(Misused, match="nothing older"):
        compact(path, "s", None, None)


def test_a_range_runs_in_the_order_of_the_context(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db", "8.0.0")
    compact(path, "s", 1, 4)
    assert context(path, "s") == [17, *range(5, 17)]
    doing = actions(only(path))
    proposed = doing.plan(Compact(Ref("", "s"), None, None, "so far", keep=2))
    assert proposed.compaction is not None
    assert [row.seq for row in proposed.compaction.cut.leaves] == [17, *range(5, 11)]
    named = doing.plan(Compact(Ref("", "s"), 17, 8, "so far"))
    assert named.compaction is not None
    assert [row.seq for row in named.compaction.cut.leaves] == [17, 5, 6, 7, 8]
    with pytest.raises(Misused, match="17 is a note that stands before 9"):
        compact(path, "s", 9, 17)
    seen = proposed.compaction.context
    assert stored_range(seen, 9, 17) == (9, 16)
    assert stored_range(seen, 17, 17) == (17, 17)
    assert stored_range(seen, 1, 3) == (1, 3)


def test_folds_undo_in_reverse(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db", "8.0.0")
    before = context(path, "s")
    _, one = compact(path, "s", 1, 4)
    middle = context(path, "s")
    plan, two = compact(path, "s", 17, 16)
    assert plan.compaction is not None
    assert plan.compaction.cut.notes == [17]
    with pytest.raises(Refused, match="take that one back first"):
        unfold(path, one)
    unfold(path, two)
    assert context(path, "s") == middle
    unfold(path, one)
    assert context(path, "s") == before


def test_a_fold_of_an_agents_own_is_taken_back_where_it_is_sure(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db")
    with SessionStore.open(path) as store:
        store.record_compaction(
            "s", from_seq=1, to_seq=4, note_content="n", before_tokens=9, after_tokens=3, round_index=0
        )
    raw(path)
    doing = actions(only(path))
    plan = doing.plan(Uncompact(Ref("", "s"), 1))
    assert "worked out" in plan.reasons[0]
    doing.apply(plan)
    assert context(path, "s") == list(range(1, 17))


def test_where_two_sets_fit_undo_is_refused(tmp_path: Path) -> None:
    path = sample(tmp_path / "a.db", "folds-0.18.0-ambiguous")
    (id_,) = [id_ for (id_,) in raw(path, "SELECT DISTINCT session_id FROM compactions")[0]][:1]
    with pytest.raises(Refused, match="cannot be taken back"):
        actions(only(path)).plan(Uncompact(Ref("", id_), 1))


def test_what_changed_since_is_not_folded(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db")
    doing = actions(only(path))
    plan = doing.plan(Compact(Ref("", "s"), 1, 4, "n"))
    with SessionStore.open(path) as store:
        store.append_message("s", role="user", content="more")
    before = states(path, "s")
    with pytest.raises(Refused, match="changed since"):
        doing.apply(plan)
    assert states(path, "s") == before


def test_other_rows_with_the_same_sums_are_a_change(tmp_path: Path) -> None:
    rows = [{"seq": at, "role": ("assistant", "user")[at % 2], "content": "x"} for at in range(1, 21)]
    path = fill(build(tmp_path / "a.db"), "s", rows)

    def put_out(*out: int) -> None:
        raw(
            path,
            "UPDATE messages SET state = 'active'",
            f"UPDATE messages SET state = 'compacted_out' WHERE seq IN {out}",
        )

    # As many rows, from the same first to the same last, with the same sum and the same sum of squares.
    one, other = (5, 11, 15, 16, 19), (5, 12, 13, 17, 19)
    assert (sum(one), sum(at * at for at in one)) == (sum(other), sum(at * at for at in other))
    put_out(*one)
    doing = actions(only(path))
    plan = doing.plan(Compact(Ref("", "s"), 1, 4, "n"))
    put_out(*other)
    with pytest.raises(Refused, match="changed since"):
        doing.apply(plan)
    put_out(*one)
    assert doing.apply(plan).rows == 4


def test_a_row_that_is_no_message_stays_as_it_is(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db")
    raw(
        path,
        "INSERT INTO messages (session_id, seq, role, content, state, round_index, created_at) "
        "VALUES ('s', 3.5, 'user', 'between', 'active', 0, 0)",
    )
    _, receipt = compact(path, "s", 1, 6)
    assert receipt.rows == 7
    assert states(path, "s")[3.5] == "active"
    unfold(path, receipt)
    assert set(states(path, "s").values()) == {"active", "compacted_out"}
    assert context(path, "s") == list(range(1, 17))


def test_a_note_is_needed_and_a_session_in_use_is_left_alone(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db", "8.0.0")
    with pytest.raises(Misused, match="needs a note"):
        compact(path, "s", 1, 4, " ")
    raw(
        path,
        "INSERT INTO pl_session_leases (session_id, owner_id, acquired_at, expires_at, fence) "
        "VALUES ('s', 'me', 1, 9999999999999, 1)",
    )
    with pytest.raises(Refused, match="is in use"):
        compact(path, "s", 1, 4)


def test_the_installed_release_loads_each_state_and_folds_on(tmp_path: Path) -> None:
    """Fold here, read there, fold there, undo both here: after each step the package sends what we say it does."""
    pytest.importorskip("power_loop")
    name, prefix = WRITTEN[installed("power-loop")]
    path = sample(tmp_path / "a.db", name)
    ref = Ref(prefix, ROOT)

    def agree() -> list[int]:
        """What both say that the model sees."""
        reader = only(path).reader()
        theirs = asyncio.run(power_loop(path, prefix, ROOT))
        assert theirs == seqs(reader, ref, View.CONTEXT) == [row.seq for row in reader.context(ref).rows]
        assert codes(findings(path), "error", "warning") == []
        return theirs

    before = agree()
    _, receipt = compact(path, ROOT, 14, 16)
    folded = agree()
    assert set(before) - set(folded) == {14, 15, 16}
    asyncio.run(power_loop(path, prefix, ROOT, "append"))
    longer = agree()
    # Theirs folds ours too, where it stands among the first.
    asyncio.run(power_loop(path, prefix, ROOT, "fold", longer[:3]))
    deeper = agree()
    assert not set(longer[:3]) & set(deeper)
    reader = only(path).reader()
    theirs = reader.audit(ref, reader.outline(ref)).compactions[-1]
    unfold(path, Receipt("", 0, Uncompact(ref, theirs.number)))
    assert agree() == longer
    unfold(path, receipt)
    assert agree() == [*before, *(seq for seq in longer if seq not in folded)]
    asyncio.run(power_loop(path, prefix, ROOT, "append"))
    assert len(agree()) == len(before) + 2


ROWS = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "tool", "system"]), st.integers(0, 5)), min_size=1, max_size=20
)


@given(ROWS, st.integers(-1, 22), st.integers(-1, 22))
def test_no_pair_is_split_and_nothing_is_lost(made: list[tuple[str, int]], first: int, last: int) -> None:
    rows = [
        Candidate(seq, seq, role, group, 5, kept=seq == 1 and role == "system")
        for seq, (role, group) in enumerate(made, 1)
    ]
    try:
        found = plan_cut(Context(tuple(rows), len(rows)), first, last)
    except Misused:
        assert first > last or last > len(rows) or all(row.kept for row in rows if first <= row.seq <= last)
        return
    assert {*found.leaves, *found.stays} == set(rows)
    assert not {*found.leaves} & {*found.stays}
    assert not {row.group for row in found.leaves} & {row.group for row in found.stays if not row.kept}
    assert all(row in found.leaves for row in rows if first <= row.seq <= last and not row.kept)
    assert found.before == 5 * len(rows)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 16), st.integers(0, 6)), min_size=1, max_size=4), st.booleans())
def test_folds_and_undos_give_every_row_back(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int]], later: bool
) -> None:
    layout = "8.0.0" if later else "0.2.0"
    path = talk(tmp_path_factory.mktemp("any") / "a.db", layout)
    seen, done = [context(path, "s")], []
    for first, more in ranges:
        try:
            done.append(compact(path, "s", first, min(16, first + more))[1])
        except Misused:
            continue
        seen.append(context(path, "s"))
        assert codes(findings(path), "error", "warning") == []
    for receipt in reversed(done):
        assert context(path, "s") == seen.pop()
        unfold(path, receipt)
    assert context(path, "s") == seen.pop()
    prefix = prefix_of(layout)
    assert raw(path, f"SELECT count(*) FROM {prefix}compactions") == [[(2 * len(done),)]]
    assert codes(findings(path), "error", "warning") == []


def test_a_proposal_needs_older_exchanges() -> None:
    rows = tuple(Candidate(seq, seq, "user" if seq % 2 else "assistant", seq, 5) for seq in range(1, 11))
    assert propose_range(Context(rows, 10), 4) == (1, 2)
    assert propose_range(Context(rows, 10), 5) is None
    assert propose_range(Context((), 0), 1) is None


@given(ROWS, st.integers(1, 20), st.integers(1, 20))
def test_a_prefix_is_whole_turns_from_the_first(made: list[tuple[str, int]], first: int, last: int) -> None:
    rows = tuple(Candidate(seq, seq, role, group, 5) for seq, (role, group) in enumerate(made, 1))
    if first > last or last > len(rows):
        return
    found = plan_cut(Context(rows, len(rows), prefix=True), first, last)
    assert (*found.leaves, *found.stays) == rows
    assert not {row.group for row in found.leaves} & {row.group for row in found.stays}
    assert not found.stays or found.stays[0].role == "user"
    assert len(found.leaves) >= last


def test_what_the_agent_recorded_of_its_last_call_is_told(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db")

    def recorded() -> int | None:
        found = actions(only(path)).plan(Compact(Ref("", "s"), 9, 12, "so far")).compaction
        assert found is not None
        return found.recorded

    assert recorded() is None
    for at, (tokens, made) in enumerate([(1_200, 20), (1_500, 10)]):
        raw(
            path,
            "INSERT INTO usage_rounds (session_id, round_index, prompt_tokens, completion_tokens, total_tokens, "
            f"model, created_at) VALUES ('s', {at}, {tokens}, 1, {tokens + 1}, 'm', {made})",
        )
    assert recorded() == 1_200
    # Of a context that was folded since, it tells nothing.
    compact(path, "s", 1, 4)
    assert recorded() is None


def test_the_context_grows_with_each_message_and_falls_where_it_was_folded(tmp_path: Path) -> None:
    path = talk(tmp_path / "a.db", "8.0.0")
    archive, ref = only(path), Ref("", "s")

    def grown() -> list[int]:
        reader = archive.reader()
        return reader.growth(ref, reader.audit(ref, reader.outline(ref)))

    before = grown()
    assert before == sorted(before)
    assert len(before) == 8
    compact(path, "s", 1, 8, "n")
    # Nothing was said since, so no call has seen less yet.
    assert grown() == before
    raw(
        path,
        script=f"INSERT INTO {prefix_of('8.0.0')}messages "
        "(session_id, seq, role, content, state, round_index, created_at) "
        "VALUES ('s', 18, 'assistant', 'after', 'active', 0, 0)",
    )
    total = sum(row.tokens for row in archive.reader().context(ref).rows if row.seq != 18)
    assert grown() == [*before, total]


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.integers(0, 50)), max_size=30),
    st.lists(st.tuples(st.integers(-5, 40), st.integers(-5, 40)), max_size=3),
)
def test_growth_is_what_is_inside_at_each_call(
    messages: list[tuple[str, int]], compactions: list[tuple[int, int]]
) -> None:
    found = growth(
        [(seq, role, size) for seq, (role, size) in enumerate(messages, 1)],
        [(last + 1, [(first, last)]) for first, last in compactions],
    )
    inside: dict[int, int] = {}
    runs = {last + 1: (first, last) for first, last in compactions}
    expected = []
    for seq, (role, size) in enumerate(messages, 1):
        first, last = runs.get(seq, (0, -1))
        inside = {at: tokens for at, tokens in inside.items() if not first <= at <= last}
        if role == "assistant":
            expected.append(sum(inside.values()))
        inside[seq] = size
    assert found == expected
