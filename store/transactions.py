"""Whole transactions on a connection that threads share: all of it or nothing, and a lock that says who waits."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from types import TracebackType


class Locked(sqlite3.OperationalError):
    """A lock that was waited for in vain: who waited, how long, for what."""

    def __init__(self, what: str, about: str, path: str, waited_s: float) -> None:
        super().__init__(
            f"database is locked: {what}{' of ' if about else ''}{about} waited {waited_s:.1f} s for {path}, which "
            "another process or connection holds; try again when it is done, or open with a longer timeout"
        )
        self.sqlite_errorcode, self.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"


class Transactions:
    """The transactions of one connection. `path` is what errors call the database."""

    def __init__(self, conn: sqlite3.Connection, lock: RLock, path: str) -> None:
        self.conn, self.lock, self.path = conn, lock, path
        self.depth = 0

    def whole(self, what: str, about: str = "") -> Whole:
        """A block whose writes are committed together, or not at all if an exception leaves it; it gives a cursor.

        Within another block, or a transaction that the caller began, it is a savepoint of that. `what` is done `about`
        a session, for the words of an error. Raises Locked where another process holds the write lock for longer than
        the connection waits.
        """
        return Whole(self, what, about)

    def check(self, in_transaction: bool) -> None:
        """Raises sqlite3.OperationalError within a block whose transaction SQLite has rolled back by itself."""
        if self.depth and not in_transaction:
            raise sqlite3.OperationalError(
                "the transaction is gone, an earlier error rolled it back: leave the block and begin again"
            )


class Whole:
    """One block of `Transactions.whole`. A class, because a generator costs as much as a statement of an append."""

    __slots__ = ("_about", "_began", "_cursor", "_of", "_savepoint", "_what")

    def __init__(self, of: Transactions, what: str, about: str) -> None:
        self._of, self._what, self._about = of, what, about
        self._savepoint: str | None = None

    def __enter__(self) -> sqlite3.Cursor:
        of = self._of
        of.lock.acquire()
        try:
            nested = of.conn.in_transaction
            # By a name of its own, the savepoint of a block takes along any that an interrupt left open inside.
            self._savepoint = f"block_{of.depth}" if nested else ""
            of.check(nested)
            cursor = self._cursor = plain_cursor(of.conn)
            self._began = time.monotonic()
            cursor.execute(f"SAVEPOINT {self._savepoint}" if nested else "BEGIN IMMEDIATE")
            of.depth += 1
        except BaseException as error:
            # An interrupt may come when the transaction has just begun.
            if self._savepoint == "" and of.conn.in_transaction:
                of.conn.execute("ROLLBACK")
            of.lock.release()
            self._name_the_wait(error)
            raise
        return cursor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        of = self._of
        try:
            if error is None:
                of.check(of.conn.in_transaction)
                self._began = time.monotonic()
                self._cursor.execute(f"RELEASE {self._savepoint}" if self._savepoint else "COMMIT")
            else:
                # A lock that the block ran into may be that of another database, so its error stays as it is.
                self._roll_back()
        except BaseException as failure:
            if error is None:
                self._roll_back()
                self._name_the_wait(failure)
            raise
        finally:
            of.depth -= 1
            of.lock.release()

    def _roll_back(self) -> None:
        # After some errors SQLite has done so by itself.
        if self._of.conn.in_transaction:
            if self._savepoint:
                self._cursor.execute(f"ROLLBACK TO {self._savepoint}")
                self._cursor.execute(f"RELEASE {self._savepoint}")
            else:
                self._cursor.execute("ROLLBACK")

    def _name_the_wait(self, error: BaseException) -> None:
        if is_busy(error):
            raise Locked(self._what, self._about, self._of.path, time.monotonic() - self._began) from error


def plain_cursor(conn: sqlite3.Connection) -> sqlite3.Cursor:
    """A cursor that gives tuples, whatever the connection's own rows are."""
    cursor = conn.cursor()
    cursor.row_factory = None
    return cursor


@contextmanager
def waiting(what: str, about: str, path: str) -> Iterator[None]:
    """Turns SQLite's error of a lock that was waited for into a `Locked`."""
    began = time.monotonic()
    try:
        yield
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        raise Locked(what, about, path, time.monotonic() - began) from error


def is_busy(error: BaseException) -> bool:
    """Whether an error is SQLite's own for a lock that somebody else holds."""
    return (
        isinstance(error, sqlite3.OperationalError)
        and not isinstance(error, Locked)
        and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    )
