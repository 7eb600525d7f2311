"""Tables as SQLite itself describes them, for statements that copy rows whole."""

from __future__ import annotations

import sqlite3

from sessionscope.store.io.sql import quoted

OWNERS = ("session_id", "owner_session_id")
"""The columns that say whose a row is."""


def all_columns(conn: sqlite3.Connection, schema: str, table: str) -> list[str]:
    """The columns of a table that can be written, in order; none where there is no such table."""
    return [
        str(name)
        for (name,) in conn.execute("SELECT name FROM pragma_table_xinfo(?, ?) WHERE hidden = 0", (table, schema))
    ]


def key_column(conn: sqlite3.Connection, schema: str, table: str) -> str | None:
    """The column that is the storage key itself, None where that has a name of its own."""
    keys = conn.execute("SELECT name, type FROM pragma_table_info(?, ?) WHERE pk > 0", (table, schema)).fetchall()
    return str(keys[0][0]) if len(keys) == 1 and str(keys[0][1]).upper() == "INTEGER" else None


def has_rowid(conn: sqlite3.Connection, schema: str, table: str) -> bool:
    """Return whether the rows of a table have numbers: those of a table WITHOUT ROWID have none."""
    try:
        conn.execute(f"SELECT rowid FROM {schema}.{quoted(table)} LIMIT 0")
    except sqlite3.OperationalError as error:
        if "no such column" not in str(error):
            raise
        return False
    return True
