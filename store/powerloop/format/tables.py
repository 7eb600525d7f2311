"""Tables as SQLite describes them, for statements that copy whole rows."""

from __future__ import annotations

import sqlite3

from sessionscope.store.io.sql import quoted

OWNERS = ("session_id", "owner_session_id")
"""The columns that name the session that a row belongs to."""


def all_columns(conn: sqlite3.Connection, schema: str, table: str) -> list[str]:
    """Return the writable columns of a table, in order; an empty list if the table does not exist."""
    return [
        str(name)
        for (name,) in conn.execute("SELECT name FROM pragma_table_xinfo(?, ?) WHERE hidden = 0", (table, schema))
    ]


def key_column(conn: sqlite3.Connection, schema: str, table: str) -> str | None:
    """Return the column that is an alias of the rowid (an INTEGER PRIMARY KEY), None if the table has none."""
    keys = conn.execute("SELECT name, type FROM pragma_table_info(?, ?) WHERE pk > 0", (table, schema)).fetchall()
    if len(keys) != 1:
        return None
    name, declared_type = keys[0]
    return str(name) if str(declared_type).upper() == "INTEGER" else None


def has_rowid(conn: sqlite3.Connection, schema: str, table: str) -> bool:
    """Return whether a table has rowids: one that was created WITHOUT ROWID has none."""
    try:
        conn.execute(f"SELECT rowid FROM {schema}.{quoted(table)} LIMIT 0")
    except sqlite3.OperationalError as error:
        if "no such column" not in str(error):
            raise
        return False
    return True
