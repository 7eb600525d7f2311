"""Connections that may write: one transaction each, full backups, and the check for leases of running agents."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sessionscope.store.io.bundle import Bundle, BundleKind
from sessionscope.store.io.clock import now_ms
from sessionscope.store.io.sqlitefile import decode_text, distrust_schema, uri_of
from sessionscope.store.io.transactions import SPILL_PAGES, is_busy
from sessionscope.store.model import wording
from sessionscope.store.model.errors import Cancelled, Refused, StoreError
from sessionscope.store.model.plans import Progress
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.protocols import Cancel

WAIT_S = 5.0
"""How many seconds a writer waits for a lock that another process holds."""
BACKUP_STEP_PAGES = 1_000
"""How many pages are backed up between two reports of progress."""


class Writer:
    """A connection that may write, and the state of its one transaction."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self.may_have_committed = False
        """True once COMMIT may have been sent and no rollback is known. An exception does not prove that it failed."""
        self.backup: Path | None = None
        """The folder of the sealed bundle that holds what the transaction changes; None before it is sealed."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction that holds the write lock from the start. Use it once for each writer."""
        self.conn.execute("BEGIN IMMEDIATE")
        try:
            yield
            # An interrupt may come between any two steps, so the flag is set before the COMMIT.
            self.may_have_committed = True
            self.conn.execute("COMMIT")
        except BaseException:
            # After an interrupt the connection may be closed already, which has rolled back too.
            with suppress(sqlite3.ProgrammingError):
                if self.conn.in_transaction:
                    self.conn.execute("ROLLBACK")
                    self.may_have_committed = False
            raise


@contextmanager
def open_writer(path: str) -> Iterator[Writer]:
    """Open a database for one transaction.

    Raises Refused in place of sqlite3.Error and OSError. Its text says that nothing was changed, or that this is not
    known.
    """
    writer: Writer | None = None
    try:
        uri = f"{uri_of(path)}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_S, isolation_level=None)) as conn:
            conn.text_factory = decode_text
            distrust_schema(conn)
            # A row that already violates a CHECK of its table must stop neither the planned change nor its undo.
            conn.execute("PRAGMA ignore_check_constraints=ON")
            conn.execute("PRAGMA synchronous=FULL")
            conn.execute(f"PRAGMA cache_spill={SPILL_PAGES}")
            writer = Writer(conn)
            yield writer
    except StoreError:
        raise
    except (sqlite3.Error, OSError) as error:
        if writer is not None and writer.may_have_committed:
            raise _outcome_unknown(path, error, writer.backup) from error
        raise _not_changed(path, error) from error


def _not_changed(path: str, error: Exception) -> Refused:
    """Return the error of a transaction that changed nothing."""
    if isinstance(error, sqlite3.Error) and is_busy(error):
        return Refused(f"{path}: another process holds it; nothing was changed. Try again when it is done.")
    cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return Refused(f"{path}: cannot be changed ({cause}); nothing was changed.")


def _outcome_unknown(path: str, error: Exception, backup: Path | None) -> Refused:
    """Return the error of a transaction that may or may not have been committed."""
    backup_note = f" What it changes is backed up in {backup}." if backup is not None else ""
    return Refused(
        f"{path}: it is not known whether the change was made ({error}). Look before you repeat it.{backup_note}"
    )


def new_bundle(path: Path, what: str, why: str, kind: BundleKind = BundleKind.BACKUP) -> Bundle:
    """Begin a bundle in the backup folder of a database. Raises Refused if it cannot be created."""
    try:
        return Bundle(path, kind, what, why)
    except OSError as error:
        raise Refused(wording.cannot_back_up(path, error)) from None


def back_up(conn: sqlite3.Connection, target: Path, progress: Progress, cancel: Cancel) -> None:
    """Copy the whole database to `target` with SQLite's online backup. Raises Cancelled, sqlite3.Error."""

    def report_progress(status: int, pages_left: int, pages: int) -> None:
        if cancel():
            raise Cancelled(wording.STOPPED)
        progress("pages kept", pages - pages_left, pages)

    with closing(sqlite3.connect(os.fspath(target))) as copy:
        # The backup must be one file, without a WAL that holds a part of it.
        conn.backup(copy, pages=BACKUP_STEP_PAGES, progress=report_progress)
        copy.execute("PRAGMA journal_mode=DELETE")


def refuse_leased(conn: sqlite3.Connection, layout: Layout, rowids: Sequence[int]) -> None:
    """Raise Refused if an agent holds an unexpired lease on one of the sessions with these rowids."""
    if not layout.has("session_leases", "expires_at"):
        return
    now, leases = now_ms(), layout.table("session_leases")
    for rowid in rowids:
        row = conn.execute(
            f"SELECT l.session_id FROM {leases} l JOIN {layout.table('sessions')} s "
            "ON s.session_id = l.session_id WHERE s.rowid = ? AND l.expires_at > ?",
            (rowid, now),
        ).fetchone()
        if row:
            raise Refused(
                f"session {str(row[0])[:60]!r} is in use at this moment (its owner holds a lease); stop "
                "that agent, or wait until its lease has run out."
            )
