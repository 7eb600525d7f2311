"""From check results to the edits of a plan, and comparing plans. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionscope.store.model.findings import Finding, wanted
from sessionscope.store.model.plans import Repair
from sessionscope.store.powerloop.doctor.check_results import CheckResult
from sessionscope.store.powerloop.doctor.edits import Edit


class EditWork(Struct, frozen=True):
    """What a plan is to do: edits, and whether all indexes are rebuilt first.

    `scope` are the storage keys of the sessions that it is about. `between` says whether it is about the session tree
    too.
    """

    edits: tuple[Edit, ...]
    reindex: bool = False
    scope: tuple[int, ...] = ()
    between: bool = False


def taken(found: Sequence[CheckResult], action: Repair) -> list[tuple[CheckResult, str]]:
    """Return the results that a repair is about, each with the choice made."""
    by_finding: dict[Finding, list[CheckResult]] = {}
    for result in found:
        by_finding.setdefault(result.finding, []).append(result)
    return [
        (by_finding[finding].pop(0), name)
        for finding, name in wanted(
            [result.finding for result in found], action.only, dict(action.choose), action.place
        )
    ]


def edits_of(taken: Sequence[tuple[CheckResult, str]]) -> list[Edit]:
    """Return the edits of results, each for the choice made."""
    return [edit for result, name in taken for edit in result.edits.get(name, ())]


def name(edit: Edit) -> tuple[Any, ...]:
    """Return what an edit does, for comparing."""
    return edit.table, edit.rowid, repr(edit.values)


def timeless(some: Sequence[Edit]) -> list[tuple[Any, ...]]:
    """Return edits without the time at which they were planned, for comparing."""
    return [
        (
            edit.table,
            edit.rowid,
            repr({name: value for name, value in (edit.values or {}).items() if name != "updated_at"}),
        )
        for edit in some
    ]
