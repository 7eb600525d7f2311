"""Reads of a folder of nanobot's session files, as the `Reader` interface asks for them."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from sessionscope.store.model import outline as outlines
from sessionscope.store.model import wording
from sessionscope.store.model.context import Context, tokens_of
from sessionscope.store.model.errors import Busy, StoreError, UnknownSession
from sessionscope.store.model.findings import Finding
from sessionscope.store.model.outline import Outline, Run, runs_of
from sessionscope.store.model.plans import Progress, silent
from sessionscope.store.model.rows import (
    Audit,
    Certainty,
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
from sessionscope.store.model.session_table import SessionTable
from sessionscope.store.protocols import Cancel, never
from sessionscope.store.rules.compaction_planning import growth

from .format.file import Held, OpenFile, opening
from .format.file_head import FileHead, Metadata
from .format.line_scan import outline_rows, outline_tail
from .format.lines import FileOutline
from .read import context, detail, links, listing, record
from .read.audit import audit_of
from .read.context import Offset
from .read.listing import Listing
from .read.message_scan import scan_messages
from .read.record import RowId
from .read.timeline import FileTimeline, Tail, display_of
from .source import NanobotSource

T = TypeVar("T")
LOGS = 2
"""How many logs of summaries may be among the files of sessions."""
SMALL_BYTES, TAIL_BYTES, CANDIDATES, PIECE = 2_000_000, 65_536, 5, 65_536
"""Bytes of files that are outlined on the event loop, bytes of the end of a longer one that are shown until it is
outlined, how many sessions are suggested for an unknown name, and bytes of a content that are read by default.
"""


class NanobotReader:
    """Reads files that are opened for each answer."""

    def __init__(self, source: NanobotSource, listing: Listing) -> None:
        self._source, self._folder, self._listing, self._clock = source, source.folder, listing, source.clock

    # -- sessions

    def newest(self, limit: int) -> list[SessionSummary]:
        # The log of summaries is not a session.
        names = self._listing.newest(limit + LOGS)
        return self.summaries([self._listing.key(name) for name in names])[:limit]

    def session_table(self, cancel: Cancel = never) -> SessionTable:
        return self._listing.session_table(cancel)

    def session_table_if_small(self) -> SessionTable | None:
        return self._listing.session_table(never) if self._listing.small() else None

    def summaries(self, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        found = []
        for key in keys:
            name = self._listing.name(key)
            if name is not None and (summary := self._summary(name, exact)) is not None:
                found.append(summary)
        return found

    def previews(self, keys: Sequence[int]) -> dict[int, str]:
        return {summary.key: summary.preview for summary in self.summaries(keys)}

    def _summary(self, name: str, exact: bool) -> SessionSummary | None:
        """Return the summary of one session.

        If it cannot be read, the summary says so, and the others are still returned.
        """
        try:
            with opening(self._path(name)) as file:
                head, data = self._listing.head(name, file)
                if head.log and self._folder.only is None:
                    return None
                known = self._known(name, file)
                if known is None and (exact or file.size <= listing.HEAD_BYTES):
                    known = self._outlined(file, outline_rows(file, never), head)
                return self._listing.summary(name, head, file, data, known)
        except UnknownSession:
            return None
        except StoreError as error:
            return self._listing.unreadable(name, str(error))

    def key(self, ref: Ref) -> int | None:
        name = self._name(ref)
        return self._listing.key(name) if name is not None else None

    def resolve(self, name: str) -> Ref:
        session_table = self.session_table()
        positions = range(len(session_table))
        named = [position for position in positions if session_table.ids[position] == name]
        named = named or [
            position for position in positions if name in self._listing.names_for(session_table, position)
        ]
        refs = [self._listing.ref(session_table, position) for position in named]
        if len(refs) == 1:
            return refs[0]
        if refs:
            raise UnknownSession(wording.name_is_ambiguous(name, refs))
        similar = [session_table.ids[position] for position in session_table.matching([name])[:CANDIDATES]]
        raise UnknownSession(wording.name_is_unknown(name, similar))

    def session(self, ref: Ref) -> SessionDetail:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            head, data = self._listing.head(name, file)
            outline = self._outline(name, file, never)
            metadata, offset = self._loaded(file, outline, head)
            beside = detail.sidecar(self._folder.path, head, metadata, outline.messages, file.stat.mtime_ns)
            values = metadata.values if metadata is not None else {}
            held = beside.values.get("checkpoint") if beside is not None and not beside.stale else None
            return SessionDetail(
                summary=self._listing.summary(name, head, file, data, outline),
                prompt=None,
                prompt_size=0,
                model=None,
                config=None,
                metadata=detail.other(values),
                spawn_tool_call_id=None,
                stored_depth=None,
                next_seq=None,
                round_index=None,
                last_compact_seq=None,
                pending=held or values.get("runtime_checkpoint"),
                unanswered=detail.unanswered(file, outline),
                extras=detail.facts(head, metadata, beside, detail.provider_state(file, outline), file.size),
                damage=detail.damage(outline, head, metadata, offset),
            )

    # -- rows

    def _name(self, ref: Ref) -> str | None:
        """Return the file of a session, None if it no longer exists."""
        if ref.file is not None:
            return ref.file if os.path.basename(ref.file) == ref.file and self._there(ref.file) else None
        return self._listing.file_of(ref.id)

    def file_of(self, ref: Ref) -> str | None:
        """Return the file of a session, None if it no longer exists."""
        return self._name(ref)

    def _name_of(self, ref: Ref) -> str:
        name = self._name(ref)
        if name is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        return name

    def _there(self, name: str) -> bool:
        return os.path.isfile(self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder.path, name)

    def _known(self, name: str, file: OpenFile) -> FileOutline | None:
        """Return the outline that was made last, if it is of this file as it is now."""
        found = self._source.outlines.get(name)
        return found if found is not None and found.stat == file.stat else None

    def _outline_soon(self, name: str, file: OpenFile) -> FileOutline | None:
        """Return the outline if it is known or quickly made: of a short file, or of one with little appended to it."""
        if self._known(name, file) is not None or file.size <= SMALL_BYTES:
            return self._outline(name, file, never)
        before = self._source.outlines.get(name)
        if before is None or not before.holds(file) or file.size - before.end > SMALL_BYTES:
            return None
        return self._outline(name, file, never, before)

    def _current(self, name: str, file: OpenFile, outline: FileOutline) -> FileOutline:
        """Return an outline while the file is the one that it was made of, else a new one.

        Raises Busy if that takes long.
        """
        found = outline if outline.holds(file) else self._outline_soon(name, file)
        if found is None:
            raise Busy(f"{name}: was saved anew a moment ago and is being read; try again.")
        return found

    def _outline(self, name: str, file: OpenFile, cancel: Cancel, before: FileOutline | None = None) -> FileOutline:
        known = self._known(name, file)
        # A file that only seems to have been appended to is read whole by a worker.
        if known is None or not (known.certain or before is not None):
            rows = outline_rows(file, cancel, before)
            known = self._outlined(file, rows, self._listing.head(name, file)[0])
            self._source.keep(name, known)
        return known

    def _outlined(self, file: OpenFile, rows: FileOutline, head: FileHead) -> FileOutline:
        """Return the rows of a file with their states. What is consolidated is a prefix."""
        _, offset = self._loaded(file, rows, head)
        first, last = offset.value, rows.messages
        states = {State.COMPACTED.value: [(1, first)], State.ACTIVE.value: [(first + 1, last)]}
        return replace(
            rows,
            states={state: runs for state, runs in states.items() if runs[0][0] <= runs[0][1]},
            next_seq=last + 1,
            last_compact_seq=first,
        )

    def _loaded(self, file: OpenFile, outline: FileOutline, head: FileHead) -> tuple[Metadata | None, Offset]:
        metadata = context.loaded_metadata(file, outline)
        return metadata, context.offset_of(metadata, outline.messages, head.later)

    def outline(self, ref: Ref, cancel: Cancel = never) -> FileOutline:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            return self._outline(name, file, cancel)

    def outline_if_small(self, ref: Ref) -> FileOutline | None:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            return self._outline(name, file, never) if file.size <= SMALL_BYTES else None

    def grown(self, ref: Ref, outline: Outline) -> FileOutline | None:
        """Return the outline as it is now: with what was appended to a long file, or of all of a short one."""
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            return self._outline_soon(name, file)

    def timeline(
        self, ref: Ref, view: View, outline: Outline | None = None, limits: Limits | None = None
    ) -> FileTimeline | Tail:
        name = self._name_of(ref)
        read = self._reading(name)
        found = _ours(outline) if outline is not None else None
        if found is None:
            with opening(self._path(name)) as file:
                if file.size > SMALL_BYTES:
                    # In every other view the lines depend on how many messages there are, which only the outline knows.
                    nothing = FileOutline({}, starts=array("q"), end=0)
                    return Tail(read, outline_tail(file, TAIL_BYTES) if view is View.ALL else nothing, self._clock)
                found = self._outline(name, file, never)
        offset = found.last_compact_seq or 0
        if view is not View.CONTEXT:
            return FileTimeline(read, found, offset, self._clock, display_of(found, view))
        with opening(self._path(name)) as file:
            found = self._current(name, file, found)
            head, _ = self._listing.head(name, file)
            metadata, stored = self._loaded(file, found, head)
            summary = metadata is not None and metadata.summary is not None
            sent = context.context(file, found, stored, head.later, limits or Limits(), summary)
        return FileTimeline(
            read, found, offset, self._clock, outlines.only(runs_of(sent.entries)), sent.about, sent.entries
        )

    def _reading(self, name: str) -> Callable[[Callable[[OpenFile], Any]], Any]:
        def read(work: Callable[[OpenFile], T]) -> T:
            with opening(self._path(name)) as file:
                return work(file)

        return read

    def timeline_of_runs(self, ref: Ref, outline: Outline, runs: Sequence[Run]) -> FileTimeline:
        found = _ours(outline)
        here = [run for first, last in runs for run in outlines.within([(1, found.messages)], first, last)]
        return FileTimeline(
            self._reading(self._name_of(ref)), found, found.last_compact_seq or 0, self._clock, outlines.only(here)
        )

    def message(self, ref: Ref, row: str, start: int = 0, stop: int = PIECE) -> Message:
        name, place = self._name_of(ref), RowId.parse(row)
        with opening(self._path(name)) as file:
            found = self._message(name, file, place, start, stop) if place is not None else None
        if found is None:
            raise UnknownSession(wording.message_is_gone(row, ref.id))
        return found

    def messages(self, ref: Ref, rows: Sequence[str], stop: int = PIECE) -> list[Message]:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            found = (self._message(name, file, RowId.parse(row), 0, stop) for row in rows)
            return [message for message in found if message is not None]

    def _message(self, name: str, file: OpenFile, place: RowId | None, start: int, stop: int) -> Message | None:
        if place is None:
            return None
        known = self._outline_soon(name, file)
        return record.message(file, place, known.last_compact_seq if known else None, self._clock, start, stop)

    # -- beyond rows

    def audit(self, ref: Ref, outline: Outline) -> Audit:
        name, found = self._name_of(ref), _ours(outline)
        with opening(self._path(name)) as file:
            head, _ = self._listing.head(name, file)
            metadata, offset = self._loaded(file, self._current(name, file, found), head)
        return audit_of(metadata, offset, head.key, self._folder.log, self._clock)

    def context(self, ref: Ref) -> Context:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            held = Held(file.read(0, file.size), file.stat.mtime_ns)
        rows = outline_rows(held, never)
        offset = self._outlined(held, rows, self._listing.head(name, held)[0]).last_compact_seq
        return context.context_of(scan_messages(held), held.data, offset or 0)

    def growth(self, ref: Ref, known: Audit) -> list[int]:
        note = next(
            (
                compaction.note
                for compaction in reversed(known.compactions)
                if compaction.note and not compaction.undone
            ),
            "",
        )
        rows = [(row.seq, row.role, row.tokens) for row in self.context(ref).rows]
        return growth([(0, "system", tokens_of(len(note)))] * bool(note) + rows, ())

    def usage(self, ref: Ref) -> Usage:
        return Usage([], 0, 0, 0, None, "nanobot stores no usage")

    def follow(self, ref: Ref, row: str) -> Link | None:
        name, place = self._name_of(ref), RowId.parse(row)
        if place is None or place.seq is None:
            return None
        with opening(self._path(name)) as file:
            outline = self._outline_soon(name, file)
            if outline is None:
                raise Busy(f"session {ref.id!r} is still being read; try again in a moment.")
            found = links.follow(file, outline, place.seq) if place.seq <= outline.messages else None
            return Link(ref, record.row_at(file, outline, found[0]), *found) if found is not None else None

    def spawner(self, ref: Ref) -> Link | None:
        """Return the session that this one was forked from. It begins with the very same message."""
        source = self._listing.source_of(self._name_of(ref))
        if source is None:
            return None
        return Link(source, None, None, Certainty.INFERRED, "the session it was forked from")

    def find(self, ref: Ref, text: str, start: int, forward: bool, cancel: Cancel = never) -> int | None:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            return links.find(file, self._outline(name, file, cancel), text, start, forward, cancel)

    # -- health

    def findings(
        self, ref: Ref | None = None, progress: Progress = silent, cancel: Cancel = never
    ) -> Iterator[Finding]:
        name = self._name_of(ref) if ref is not None else None
        # Imported only here: most reads need none of it.
        from .doctor import checkup

        return checkup.findings(self._folder, name, progress, cancel)


def _ours(outline: Outline) -> FileOutline:
    if not isinstance(outline, FileOutline):
        raise TypeError("this outline is of another kind of archive")
    return outline
