"""The connection of `SessionStore`: to a new database, or to one with the tables of power-loop 0.2.0.

A database of any other kind is refused before anything is written.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from threading import RLock

from sessionscope.store.io.sqlitefile import SqliteFile, require_sqlite
from sessionscope.store.io.transactions import SPILL_PAGES, Transactions, is_busy, locked, waiting
from sessionscope.store.model.errors import Busy, Damaged, NotAnArchive
from sessionscope.store.powerloop.format.layout import NEWEST_USER_VERSION, layouts
from sessionscope.store.powerloop.format.obstacles import obstacles, reason
from sessionscope.store.powerloop.format.schema import COLUMNS, INDEXES, STATEMENTS

MEMORY = ":memory:"
"""SQLite's path of a database in memory."""
RETRY_PAUSE_S = 0.01
"""How many seconds pass between two tries while another process holds a lock."""
DURABILITIES = ("NORMAL", "FULL")
"""The values of `PRAGMA synchronous` that a caller may choose."""


class ForeignDatabase(NotAnArchive, sqlite3.DatabaseError):
    """A file of another program, or of a release whose tables are different."""


def connect(path: str, durability: str, timeout: float) -> sqlite3.Connection:
    """Open a connection in autocommit and WAL mode, for use by several threads. Create the tables in a new file.

    `timeout` is how many seconds a lock is waited for, `durability` one of `DURABILITIES`.

    Raises ForeignDatabase for a file of another program or layout, sqlite3.OperationalError if it is locked or cannot
    be opened, sqlite3.DatabaseError if it is not a database, ValueError for an unknown durability.
    """
    require_sqlite()
    if durability.upper() not in DURABILITIES:
        raise ValueError(f"durability is NORMAL or FULL, not {durability!r}")
    deadline = time.monotonic() + timeout
    if path != MEMORY:
        _refuse_foreign(path, deadline, timeout)
    try:
        conn = sqlite3.connect(path, timeout=timeout, check_same_thread=False, isolation_level=None)
    except sqlite3.Error as error:
        _add_path(error, path)
        raise
    try:
        conn.row_factory = sqlite3.Row
        with waiting("opening", "", path):
            _use_wal(conn, deadline)
            conn.execute(f"PRAGMA synchronous={durability}")
            conn.execute("PRAGMA foreign_keys=ON")
            conn.execute("PRAGMA temp_store=MEMORY")
            conn.execute(f"PRAGMA cache_spill={SPILL_PAGES}")
            if not _has_all_tables(conn):
                _create(conn, path)
    except BaseException as error:
        conn.close()
        _add_path(error, path)
        raise
    return conn


def _add_path(error: BaseException, path: str) -> None:
    """Add the path to the text of an SQLite error, which often lacks it."""
    if isinstance(error, sqlite3.Error) and path not in str(error):
        error.args = (f"{error}: {path}",)


def _refuse_foreign(path: str, deadline: float, timeout: float) -> None:
    """Raise ForeignDatabase for a file of another program or layout. The file is only read, so it stays as it is.

    Raises Locked after the deadline, sqlite3.DatabaseError for a damaged file.
    """
    while os.path.isfile(path) and os.path.getsize(path) and os.access(path, os.R_OK):
        try:
            why = SqliteFile(Path(path)).read(_refusal)
        except Busy as error:
            if time.monotonic() > deadline:
                raise locked("opening", "", path, timeout) from error
            time.sleep(RETRY_PAUSE_S)
            continue
        except NotAnArchive as error:
            raise ForeignDatabase(str(error)) from error
        except Damaged as error:
            raise sqlite3.DatabaseError(str(error)) from error
        if why:
            raise ForeignDatabase(f"{path}: {why}")
        return


def _use_wal(conn: sqlite3.Connection, deadline: float) -> None:
    """Switch to WAL mode. Raises sqlite3.OperationalError if the file is still locked after the deadline.

    SQLite itself does not wait for a lock here.
    """
    while True:
        try:
            conn.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_PAUSE_S)
        else:
            return


def _create(conn: sqlite3.Connection, path: str) -> None:
    """Create the tables in one transaction. Raises ForeignDatabase if another process has made the file its own."""

    def work(cursor: sqlite3.Cursor) -> None:
        if why := _refusal(conn):
            raise ForeignDatabase(f"{path}: {why}")
        for statement in STATEMENTS:
            cursor.execute(statement)

    Transactions(conn, RLock(), path).run(work, "opening")


def _has_all_tables(conn: sqlite3.Connection) -> bool:
    """Return whether the database has all tables and indexes of 0.2.0."""
    names = {str(row[0]).lower() for row in conn.execute("SELECT name FROM sqlite_master")}
    return names >= COLUMNS.keys() | INDEXES


def _refusal(conn: sqlite3.Connection) -> str | None:
    """Return why the statements of 0.2.0 do not fit a database; None if they do, or if it is empty."""
    user_version = int(conn.execute("PRAGMA user_version").fetchone()[0])
    if user_version > NEWEST_USER_VERSION:
        return (
            f"was written by a release later than we know (user_version {user_version}); upgrade, or use another file."
        )
    kinds = {
        str(name).lower(): kind
        for name, kind in conn.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')")
        if not str(name).startswith("sqlite_")
    }
    own_tables = {name for name in COLUMNS if kinds.get(name) == "table"}
    for table in sorted(own_tables):
        columns = {str(row[0]).lower() for row in conn.execute("SELECT name FROM pragma_table_info(?)", (table,))}
        if missing := COLUMNS[table] - columns:
            return f"is not a power-loop database: its {table} has no {', '.join(sorted(missing))}; use another file."
        if table == "messages" and "send_index" in columns:
            return "was written by power-loop 2.2 or later; only files of its synchronous store can be written here."
    if why := reason(tuple(obstacles(conn, own_tables))):
        return why
    # If there are only some of these tables and no others, an interrupted creation left them.
    if len(own_tables) < len(COLUMNS) and kinds.keys() - own_tables:
        prefixes = [layout.prefix for layout in layouts(conn) if layout.prefix]
        if prefixes:
            return (
                f"holds the sessions of power-loop 2.0 or later, in tables named {prefixes[0]}*, which are not "
                "written here; use another file."
            )
        return "is a database of another program; use another file."
    return None
