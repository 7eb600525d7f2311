"""Copies what can still be read of a damaged database into a new one, and says what could not be read.

Every table is read by its own tree first. Then come the pages that no tree leads to, each for the only table whose rows
it can hold. Everything is decoded from the bytes, without SQLite, so damage is limited to its page, and mostly to its
row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from sessionscope.store.model.errors import Busy, Damaged, NotAnArchive
from sessionscope.store.model.plans import Progress, silent
from sessionscope.store.protocols import Cancel, never
from sessionscope.store.recovery.image import Image
from sessionscope.store.recovery.new_database import NewDatabase, Shape, read_shape
from sessionscope.store.recovery.pages import HIGHEST, LOWEST
from sessionscope.store.recovery.trees import TableRow, TreeReport, Trees

from . import expected_contents

_TABLES, _NOTES, _RUNS = 1_000, 200, 100
_SCHEMA = Shape("sqlite_master", "", (), None, "rowid")
_KINDS = ("table", "index", "view", "trigger")


class SalvagedTable(Struct, frozen=True):
    """A table of the new database. `lost` says in words how many of its rows are missing, empty for none."""

    name: str
    rows: int
    lost: str = ""


class Salvaged(Struct, frozen=True):
    """The result of a salvage.

    `pages` are runs of page numbers that could not be read in full. `sessions` says which sessions lack something, one
    sentence each. `notes` are other things that a user should know.
    """

    target: str
    tables: tuple[SalvagedTable, ...]
    pages: tuple[tuple[int, int], ...]
    sessions: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing seems to be missing."""
        return not (self.pages or self.sessions or any(table.lost for table in self.tables))


class SchemaEntry(Struct, frozen=True):
    """A row of the schema."""

    kind: str
    name: str
    table: str
    root: int
    sql: str


class _Table(Struct):
    """A table while it is salvaged. It is `made` once its tree or a row of it was found."""

    shape: Shape
    report: TreeReport
    rows: int = 0
    made: bool = False
    lost: str = ""


