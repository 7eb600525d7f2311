"""Transactions on a connection that threads share: all or nothing, with errors that say what waited for a lock."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import RLock
from typing import TypeVar

T = TypeVar("T")
SPILL_PAGES = 16_384
"""Pages that a transaction keeps in memory. A page that leaves it before the commit is written twice."""


class Locked(sqlite3.OperationalError):
    """Waiting for a lock took too long. The text says what waited, how long, and for what."""

    sqlite_errorcode = sqlite3.SQLITE_BUSY
    sqlite_errorname = "SQLITE_BUSY"


def locked(what: str, about: str, path: str, waited_s: float) -> Locked:
    """Return the error for a lock that was waited for in vain."""
    return Locked(
        f"database is locked: {what}{' of ' if about else ''}{about} waited {waited_s:.1f} s for {path}, which "
        "another process or connection holds; try again when it is done, or open with a longer timeout"
    )


class Transactions:
    """The transactions of one connection. `path` is what errors call the database.

    Inside another transaction, ours or one that the caller began, a transaction is a savepoint. In errors, `what` names
    the operation and `about` the session. Raises Locked if another process holds the write lock for longer than the
    connection waits.
    """

    def __init__(self, conn: sqlite3.Connection, lock: RLock, path: str) -> None:
        self.conn, self.lock, self.path = conn, lock, path
        self._depth = 0

    def run(self, work: Callable[[sqlite3.Cursor], T], what: str, about: str = "") -> T:
        """Commit what `work` writes and return its result, or roll back if it raises.

        One function from lock to commit: an interrupt may come between any two instructions, and each is inside the
        `try`.
        """
        with self.lock:
            depth, nested = self._depth, True
            try:
                nested = self._joins()
                cursor = self._begin(nested, depth, what, about)
                result = work(cursor)
                self._commit(cursor, nested, depth, what, about)
                return result
            except BaseException:
                self._roll_back(nested, depth)
                raise
            finally:
                self._depth = depth

    @contextmanager
    def block(self, what: str) -> Iterator[None]:
        """Do the same for the body of a `with` statement."""
        with self.lock:
            depth, nested = self._depth, True
            try:
                nested = self._joins()
                cursor = self._begin(nested, depth, what, "")
                yield
                self._commit(cursor, nested, depth, what, "")
            except BaseException:
                self._roll_back(nested, depth)
                raise
            finally:
                self._depth = depth

    def _joins(self) -> bool:
        """Return whether there is a transaction to join: one of ours, or one that the caller began with a statement."""
        conn = self.conn
        if not conn.in_transaction:
            self._check(False)
            return False
        if self._depth or (conn.isolation_level is None and getattr(conn, "autocommit", None) is not False):
            return True
        # Python began this one implicitly, and nobody would commit it.
        conn.execute("COMMIT")
        return False

    def _begin(self, nested: bool, depth: int, what: str, about: str) -> sqlite3.Cursor:
        cursor = plain_cursor(self.conn)
        self._execute(cursor, f"SAVEPOINT block_{depth}" if nested else "BEGIN IMMEDIATE", what, about)
        self._depth = depth + 1
        return cursor

    def _commit(self, cursor: sqlite3.Cursor, nested: bool, depth: int, what: str, about: str) -> None:
        self._check(self.conn.in_transaction)
        self._execute(cursor, f"RELEASE block_{depth}" if nested else "COMMIT", what, about)

    def _roll_back(self, nested: bool, depth: int) -> None:
        # After some errors SQLite has rolled back already, and an interrupt may come before the savepoint exists.
        if not self.conn.in_transaction:
            return
        if nested:
            with suppress(sqlite3.OperationalError):
                self.conn.execute(f"ROLLBACK TO block_{depth}")
                self.conn.execute(f"RELEASE block_{depth}")
        else:
            self.conn.execute("ROLLBACK")

    def _execute(self, cursor: sqlite3.Cursor, statement: str, what: str, about: str) -> None:
        began = time.monotonic()
        try:
            cursor.execute(statement)
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            raise locked(what, about, self.path, time.monotonic() - began) from error

    def _check(self, in_transaction: bool) -> None:
        if self._depth and not in_transaction:
            raise sqlite3.OperationalError(
                "the transaction is gone, an error or a statement of the caller's ended it: leave the block, begin anew"
            )


def plain_cursor(conn: sqlite3.Connection) -> sqlite3.Cursor:
    """Return a cursor that yields tuples, whatever rows the connection yields."""
    cursor = conn.cursor()
    cursor.row_factory = None
    return cursor


@contextmanager
def waiting(what: str, about: str, path: str) -> Iterator[None]:
    """Turn SQLite's error for a lock that was waited for in vain into a `Locked`."""
    began = time.monotonic()
    try:
        yield
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        raise locked(what, about, path, time.monotonic() - began) from error


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether an error is SQLite's own for a lock that another connection holds."""
    return not isinstance(error, Locked) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
