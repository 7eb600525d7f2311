"""The power-loop tables and columns that a file has, detected from its schema, not from a version number.

A layout is the set of tables with one prefix; one file may hold several. Version stamps only refine the release label
if tables cannot: a later release may have stamped a file without migrating it, so stamps can be wrong.
"""

from __future__ import annotations

import sqlite3

from msgspec import Struct
from msgspec.structs import replace

from sessionscope.store.io.sql import quoted
from sessionscope.store.model.errors import NotAnArchive

from .obstacles import Obstacle, obstacles, written_tables

NOTE_NAME = "compact_note"
"""The name of message rows that hold a compaction note."""
NEWEST_STAMP = 9
"""The newest known schema of the prefixed layouts, as `schema_migrations.version`."""
NEWEST_USER_VERSION = 2
"""The newest known schema of the unprefixed layouts of the synchronous store, as `PRAGMA user_version`."""

_REQUIRED_COLUMNS = {
    "sessions": {"session_id"},
    "messages": {"session_id", "seq", "role", "state"},
    "session_state": {"session_id", "next_seq"},
}
"""The tables and columns that make a set of tables a layout."""
_RELEASES_BY_TABLE = (
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
"""Of prefixed layouts, newest first: a table, a column of it or None, and the releases that made it."""
_RELEASES_BY_TABLE_UNPREFIXED = (
    ("shared_state", None, "0.13-0.14"),
    ("timers", "interval_s", "0.12"),
    ("timers", None, "0.11"),
    ("session_stats", None, "0.10"),
    ("notes", None, "0.8-0.9"),
    ("session_runtime_state", None, "0.4-0.7"),
)
"""The same of unprefixed layouts without a version stamp."""


class NoSessions(NotAnArchive):
    """The file is a valid database without the session tables of any known release."""


class Layout(Struct, frozen=True):
    """One set of power-loop tables."""

    prefix: str
    """The beginning of every table's full name; may be empty."""
    tables: dict[str, frozenset[str]]
    """The columns of each table, by the table's plain name (without prefix)."""
    release: str
    """The range of releases that make such tables."""
    sorts_notes_by_ord: bool
    """Whether these releases place a note where its `meta.ord` says."""
    stamped_too_new: bool
    """Whether no release can load it, because it was stamped as newer than it is."""
    obstacles: tuple[Obstacle, ...] = ()
    """Triggers and foreign keys that act when these tables are written. If there are any, the layout is read-only."""

    def name(self, table: str) -> str:
        """Return a table's full name, as the file has it."""
        return self.prefix + table

    def table(self, table: str) -> str:
        """Return a table's full name, quoted for a statement."""
        return quoted(self.name(table))

    def has(self, table: str, column: str | None = None) -> bool:
        """Return whether the file has a table or, if given, a column of it."""
        columns = self.tables.get(table)
        return columns is not None and (column is None or column in columns)

    def column(self, table: str, column: str) -> str:
        """Return a column for a SELECT: NULL under its name if the file does not have it."""
        return column if self.has(table, column) else f"NULL AS {column}"

    @property
    def chars(self) -> str:
        """Return a SELECT expression: how many characters the model reads of a message, content and tool calls."""
        lengths = [
            f"ifnull(length({column}), 0)" for column in ("content", "tool_calls_json") if self.has("messages", column)
        ]
        return " + ".join(lengths) or "0"


def schema_version(conn: sqlite3.Connection) -> int:
    """Return SQLite's schema version, which changes whenever the schema does."""
    return int(conn.execute("PRAGMA schema_version").fetchone()[0])


def layouts(conn: sqlite3.Connection) -> list[Layout]:
    """Return every layout in a file, the unprefixed one first. Reads the schema and the version stamps."""
    names = [str(name) for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    user_version = _user_version(conn)
    known_names = set(names)
    prefixes = sorted(name[: -len("sessions")] for name in names if name.endswith("sessions"))
    found_layouts = []
    for prefix in prefixes:
        if not all(prefix + table in known_names for table in _REQUIRED_COLUMNS):
            continue
        # Tables with a longer prefix belong to a layout of their own.
        longer_prefixes = tuple(other for other in prefixes if len(other) > len(prefix) and other.startswith(prefix))
        tables = {
            name[len(prefix) :]: _columns(conn, name)
            for name in names
            if name.startswith(prefix) and not name.startswith(longer_prefixes)
        }
        if not all(columns <= tables.get(table, frozenset()) for table, columns in _REQUIRED_COLUMNS.items()):
            continue
        layout = _layout(conn, prefix, tables, user_version)
        written = [prefix + table for table in written_tables(tables)]
        found_layouts.append(replace(layout, obstacles=tuple(obstacles(conn, written))))
    return found_layouts


def newer(conn: sqlite3.Connection, layout: Layout) -> str | None:
    """Return why the tables may hold things that we do not know (a later release wrote them), None if they do not."""
    stamp = _stamp(conn, layout)
    if stamp is not None and stamp > NEWEST_STAMP:
        return f"was written by a release later than we know (schema {stamp})"
    user_version = _user_version(conn)
    if stamp is None and not layout.prefix and user_version > NEWEST_USER_VERSION:
        return f"was written by a release later than we know (user_version {user_version})"
    return None


def _user_version(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


def _columns(conn: sqlite3.Connection, name: str) -> frozenset[str]:
    return frozenset(str(row[0]) for row in conn.execute("SELECT name FROM pragma_table_info(?)", (name,)))


def _layout(conn: sqlite3.Connection, prefix: str, tables: dict[str, frozenset[str]], user_version: int) -> Layout:
    """Return the layout of these tables, still without its obstacles."""
    draft = Layout(prefix, tables, release="", sorts_notes_by_ord=True, stamped_too_new=False)
    stamp = _stamp(conn, draft)
    if prefix or stamp is not None:
        # A stamp of 2 or more promises the column that is missing.
        if (stamp or 0) >= 2 and not draft.has("messages", "send_index"):
            return replace(draft, release="2.2 or later", sorts_notes_by_ord=False, stamped_too_new=True)
        return replace(draft, release=_release(draft, _RELEASES_BY_TABLE, "2.0-2.1"))
    if draft.has("usage_rounds", "send_index"):
        return replace(draft, release="3.17 or later, unprefixed")
    if user_version >= 1:
        return replace(draft, release="0.15-1.0")
    release = _release(draft, _RELEASES_BY_TABLE_UNPREFIXED, "0.2-0.3")
    return replace(draft, release=release, sorts_notes_by_ord=draft.has("shared_state"))


def _release(layout: Layout, rules: tuple[tuple[str, str | None, str], ...], otherwise: str) -> str:
    """Return the releases of the first rule that the layout fits, else `otherwise`."""
    return next((release for table, column, release in rules if layout.has(table, column)), otherwise)


def _stamp(conn: sqlite3.Connection, layout: Layout) -> int | None:
    """Return the schema version that a release stamped into the layout, None if there is none."""
    if not layout.has("schema_migrations", "version"):
        return None
    row = conn.execute(f"SELECT version FROM {layout.table('schema_migrations')} LIMIT 1").fetchone()
    return int(row[0]) if row and isinstance(row[0], int) else None
