"""A new database that is filled with rows as they were stored, and appears at its path whole or not at all.

The statements that make its tables come from a damaged file, so they are not trusted: each is tried in memory first,
and may make one table or one index and nothing else.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path
from secrets import token_hex
from typing import Any

from msgspec import Struct

from sessionscope.store.io.files import sync_folder
from sessionscope.store.io.sql import quoted
from sessionscope.store.model.errors import Misused, Refused

from .pages import Undecoded, Value
from .trees import TableRow

_TABLE = re.compile(r"CREATE\s+TABLE\b", re.I)
_INDEX = re.compile(r"CREATE\s+(UNIQUE\s+)?INDEX\b", re.I)
_FUNCTIONS = frozenset(
    {
        "abs",
        "coalesce",
        "count",
        "date",
        "datetime",
        "ifnull",
        "iif",
        "instr",
        "json",
        "json_extract",
        "json_type",
        "json_valid",
        "length",
        "like",
        "lower",
        "max",
        "min",
        "nullif",
        "strftime",
        "substr",
        "time",
        "trim",
        "typeof",
        "unixepoch",
        "upper",
    }
)
_ROWID_NAMES = ("rowid", "_rowid_", "oid")
_DENIED = frozenset(
    {
        sqlite3.SQLITE_RECURSIVE,
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_CREATE_TRIGGER,
        sqlite3.SQLITE_CREATE_VIEW,
        sqlite3.SQLITE_CREATE_VTABLE,
        sqlite3.SQLITE_DROP_TABLE,
    }
)
_PAGES_A_TRANSACTION = 2_000


class RecordColumn(Struct, frozen=True):
    """A column, as far as it concerns a record. A `generated` one is stored, but not written."""

    name: str
    affinity: str
    required: bool
    generated: bool


class Shape(Struct, frozen=True):
    """What rows of a table look like. `alias` is the index of the column that is the rowid itself, if there is one."""

    name: str
    sql: str
    columns: tuple[RecordColumn, ...]
    alias: int | None
    rowid: str

    def fits(self, types: tuple[int, ...]) -> bool:
        """Return whether a record with these serial types can be a row. SQLite would not have stored it otherwise."""
        if not 0 < len(types) <= len(self.columns):
            return False
        for index, (column, serial_type) in enumerate(zip(self.columns, types, strict=False)):
            if serial_type == 0:
                if column.required and index != self.alias:
                    return False
            elif index == self.alias or (column.affinity == "text" and serial_type < 12):
                return False
        return True

    def likeness(self, types: Sequence[Value]) -> int:
        """Return how well values that fit agree with the declared types of the columns."""
        return (len(types) == len(self.columns)) * len(types) + sum(
            value is None or column.affinity != "integer" or isinstance(value, int)
            for column, value in zip(self.columns, types, strict=False)
        )


def read_shape(name: str, sql: str) -> Shape | str:
    """Return the shape of the table that a statement makes, or in words why no rows can be put into it."""
    if not _TABLE.match(sql):
        return "is no ordinary table"
    try:
        with closing(_guarded(sqlite3.connect(":memory:", isolation_level=None), _allow_making)) as conn:
            conn.execute(sql)
            conn.set_authorizer(None)
            made = [row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if [one for one in made if one != "sqlite_sequence"] != [name]:
                return "is not what its statement makes"
            return _shape(conn, name, sql)
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return f"has a statement that cannot be used ({str(error)[:100]})"


def _shape(conn: sqlite3.Connection, name: str, sql: str) -> Shape | str:
    listed = conn.execute('SELECT name, type, "notnull", pk, hidden FROM pragma_table_xinfo(?)', (name,)).fetchall()
    columns = tuple(
        RecordColumn(column, _affinity(type_), bool(required), hidden == 3)
        for column, type_, required, _, hidden in listed
        if hidden in (0, 3)
    )
    rowid = next((one for one in _ROWID_NAMES if one not in {column.name.lower() for column in columns}), None)
    try:
        conn.execute(f"SELECT {rowid} FROM {quoted(name)}")
    except sqlite3.Error:
        rowid = None
    if rowid is None:
        return "keeps its rows without rowids"
    keys = [at for at, row in enumerate(row for row in listed if row[4] in (0, 3)) if row[3]]
    indexed = conn.execute("SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'", (name,)).fetchone()
    alias = keys[0] if len(keys) == 1 and not indexed else None
    return Shape(name, sql, columns, alias, rowid)


def _affinity(declared: str) -> str:
    """Return the affinity of a declared type by SQLite's rules, in their order."""
    text = declared.upper()
    for words, affinity in (
        (("INT",), "integer"),
        (("CHAR", "CLOB", "TEXT"), "text"),
        (("BLOB",), "blob"),
        (("REAL", "FLOA", "DOUB"), "real"),
    ):
        if any(word in text for word in words):
            return affinity
    return "numeric" if text else "blob"


def _guarded(conn: sqlite3.Connection, judge: Callable[..., int]) -> sqlite3.Connection:
    conn.execute("PRAGMA trusted_schema=OFF")
    conn.set_authorizer(judge)
    return conn


