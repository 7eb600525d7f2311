"""Connections that may write, whole transactions, and checks for agents that are running."""

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

WAIT_S, PAGES = 5.0, 1_000


class Writer:
    """A connection that may write, with the state of its one transaction."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self.may_have_committed = False
        """Whether COMMIT was sent and has not failed for certain. After that, an exception proves nothing."""
        self.backup: Path | None = None
        """The bundle of what the transaction changes, once it is complete."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the body as one transaction, with the write lock from the start. For one use."""
        self.conn.execute("BEGIN IMMEDIATE")
        try:
            yield
            # An interrupt may come between any two steps, so this is noted before it is true.
            self.may_have_committed = True
            self.conn.execute("COMMIT")
        except BaseException:
            # An interrupt may have closed the connection first, which rolls back as well.
            with suppress(sqlite3.ProgrammingError):
                if self.conn.in_transaction:
                    self.conn.execute("ROLLBACK")
                    self.may_have_committed = False
            raise


@contextmanager
def connected(path: str) -> Iterator[Writer]:
    """Open a database for one transaction. Raises Refused for what goes wrong; it says whether anything was changed."""
    writer: Writer | None = None
    try:
        uri = f"{uri_of(path)}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_S, isolation_level=None)) as conn:
            conn.text_factory = decode_text
            distrust_schema(conn)
            # A row that already breaks a CHECK of its table must not stop what the plan promised, nor its undo.
            conn.execute("PRAGMA ignore_check_constraints=ON")
            conn.execute("PRAGMA synchronous=FULL")
            conn.execute(f"PRAGMA cache_spill={SPILL_PAGES}")
            writer = Writer(conn)
            yield writer
    except StoreError:
        raise
    except (sqlite3.Error, OSError) as error:
        if writer is not None and writer.may_have_committed:
            raise _unsure(path, error, writer.backup) from error
        raise _refused(path, error) from error


def _refused(path: str, error: Exception) -> Refused:
    if isinstance(error, sqlite3.Error) and is_busy(error):
        return Refused(f"{path}: another process holds it; nothing was changed. Try again when it is done.")
    words = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return Refused(f"{path}: cannot be changed ({words}); nothing was changed.")


def _unsure(path: str, error: Exception, backup: Path | None) -> Refused:
    """Return the error of a transaction of which it is not known whether it was committed."""
    kept = f" What it changes is backed up in {backup}." if backup is not None else ""
    return Refused(f"{path}: it is not known whether the change was made ({error}). Look before you repeat it.{kept}")


def new_bundle(path: Path, what: str, why: str, kind: BundleKind = BundleKind.BACKUP) -> Bundle:
    """Begin a bundle next to a database. Raises Refused if it cannot be made."""
    try:
        return Bundle(path, kind, what, why)
    except OSError as error:
        raise Refused(wording.cannot_back_up(path, error)) from None


def back_up(conn: sqlite3.Connection, target: Path, progress: Progress, cancel: Cancel) -> None:
    """Copy a whole database as it is, by SQLite's own online backup."""

    def tell(status: int, left: int, pages: int) -> None:
        if cancel():
            raise Cancelled(wording.STOPPED)
        progress("pages kept", pages - left, pages)

    with closing(sqlite3.connect(os.fspath(target))) as copy:
        # The copy must be one file. A WAL beside it would hold what it lacks.
        conn.backup(copy, pages=PAGES, progress=tell)
        copy.execute("PRAGMA journal_mode=DELETE")


def refuse_leased(conn: sqlite3.Connection, layout: Layout, keys: Sequence[int]) -> None:
    """Raise Refused if an agent holds one of these sessions at this moment."""
    if not layout.has("session_leases", "expires_at"):
        return
    now, leases = now_ms(), layout.table("session_leases")
    for key in keys:
        row = conn.execute(
            f"SELECT l.session_id FROM {leases} l JOIN {layout.table('sessions')} s "
            "ON s.session_id = l.session_id WHERE s.rowid = ? AND l.expires_at > ?",
            (key, now),
        ).fetchone()
        if row:
            raise Refused(
                f"session {str(row[0])[:60]!r} is in use at this moment (its owner holds a lease); stop "
                "that agent, or wait until its lease has run out."
            )
