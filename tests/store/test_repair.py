"""Which findings a repair takes, by code, choice and place."""

from __future__ import annotations

import pytest

from sessionscope.store import Choice, Finding, Misused, Ref, Severity, Spot
from sessionscope.store.model.findings import KEEP, SHOWN, cut, wanted, worst

ONE, OTHER = Spot(Ref("", "one"), seq=3), Spot(Ref("", "other"))
FIXED = Finding("bricked", Severity.ERROR, ONE, "it is bricked", fix="next_seq becomes 9")
FIXED_TOO = Finding("bricked", Severity.ERROR, OTHER, "it is bricked", fix="next_seq becomes 4")
ASKED = Finding("orphan", Severity.WARNING, OTHER, "its parent is gone", choices=(KEEP, Choice("detach", "cut it")))
TOLD = Finding("hole", Severity.INFO, ONE, "rows are gone")
ALL = [FIXED, FIXED_TOO, ASKED, TOLD]


def test_without_wishes_all_that_is_safe_is_taken() -> None:
    assert wanted(ALL) == [(FIXED, ""), (FIXED_TOO, "")]


def test_a_code_or_a_place_narrows_it() -> None:
    assert wanted(ALL, only=["bricked"], spot=OTHER) == [(FIXED_TOO, "")]
    assert wanted(ALL, only=["hole"]) == []


def test_a_choice_is_taken_beside_what_is_safe_or_alone() -> None:
    assert wanted(ALL, choose={"orphan": "detach"}) == [(FIXED, ""), (FIXED_TOO, ""), (ASKED, "detach")]
    assert wanted(ALL, only=["orphan"], choose={"orphan": "detach"}) == [(ASKED, "detach")]


def test_the_default_choice_changes_nothing() -> None:
    assert wanted(ALL, only=["orphan"], choose={"orphan": "keep"}) == []


@pytest.mark.parametrize(
    ("only", "choose", "says"),
    [
        (["nonsense"], {}, "nonsense was not found here; the doctor found bricked, hole, orphan."),
        ([], {"orphan": "burn"}, "orphan offers detach or keep, not 'burn'."),
        ([], {"hole": "fill"}, "hole offers no choice, not 'fill'."),
    ],
)
def test_what_is_not_there_is_named(only: list[str], choose: dict[str, str], says: str) -> None:
    with pytest.raises(Misused) as error:
        wanted(ALL, only, choose)
    assert str(error.value) == says


def test_severity_of_the_whole() -> None:
    assert worst(ALL) is Severity.ERROR
    assert worst([TOLD, ASKED]) is Severity.WARNING
    assert worst([]) is None


def test_a_change_shows_a_bounded_text() -> None:
    assert cut("x" * SHOWN) == "x" * SHOWN
    assert cut("x" * 10_000) == "x" * (SHOWN - 1) + "…"
