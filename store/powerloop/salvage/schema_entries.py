"""The schema of a damaged database: the rows of sqlite_master that can still be read."""

from __future__ import annotations

from msgspec import Struct

from sessionscope.store.recovery.image import Image
from sessionscope.store.recovery.trees import TableRow, TreeReport, Trees

MAX_SCHEMA_ENTRIES = 1_000
"""How many entries of a schema are used; more than that is damage or an attack."""
_SCHEMA_KINDS = ("table", "index", "view", "trigger")
_MIN_TEXT_TYPE = 13
"""The lowest serial type of text in SQLite's record format. Those of text are odd, those of blobs even."""
_MAX_INTEGER_TYPE = 9
"""The highest serial type of an integer. The lowest is 1, as 0 is NULL."""


class SchemaEntry(Struct, frozen=True):
    """A row of the schema, sqlite_master."""

    kind: str
    name: str
    table: str
    root: int
    """The number of the root page."""
    sql: str


def read_schema(image: Image, trees: Trees) -> tuple[list[SchemaEntry], bool]:
    """Return the entries of the schema by root page, and whether some may be missing.

    If the file has no header, the encoding of its text is not known. Then the first one that yields an entry is set.
    """
    entries: dict[tuple[str, str], SchemaEntry] = {}
    report = TreeReport([])
    for encoding in dict.fromkeys((image.encoding, "utf-8", "utf-16-le", "utf-16-be")):
        image.encoding = encoding
        report = _collect_entries(trees, entries)
        if entries or image.header:
            break
    if not entries and not image.header:
        image.encoding = "utf-8"
    return sorted(entries.values(), key=lambda entry: entry.root)[:MAX_SCHEMA_ENTRIES], not report.whole


def _collect_entries(trees: Trees, entries: dict[tuple[str, str], SchemaEntry]) -> TreeReport:
    """Add the entries of the schema by (kind, name): those in its tree and, if that has gaps, those elsewhere."""
    report = TreeReport([])
    for rows in trees.rows(1, _may_be_entry, report):
        _add_entries(entries, rows)
    if report.gaps:
        for number, read in trees.adrift():
            if _add_entries(entries, read(_may_be_entry)):
                trees.claim(number)
    return report


def _may_be_entry(types: tuple[int, ...]) -> bool:
    """Return whether a record with these serial types can be a row of the schema.

    Such a row is three texts, an integer, and a text or NULL.
    """
    if len(types) != 5:
        return False
    kind_name_and_table, root, sql = types[:3], types[3], types[4]
    return (
        all(type_ >= _MIN_TEXT_TYPE and type_ % 2 for type_ in kind_name_and_table)
        and 1 <= root <= _MAX_INTEGER_TYPE
        and (sql == 0 or sql >= _MIN_TEXT_TYPE)
    )


def _add_entries(entries: dict[tuple[str, str], SchemaEntry], rows: list[TableRow]) -> bool:
    """Add rows of the schema by (kind, name), unless such an entry exists. Return whether any was added."""
    before = len(entries)
    for row in rows:
        kind, name, table, root, sql = row.values
        if kind in _SCHEMA_KINDS and isinstance(name, str) and isinstance(table, str) and isinstance(root, int):
            entry = SchemaEntry(str(kind), name, table, root, sql if isinstance(sql, str) else "")
            entries.setdefault((entry.kind, name), entry)
    return len(entries) > before
