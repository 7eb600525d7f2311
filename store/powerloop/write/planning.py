"""From what the doctor found to the edits that are wanted, and whether two plans are the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionscope.store.model.findings import Finding, wanted
from sessionscope.store.model.plans import Repair
from sessionscope.store.powerloop.doctor.check_results import CheckResult
from sessionscope.store.powerloop.doctor.edits import Edit


class EditWork(Struct, frozen=True):
    """What a plan is to do: edits, and whether all indexes are built anew first.

    `scope` are the storage keys of the sessions it is about, `between` whether it is about what binds them too.
    """

    edits: tuple[Edit, ...]
    reindex: bool = False
    scope: tuple[int, ...] = ()
    between: bool = False


def taken(found: Sequence[CheckResult], action: Repair) -> list[tuple[CheckResult, str]]:
    """Return the results that a repair is about, each with the choice taken."""
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
    """Return the edits of results, each for the choice taken."""
    return [edit for result, name in taken for edit in result.edits.get(name, ())]


def name(edit: Edit) -> tuple[Any, ...]:
    """What an edit does, for comparing."""
    return edit.table, edit.rowid, repr(edit.values)


def timeless(some: Sequence[Edit]) -> list[tuple[Any, ...]]:
    """Edits but for the time at which they were planned."""
    return [
        (
            edit.table,
            edit.rowid,
            repr({name: value for name, value in (edit.values or {}).items() if name != "updated_at"}),
        )
        for edit in some
    ]
