"""Repairs: the edits for a doctor's findings, the check that they are still proposed, and follow-up fixes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sessionscope.store.model.errors import Misused
from sessionscope.store.model.findings import Finding, wanted
from sessionscope.store.model.plans import Repair
from sessionscope.store.powerloop.doctor.check_results import CheckResult
from sessionscope.store.powerloop.doctor.checkup import check_sessions
from sessionscope.store.powerloop.doctor.edits import Edit, Touched, apply
from sessionscope.store.powerloop.format.layout import Layout

MAX_FOLLOW_UPS = 8
"""How many times, at most, a repair is followed by fixes of what only shows after it."""


class EditWork(Struct, frozen=True):
    """The work of a plan that edits rows."""

    edits: tuple[Edit, ...]
    reindex: bool = False
    """Whether all indexes are rebuilt first."""
    session_keys: tuple[int, ...] = ()
    """The rowids of the sessions that the plan is about."""
    check_tree: bool = False
    """Whether the plan also fixes findings about the tree of sessions as a whole."""


def choose_results(results: Sequence[CheckResult], action: Repair) -> list[tuple[CheckResult, str]]:
    """Return the results that a repair fixes, each with the name of the chosen fix ("" for the safe one).

    Raises Misused if the action names a code or a choice that no result has.
    """
    by_finding: dict[Finding, list[CheckResult]] = {}
    for result in results:
        by_finding.setdefault(result.finding, []).append(result)
    chosen = wanted([result.finding for result in results], action.only, dict(action.choose), action.spot)
    # Equal findings may have different edits, so each is used once, in order.
    return [(by_finding[finding].pop(0), choice) for finding, choice in chosen]


def edits_of(chosen: Sequence[tuple[CheckResult, str]]) -> list[Edit]:
    """Return the edits of results, each for its chosen fix."""
    return [edit for result, choice in chosen for edit in result.edits.get(choice, ())]


def is_still_proposed(conn: sqlite3.Connection, layout: Layout, action: Repair, work: EditWork) -> bool:
    """Return whether the doctor, run again in the open transaction, still proposes all planned edits."""
    results = list(check_sessions(conn, layout, work.session_keys, work.check_tree))
    try:
        proposed = edits_of(choose_results(results, action))
    except Misused:
        # A finding that the action names no longer exists.
        proposed = []
    return set(map(_edit_key, work.edits)) <= set(map(_edit_key, proposed))


def follow_up(
    conn: sqlite3.Connection, layout: Layout, action: Repair, work: EditWork, changed: dict[Touched, None]
) -> list[str]:
    """Fix what only shows after a repair, so that a second repair finds nothing.

    Add the changed rows to `changed`. Return a sentence for each kind of fix.
    """
    check_all = work.reindex or any(edit.table == "sessions" and edit.rowid is None for edit in work.edits)
    notes: dict[str, None] = {}
    for _ in range(MAX_FOLLOW_UPS):
        keys: Sequence[int] = work.session_keys
        if check_all:
            keys = [key for (key,) in conn.execute(f"SELECT rowid FROM {layout.table('sessions')}")]
        results = [
            result
            for result in check_sessions(conn, layout, keys, work.check_tree or work.reindex)
            if result.finding.fixable
            and (not action.only or result.finding.code in action.only)
            and (action.ref is None or result.finding.spot.session == action.ref)
        ]
        fixes = edits_of([(result, "") for result in results])
        if not fixes:
            break
        changed.update(dict.fromkeys(apply(conn, layout, fixes)))
        notes.update({f"{result.finding.code}: {result.finding.fix}": None for result in results})
    return list(notes)


def _edit_key(edit: Edit) -> tuple[Any, ...]:
    """Return a hashable value that is equal for edits that do the same."""
    return edit.table, edit.rowid, repr(edit.values)


def edit_keys_without_times(edits: Sequence[Edit]) -> list[tuple[Any, ...]]:
    """Return the key of each edit, without the value of `updated_at`, which depends on when the plan was made."""
    keys = []
    for edit in edits:
        values = {column: value for column, value in (edit.values or {}).items() if column != "updated_at"}
        keys.append((edit.table, edit.rowid, repr(values)))
    return keys
