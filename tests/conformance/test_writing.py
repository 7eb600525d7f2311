"""What plans, receipts and undos of every format promise, on every sample that can be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import (
    Action,
    Archive,
    Capability,
    Close,
    Compact,
    Misused,
    Ref,
    Refused,
    Repair,
    Restore,
    SetArchived,
    Settle,
    UnknownSession,
    View,
    actions_for,
    needed,
    open_archive,
)

from .samples import NOTEBOOK, WRITABLE, data_below, everything_below, sessions
from .samples import told as all_told

NOTE = "What was said before."
Wanted = Callable[[Ref], Action]
PER_SESSION: dict[str, Wanted] = {
    "compact": lambda ref: Compact(ref, None, None, NOTE, keep=1),
    "close": lambda ref: Close((ref,), anyway=True),
    "archive": SetArchived,
    "settle": Settle,
    "repair": Repair,
}
CASES = [
    (name, kind) for name in WRITABLE for kind in PER_SESSION if kind != "archive" or name.startswith("power-loop")
]
"""Each sample with each kind of action that its format offers."""


def told(archive: Archive, kind: str) -> dict[str, Any]:
    """What must be as before once something was undone: all, but of a compaction, whose note stays as a record."""
    found = all_told(archive)
    if kind != "compact":
        return found
    return {ref: one["views"][View.CONTEXT] for ref, one in found.items() if "views" in one}


def writable(archive: Archive, wanted: Wanted) -> list[Action]:
    """The actions of one kind on each session, if the format offers that kind."""
    found = [wanted(ref) for _, ref in sessions(archive)]
    return [action for action in found if needed(action) in archive.info.capabilities]


@pytest.mark.parametrize(("place", "kind"), CASES, indirect=["place"])
def test_receipts_agree_with_plans_and_undo_with_the_state_before(place: Path, kind: str) -> None:
    for layout in [archive.info.layout for archive in open_archive(place)]:
        (archive,) = (one for one in open_archive(place) if one.info.layout == layout)
        before = told(archive, kind)
        for action in writable(archive, PER_SESSION[kind]):
            actions, data = actions_for(archive, needed(action)), data_below(place.parent)
            files = everything_below(place.parent)
            try:
                plan = actions.plan(action)
            except (Refused, Misused):
                plan = None
            assert everything_below(place.parent) == files, "planning has changed something"
            if plan is None or plan.empty:
                continue
            receipt = actions.apply(plan, offline=bool(plan.offline))
            assert (receipt.rows, bool(receipt.said)) == (plan.rows, True)
            assert data_below(place.parent) != data
            assert receipt.undo is not None
            undo = actions.plan(receipt.undo)
            undone = actions.apply(undo, offline=bool(undo.offline))
            assert undone.rows == undo.rows
            assert undone.notes == () or "damaged" in str(place)
            assert told(archive, kind) == before


@pytest.mark.parametrize(("place", "kind"), CASES, indirect=["place"])
def test_a_plan_is_refused_once_what_it_was_made_from_has_changed(place: Path, kind: str) -> None:
    (archive, *_) = open_archive(place)
    for action in writable(archive, PER_SESSION[kind])[:3]:
        actions = actions_for(archive, needed(action))
        try:
            plan, same = actions.plan(action), actions.plan(action)
        except (Refused, Misused, UnknownSession):
            # An earlier close took it along.
            continue
        if plan.empty:
            continue
        actions.apply(plan, offline=bool(plan.offline))
        after = data_below(place.parent)
        with pytest.raises(Refused):
            actions.apply(same, offline=bool(same.offline))
        assert data_below(place.parent) == after


@pytest.mark.parametrize("place", [NOTEBOOK], indirect=True)
def test_a_read_only_format_refuses_every_action(archives: list[Archive]) -> None:
    (archive,) = archives
    assert archive.actions is None
    ref = next(ref for _, ref in sessions(archive))
    for action in (*(wanted(ref) for wanted in PER_SESSION.values()), Restore("x")):
        with pytest.raises(Misused, match="notebook sessions are read-only"):
            actions_for(archive, needed(action))
    assert archive.info.lacks(Capability.LIMITS) == "notebook sessions have no context limits."
