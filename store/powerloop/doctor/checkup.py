"""Looks a power-loop database over: the file, the tables, each session, and what binds them. It only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from sessionscope.store.io.sqlitefile import Read
from sessionscope.store.model.errors import Cancelled, Damaged
from sessionscope.store.model.findings import Finding, Severity
from sessionscope.store.model.plans import Progress
from sessionscope.store.model.rows import Ref, Spot
from sessionscope.store.powerloop.format.layout import Layout, layouts
from sessionscope.store.powerloop.read.session_facts import SessionFacts, read_facts, session_keys
from sessionscope.store.powerloop.read.sessions import id_text
from sessionscope.store.protocols import Cancel

from . import call_checks, compaction_checks, session_checks
from .check_results import CheckResult, check_result
from .tree_checks import check_owners, check_tree

T = TypeVar("T")
BURST_ROWS, BURST_SESSIONS, STEPS, PROBLEMS = 20_000, 500, 100_000, 100
REINDEX = "index-damaged"
_CHECKS = (
    session_checks.bookkeeping,
    session_checks.values,
    session_checks.messages,
    compaction_checks.compactions,
    call_checks.calls_and_results,
    call_checks.pending,
)
_OF_AN_INDEX = ("missing from index", "wrong # of entries in index", "non-unique entry in index", "row not in index")


def check_database(
    read: Read, layout: Callable[[], Layout], key: int | None, progress: Progress, cancel: Cancel
) -> Iterator[CheckResult]:
    """Check a database, or only the session with a key, in bursts. Raises Cancelled, Busy."""
    try:
        if key is None:
            yield from _burst(read, cancel, lambda conn: list(_file(conn, layout(), progress)))
        every = _burst(read, cancel, lambda conn: session_keys(conn, layout())) if key is None else [key]
        at = 0
        while at < len(every):
            progress("sessions", at, len(every))
            left = every[at:]
            some, found = _burst(read, cancel, lambda conn: _some(conn, layout(), left))  # noqa: B023
            yield from found
            at += some
        progress("sessions", len(every), len(every))
        ref = _burst(read, cancel, lambda conn: _ref(conn, layout(), key))
        for result in _burst(read, cancel, lambda conn: [*check_tree(conn, layout()), *check_owners(conn, layout())]):
            if ref is None or result.finding.place.session == ref:
                yield result
    except Damaged as error:
        yield _damaged(str(error))


def check_session(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    """Run all checks of a session, those of its bookkeeping first."""
    for rule in _CHECKS:
        yield from rule(facts, layout)


def check_sessions(
    conn: sqlite3.Connection, layout: Layout, keys_: Collection[int], between: bool
) -> Iterator[CheckResult]:
    """Check some sessions, and if `between` the tree, in a transaction that is open already."""
    for key in keys_:
        facts = read_facts(conn, layout, key)
        if facts is not None:
            yield from check_session(facts, layout)
    if between:
        yield from check_tree(conn, layout)
        yield from check_owners(conn, layout)


def _some(conn: sqlite3.Connection, layout: Layout, left: list[int]) -> tuple[int, list[CheckResult]]:
    """Looks at the next sessions, as many as one burst has time for."""
    found: list[CheckResult] = []
    rows = 0
    for at, key in enumerate(left[:BURST_SESSIONS]):
        if rows > BURST_ROWS:
            return at, found
        facts = read_facts(conn, layout, key)
        if facts is not None:
            rows += len(facts.rows)
            found += check_session(facts, layout)
    return min(len(left), BURST_SESSIONS), found


def _ref(conn: sqlite3.Connection, layout: Layout, key: int | None) -> Ref | None:
    row = conn.execute(f"SELECT rowid, session_id FROM {layout.table('sessions')} WHERE rowid = ?", (key,)).fetchone()
    return Ref(layout.prefix, id_text(*row)) if row else None


def _burst(read: Read, cancel: Cancel, work: Callable[[sqlite3.Connection], T]) -> T:
    """A read that stops soon where nobody waits for it any more."""

    def guarded(conn: sqlite3.Connection) -> T:
        conn.set_progress_handler(cancel, STEPS)
        try:
            return work(conn)
        finally:
            conn.set_progress_handler(None, 0)

    if cancel():
        raise Cancelled("stopped")
    try:
        return read(guarded)
    except Damaged:
        if cancel():
            raise Cancelled("stopped") from None
        raise


def _file(conn: sqlite3.Connection, layout: Layout, progress: Progress) -> Iterator[CheckResult]:
    for found in layout.obstacles:
        yield check_result(
            found.code,
            Severity.WARNING,
            Spot(),
            f"{found.text}, which would change more than a plan shows: nothing can be changed here.",
        )
    progress("pages", 0, 0)
    lines = [str(line) for (line,) in conn.execute(f"PRAGMA integrity_check({PROBLEMS})")]
    problems = [line for line in lines if line != "ok"]
    of_index = [line for line in problems if any(words in line for words in _OF_AN_INDEX)]
    others = [line for line in problems if line not in of_index]
    if any("Page" in line or "Tree" in line or "page" in line for line in others):
        yield _damaged(f"SQLite's own check says: {others[0]}")
    elif others:
        yield check_result(
            "integrity",
            Severity.WARNING,
            Spot(),
            f"SQLite's own check says: {others[0]}" + (f" (and {len(others) - 1} more)" if len(others) > 1 else ""),
        )
    if of_index:
        yield check_result(
            REINDEX,
            Severity.ERROR,
            Spot(),
            f"An index disagrees with its table ({of_index[0]}): rows may not be found.",
            "All indexes are built anew.",
        )
    yield from _layouts(conn, layout)


def _layouts(conn: sqlite3.Connection, layout: Layout) -> Iterator[CheckResult]:
    others = [other for other in layouts(conn) if other.prefix != layout.prefix]
    filled = [other for other in others if conn.execute(f"SELECT 1 FROM {other.table('sessions')} LIMIT 1").fetchone()]
    for other in others:
        what = "holds sessions too" if other in filled else "is empty"
        yield check_result(
            "several-layouts",
            Severity.INFO,
            Spot(),
            f"The file has a second set of tables, "
            f"{other.prefix or 'without a prefix'} (power-loop {other.release}), which {what}; each release "
            "sees just its own.",
        )
    if layout.poisoned:
        yield check_result(
            "half-migrated",
            Severity.WARNING,
            Spot(),
            "A later release stamped these tables as its own "
            "without changing them, so it cannot load them. The release that wrote them still does.",
        )


def _damaged(why: str) -> CheckResult:
    return CheckResult(Finding("damaged-pages", Severity.ERROR, Spot(), f"{why.rstrip('.')}.", salvage=True))
