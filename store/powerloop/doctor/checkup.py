"""The doctor of a power-loop database: checks of the file, its tables, each session, and the tree. It only reads."""

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
ROWS_PER_BURST = 20_000
"""After how many messages a burst ends."""
SESSIONS_PER_BURST = 500
"""How many sessions a burst checks at most."""
CANCEL_STEPS = 100_000
"""After how many steps of its virtual machine SQLite asks whether to cancel."""
MAX_PROBLEMS = 100
"""How many problems SQLite's integrity check lists."""
REINDEX = "index-damaged"
"""The code of the finding whose fix rebuilds all indexes."""
_SESSION_CHECKS = (
    session_checks.bookkeeping,
    session_checks.values,
    session_checks.messages,
    compaction_checks.compactions,
    call_checks.calls_and_results,
    call_checks.pending,
)
_INDEX_PROBLEMS = (
    "missing from index",
    "wrong # of entries in index",
    "non-unique entry in index",
    "row not in index",
)
"""Words in lines of SQLite's integrity check that are about an index."""
_PAGE_PROBLEMS = ("Page", "Tree", "page")
"""Words in lines of SQLite's integrity check that are about damaged pages."""


def check_database(
    read: Read, layout: Callable[[], Layout], key: int | None, progress: Progress, cancel: Cancel
) -> Iterator[CheckResult]:
    """Check a database, or only the session with a key, in bursts. Raises Cancelled, Busy.

    `layout` returns the current layout, which may change between two bursts.
    """
    try:
        if key is None:
            yield from _burst(read, cancel, lambda conn: list(_check_file(conn, layout(), progress)))
            keys = _burst(read, cancel, lambda conn: session_keys(conn, layout()))
        else:
            keys = [key]
        yield from _check_in_bursts(read, layout, keys, progress, cancel)
        ref = _burst(read, cancel, lambda conn: _ref(conn, layout(), key))
        for result in _burst(read, cancel, lambda conn: [*check_tree(conn, layout()), *check_owners(conn, layout())]):
            if ref is None or result.finding.spot.session == ref:
                yield result
    except Damaged as error:
        yield _damaged(str(error))


def _check_in_bursts(
    read: Read, layout: Callable[[], Layout], keys: list[int], progress: Progress, cancel: Cancel
) -> Iterator[CheckResult]:
    """Check the sessions with these keys."""
    checked = 0
    while checked < len(keys):
        progress("sessions", checked, len(keys))
        next_keys = keys[checked : checked + SESSIONS_PER_BURST]

        def burst(conn: sqlite3.Connection, next_keys: list[int] = next_keys) -> tuple[int, list[CheckResult]]:
            return _check_some(conn, layout(), next_keys)

        count, results = _burst(read, cancel, burst)
        yield from results
        checked += count
    progress("sessions", len(keys), len(keys))


def _check_some(conn: sqlite3.Connection, layout: Layout, keys: list[int]) -> tuple[int, list[CheckResult]]:
    """Check the first of these sessions, until one burst is full. Returns how many, and the results."""
    results: list[CheckResult] = []
    rows = 0
    for index, key in enumerate(keys):
        if rows > ROWS_PER_BURST:
            return index, results
        facts = read_facts(conn, layout, key)
        if facts is not None:
            rows += len(facts.rows)
            results += check_session(facts, layout)
    return len(keys), results


def check_session(facts: SessionFacts, layout: Layout) -> Iterator[CheckResult]:
    """Run all checks of a session, those of its bookkeeping first."""
    for check in _SESSION_CHECKS:
        yield from check(facts, layout)


def check_sessions(
    conn: sqlite3.Connection, layout: Layout, keys: Collection[int], between: bool
) -> Iterator[CheckResult]:
    """Check some sessions, and if `between` the tree too, in a transaction that is already open."""
    for key in keys:
        facts = read_facts(conn, layout, key)
        if facts is not None:
            yield from check_session(facts, layout)
    if between:
        yield from check_tree(conn, layout)
        yield from check_owners(conn, layout)


def _ref(conn: sqlite3.Connection, layout: Layout, key: int | None) -> Ref | None:
    """Return the ref of the session with a key, None for no key or if the session no longer exists."""
    row = conn.execute(f"SELECT rowid, session_id FROM {layout.table('sessions')} WHERE rowid = ?", (key,)).fetchone()
    return Ref(layout.prefix, id_text(*row)) if row else None


def _burst(read: Read, cancel: Cancel, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run a burst of reads that stops soon after `cancel` answers True. Raises Cancelled."""

    def cancellable(conn: sqlite3.Connection) -> T:
        conn.set_progress_handler(cancel, CANCEL_STEPS)
        try:
            return work(conn)
        finally:
            conn.set_progress_handler(None, 0)

    if cancel():
        raise Cancelled("stopped")
    try:
        return read(cancellable)
    except Damaged:
        # A statement that was interrupted is reported as damage too.
        if cancel():
            raise Cancelled("stopped") from None
        raise


def _check_file(conn: sqlite3.Connection, layout: Layout, progress: Progress) -> Iterator[CheckResult]:
    """Check what concerns the file as a whole: its schema, its pages and indexes, and other layouts in it."""
    for obstacle in layout.obstacles:
        yield check_result(
            obstacle.code,
            Severity.WARNING,
            Spot(),
            f"{obstacle.text}, which would change more than a plan shows: nothing can be changed here.",
        )
    progress("pages", 0, 0)
    yield from _check_integrity(conn)
    yield from _check_layouts(conn, layout)


def _check_integrity(conn: sqlite3.Connection) -> Iterator[CheckResult]:
    """Run SQLite's own integrity check."""
    lines = [str(line) for (line,) in conn.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})")]
    problems = [line for line in lines if line != "ok"]
    index_problems = [line for line in problems if any(words in line for words in _INDEX_PROBLEMS)]
    other_problems = [line for line in problems if line not in index_problems]
    if any(word in line for line in other_problems for word in _PAGE_PROBLEMS):
        yield _damaged(f"SQLite's own check says: {other_problems[0]}")
    elif other_problems:
        message = f"SQLite's own check says: {other_problems[0]}"
        if len(other_problems) > 1:
            message += f" (and {len(other_problems) - 1} more)"
        yield check_result("integrity", Severity.WARNING, Spot(), message)
    if index_problems:
        yield check_result(
            REINDEX,
            Severity.ERROR,
            Spot(),
            f"An index disagrees with its table ({index_problems[0]}): rows may not be found.",
            "All indexes are built anew.",
        )


def _check_layouts(conn: sqlite3.Connection, layout: Layout) -> Iterator[CheckResult]:
    """Report other layouts in the file, and a layout that no release can load."""
    for other in layouts(conn):
        if other.prefix == layout.prefix:
            continue
        has_sessions = conn.execute(f"SELECT 1 FROM {other.table('sessions')} LIMIT 1").fetchone() is not None
        content = "holds sessions too" if has_sessions else "is empty"
        yield check_result(
            "several-layouts",
            Severity.INFO,
            Spot(),
            f"The file has a second set of tables, "
            f"{other.prefix or 'without a prefix'} (power-loop {other.release}), which {content}; each release "
            "sees just its own.",
        )
    if layout.stamped_too_new:
        yield check_result(
            "half-migrated",
            Severity.WARNING,
            Spot(),
            "A later release stamped these tables as its own "
            "without changing them, so it cannot load them. The release that wrote them still does.",
        )


def _damaged(reason: str) -> CheckResult:
    return CheckResult(Finding("damaged-pages", Severity.ERROR, Spot(), f"{reason.rstrip('.')}.", salvage=True))
