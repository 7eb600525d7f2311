"""Reads of a power-loop database, as the `Reader` interface asks for them."""

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

from .format.decode import Cells, note_span
from .format.layout import NOTE_NAME, Layout
from .read import audit, context, links, messages, outlining, sessions
from .read.messages import META_BYTES, MessageTimeline, Owner
from .source import PowerLoopSource

T = TypeVar("T")
SMALL, FEW, HUGE, SESSIONS_A_BURST, CANDIDATES = 5_000, 2_000, 10**8, 20_000, 5
_UNKNOWN = "not stored, so not shown: the prompt, recalled memories and projections"


class PowerLoopReader:
    """Reads in bursts, each on its own connection."""

    def __init__(self, source: PowerLoopSource) -> None:
        self._source = source

    @property
    def layout(self) -> Layout:
        return self._source.layout

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one burst. `work` may run again if the file changed meanwhile."""
        return self._source.read(work)

    # -- sessions

    def newest(self, limit: int) -> list[SessionSummary]:
        return self.read(lambda conn: self._summaries(conn, sessions.newest_keys(conn, self.layout, limit)))

    def summaries(self, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        return self.read(lambda conn: self._summaries(conn, keys, exact)) if keys else []

    def session_table_if_small(self) -> SessionTable | None:
        statement = f"SELECT count(*) FROM (SELECT 1 FROM {self.layout.table('sessions')} LIMIT ?)"
        few = self.read(lambda conn: conn.execute(statement, (FEW,)).fetchone()[0] < FEW)
        return self.session_table() if few else None

    def previews(self, keys: Sequence[int]) -> dict[int, str]:
        def work(conn: sqlite3.Connection) -> dict[int, str]:
            return {
                row[0]: sessions.preview_of(conn, self.layout, sessions.owner_of(self.layout, row[0], row[1]))
                for row in sessions.rows_by_key(conn, self.layout, keys)
            }

        return self.read(work)

    def _summaries(self, conn: sqlite3.Connection, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        found = {}
        for row in sessions.rows_by_key(conn, self.layout, keys):
            owner = sessions.owner_of(self.layout, row[0], row[1])
            found[row[0]] = sessions.summary(conn, self.layout, row, owner, exact)
        return [found[key] for key in keys if key in found]

    def session_table(self, cancel: Cancel = never) -> SessionTable:
        found: list[TableEntry] = []
        while True:
            if cancel():
                raise Cancelled("stopped")
            after = found[-1].key if found else -(2**63)

            def burst(conn: sqlite3.Connection, after: int = after) -> list[TableEntry]:
                return list(sessions.entries(conn, self.layout, after, SESSIONS_A_BURST))

            some = self.read(burst)
            found += some
            if len(some) < SESSIONS_A_BURST:
                return SessionTable(found)

    def key(self, ref: Ref) -> int | None:
        return self.read(lambda conn: sessions.rowid_of(conn, self.layout, ref.id))

    def resolve(self, name: str) -> Ref:
        prefix = f"{self.layout.prefix}:"
        ids = [name.removeprefix(prefix), name] if name.startswith(prefix) else [name]
        for id_ in ids:
            if self.key(Ref(self.layout.prefix, id_)) is not None:
                return Ref(self.layout.prefix, id_)
        session_table = self.session_table()
        near = [session_table.ids[at] for at in session_table.matching([ids[0]])][:CANDIDATES]
        raise UnknownSession(wording.name_is_unknown(name, near))

    def _row(self, conn: sqlite3.Connection, ref: Ref) -> tuple[Any, ...] | None:
        rowid = sessions.rowid_of(conn, self.layout, ref.id)
        return next(iter(sessions.rows_by_key(conn, self.layout, [rowid])), None) if rowid is not None else None

    def session(self, ref: Ref) -> SessionDetail:
        def work(conn: sqlite3.Connection) -> SessionDetail | None:
            row = self._row(conn, ref)
            return sessions.detail(conn, self.layout, row, sessions.owner_of(self.layout, *row[:2])) if row else None

        detail = self.read(work)
        if detail is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        return detail

    # -- messages

    def _owner(self, ref: Ref) -> Owner:
        # Only the id of a row without a plain text id ends in @ and its storage key, see `id_text`.
        row = self.read(lambda conn: self._row(conn, ref)) if "@" in ref.id else None
        return sessions.owner_of(self.layout, *row[:2]) if row else sessions.owner_of(self.layout, 0, ref.id)

    def outline(self, ref: Ref, cancel: Cancel = never) -> Outline:
        return self._outline(self.read, self._owner(ref), cancel)

    def outline_if_small(self, ref: Ref) -> Outline | None:
        owner = self._owner(ref)

        def work(conn: sqlite3.Connection) -> Outline | None:
            first, last = self._bounds(conn, owner)
            # Seqs that far apart are damage, not rows to wait for.
            if SMALL <= last - first < HUGE:
                return None
            return self._outline(lambda part: part(conn), owner, never)

        return self.read(work)

    def _outline(self, read: Read, owner: Owner, cancel: Cancel) -> Outline:
        # What is read in parts may change between them: a row may be added, or a compaction may change states.
        for _ in range(TRIES):
            next_seq, compact_seq = read(lambda conn: self._counters(conn, owner))
            runs, rows_without_seq = outlining.states_of(read, self.layout, owner, cancel)
            notes, _, after = read(lambda conn: self._bookkeeping(conn, owner))
            if after == compact_seq:
                break
        return Outline(runs, notes, rows_without_seq, next_seq, compact_seq)

    def grown(self, ref: Ref, outline: Outline) -> Outline | None:
        owner = self._owner(ref)
        known = outline.runs()
        newest = known[-1][1] if known else 0

        def work(conn: sqlite3.Connection) -> Outline | None:
            next_seq, compact_seq = self._counters(conn, owner)
            if compact_seq != outline.last_compact_seq:
                return None
            rows = conn.execute(
                f"SELECT seq, state FROM {self.layout.table('messages')} WHERE {owner.condition} AND seq > ? "
                "ORDER BY seq LIMIT ?",
                (owner.value, newest, SMALL),
            ).fetchall()
            plain = all(type(seq) is int and type(state) is str for seq, state in rows)
            return outline.extended(rows, next_seq) if plain and len(rows) < SMALL else None

        return self.read(work)

    def _bookkeeping(
        self, conn: sqlite3.Connection, owner: Owner
    ) -> tuple[list[tuple[int, int]], int | None, int | None]:
        """Return the active notes with their place in the logical order, and the session's own counters."""
        notes: list[tuple[int, int]] = []
        if self.layout.by_ord and self.layout.has("messages", "meta_json"):
            cells, damages = Cells(conn, self.layout.name("messages")), Damages()
            for rowid, seq, kind in conn.execute(
                f"SELECT rowid, seq, typeof(meta_json) FROM {self.layout.table('messages')} "
                f"WHERE {owner.condition} AND state = '{State.ACTIVE}' AND name = '{NOTE_NAME}'",
                (owner.value,),
            ).fetchall():
                stored, _ = cells.head("meta_json", rowid, kind, audit.NOTE_META_BYTES, "meta", damages)
                span = note_span(NOTE_NAME, parse(stored, "meta", damages))
                if span and span.ord is not None and isinstance(seq, int) and span.ord != seq:
                    notes.append((span.ord, seq))
        return notes, *self._counters(conn, owner)

    def _counters(self, conn: sqlite3.Connection, owner: Owner) -> tuple[int | None, int | None]:
        """Return the session's own next_seq and last_compact_seq."""
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
            # In every other view the lines depend on states, which only the outline knows.
            runs = [self.read(lambda conn: self._bounds(conn, owner))] if view is View.ALL else []
            return MessageTimeline(self.read, self.layout, owner, outlines.only(runs), False, self._about(view))
        return MessageTimeline(self.read, self.layout, owner, self._display(view, outline), True, self._about(view))

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
        highest = messages.highest_seq(conn, self.layout, owner)
        return messages.highest_seq(conn, self.layout, owner, lowest=True), highest

    def timeline_of_runs(self, ref: Ref, outline: Outline, runs: Sequence[Run]) -> MessageTimeline:
        seqs = outline.runs()
        here = [run for first, last in runs for run in outlines.within(seqs, first, last)]
        return MessageTimeline(self.read, self.layout, self._owner(ref), outlines.only(here), True, "")

    def message(self, ref: Ref, row: str, start: int = 0, stop: int = META_BYTES) -> Message:
        owner = self._owner(ref)
        found = self.read(lambda conn: messages.message(conn, self.layout, owner, row, start, stop))
        if found is None:
            raise UnknownSession(wording.message_is_gone(row, ref.id))
        return found

    def messages(self, ref: Ref, rows: Sequence[str], stop: int = META_BYTES) -> list[Message]:
        owner = self._owner(ref)

        def work(conn: sqlite3.Connection) -> list[Message]:
            found = (messages.message(conn, self.layout, owner, row, 0, stop) for row in rows)
            return [message for message in found if message is not None]

        return self.read(work) if rows else []

    def audit(self, ref: Ref, outline: Outline) -> Audit:
        owner = self._owner(ref)
        return audit.audit(self.read, self.layout, owner, outline)

    def usage(self, ref: Ref) -> Usage:
        owner = self._owner(ref)
        return self.read(lambda conn: audit.usage(conn, self.layout, owner))

    # -- links

    def follow(self, ref: Ref, row: str) -> Link | None:
        seq = messages.key_of(row) if not row.startswith("@") else None
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
            parent_id, created_at = sessions.origin(row) if row else (None, 0)
            parent = Ref(self.layout.prefix, parent_id or "")
            above = self._row(conn, parent) if parent_id is not None else None
            if above is None:
                return None
            owner = sessions.owner_of(self.layout, *above[:2])
            return links.spawner(conn, self.layout, ref, parent, owner, created_at)

        return self.read(work)

    def find(self, ref: Ref, words: str, start: int, forward: bool, cancel: Cancel = never) -> int | None:
        owner = self._owner(ref)
        if words.encode(errors="replace").decode() != words:
            # SQLite can hold no text with half a surrogate pair.
            return None
        escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        at: int | None = max(-(2**63), min(start, 2**63 - 1))
        while at is not None:
            if cancel():
                raise Cancelled("stopped")

            def burst(conn: sqlite3.Connection, at: int = at) -> tuple[int | None, int | None]:
                return links.find(conn, self.layout, owner, f"%{escaped}%", at, forward)

            found, at = self.read(burst)
            if found is not None:
                return found
        return None

    # -- health

    def findings(
        self, ref: Ref | None = None, progress: Progress = silent, cancel: Cancel = never
    ) -> Iterator[Finding]:
        key = self.key(ref) if ref is not None else None
        if ref is not None and key is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        # Imported only here: most reads need none of it.
        from .doctor import checkup

        for result in checkup.check_database(self.read, lambda: self.layout, key, progress, cancel):
            yield result.finding