def _allow(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
    if action == sqlite3.SQLITE_PRAGMA:
        # The pragma by which the columns of an index are read.
        return sqlite3.SQLITE_OK if first == "index_info" else sqlite3.SQLITE_DENY
    harmless = action not in _DENIED and (action != sqlite3.SQLITE_FUNCTION or (second or "").lower() in _FUNCTIONS)
    return sqlite3.SQLITE_OK if harmless else sqlite3.SQLITE_DENY


def _allow_making(action: int, *more: str | None) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_SELECT else _allow(action, *more)


class NewDatabase:
    """The new database while it is filled, in a private file next to its final path.

    Raises Misused if something exists at that path already, Refused if it cannot be made or the disk is full.
    `seen_twice` counts the rows that were not taken since their key existed, `undecoded` those with a text that is not
    in the encoding of the file.
    """

    def __init__(self, final_path: Path, page_size: int, encoding: str, vacuum: int) -> None:
        for path in (final_path, Path(f"{final_path}-wal"), Path(f"{final_path}-journal")):
            if os.path.lexists(path):
                raise Misused(f"{path}: is there already; name a new file.")
        self.final_path, self.seen_twice, self.undecoded = final_path, 0, 0
        self.path = final_path.with_name(f".{token_hex(8)}.tmp")
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise Refused(f"{final_path}: cannot be written ({error.strerror}).") from None
        self.conn = sqlite3.connect(os.path.abspath(self.path), isolation_level=None)
        self.conn.executescript(
            f"PRAGMA page_size={page_size}; PRAGMA encoding='{encoding.replace('-le', 'le').replace('-be', 'be')}';"
            f"PRAGMA auto_vacuum={vacuum}; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; BEGIN"
        )
        _guarded(self.conn, _allow)
        self._statements: dict[tuple[str, int, tuple[bool, ...]], str] = {}
        self._batches = 0

    def make(self, shape: Shape) -> None:
        """Make a table."""
        self.ask(shape.sql)

    def add(self, shape: Shape, rows: Iterable[TableRow], own_rowids: bool = True) -> int:
        """Write rows whose key does not exist yet, and return how many. Without their own rowids they get new ones."""
        taken = given = 0
        for mask, some in groupby(rows, lambda row: tuple(isinstance(value, Undecoded) for value in row.values)):
            batch = [self._bound(shape, row, own_rowids) for row in some]
            self.undecoded += any(mask) * len(batch)
            before = self.conn.total_changes
            try:
                self.conn.executemany(self._insert(shape, mask, own_rowids), batch)
            except sqlite3.Error as error:
                raise self._refusal(error) from error
            taken += self.conn.total_changes - before
            given += len(batch)
        self.seen_twice += given - taken
        self._batches += 1
        if self._batches % _PAGES_A_TRANSACTION == 0:
            self.ask("COMMIT")
            self.ask("BEGIN")
        return taken

    def _bound(self, shape: Shape, row: TableRow, own_rowids: bool) -> list[Value]:
        values = [value for at, value in enumerate(row.values) if at != shape.alias and not shape.columns[at].generated]
        return [row.rowid, *values] if own_rowids else values

    def _insert(self, shape: Shape, mask: tuple[bool, ...], own_rowids: bool) -> str:
        key = shape.name, int(own_rowids), mask
        if key not in self._statements:
            names, marks = ([shape.rowid], ["?"]) if own_rowids else ([], [])
            for at, (column, cast) in enumerate(zip(shape.columns, mask, strict=False)):
                if at != shape.alias and not column.generated:
                    names.append(quoted(column.name))
                    marks.append("CAST(? AS TEXT)" if cast else "?")
            into = f"({', '.join(names)}) VALUES ({', '.join(marks)})" if names else "DEFAULT VALUES"
            self._statements[key] = f"INSERT OR IGNORE INTO {quoted(shape.name)} {into}"
        return self._statements[key]

    def has(self, shape: Shape, rowid: int) -> bool:
        """Return whether a row of this rowid was written."""
        return self.ask(f"SELECT 1 FROM {quoted(shape.name)} WHERE {shape.rowid} = ?", rowid) != []

    def ask(self, statement: str, *values: Value) -> list[tuple[Any, ...]]:
        """Run a statement of our own, and return its rows."""
        try:
            return self.conn.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def index(self, sql: str) -> str | None:
        """Make an index. Return why it could not be made, or None."""
        if not _INDEX.match(sql):
            return "it is no index"
        try:
            self.conn.execute(sql)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return str(error)[:100]
        return None

    def _refusal(self, error: Exception) -> Refused:
        return Refused(f"{self.final_path}: cannot be written ({error}).")

    def finish(self, user_version: int, application_id: int) -> None:
        """Put the database at its path, synced. Raises Misused if something appeared there meanwhile."""
        try:
            self.conn.set_authorizer(None)
            self.conn.execute(f"PRAGMA user_version={user_version}")
            self.conn.execute(f"PRAGMA application_id={application_id}")
            self.conn.execute("COMMIT")
            self.conn.close()
            with self.path.open("r+b") as file:
                os.fsync(file.fileno())
            _put(self.path, self.final_path)
            sync_folder(self.final_path.parent)
        except FileExistsError:
            raise Misused(f"{self.final_path}: came there meanwhile; name a new file.") from None
        except (OSError, sqlite3.Error) as error:
            raise self._refusal(error) from error

    def discard(self) -> None:
        """Remove what is not finished. Idempotent."""
        with suppress(sqlite3.Error):
            self.conn.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _put(path: Path, final_path: Path) -> None:
    """Move a file to a path where none may exist.

    Not every file system has the hard links with which that cannot fail.
    """
    try:
        os.link(path, final_path)
    except FileExistsError:
        raise
    except OSError:
        if final_path.exists():
            raise FileExistsError from None
        path.rename(final_path)
    else:
        path.unlink()
