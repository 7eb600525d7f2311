"""The power-loop tables and columns that a file really has, found by reading its schema, never by a version number.

A layout is a table prefix; one file may hold several. Version stamps only refine the label if tables cannot: they are
wrong in files that a later release stamped without migrating.
"""

from __future__ import annotations

import sqlite3

from msgspec import Struct
from msgspec.structs import replace

from sessionscope.store.io.sql import quoted
from sessionscope.store.model.errors import NotAnArchive

from .obstacles import Obstacle, obstacles, written_tables

NOTE_NAME = "compact_note"
NEWEST_STAMP, NEWEST_USER_VERSION = 9, 2
"""The newest known schema versions: of the prefixed layouts, and of the unprefixed one of the synchronous store."""

_NEEDED = {
    "sessions": {"session_id"},
    "messages": {"session_id", "seq", "role", "state"},
    "session_state": {"session_id", "next_seq"},
}
_BY_TABLES = (
    ("project_messages", "id", "8.0"),
    ("context_cache", None, "6.54-7.3"),
    ("follow_up_queue", "item_id", "6.33-6.53"),
    ("session_leases", None, "3.19-6.32"),
    ("usage_rounds", "send_index", "3.17-3.18"),
    ("usage_rounds", "cached_tokens", "3.8-3.16"),
    ("hook_events", None, "3.2-3.7"),
    ("messages", "send_index", "2.2-3.1"),
    ("shared_state", "state_key", "2.0-2.1"),
)
_BY_TABLES_UNPREFIXED = (
    ("shared_state", None, "0.13-0.14"),
    ("timers", "interval_s", "0.12"),
    ("timers", None, "0.11"),
    ("session_stats", None, "0.10"),
    ("notes", None, "0.8-0.9"),
    ("session_runtime_state", None, "0.4-0.7"),
)


class NoSessions(NotAnArchive):
    """The file is a sound database without session tables of any known release."""


class Layout(Struct, frozen=True):
    """One set of power-loop tables. `tables` maps a table's plain name to its columns.

    `release` is the range of releases that make such tables. `by_ord` says whether these sort a note by its `meta.ord`.
    `poisoned` says whether no release can load it because it was stamped as newer than it is.
    """

    prefix: str
    tables: dict[str, frozenset[str]]
    release: str
    by_ord: bool
    poisoned: bool
    obstacles: tuple[Obstacle, ...] = ()
    """Triggers and foreign keys that act when these tables are written. With any of them, the tables are only read."""

    def name(self, table: str) -> str:
        """Return a table's full name, as the file has it."""
        return self.prefix + table

    def table(self, table: str) -> str:
        """Return a table's full name, quoted for a statement."""
        return quoted(self.name(table))

    def has(self, table: str, column: str | None = None) -> bool:
        """Return whether the file has a table, or a column of it."""
        columns = self.tables.get(table)
        return columns is not None and (column is None or column in columns)

    def column(self, table: str, column: str) -> str:
        """Return a column for a SELECT, or NULL under its name if the file has none."""
        return column if self.has(table, column) else f"NULL AS {column}"

    @property
    def chars(self) -> str:
        """How many characters the model is sent of a message, its content and its calls, for a SELECT."""
        lengths = [
            f"ifnull(length({column}), 0)" for column in ("content", "tool_calls_json") if self.has("messages", column)
        ]
        return " + ".join(lengths) or "0"


def schema_version(conn: sqlite3.Connection) -> int:
    """Return a number that changes with every change of a table."""
    return int(conn.execute("PRAGMA schema_version").fetchone()[0])


def layouts(conn: sqlite3.Connection) -> list[Layout]:
    """Return every layout in a file, the unprefixed one first. Reads the schema and a version stamp."""
    names = [str(name) for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    user_version = int(conn.execute("PRAGMA user_version").fetchone()[0])
    known = set(names)
    prefixes = sorted(name[: -len("sessions")] for name in names if name.endswith("sessions"))
    found = []
    for prefix in prefixes:
        if not all(prefix + table in known for table in _NEEDED):
            continue
        # A longer prefix is a layout of its own, so its tables do not belong to this one.
        others = [other for other in prefixes if len(other) > len(prefix) and other.startswith(prefix)]
        tables = {
            name[len(prefix) :]: _columns(conn, name)
            for name in names
            if name.startswith(prefix) and not any(name.startswith(other) for other in others)
        }
        if all(columns <= tables.get(table, frozenset()) for table, columns in _NEEDED.items()):
            layout = _layout(conn, prefix, tables, user_version)
            written = [prefix + table for table in written_tables(tables)]
            found.append(replace(layout, obstacles=tuple(obstacles(conn, written))))
    return found


def newer(conn: sqlite3.Connection, layout: Layout) -> str | None:
    """Return why tables may hold something unknown, None if they do not."""
    stamp = _stamp(conn, layout)
    if stamp is not None and stamp > NEWEST_STAMP:
        return f"was written by a release later than we know (schema {stamp})"
    user_version = int(conn.execute("PRAGMA user_version").fetchone()[0])
    if stamp is None and not layout.prefix and user_version > NEWEST_USER_VERSION:
        return f"was written by a release later than we know (user_version {user_version})"
    return None


def _columns(conn: sqlite3.Connection, name: str) -> frozenset[str]:
    return frozenset(str(row[0]) for row in conn.execute("SELECT name FROM pragma_table_info(?)", (name,)))


def _layout(conn: sqlite3.Connection, prefix: str, tables: dict[str, frozenset[str]], user_version: int) -> Layout:
    draft = Layout(prefix, tables, "", True, False)
    stamped = _stamp(conn, draft)
    if prefix or stamped is not None:
        poisoned = (stamped or 0) >= 2 and not draft.has("messages", "send_index")
        release = "2.2 or later" if poisoned else _release(draft, _BY_TABLES, "2.0-2.1")
        return Layout(prefix, tables, release, not poisoned, poisoned)
    if draft.has("usage_rounds", "send_index"):
        return Layout(prefix, tables, "3.17 or later, unprefixed", True, False)
    if user_version >= 1:
        return Layout(prefix, tables, "0.15-1.0", True, False)
    release = _release(draft, _BY_TABLES_UNPREFIXED, "0.2-0.3")
    return Layout(prefix, tables, release, draft.has("shared_state"), False)


def _release(layout: Layout, rules: tuple[tuple[str, str | None, str], ...], otherwise: str) -> str:
    return next((release for table, column, release in rules if layout.has(table, column)), otherwise)


def _stamp(conn: sqlite3.Connection, layout: Layout) -> int | None:
    if not layout.has("schema_migrations", "version"):
        return None
    row = conn.execute(f"SELECT version FROM {layout.table('schema_migrations')} LIMIT 1").fetchone()
    return int(row[0]) if row and isinstance(row[0], int) else None