def salvage(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Salvaged:
    """Write all rows that a damaged database still holds into a new one at `target`, values as they were stored.

    The database and its -wal are only read. `target` appears whole at the end, or not at all. Raises NotAnArchive if
    there is no readable file, Damaged if nothing in it can be saved, Misused if `target` exists, Refused if it cannot
    be written, Busy if the database is written meanwhile, Cancelled.
    """
    real = os.path.realpath(os.path.expanduser(path))
    if os.path.isdir(real):
        raise NotAnArchive(f"{path}: is a folder. Name the database file to salvage.")
    if not os.path.isfile(real):
        raise NotAnArchive(f"{path}: does not exist.")
    before = _looks(real)
    try:
        with closing(Image(real)) as image:
            if image.page_size is None:
                raise Damaged(f"{path}: nothing in it looks like a page of a database, so nothing can be saved.")
            work = _Work(Path(path), image, Path(os.path.expanduser(target)), progress, cancel)
            try:
                work.run()
                if _looks(real) != before:
                    raise Busy(f"{path}: another process keeps writing it; close that one and try again.")
                return work.finish()
            finally:
                work.target.discard()
    except OSError as error:
        raise NotAnArchive(f"{path}: cannot be read ({error.strerror or error}).") from None


def _looks(path: str) -> list[tuple[int, int, int] | None]:
    found: list[tuple[int, int, int] | None] = []
    for suffix in ("", "-wal", "-journal"):
        try:
            status = os.stat(path + suffix)
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return found


class _Work:
    """One salvage."""

    def __init__(self, path: Path, image: Image, target: Path, progress: Progress, cancel: Cancel) -> None:
        self.path, self.image = path, image
        self.trees = Trees(image, progress, cancel)
        self.notes: list[str] = []
        self.sessions: list[str] = []
        self.tables: dict[str, _Table] = {}
        self.guesses: list[_Table] = []
        self.indexes: list[SchemaEntry] = []
        self.sequences: SchemaEntry | None = None
        self.broken_schema = False
        entries = self.schema()
        header = image.header
        self.target = NewDatabase(target, image.page_size or 4096, image.encoding, header.vacuum if header else 0)
        try:
            self.sort(entries)
        except BaseException:
            self.target.discard()
            raise

    def note(self, text: str) -> None:
        if len(self.notes) < _NOTES:
            self.notes.append(text)

    # -- which tables there are

    def schema(self) -> list[SchemaEntry]:
        """Return the rows of the schema, by its tree or, if that is broken, wherever they are."""
        report, found = TreeReport([]), dict[tuple[str, str], SchemaEntry]()
        for encoding in dict.fromkeys((self.image.encoding, "utf-8", "utf-16-le", "utf-16-be")):
            self.image.encoding = encoding
            report = TreeReport([])
            self._collect(found, (row for rows in self.trees.rows(1, _like_schema, report) for row in rows))
            for number, read in self.trees.adrift() if report.gaps else ():
                if self._collect(found, read(_like_schema)):
                    self.trees.claim(number)
            if found or self.image.header:
                break
        else:
            self.image.encoding = "utf-8"
        self.broken_schema = not report.whole
        if self.broken_schema:
            self.note("the list of tables is damaged: what is missing of it is made as power-loop makes it")
        return sorted(found.values(), key=lambda entry: entry.root)[:_TABLES]

    def _collect(self, found: dict[tuple[str, str], SchemaEntry], rows: Iterator[TableRow] | list[TableRow]) -> int:
        before = len(found)
        for row in rows:
            kind, name, table, root, sql = row.values
            if kind in _KINDS and isinstance(name, str) and isinstance(table, str) and isinstance(root, int):
                found.setdefault(
                    (str(kind), name), SchemaEntry(str(kind), name, table, root, sql if isinstance(sql, str) else "")
                )
        return len(found) - before

    def sort(self, entries: list[SchemaEntry]) -> None:
        """Make the tables of the schema, and keep its indexes for later."""
        for entry in entries:
            if entry.kind == "index":
                self.indexes.append(entry)
            elif entry.kind != "table":
                self.note(f"{entry.kind} {expected_contents.shown(entry.name)} is left out")
            elif entry.name == "sqlite_sequence":
                self.sequences = entry
            elif not entry.name.startswith("sqlite_"):
                shape = read_shape(entry.name, entry.sql)
                if isinstance(shape, str):
                    self.note(f"table {expected_contents.shown(entry.name)} {shape}, and is left out")
                elif entry.name.lower() not in {name.lower() for name in self.tables}:
                    self.tables[entry.name] = _Table(shape, TreeReport([]), made=True)
                    self.target.make(shape)
        self.roots = {entry.name: entry.root for entry in entries if entry.kind == "table"}
        names = {entry.table for entry in entries}
        for prefix in expected_contents.prefixes(names) if self.broken_schema else ():
            for table in expected_contents.BASE:
                for sql in expected_contents.statements(prefix, table) if prefix + table not in self.tables else ():
                    guess = read_shape(prefix + table, sql)
                    if isinstance(guess, Shape):
                        self.guesses.append(_Table(guess, TreeReport([(LOWEST, HIGHEST)])))

    # -- their rows

    def run(self) -> None:
        for name, table in self.tables.items():
            for rows in self.trees.rows(self.roots[name], table.shape.fits, table.report):
                table.rows += self.target.add(table.shape, rows)
        # The pages of indexes belong to a tree too. What they hold is read only if rows are missing.
        known = [entry for entry in self.indexes if entry.table in self.tables]
        self._adrift()
        for table in self.tables.values():
            for rows in self.trees.displaced_rows(table.report, table.shape.fits):
                table.rows += self.target.add(table.shape, rows, own_rowids=table.shape.alias is not None)
        self._complete()
        self._sequence()
        self._index()
        for name, table in self.tables.items():
            self._count_lost(name, table, [entry for entry in known if entry.table == name])
        self._tell()

    def _adrift(self) -> None:
        """Add the rows of each leaf that nothing leads to to the table that it fits best, if that table lacks such
        rows.
        """
        lacking = [table for table in (*self.tables.values(), *self.guesses) if table.report.gaps]
        if not lacking:
            return
        for number, read in self.trees.adrift():
            scores = []
            for table in lacking:
                rows = [row for row in read(table.shape.fits) if table.report.lacks(row.rowid)]
                if rows:
                    scores.append((len(rows), sum(table.shape.likeness(row.values) for row in rows), table, rows))
            if not scores:
                continue
            best = max(score[:2] for score in scores)
            chosen = [score for score in scores if score[:2] == best]
            if len(chosen) > 1:
                names = " or ".join(dict.fromkeys(expected_contents.shown(score[2].shape.name) for score in chosen))
                self.note(f"page {number} holds {best[0]} rows of {names}, which cannot be told apart, and is left out")
                continue
            _, _, table, rows = chosen[0]
            if not table.made:
                self._settle(table)
                lacking = [one for one in lacking if one is table or one.shape.name != table.shape.name]
            self.trees.claim(number)
            table.rows += self.target.add(table.shape, rows)

    def _settle(self, table: _Table) -> None:
        """Make a table that only its rows tell of."""
        self.target.make(table.shape)
        self.tables[table.shape.name], table.made = table, True

    def _complete(self) -> None:
        """Make the tables without which it would be no power-loop database, even if they have no rows."""
        if not any(table.rows for table in self.tables.values()) and not self.tables:
            raise Damaged(f"{self.path}: none of its pages holds rows that can be read, so nothing can be saved.")
        for table in self.guesses:
            if table.shape.name not in self.tables:
                self._settle(table)

    def _sequence(self) -> None:
        """Copy the highest rowids ever given, after which AUTOINCREMENT continues."""
        if self.sequences is None or not self.target.ask("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"):
            return
        for rows in self.trees.rows(self.sequences.root, lambda types: len(types) == 2, TreeReport([])):
            for name, highest in (row.values for row in rows):
                if isinstance(name, str) and name in self.tables and isinstance(highest, int):
                    there = self.target.ask("SELECT seq FROM sqlite_sequence WHERE name = ?", name)
                    if not there:
                        self.target.ask("INSERT INTO sqlite_sequence VALUES (?, ?)", name, highest)
                    elif highest > int(there[0][0] or 0):
                        self.target.ask("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", highest, name)

    def _index(self) -> None:
        statements = [entry.sql for entry in self.indexes if entry.sql and entry.table in self.tables]
        if self.broken_schema:
            for prefix in sorted(
                {
                    table.shape.name[: -len("sessions")]
                    for table in self.tables.values()
                    if table.shape.name.endswith("sessions")
                }
            ):
                statements += expected_contents.indexes(prefix)
        for sql in statements:
            if (why := self.target.index(sql)) and "already exists" not in why:
                self.note(f"an index is left out ({why})")

    # -- what is lost

    def _count_lost(self, name: str, table: _Table, indexes: list[SchemaEntry]) -> None:
        """Count the rows that are in the indexes of a table but not in the table, if some are missing.

        The indexes of a whole table are read too, to find the damaged pages in them.
        """
        whole = table.report.whole
        if not whole:
            self.target.ask(
                "CREATE TEMP TABLE IF NOT EXISTS lost (name, rowid, session, seq, PRIMARY KEY (name, rowid))"
            )
        for entry in indexes:
            columns = [str(row[0]) for row in self.target.ask("SELECT name FROM pragma_index_info(?)", entry.name)]
            for values in self.trees.entries(entry.root):
                rowid = values[-1] if values else None
                if whole or len(values) != len(columns) + 1 or not isinstance(rowid, int):
                    continue
                if not self.target.has(table.shape, rowid):
                    key = dict(zip(columns, values, strict=False))
                    self.target.ask(
                        "INSERT OR IGNORE INTO lost VALUES (?, ?, ?, ?)",
                        name,
                        rowid,
                        key.get("session_id"),
                        key.get("seq"),
                    )
        if whole:
            return
        ((lost,),) = self.target.ask("SELECT count(*) FROM lost WHERE name = ?", name)
        if lost:
            table.lost = f"{lost} rows that its indexes name"
            self._by_session(name)
        elif table.report.gaps or table.report.unreadable:
            table.lost = "no row that an index names" if indexes else "an unknown number of rows"

    def _by_session(self, name: str) -> None:
        for session, lost, first, last in self.target.ask(
            "SELECT session, count(*), min(seq), max(seq) FROM lost WHERE name = ? GROUP BY session "
            f"ORDER BY min(rowid) LIMIT {expected_contents.SHOWN + 1}",
            name,
        ):
            if session is not None:
                between = f", seq {first} to {last}" if first is not None else ""
                self.sessions.append(
                    f"session {expected_contents.shown(session)}: {lost} rows of {name} are lost{between}"
                )

    def _tell(self) -> None:
        for prefix in sorted({name[: -len("sessions")] for name in self.tables if name.endswith("sessions")}):
            base = [self.tables.get(prefix + table) for table in expected_contents.BASE]
            if None in base or all(table.report.whole for table in base if table):
                continue
            self.sessions += expected_contents.missing_messages(self.target.ask, prefix)
            self.sessions += expected_contents.loose_ends(self.target.ask, prefix)
        image = self.image
        if image.missing:
            self.note(f"the file ends {image.missing} pages too early")
        if image.header is None:
            self.note(f"the header is overwritten: a page size of {image.page_size} bytes is what the pages look like")
        if image.layer:
            pages = len(image.layer.pages)
            self.note(
                f"{pages} pages were read from its "
                + ("-wal" if image.from_wal else "journal, which undoes a transaction that was cut off")
            )
        if image.layer and image.layer.broken:
            self.note(f"{len(image.layer.broken)} pages of its -wal are damaged, older ones were read instead")
        if self.target.undecoded:
            self.note(f"{self.target.undecoded} rows hold text that is none: they may lack a part on a damaged page")
        if self.target.seen_twice:
            self.note(f"{self.target.seen_twice} rows were found twice and written once")

    def finish(self) -> Salvaged:
        header = self.image.header
        self.target.finish(header.user_version if header else 0, header.application_id if header else 0)
        tables = tuple(SalvagedTable(name, table.rows, table.lost) for name, table in sorted(self.tables.items()))
        pages = tuple(run for run, _ in zip(self.trees.damaged(), range(_RUNS), strict=False))
        return Salvaged(str(self.target.place), tables, pages, tuple(self.sessions), tuple(self.notes))


def _like_schema(types: tuple[int, ...]) -> bool:
    return (
        len(types) == 5
        and all(kind >= 13 and kind % 2 for kind in types[:3])
        and 0 < types[3] < 10
        and (types[4] == 0 or types[4] >= 13)
    )
