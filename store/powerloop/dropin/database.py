"""Opens a database to write sessions into: a new one, or one with the tables of 0.2.0. No other file is changed."""

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

MEMORY, PAUSE_S = ":memory:", 0.01
DURABILITIES = ("NORMAL", "FULL")


class ForeignDatabase(NotAnArchive, sqlite3.DatabaseError):
    """The file belongs to another program, or to a release with different tables."""


def connect(path: str, durability: str, timeout: float) -> sqlite3.Connection:
    """Open a connection in WAL mode that threads can share and that commits by itself. Make the tables if the file is
    new.

    `timeout` is how many seconds to wait for a lock, `durability` is one of `DURABILITIES`. Raises ForeignDatabase if
    the file belongs to another program, sqlite3.OperationalError if it is locked or cannot be opened,
    sqlite3.DatabaseError if it is no database, ValueError for an unknown durability.
    """
    require_sqlite()
    if durability.upper() not in DURABILITIES:
        raise ValueError(f"durability is NORMAL or FULL, not {durability!r}")
    deadline = time.monotonic() + timeout
    if path != MEMORY:
        _look(path, deadline, timeout)
    try:
        conn = sqlite3.connect(path, timeout=timeout, check_same_thread=False, isolation_level=None)
    except sqlite3.Error as error:
        _name_the_file(error, path)
        raise
    try:
        conn.row_factory = sqlite3.Row
        with waiting("opening", "", path):
            _use_wal(conn, deadline)
            conn.execute(f"PRAGMA synchronous={durability}")
            conn.execute("PRAGMA foreign_keys=ON")
            conn.execute("PRAGMA temp_store=MEMORY")
            conn.execute(f"PRAGMA cache_spill={SPILL_PAGES}")
            if not _complete(conn):
                _create(conn, path)
    except BaseException as error:
        conn.close()
        _name_the_file(error, path)
        raise
    return conn


def _name_the_file(error: BaseException, path: str) -> None:
    """Add the path to an error. SQLite does not say what it could not open."""
    if isinstance(error, sqlite3.Error) and path not in str(error):
        error.args = (f"{error}: {path}",)


def _look(path: str, deadline: float, timeout: float) -> None:
    """Raise if sessions may not be written into the file, before anything leaves a trace in it."""
    while os.path.isfile(path) and os.path.getsize(path) and os.access(path, os.R_OK):
        try:
            why = SqliteFile(Path(path)).read(_refusal)
        except Busy as error:
            if time.monotonic() > deadline:
                raise locked("opening", "", path, timeout) from error
            time.sleep(PAUSE_S)
            continue
        except NotAnArchive as error:
            raise ForeignDatabase(str(error)) from error
        except Damaged as error:
            raise sqlite3.DatabaseError(str(error)) from error
        if why:
            raise ForeignDatabase(f"{path}: {why}")
        return


def _use_wal(conn: sqlite3.Connection, deadline: float) -> None:
    """Switch to WAL mode and wait for locks, which SQLite does not do here by itself."""
    while True:
        try:
            conn.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)
        else:
            return


def _create(conn: sqlite3.Connection, path: str) -> None:
    def work(cursor: sqlite3.Cursor) -> None:
        if why := _refusal(conn):
            raise ForeignDatabase(f"{path}: {why}")
        for statement in STATEMENTS:
            cursor.execute(statement)

    Transactions(conn, RLock(), path).run(work, "opening")


def _complete(conn: sqlite3.Connection) -> bool:
    names = {str(row[0]).lower() for row in conn.execute("SELECT name FROM sqlite_master")}
    return names >= COLUMNS.keys() | INDEXES


def _refusal(conn: sqlite3.Connection) -> str | None:
    """Return why the statements of 0.2.0 must not write to a database, None if they may, or if it is empty."""
    stamp = int(conn.execute("PRAGMA user_version").fetchone()[0])
    if stamp > NEWEST_USER_VERSION:
        return f"was written by a release later than we know (user_version {stamp}); upgrade, or use another file."
    kinds = {
        str(name).lower(): kind
        for name, kind in conn.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')")
        if not str(name).startswith("sqlite_")
    }
    ours = {name for name in COLUMNS if kinds.get(name) == "table"}
    for table in sorted(ours):
        columns = {str(row[0]).lower() for row in conn.execute("SELECT name FROM pragma_table_info(?)", (table,))}
        if missing := COLUMNS[table] - columns:
            return f"is not a power-loop database: its {table} has no {', '.join(sorted(missing))}; use another file."
        if table == "messages" and "send_index" in columns:
            return "was written by power-loop 2.2 or later; only files of its synchronous store can be written here."
    if why := reason(tuple(obstacles(conn, ours))):
        return why
    # A creation that was cut short left some of our tables and nothing else.
    if len(ours) < len(COLUMNS) and kinds.keys() - ours:
        prefixes = [layout.prefix for layout in layouts(conn) if layout.prefix]
        if prefixes:
            return (
                f"holds the sessions of power-loop 2.0 or later, in tables named {prefixes[0]}*, which are not "
                "written here; use another file."
            )
        return "is a database of another program; use another file."
    return None
