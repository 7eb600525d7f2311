"""A power-loop database as an `Archive`: opens it, and answers what a browser asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from .. import outline as outlines
from ..archive import Cancel, Stamp, never
from ..census import Census, Entry
from ..errors import Cancelled, NotAnArchive, UnknownSession
from ..outline import Display, Outline, Run
from ..rows import ArchiveInfo, Audit, Link, Message, Ref, SessionDetail, SessionSummary, State, Usage, View
from ..sqlitefile import SqliteFile
from . import audit, links, messages, sessions
from .decode import Cells, Damages, note_span, parse, text
from .layout import NOTE_NAME, Layout, layouts
from .messages import META_BYTES, Lines, Owner

T = TypeVar("T")
SMALL, SESSIONS_A_BURST, SEQS_A_BURST, FIND_ROWS, CANDIDATES = 5_000, 20_000, 400_000, 5_000, 5
_UNKNOWN = "prompt, recalled memories and projections are not stored as messages"


def open_powerloop(path: Path, prefix: str | None = None) -> list[PowerLoopArchive]:
    """An archive for each layout in a database, or for the one with `prefix`.

    Raises NotAnArchive where the file is no power-loop database or has no such layout, Busy where it is locked.
    """
    file = SqliteFile(path)
    found = file.read(layouts)
    if not found:
        raise NotAnArchive(f"{path}: is a SQLite database, but holds no power-loop sessions that we know.")
    if prefix is not None:
        chosen = [layout for layout in found if layout.prefix == prefix]
        if not chosen:
            names = ", ".join(f"{path}#{layout.prefix}" for layout in found)
            raise NotAnArchive(f"{path}: has no tables with prefix {prefix!r}; there is {names}.")
        found = chosen
    return [PowerLoopArchive(file, layout, many=len(found) > 1 or prefix is not None) for layout in found]


class PowerLoopArchive:
    """One layout of a power-loop database."""

    def __init__(self, file: SqliteFile, layout: Layout, many: bool) -> None:
        self.file, self.layout = file, layout
        name = Path(file.shown).name + (f"#{layout.prefix}" if many else "")
        warning = "no release loads this layout: it was stamped as newer than it is" if layout.poisoned else None
        self.info = ArchiveInfo(
            location=file.shown,
            name=name,
            format=f"power-loop {layout.release}",
            layout=layout.prefix,
            capabilities=frozenset({"browse"}),
            warning=warning,
        )

    def reader(self) -> PowerLoopReader:
        return PowerLoopReader(self.file, self.layout)

    def stamp(self) -> Stamp:
        return self.file.parts()

    @property
    def aside(self) -> str | None:
        """Why a private copy is read instead of the file, None while it is not."""
        return self.file.aside

    def close(self) -> None:
        self.file.close()


class PowerLoopReader:
    """Answers in bursts, each on a connection of its own."""

    def __init__(self, file: SqliteFile, layout: Layout) -> None:
        self._file, self.layout = file, layout
        self._odd: dict[str, int] = {}

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """One burst; `work` may run again if the file changed under it."""
        return self._file.read(work)

    # -- sessions

    def newest(self, limit: int) -> list[SessionSummary]:
        return self.read(lambda conn: self._summaries(conn, sessions.newest_keys(conn, self.layout, limit)))

    def summaries(self, keys: Sequence[int]) -> list[SessionSummary]:
        return self.read(lambda conn: self._summaries(conn, keys)) if keys else []

    def _summaries(self, conn: sqlite3.Connection, keys: Sequence[int]) -> list[SessionSummary]:
        found = {}
        for row in sessions.rows_by_key(conn, self.layout, keys):
            owner = self._owner_of(row[0], row[1])
            found[row[0]] = sessions.summary(conn, self.layout, row, owner)
        return [found[key] for key in keys if key in found]

    def _owner_of(self, rowid: int, stored: object) -> Owner:
        if type(stored) is not str:
            self._odd[sessions.id_text(rowid, stored)] = rowid
        return sessions.owner_of(self.layout, rowid, stored)

    def census(self, cancel: Cancel = never) -> Census:
        found: list[Entry] = []
        while True:
            if cancel():
                raise Cancelled("stopped")
            after = found[-1].key if found else -(2**63)

            def burst(conn: sqlite3.Connection, after: int = after) -> list[Entry]:
                return list(sessions.entries(conn, self.layout, after, SESSIONS_A_BURST))

            some = self.read(burst)
            found += some
            if len(some) < SESSIONS_A_BURST:
                return Census(found)

    def key(self, ref: Ref) -> int | None:
        return self.read(lambda conn: self._rowid(conn, ref.id))

    def _rowid(self, conn: sqlite3.Connection, id_: str) -> int | None:
        if id_ in self._odd:
            return self._odd[id_]
        row = conn.execute(
            f"SELECT rowid FROM {self.layout.table('sessions')} WHERE session_id = ?", (id_,)
        ).fetchone()
        return int(row[0]) if row else None

    def resolve(self, name: str) -> Ref:
        prefix = f"{self.layout.prefix}:"
        ids = [name.removeprefix(prefix), name] if name.startswith(prefix) else [name]
        for id_ in ids:
            try:
                known = self.key(Ref(self.layout.prefix, id_)) is not None
            except UnicodeEncodeError:
                known = False
            if known:
                return Ref(self.layout.prefix, id_)
        census = self.census()
        for rowid, id_ in zip(census.keys, census.ids, strict=True):
            if id_.endswith(f"@{rowid}"):
                self._odd[id_] = rowid
        if ids[0] in self._odd:
            return Ref(self.layout.prefix, ids[0])
        near = [census.ids[at] for at in census.matching([ids[0]])][:CANDIDATES]
        raise UnknownSession(f"no session {name!r}" + (f"; did you mean {', '.join(near)}?" if near else "."))

    def session(self, ref: Ref) -> SessionDetail:
        def work(conn: sqlite3.Connection) -> SessionDetail | None:
            rowid = self._rowid(conn, ref.id)
            rows = sessions.rows_by_key(conn, self.layout, [rowid]) if rowid is not None else []
            if not rows:
                return None
            return sessions.detail(conn, self.layout, rows[0], self._owner_of(rows[0][0], rows[0][1]))

        detail = self.read(work)
        if detail is None:
            raise UnknownSession(f"session {ref.id!r} is gone.")
        return detail

    # -- messages

    def _owner(self, ref: Ref) -> Owner:
        rowid = self._odd.get(ref.id)
        return sessions.owner_of(self.layout, rowid or 0, ref.id if rowid is None else None)

    def outline(self, ref: Ref, cancel: Cancel = never) -> Outline:
        owner, messages_table = self._owner(ref), self.layout.table("messages")
        states: dict[str, list[int]] = {}
        runs: dict[str, list[Run]] = {}
        strays: list[int] = []
        last: tuple[object, object] | None = None
        while True:
            if cancel():
                raise Cancelled("stopped")

            def burst(conn: sqlite3.Connection, last: tuple[object, object] | None = last) -> list[tuple[object, ...]]:
                more = "AND (state, seq) > (?, ?)" if last else ""
                return conn.execute(
                    f"SELECT state, seq, rowid FROM {messages_table} WHERE {owner.condition} {more} "
                    "ORDER BY state, seq LIMIT ?", (owner.value, *(last or ()), SEQS_A_BURST),
                ).fetchall()

            some = self.read(burst)
            for state, seq, rowid in some:
                if type(seq) is int:
                    states.setdefault(state if type(state) is str else text(state, "", Damages()) or "", []).append(seq)
                elif isinstance(rowid, int):
                    strays.append(rowid)
            for state, seqs in states.items():
                runs[state] = outlines.union(runs.get(state, []), outlines.runs_of(seqs))
            states.clear()
            if len(some) < SEQS_A_BURST:
                break
            last = (some[-1][0], some[-1][1])
        notes, next_seq, compact_seq = self.read(lambda conn: self._bookkeeping(conn, owner))
        return Outline(runs, notes, strays, next_seq, compact_seq)

    def _bookkeeping(
        self, conn: sqlite3.Connection, owner: Owner
    ) -> tuple[list[tuple[int, int]], int | None, int | None]:
        """Active notes with their place in the logical order, and the session's own counters."""
        notes: list[tuple[int, int]] = []
        if self.layout.by_ord and self.layout.has("messages", "meta_json"):
            cells, damages = Cells(conn, self.layout.name("messages")), Damages()
            for rowid, seq, kind in conn.execute(
                f"SELECT rowid, seq, typeof(meta_json) FROM {self.layout.table('messages')} "
                f"WHERE {owner.condition} AND state = '{State.ACTIVE}' AND name = '{NOTE_NAME}'", (owner.value,)
            ).fetchall():
                stored, _ = cells.head("meta_json", rowid, kind, audit.NOTE_META_BYTES, "meta", damages)
                span = note_span(NOTE_NAME, parse(stored, "meta", damages))
                if span and span.ord is not None and isinstance(seq, int) and span.ord != seq:
                    notes.append((span.ord, seq))
        row = conn.execute(
            f"SELECT next_seq, {self.layout.column('session_state', 'last_compact_seq')} "
            f"FROM {self.layout.table('session_state')} WHERE {owner.condition}", (owner.value,)
        ).fetchone() or (None, None)
        next_seq, compact_seq = (value if isinstance(value, int) else None for value in row)
        return notes, next_seq, compact_seq

    def timeline(self, ref: Ref, view: View, outline: Outline | None = None) -> Lines:
        owner = self._owner(ref)
        if outline is None:
            first, last = self.read(lambda conn: self._bounds(conn, owner))
            if last - first >= SMALL:
                return Lines(self.read, self.layout, owner, outlines.only([(first, last)]), view is not View.ALL, "")
            outline = self.outline(ref)
        return Lines(self.read, self.layout, owner, self._display(view, outline), True, self._about(view))

    def _display(self, view: View, outline: Outline) -> Display:
        if view is View.ALL:
            return outlines.everything(outline)
        if view is View.COMPACTED:
            return outlines.only(outline.runs(State.COMPACTED))
        if view is View.ACTIVE:
            return outlines.only(outline.runs(State.ACTIVE))
        return outlines.logical(outline.runs(State.ACTIVE), outline.notes)

    def _about(self, view: View) -> str:
        if view is not View.CONTEXT:
            return ""
        return "no release loads this layout" if self.layout.poisoned else _UNKNOWN

    def _bounds(self, conn: sqlite3.Connection, owner: Owner) -> tuple[int, int]:
        ends = [
            conn.execute(
                f"SELECT seq FROM {self.layout.table('messages')} WHERE {owner.condition} AND seq < 1e300 "
                f"ORDER BY seq {order} LIMIT 1", (owner.value,)
            ).fetchone()
            for order in ("ASC", "DESC")
        ]
        first, last = (end[0] if end and isinstance(end[0], int) else 0 for end in ends)
        return first, last

    def fold(self, ref: Ref, outline: Outline, runs: Sequence[Run]) -> Lines:
        seqs = outline.runs()
        here = [run for first, last in runs for run in outlines.within(seqs, first, last)]
        return Lines(self.read, self.layout, self._owner(ref), outlines.only(here), True, "")

    def message(self, ref: Ref, row: str, start: int = 0, stop: int = META_BYTES) -> Message:
        found = self.read(lambda conn: messages.message(conn, self.layout, self._owner(ref), row, start, stop))
        if found is None:
            raise UnknownSession(f"message {row} of session {ref.id!r} is gone.")
        return found

    def audit(self, ref: Ref, outline: Outline) -> Audit:
        return self.read(lambda conn: audit.audit(conn, self.layout, self._owner(ref), outline))

    def usage(self, ref: Ref) -> Usage:
        return self.read(lambda conn: audit.usage(conn, self.layout, self._owner(ref)))

    # -- links

    def follow(self, ref: Ref, row: str) -> Link | None:
        if not row.lstrip("-").isdigit():
            return None
        return self.read(lambda conn: links.follow(conn, self.layout, ref, self._owner(ref), int(row)))

    def spawner(self, ref: Ref) -> Link | None:
        def work(conn: sqlite3.Connection) -> Link | None:
            rowid = self._rowid(conn, ref.id)
            rows = sessions.rows_by_key(conn, self.layout, [rowid]) if rowid is not None else []
            if not rows:
                return None
            summary = sessions.summary(conn, self.layout, rows[0], self._owner_of(rows[0][0], rows[0][1]))
            if summary.parent_id is None or self._rowid(conn, summary.parent_id) is None:
                return None
            parent = Ref(self.layout.prefix, summary.parent_id)
            return links.spawner(conn, self.layout, ref, parent, self._owner(parent), summary.created_at or 0)

        return self.read(work)

    def find(self, ref: Ref, words: str, start: int, forward: bool, cancel: Cancel = never) -> int | None:
        owner = self._owner(ref)
        escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        first, last = self.read(lambda conn: self._bounds(conn, owner))
        at = max(start, first) if forward else min(start, last)
        while first <= at <= last:
            if cancel():
                raise Cancelled("stopped")
            low, high = (at, at + FIND_ROWS - 1) if forward else (at - FIND_ROWS + 1, at)

            def burst(conn: sqlite3.Connection, low: int = low, high: int = high) -> int | None:
                return links.find(conn, self.layout, owner, f"%{escaped}%", low, high, forward)

            found = self.read(burst)
            if found is not None:
                return found
            at = high + 1 if forward else low - 1
        return None
