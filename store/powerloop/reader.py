"""The `Reader` of a power-loop database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from sessionscope.store.io.sqlitefile import TRIES, Read
from sessionscope.store.model import outline as outlines
from sessionscope.store.model import wording
from sessionscope.store.model.context import Context
from sessionscope.store.model.errors import Cancelled, UnknownSession
from sessionscope.store.model.findings import Finding
from sessionscope.store.model.outline import Display, Outline, Run
from sessionscope.store.model.plans import Progress, silent
from sessionscope.store.model.rows import (
    Audit,
    Limits,
    Link,
    Message,
    Ref,
    SessionDetail,
    SessionSummary,
    State,
    Usage,
    View,
)
from sessionscope.store.model.session_table import SessionTable, TableEntry
from sessionscope.store.protocols import Cancel, never
from sessionscope.store.rules.compaction_planning import growth
from sessionscope.store.rules.values import Damages, parse

from .format.decode import HIGHEST, LOWEST, Cells, note_span
from .format.layout import NOTE_NAME, Layout
from .read import audit, context, links, messages, outlining, sessions
from .read.messages import META_BYTES, MessageTimeline, Owner
from .source import PowerLoopSource

T = TypeVar("T")
SMALL_SESSION_ROWS = 5_000
"""Rows up to which a session is outlined, or an outline extended, in one burst."""
FEW_SESSIONS = 2_000
"""Sessions up to which the session table is read at once."""
DAMAGED_SPAN = 10**8
"""Seqs between the first and the last message from which on the distance is damage, not rows to wait for."""
SESSIONS_PER_BURST = 20_000
"""Sessions that one burst adds to the session table."""
MAX_CANDIDATES = 5
"""Ids that the error about an unknown session suggests."""
_NOT_STORED = "not stored, so not shown: the prompt, recalled memories and projections"
"""The caption of the context view."""


class PowerLoopReader:
    """Answers about one layout, in bursts of reads with a connection each. Implements `Reader`, which documents it."""

    def __init__(self, source: PowerLoopSource) -> None:
        self._source = source

    @property
    def layout(self) -> Layout:
        return self._source.layout

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one burst of reads and return its result. `work` may run again if the file changed meanwhile."""
        return self._source.read(work)

    # -- sessions

    def newest(self, limit: int) -> list[SessionSummary]:
        return self.read(lambda conn: self._summaries(conn, sessions.newest_keys(conn, self.layout, limit)))

    def summaries(self, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        if not keys:
            return []
        return self.read(lambda conn: self._summaries(conn, keys, exact))

    def session_table_if_small(self) -> SessionTable | None:
        statement = f"SELECT count(*) FROM (SELECT 1 FROM {self.layout.table('sessions')} LIMIT ?)"
        count = self.read(lambda conn: conn.execute(statement, (FEW_SESSIONS,)).fetchone()[0])
        return self.session_table() if count < FEW_SESSIONS else None

    def previews(self, keys: Sequence[int]) -> dict[int, str]:
        def work(conn: sqlite3.Connection) -> dict[int, str]:
            return {
                row[0]: sessions.preview_of(conn, self.layout, sessions.owner_of(self.layout, row[0], row[1]))
                for row in sessions.rows_by_key(conn, self.layout, keys)
            }

        return self.read(work)

    def _summaries(self, conn: sqlite3.Connection, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        summaries = {}
        for row in sessions.rows_by_key(conn, self.layout, keys):
            owner = sessions.owner_of(self.layout, row[0], row[1])
            summaries[row[0]] = sessions.summary(conn, self.layout, row, owner, exact)
        return [summaries[key] for key in keys if key in summaries]

    def session_table(self, cancel: Cancel = never) -> SessionTable:
        entries: list[TableEntry] = []
        while True:
            if cancel():
                raise Cancelled("stopped")
            last_key = entries[-1].key if entries else LOWEST

            def burst(conn: sqlite3.Connection, last_key: int = last_key) -> list[TableEntry]:
                return list(sessions.entries(conn, self.layout, last_key, SESSIONS_PER_BURST))

            more = self.read(burst)
            entries += more
            if len(more) < SESSIONS_PER_BURST:
                return SessionTable(entries)

    def key(self, ref: Ref) -> int | None:
        return self.read(lambda conn: sessions.rowid_of(conn, self.layout, ref.id))

    def resolve(self, name: str) -> Ref:
        # A ref begins with the layout's prefix, but an id may happen to begin like that too.
        prefix = f"{self.layout.prefix}:"
        ids = [name.removeprefix(prefix), name] if name.startswith(prefix) else [name]
        for id_ in ids:
            ref = Ref(self.layout.prefix, id_)
            if self.key(ref) is not None:
                return ref
        session_table = self.session_table()
        candidates = [session_table.ids[index] for index in session_table.matching([ids[0]])[:MAX_CANDIDATES]]
        raise UnknownSession(wording.name_is_unknown(name, candidates))

    def _row(self, conn: sqlite3.Connection, ref: Ref) -> tuple[Any, ...] | None:
        """Return the session row of a ref, None if it no longer exists."""
        rowid = sessions.rowid_of(conn, self.layout, ref.id)
        if rowid is None:
            return None
        return next(iter(sessions.rows_by_key(conn, self.layout, [rowid])), None)

    def session(self, ref: Ref) -> SessionDetail:
        def work(conn: sqlite3.Connection) -> SessionDetail | None:
            row = self._row(conn, ref)
            if row is None:
                return None
            return sessions.detail(conn, self.layout, row, sessions.owner_of(self.layout, row[0], row[1]))

        detail = self.read(work)
        if detail is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        return detail

    # -- messages

    def _owner(self, ref: Ref) -> Owner:
        # A stored id that is not text is shown with its storage key after an @, see `id_text`; only then ask the file.
        row = self.read(lambda conn: self._row(conn, ref)) if "@" in ref.id else None
        if row is None:
            return sessions.owner_of(self.layout, 0, ref.id)
        return sessions.owner_of(self.layout, row[0], row[1])

    def outline(self, ref: Ref, cancel: Cancel = never) -> Outline:
        return self._outline(self.read, self._owner(ref), cancel)

    def outline_if_small(self, ref: Ref) -> Outline | None:
        owner = self._owner(ref)

        def work(conn: sqlite3.Connection) -> Outline | None:
            first, last = self._bounds(conn, owner)
            if SMALL_SESSION_ROWS <= last - first < DAMAGED_SPAN:
                return None
            return self._outline(lambda part: part(conn), owner, never)

        return self.read(work)

    def _outline(self, read: Read, owner: Owner, cancel: Cancel) -> Outline:
        """Return a session's outline, read in several bursts.

        Between two bursts a message may be appended, or a compaction may change the state of messages. After a
        compaction the outline is read again; after TRIES attempts the latest one is returned.
        """

        def notes_and_compact_seq(conn: sqlite3.Connection) -> tuple[list[tuple[int, int]], int | None]:
            return self._moved_notes(conn, owner), self._counters(conn, owner)[1]

        for _ in range(TRIES):
            next_seq, compact_seq = read(lambda conn: self._counters(conn, owner))
            runs, rows_without_seq = outlining.states_of(read, self.layout, owner, cancel)
            notes, compact_seq_after = read(notes_and_compact_seq)
            if compact_seq_after == compact_seq:
                break
        return Outline(runs, notes, rows_without_seq, next_seq, compact_seq)

    def grown(self, ref: Ref, outline: Outline) -> Outline | None:
        owner = self._owner(ref)
        known_runs = outline.runs()
        newest = known_runs[-1][1] if known_runs else 0

        def work(conn: sqlite3.Connection) -> Outline | None:
            next_seq, compact_seq = self._counters(conn, owner)
            if compact_seq != outline.last_compact_seq:
                return None
            rows = conn.execute(
                f"SELECT seq, state FROM {self.layout.table('messages')} WHERE {owner.condition} AND seq > ? "
                "ORDER BY seq LIMIT ?",
                (owner.value, newest, SMALL_SESSION_ROWS),
            ).fetchall()
            if len(rows) >= SMALL_SESSION_ROWS:
                return None
            if not all(type(seq) is int and type(state) is str for seq, state in rows):
                return None
            return outline.extended(rows, next_seq)

        return self.read(work)

    def _moved_notes(self, conn: sqlite3.Connection, owner: Owner) -> list[tuple[int, int]]:
        """Return (ord, seq) of each active note that the layout does not place at its seq."""
        if not self.layout.sorts_notes_by_ord or not self.layout.has("messages", "meta_json"):
            return []
        cells = Cells(conn, self.layout.name("messages"))
        damages = Damages()
        notes: list[tuple[int, int]] = []
        for rowid, seq, kind in conn.execute(
            f"SELECT rowid, seq, typeof(meta_json) FROM {self.layout.table('messages')} "
            f"WHERE {owner.condition} AND state = '{State.ACTIVE}' AND name = '{NOTE_NAME}'",
            (owner.value,),
        ).fetchall():
            stored, _ = cells.head("meta_json", rowid, kind, audit.NOTE_META_BYTES, "meta", damages)
            span = note_span(NOTE_NAME, parse(stored, "meta", damages))
            if span and span.ord is not None and isinstance(seq, int) and span.ord != seq:
                notes.append((span.ord, seq))
        return notes

    def _counters(self, conn: sqlite3.Connection, owner: Owner) -> tuple[int | None, int | None]:
        """Return the session's stored next_seq and last_compact_seq, each None if it is missing or not an integer."""
        row = conn.execute(
            f"SELECT next_seq, {self.layout.column('session_state', 'last_compact_seq')} "
            f"FROM {self.layout.table('session_state')} WHERE {owner.condition}",
            (owner.value,),
        ).fetchone() or (None, None)
        next_seq, compact_seq = (value if isinstance(value, int) else None for value in row)
        return next_seq, compact_seq

    def timeline(
        self, ref: Ref, view: View, outline: Outline | None = None, limits: Limits | None = None
    ) -> MessageTimeline:
        owner = self._owner(ref)
        outline = outline or self.outline_if_small(ref)
        if outline is None:
            # In every other view the rows depend on states, which only the outline knows.
            runs = [self.read(lambda conn: self._bounds(conn, owner))] if view is View.ALL else []
            display, exact = outlines.only(runs), False
        else:
            display, exact = self._display(view, outline), True
        return MessageTimeline(self.read, self.layout, owner, display, exact, self._about(view))

    def _display(self, view: View, outline: Outline) -> Display:
        """Return the seqs that a view shows, in its order."""
        if view is View.ALL:
            return outlines.everything(outline)
        if view is View.COMPACTED:
            return outlines.only(outline.runs(State.COMPACTED))
        if view is View.ACTIVE:
            return outlines.only(outline.runs(State.ACTIVE))
        return outlines.logical(outline.runs(State.ACTIVE), outline.notes)

    def _about(self, view: View) -> str:
        """Return what a view cannot show, "" if it shows everything."""
        if view is not View.CONTEXT:
            return ""
        return "no release loads this layout" if self.layout.stamped_too_new else _NOT_STORED

    def _bounds(self, conn: sqlite3.Connection, owner: Owner) -> tuple[int, int]:
        """Return the lowest and the highest seq of a session, 0 and 0 if it has none."""
        highest = messages.highest_seq(conn, self.layout, owner)
        return messages.highest_seq(conn, self.layout, owner, lowest=True), highest

    def timeline_of_runs(self, ref: Ref, outline: Outline, runs: Sequence[Run]) -> MessageTimeline:
        seqs = outline.runs()
        existing_runs = [run for first, last in runs for run in outlines.within(seqs, first, last)]
        return MessageTimeline(self.read, self.layout, self._owner(ref), outlines.only(existing_runs), True, "")

    def message(self, ref: Ref, row: str, start: int = 0, stop: int = META_BYTES) -> Message:
        owner = self._owner(ref)
        message = self.read(lambda conn: messages.message(conn, self.layout, owner, row, start, stop))
        if message is None:
            raise UnknownSession(wording.message_is_gone(row, ref.id))
        return message

    def messages(self, ref: Ref, rows: Sequence[str], stop: int = META_BYTES) -> list[Message]:
        if not rows:
            return []
        owner = self._owner(ref)

        def work(conn: sqlite3.Connection) -> list[Message]:
            read_messages = (messages.message(conn, self.layout, owner, row, 0, stop) for row in rows)
            return [message for message in read_messages if message is not None]

        return self.read(work)

    def audit(self, ref: Ref, outline: Outline) -> Audit:
        owner = self._owner(ref)
        return audit.audit(self.read, self.layout, owner, outline)

    def usage(self, ref: Ref) -> Usage:
        owner = self._owner(ref)
        return self.read(lambda conn: audit.usage(conn, self.layout, owner))

    # -- links

    def follow(self, ref: Ref, row: str) -> Link | None:
        # Only a row with a seq has calls or results that can be followed.
        if row.startswith("@"):
            return None
        seq = messages.key_of(row)
        if seq is None:
            return None
        owner = self._owner(ref)
        return self.read(lambda conn: links.follow(conn, self.layout, ref, owner, seq))

    def context(self, ref: Ref) -> Context:
        return self.read(lambda conn: context.context_of(conn, self.layout, ref.id))

    def growth(self, ref: Ref, known: Audit) -> list[int]:
        owner = self._owner(ref)
        compactions = [
            (compaction.note_seq, compaction.set_runs)
            for compaction in known.compactions
            if compaction.note_seq is not None and not compaction.undone
        ]
        return self.read(lambda conn: growth(context.sizes(conn, self.layout, owner), compactions))

    def spawner(self, ref: Ref) -> Link | None:
        def work(conn: sqlite3.Connection) -> Link | None:
            row = self._row(conn, ref)
            if row is None:
                return None
            parent_id, created_at = sessions.origin(row)
            if parent_id is None:
                return None
            parent = Ref(self.layout.prefix, parent_id)
            parent_row = self._row(conn, parent)
            if parent_row is None:
                return None
            owner = sessions.owner_of(self.layout, parent_row[0], parent_row[1])
            return links.spawner(conn, self.layout, ref, parent, owner, created_at)

        return self.read(work)

    def find(self, ref: Ref, words: str, start: int, forward: bool, cancel: Cancel = never) -> int | None:
        owner = self._owner(ref)
        if words.encode(errors="replace").decode() != words:
            # A lone surrogate cannot be encoded, so no stored text contains it.
            return None
        escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        next_start: int | None = max(LOWEST, min(start, HIGHEST))
        while next_start is not None:
            if cancel():
                raise Cancelled("stopped")

            def burst(conn: sqlite3.Connection, seq: int = next_start) -> tuple[int | None, int | None]:
                return links.find(conn, self.layout, owner, f"%{escaped}%", seq, forward)

            matching_seq, next_start = self.read(burst)
            if matching_seq is not None:
                return matching_seq
        return None

    # -- health

    def findings(
        self, ref: Ref | None = None, progress: Progress = silent, cancel: Cancel = never
    ) -> Iterator[Finding]:
        key = None
        if ref is not None:
            key = self.key(ref)
            if key is None:
                raise UnknownSession(wording.session_is_gone(ref.id))
        # Imported only when the doctor runs: other readers need none of it.
        from .doctor import checkup

        for result in checkup.check_database(self.read, lambda: self.layout, key, progress, cancel):
            yield result.finding
