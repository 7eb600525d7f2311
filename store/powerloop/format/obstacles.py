"""Reasons to open a layout read-only: triggers and foreign keys that would change rows that no plan names."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing

from msgspec import Struct

from sessionscope.store.io.sql import quoted
from sessionscope.store.model.errors import Refused

from .tables import OWNERS

_NAME_CHARS = 60
"""How many characters of a table's or trigger's name are shown."""
_HARMLESS_ACTIONS = ("NO ACTION", "RESTRICT")
"""Foreign key actions that change no other row."""
_TRIGGERS = "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
_FOREIGN_KEYS = """SELECT m.name, f."table", f.on_delete, f.on_update FROM sqlite_master m
    JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table' AND f.seq = 0 ORDER BY m.name, f.id"""
_SCHEMA = """SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('table', 'index') AND sql IS NOT NULL
    ORDER BY type DESC"""


class Obstacle(Struct, frozen=True):
    """Something in the schema that acts when a table is written: a trigger or a foreign key action."""

    code: str
    """The code of the doctor's finding."""
    text: str
    """One clause that describes it, without a period."""


def written_tables(tables: dict[str, frozenset[str]]) -> list[str]:
    """Return the plain names of the tables whose rows belong to sessions, of `tables`: plain name to columns."""
    return [name for name, columns in tables.items() if columns.intersection(OWNERS)]


def obstacles(conn: sqlite3.Connection, names: Collection[str]) -> Iterator[Obstacle]:
    """Yield the triggers and foreign keys of the file that act when tables with these full names are written."""
    written = {name.lower() for name in names}
    for name, table in conn.execute(_TRIGGERS).fetchall():
        if str(table).lower() in written:
            yield Obstacle("trigger", f"The trigger {_shown(name)} runs whenever {_shown(table)} is written")
    for table, parent, on_delete, on_update in conn.execute(_FOREIGN_KEYS).fetchall():
        actions = [
            f"ON {event} {action}"
            for event, action in (("DELETE", on_delete), ("UPDATE", on_update))
            if str(action).upper() not in _HARMLESS_ACTIONS
        ]
        if actions and written & {str(table).lower(), str(parent).lower()}:
            yield Obstacle(
                "foreign-key-action",
                f"The foreign key of {_shown(table)} to {_shown(parent)} says {' '.join(actions)}",
            )


def reason(present: Collection[Obstacle]) -> str:
    """Return why a file with these obstacles is opened read-only, "" if there are none."""
    if not present:
        return ""
    first = next(iter(present)).text
    others = f" (and {len(present) - 1} more like it)" if len(present) > 1 else ""
    return f"{first}{others}, which would change more than a plan shows. The archive is opened read-only."


def check_statements(conn: sqlite3.Connection, names: Collection[str]) -> None:
    """Raise Refused if this SQLite cannot insert into one of these tables, given by full name.

    An example is a schema that calls a function that this SQLite lacks. The tables are recreated in memory, so nothing
    is written to the file. Deleting a row needs less than inserting it: without this check, a session could be closed
    that could not be restored.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as trial:
        for name in names:
            for (sql,) in conn.execute(_SCHEMA, (name,)).fetchall():
                try:
                    trial.execute(sql)
                    trial.execute(f"INSERT OR IGNORE INTO {quoted(name)} DEFAULT VALUES")
                except sqlite3.Error as error:
                    raise Refused(f"SQLite cannot write the table {_shown(name)} here ({error}).") from None


def _shown(name: object) -> str:
    return repr(str(name)[:_NAME_CHARS])
