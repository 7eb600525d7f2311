"""The rules of closing: who goes, who stays and why, in trees of any shape."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sessionscope.store.model.plans import Fate
from sessionscope.store.rules.closing import close

LIFECYCLES = ("linked", "detached", "ephemeral", "Odd")
TREES = st.lists(st.tuples(st.integers(-1, 30), st.sampled_from(LIFECYCLES)), min_size=1, max_size=31)


def fates(parents: list[int], lifecycles: list[str], asked: list[int], cascade: bool = True) -> dict[int, Fate]:
    steps = close(parents, lambda at: lifecycles[at], asked, cascade)
    assert len({step.at for step in steps}) == len(steps)
    return {step.at: step.fate for step in steps}


def test_children_go_with_their_parent_unless_they_are_detached() -> None:
    parents, lifecycles = [-1, 0, 0, 0, 0, 2], ["linked", "linked", "detached", "ephemeral", "Odd", "linked"]
    assert fates(parents, lifecycles, [0]) == {
        0: Fate.DELETED,
        1: Fate.DELETED,
        2: Fate.DETACHED,
        3: Fate.DELETED,
        4: Fate.DELETED,
    }
    assert fates(parents, lifecycles, [0], cascade=False) == {0: Fate.DELETED, **dict.fromkeys((1, 2, 3, 4), Fate.ROOT)}
    assert fates(parents, lifecycles, [0, 2])[5] is Fate.DELETED


def test_parents_come_first_with_their_depth_and_the_reason() -> None:
    steps = close([-1, 0, 1, 0], lambda at: "linked", [0])
    assert [(step.at, step.depth, step.why) for step in steps] == [
        (0, 0, "asked for"),
        (1, 1, "goes with its parent"),
        (2, 2, "goes with its parent"),
        (3, 1, "goes with its parent"),
    ]


def test_circles_and_ones_own_parent() -> None:
    assert fates([1, 2, 0, 3], ["linked"] * 4, [1, 3]) == dict.fromkeys(range(4), Fate.DELETED)
    assert fates([1, 0], ["detached", "detached"], [0]) == {0: Fate.DELETED, 1: Fate.DETACHED}


def test_a_hundred_thousand_in_a_chain_and_in_a_row() -> None:
    many = 100_000
    assert len(close(list(range(-1, many - 1)), lambda at: "linked", [0])) == many
    assert len(close([-1, *[0] * (many - 1)], lambda at: "linked", [0])) == many


@given(TREES, st.sets(st.integers(0, 30), min_size=1), st.booleans())
def test_what_goes_is_closed_under_the_rule(tree: list[tuple[int, str]], asked: set[int], cascade: bool) -> None:
    parents = [parent if parent < len(tree) else -1 for parent, _ in tree]
    lifecycles = [lifecycle for _, lifecycle in tree]
    wanted = [at for at in sorted(asked) if at < len(tree)] or [0]
    found = fates(parents, lifecycles, wanted, cascade)
    gone = {at for at, fate in found.items() if fate is Fate.DELETED}
    assert set(wanted) <= gone
    for at, parent in enumerate(parents):
        if parent in gone:
            # Whose parent goes, goes or is told to stay; nobody is left with a parent that is not there.
            assert at in found
            stays = at not in wanted and (lifecycles[at] == "detached" or not cascade)
            assert (found[at] is not Fate.DELETED) == stays
        elif at not in wanted:
            assert at not in found
