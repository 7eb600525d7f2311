"""Salvage: copies what can be read of a damaged database into a new one, and reports what is missing.

Each table is first read by its own b-tree. Then each leaf page that no tree leads to is given to the table that its
rows fit best. All of it is decoded from the bytes without SQLite, so that damage affects only the page, and mostly only
the row, that it is in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

from msgspec import Struct

from sessionscope.store.model.errors import Busy, Damaged, NotAnArchive
from sessionscope.store.model.plans import Progress, silent
from sessionscope.store.protocols import Cancel, never
from sessionscope.store.recovery.image import Image
from sessionscope.store.recovery.new_database import NewDatabase, Shape, read_shape
from sessionscope.store.recovery.pages import HIGHEST, LOWEST, Value
from sessionscope.store.recovery.trees import Fits, TableRow, TreeReport, Trees

from . import expected_contents
from .schema_entries import SchemaEntry, read_schema

MAX_NOTES = 200
"""How many notes a result has."""
MAX_PAGE_RUNS = 100
"""How many runs of unreadable pages a result has."""


class SalvagedTable(Struct, frozen=True):
    """A table of the new database."""

    name: str
    rows: int
    lost: str = ""
    """How many of its rows are missing, in words; empty if none is."""


class Salvaged(Struct, frozen=True):
    """The result of a salvage."""

    target: str
    """The path of the new database."""
    tables: tuple[SalvagedTable, ...]
    pages: tuple[tuple[int, int], ...]
    """The first and last number of each run of pages that could not be read completely."""
    sessions: tuple[str, ...]
    """A sentence for each thing that a session lacks."""
    notes: tuple[str, ...]
    """Sentences about everything else that a person should know."""

    @property
    def whole(self) -> bool:
        """True if nothing seems to be missing."""
        return not (self.pages or self.sessions or any(table.lost for table in self.tables))


class _Table(Struct):
    """A table during its salvage."""

    shape: Shape
    report: TreeReport
    """What its tree lacks. For a table that the schema does not name, all rows are lacking."""
    rows: int = 0
    created: bool = False
    """Whether it exists in the new database. A guessed table is created with its first rows."""
    lost: str = ""


class _PageMatch(Struct, frozen=True):
    """The rows of a page, read as those of one table."""

    table: _Table
    rows: list[TableRow]
    likeness: int
    """How well the values fit what the columns are for."""

    @property
    def score(self) -> tuple[int, int]:
        return len(self.rows), self.likeness


def salvage(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Salvaged:
    """Copy all readable rows of a damaged database into a new one at `target`, with the values as stored.

    The database and its -wal are only read. In the end `target` is complete, or does not exist.

    Raises NotAnArchive if there is no readable file, Damaged if nothing can be salvaged, Misused if `target` exists,
    Refused if it cannot be written, Busy if the database is written meanwhile, Cancelled.
    """
    real = os.path.realpath(os.path.expanduser(path))
    if os.path.isdir(real):
        raise NotAnArchive(f"{path}: is a folder. Name the database file to salvage.")
    if not os.path.isfile(real):
        raise NotAnArchive(f"{path}: does not exist.")
    before = _file_states(real)
    try:
        with closing(Image(real)) as image:
            if image.page_size is None:
                raise Damaged(f"{path}: nothing in it looks like a page of a database, so nothing can be saved.")
            work = _Salvage(Path(path), image, Path(os.path.expanduser(target)), progress, cancel)
            try:
                work.run()
                if _file_states(real) != before:
                    raise Busy(f"{path}: another process keeps writing it; close that one and try again.")
                return work.finish()
            finally:
                work.target.discard()
    except OSError as error:
        raise NotAnArchive(f"{path}: cannot be read ({error.strerror or error}).") from None


def _file_states(path: str) -> list[tuple[int, int, int] | None]:
    """Return inode, size and time of a database, its -wal and its journal; None for a file that does not exist."""
    states: list[tuple[int, int, int] | None] = []
    for suffix in ("", "-wal", "-journal"):
        try:
            status = os.stat(path + suffix)
            states.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            states.append(None)
    return states


class _Salvage:
    """The salvage of one database. Reads the schema and creates the tables; `run` copies rows, `finish` ends it."""

    def __init__(self, path: Path, image: Image, target: Path, progress: Progress, cancel: Cancel) -> None:
        self.path, self.image = path, image
        self.trees = Trees(image, progress, cancel)
        self.notes: list[str] = []
        self.sessions: list[str] = []
        self.tables: dict[str, _Table] = {}
        """The tables of the new database by name."""
        self.guesses: list[_Table] = []
        """Tables that the damaged schema may have named: one for each shape that a release gives them."""
        self.indexes: list[SchemaEntry] = []
        self.sequences: SchemaEntry | None = None
        """The entry of sqlite_sequence."""
        entries, self.is_schema_damaged = read_schema(image, self.trees)
        if self.is_schema_damaged:
            self._note("the list of tables is damaged: what is missing of it is made as power-loop makes it")
        self.roots = {entry.name: entry.root for entry in entries if entry.kind == "table"}
        header = image.header
        self.target = NewDatabase(target, image.page_size or 4096, image.encoding, header.vacuum if header else 0)
        try:
            self._create_tables(entries)
            if self.is_schema_damaged:
                self._guess_tables(entries)
        except BaseException:
            self.target.discard()
            raise

    def _note(self, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    # -- tables

    def _create_tables(self, entries: list[SchemaEntry]) -> None:
        """Create the tables of the schema, remember its indexes, and note what is left out."""
        for entry in entries:
            if entry.kind == "index":
                self.indexes.append(entry)
            elif entry.kind != "table":
                self._note(f"{entry.kind} {expected_contents.shortened(entry.name)} is left out")
            elif entry.name == "sqlite_sequence":
                self.sequences = entry
            elif not entry.name.startswith("sqlite_"):
                self._create_table(entry)

    def _create_table(self, entry: SchemaEntry) -> None:
        shape = read_shape(entry.name, entry.sql)
        if isinstance(shape, str):
            self._note(f"table {expected_contents.shortened(entry.name)} {shape}, and is left out")
        elif entry.name.lower() not in {name.lower() for name in self.tables}:
            self.tables[entry.name] = _Table(shape, TreeReport([]), created=True)
            self.target.make(shape)

    def _guess_tables(self, entries: list[SchemaEntry]) -> None:
        """Add a guess for each shape of each base table that the schema does not name, by the prefixes it has."""
        for prefix in expected_contents.prefixes({entry.table for entry in entries}):
            for table in expected_contents.BASE_TABLES:
                name = prefix + table
                if name in self.tables:
                    continue
                for sql in expected_contents.create_statements(prefix, table):
                    shape = read_shape(name, sql)
                    if isinstance(shape, Shape):
                        self.guesses.append(_Table(shape, TreeReport([(LOWEST, HIGHEST)])))

    def _create_guessed_table(self, table: _Table) -> None:
        self.target.make(table.shape)
        table.created = True
        self.tables[table.shape.name] = table

    # -- rows

    def run(self) -> None:
        """Copy all rows, create the indexes and collect what is missing."""
        for name, table in self.tables.items():
            for rows in self.trees.rows(self.roots[name], table.shape.fits, table.report):
                table.rows += self.target.add(table.shape, rows)
        # Before tables are guessed: only for those that the schema names, the indexes tell which rows are lost.
        indexes = [entry for entry in self.indexes if entry.table in self.tables]
        self._assign_unlinked_pages()
        for table in self.tables.values():
            for rows in self.trees.displaced_rows(table.report, table.shape.fits):
                table.rows += self.target.add(table.shape, rows, own_rowids=table.shape.alias is not None)
        self._create_missing_tables()
        self._copy_sequences()
        self._create_indexes()
        for name, table in self.tables.items():
            self._find_lost_rows(name, table, [entry for entry in indexes if entry.table == name])
        self._check_sessions()
        self._note_circumstances()

    def _assign_unlinked_pages(self) -> None:
        """Give each leaf page that no tree leads to to the table that it fits best, if that table lacks such rows."""
        lacking = [table for table in (*self.tables.values(), *self.guesses) if table.report.gaps]
        if not lacking:
            return
        for number, read in self.trees.adrift():
            matches = _matches(read, lacking)
            if not matches:
                continue
            best_score = max(match.score for match in matches)
            best = [match for match in matches if match.score == best_score]
            if len(best) > 1:
                tables = dict.fromkeys(expected_contents.shortened(match.table.shape.name) for match in best)
                self._note(
                    f"page {number} holds {best_score[0]} rows of {' or '.join(tables)}, which cannot be told apart, "
                    "and is left out"
                )
                continue
            table = best[0].table
            if not table.created:
                self._create_guessed_table(table)
                # The other shapes of this table were wrong guesses.
                lacking = [other for other in lacking if other is table or other.shape.name != table.shape.name]
            self.trees.claim(number)
            table.rows += self.target.add(table.shape, best[0].rows)

    def _create_missing_tables(self) -> None:
        """Create the base tables that have no rows, without which it would not be a database of power-loop.

        Raises Damaged if nothing was found at all.
        """
        if not self.tables:
            raise Damaged(f"{self.path}: none of its pages holds rows that can be read, so nothing can be saved.")
        for table in self.guesses:
            if table.shape.name not in self.tables:
                self._create_guessed_table(table)

    def _copy_sequences(self) -> None:
        """Copy the highest rowid that each table ever had, from which AUTOINCREMENT continues."""
        if self.sequences is None or not self.target.ask("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"):
            return
        for rows in self.trees.rows(self.sequences.root, lambda types: len(types) == 2, TreeReport([])):
            for name, highest in (row.values for row in rows):
                if isinstance(name, str) and name in self.tables and isinstance(highest, int):
                    self._set_sequence(name, highest)

    def _set_sequence(self, table: str, highest: int) -> None:
        stored = self.target.ask("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
        if not stored:
            self.target.ask("INSERT INTO sqlite_sequence VALUES (?, ?)", table, highest)
        elif highest > int(stored[0][0] or 0):
            self.target.ask("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", highest, table)

    def _create_indexes(self) -> None:
        statements = [entry.sql for entry in self.indexes if entry.sql and entry.table in self.tables]
        if self.is_schema_damaged:
            for prefix in self._prefixes():
                statements += expected_contents.index_statements(prefix)
        for sql in statements:
            if (why := self.target.index(sql)) and "already exists" not in why:
                self._note(f"an index is left out ({why})")

    def _prefixes(self) -> list[str]:
        """Return the prefixes of the tables that have sessions."""
        return sorted(name.removesuffix("sessions") for name in self.tables if name.endswith("sessions"))

    # -- what is missing

    def _find_lost_rows(self, name: str, table: _Table, indexes: list[SchemaEntry]) -> None:
        """Say how many rows of a table are lost: those that its indexes name and that were not found.

        The indexes of a complete table are read too, to find the damaged pages in them.
        """
        complete = table.report.whole
        if not complete:
            self.target.ask(
                "CREATE TEMP TABLE IF NOT EXISTS lost (name, rowid, session, seq, PRIMARY KEY (name, rowid))"
            )
        for index in indexes:
            columns = [str(row[0]) for row in self.target.ask("SELECT name FROM pragma_index_info(?)", index.name)]
            for values in self.trees.entries(index.root):
                if not complete:
                    self._record_if_lost(name, table, columns, values)
        if complete:
            return
        ((lost,),) = self.target.ask("SELECT count(*) FROM lost WHERE name = ?", name)
        if lost:
            table.lost = f"{lost} rows that its indexes name"
            self._list_lost_rows(name)
        elif table.report.gaps or table.report.unreadable:
            table.lost = "no row that an index names" if indexes else "an unknown number of rows"

    def _record_if_lost(self, name: str, table: _Table, columns: list[str], values: list[Value]) -> None:
        """Add the row of an index entry to the temporary table `lost` if the new table has no such row.

        An entry holds the indexed columns and then the rowid.
        """
        if len(values) != len(columns) + 1:
            return
        rowid = values[-1]
        if not isinstance(rowid, int) or self.target.has(table.shape, rowid):
            return
        by_column = dict(zip(columns, values, strict=False))
        self.target.ask(
            "INSERT OR IGNORE INTO lost VALUES (?, ?, ?, ?)",
            name,
            rowid,
            by_column.get("session_id"),
            by_column.get("seq"),
        )

    def _list_lost_rows(self, name: str) -> None:
        """Add a sentence for each session that lost rows of a table."""
        for session_id, lost, first, last in self.target.ask(
            "SELECT session, count(*), min(seq), max(seq) FROM lost WHERE name = ? GROUP BY session "
            f"ORDER BY min(rowid) LIMIT {expected_contents.MAX_SENTENCES + 1}",
            name,
        ):
            if session_id is not None:
                seqs = f", seq {first} to {last}" if first is not None else ""
                self.sessions.append(
                    f"session {expected_contents.shortened(session_id)}: {lost} rows of {name} are lost{seqs}"
                )

    def _check_sessions(self) -> None:
        """Add sentences about missing rows of sessions, for each set of base tables that is not complete."""
        for prefix in self._prefixes():
            base_tables = [self.tables.get(prefix + table) for table in expected_contents.BASE_TABLES]
            if None in base_tables or all(table.report.whole for table in base_tables if table):
                continue
            self.sessions += expected_contents.missing_messages(self.target.ask, prefix)
            self.sessions += expected_contents.broken_references(self.target.ask, prefix)

    def _note_circumstances(self) -> None:
        """Note how the file was read, and which rows may not be what they were."""
        image = self.image
        if image.missing:
            self._note(f"the file ends {image.missing} pages too early")
        if image.header is None:
            self._note(f"the header is overwritten: a page size of {image.page_size} bytes is what the pages look like")
        if image.layer:
            source = "-wal" if image.from_wal else "journal, which undoes a transaction that was cut off"
            self._note(f"{len(image.layer.pages)} pages were read from its {source}")
        if image.layer and image.layer.broken:
            self._note(f"{len(image.layer.broken)} pages of its -wal are damaged, older ones were read instead")
        if self.target.undecoded:
            self._note(f"{self.target.undecoded} rows hold text that is none: they may lack a part on a damaged page")
        if self.target.seen_twice:
            self._note(f"{self.target.seen_twice} rows were found twice and written once")

    def finish(self) -> Salvaged:
        """Move the new database to its path, and return the result. Raises Misused, Refused."""
        header = self.image.header
        self.target.finish(header.user_version if header else 0, header.application_id if header else 0)
        tables = tuple(SalvagedTable(name, table.rows, table.lost) for name, table in sorted(self.tables.items()))
        pages = tuple(islice(self.trees.damaged(), MAX_PAGE_RUNS))
        return Salvaged(str(self.target.final_path), tables, pages, tuple(self.sessions), tuple(self.notes))


def _matches(read: Callable[[Fits], list[TableRow]], tables: list[_Table]) -> list[_PageMatch]:
    """Read a page as one of each table. Return those that yield rows which the table lacks."""
    matches = []
    for table in tables:
        rows = [row for row in read(table.shape.fits) if table.report.lacks(row.rowid)]
        if rows:
            matches.append(_PageMatch(table, rows, sum(table.shape.likeness(row.values) for row in rows)))
    return matches
