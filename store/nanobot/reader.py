"""The reader of a folder of nanobot's session files."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from sessionscope.store.model import outline as outlines
from sessionscope.store.model import wording
from sessionscope.store.model.context import Context, tokens_of
from sessionscope.store.model.errors import Busy, StoreError, UnknownSession
from sessionscope.store.model.findings import Finding
from sessionscope.store.model.outline import Display, Outline, Run, runs_of
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

from .format.file import Held, OpenFile, opening, read
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

MAX_LOGS = 2
"""How many logs of summaries there may be among the session files."""
SMALL_BYTES = 2_000_000
"""Up to so many bytes are outlined while the screen waits."""
TAIL_BYTES = 65_536
"""How many last bytes of a longer file are shown until it is outlined."""
MAX_CANDIDATES = 5
"""How many sessions are suggested for an unknown name."""
PIECE_BYTES = 65_536
"""How many bytes of a content are read unless a caller asks for others."""


class NanobotReader:
    """The reader of one folder. It opens a file anew for each call.

    The methods without a docstring are documented in `sessionscope.store.protocols.Reader`.
    """

    def __init__(self, source: NanobotSource, listing: Listing) -> None:
        self._source, self._listing = source, listing
        self._folder, self._clock = source.folder, source.clock

    # -- sessions

    def newest(self, limit: int) -> list[SessionSummary]:
        # The files may include logs of summaries, which are not sessions.
        names = self._listing.newest(limit + MAX_LOGS)
        return self.summaries([self._listing.key(name) for name in names])[:limit]

    def session_table(self, cancel: Cancel = never) -> SessionTable:
        return self._listing.session_table(cancel)

    def session_table_if_small(self) -> SessionTable | None:
        return self._listing.session_table(never) if self._listing.small() else None

    def summaries(self, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        summaries = []
        for key in keys:
            name = self._listing.name(key)
            if name is not None and (summary := self._summary(name, exact)) is not None:
                summaries.append(summary)
        return summaries

    def previews(self, keys: Sequence[int]) -> dict[int, str]:
        return {summary.key: summary.preview for summary in self.summaries(keys)}

    def _summary(self, name: str, exact: bool) -> SessionSummary | None:
        """Return a session's summary, or None if it does not exist. If it cannot be read, the summary says why."""
        try:
            with opening(self._path(name)) as file:
                head, data = self._listing.head(name, file)
                if head.log and self._folder.only is None:
                    return None
                outline = self._known_outline(name, file)
                if outline is None and (exact or file.size <= listing.HEAD_BYTES):
                    outline = self._with_states(file, outline_rows(file, never), head)
                return self._listing.summary(name, head, file, data, outline)
        except UnknownSession:
            return None
        except StoreError as error:
            return self._listing.unreadable(name, str(error))

    def key(self, ref: Ref) -> int | None:
        name = self._name(ref)
        return self._listing.key(name) if name is not None else None

    def resolve(self, name: str) -> Ref:
        table = self.session_table()
        positions = [position for position, id_ in enumerate(table.ids) if id_ == name]
        if not positions:
            positions = [position for position in range(len(table)) if name in self._listing.names_for(table, position)]
        refs = [self._listing.ref(table, position) for position in positions]
        if len(refs) == 1:
            return refs[0]
        if refs:
            raise UnknownSession(wording.name_is_ambiguous(name, refs))
        candidates = [table.ids[position] for position in table.matching([name])[:MAX_CANDIDATES]]
        raise UnknownSession(wording.name_is_unknown(name, candidates))

    def session(self, ref: Ref) -> SessionDetail:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            head, data = self._listing.head(name, file)
            outline = self._outline(name, file, never)
            metadata, offset = self._loaded(file, outline, head)
            sidecar = detail.sidecar(self._folder.path, head, metadata, outline.messages, file.stat.mtime_ns)
            checkpoint = None
            if sidecar is not None and not sidecar.stale:
                checkpoint = sidecar.values.get("checkpoint")
            values = metadata.values if metadata is not None else {}
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
                pending=checkpoint or values.get("runtime_checkpoint"),
                unanswered=detail.unanswered(file, outline),
                extras=detail.facts(head, metadata, sidecar, detail.provider_state(file, outline), file.size),
                damage=detail.damage(outline, head, metadata, offset),
            )

    # -- files

    def _name(self, ref: Ref) -> str | None:
        """Return the file name of a session, or None if it does not exist."""
        if ref.file is None:
            return self._listing.file_of(ref.id)
        is_in_folder = os.path.basename(ref.file) == ref.file
        return ref.file if is_in_folder and os.path.isfile(self._path(ref.file)) else None

    def file_of(self, ref: Ref) -> str | None:
        """Return the file name of a session, or None if it does not exist."""
        return self._name(ref)

    def _name_of(self, ref: Ref) -> str:
        """Return the file name of a session. Raises UnknownSession."""
        name = self._name(ref)
        if name is None:
            raise UnknownSession(wording.session_is_gone(ref.id))
        return name

    def _path(self, name: str) -> str:
        return os.path.join(self._folder.path, name)

    # -- outlines

    def _known_outline(self, name: str, file: OpenFile) -> FileOutline | None:
        """Return the latest outline, if the file has not changed since."""
        outline = self._source.outlines.get(name)
        return outline if outline is not None and outline.stat == file.stat else None

    def _quick_outline(self, name: str, file: OpenFile) -> FileOutline | None:
        """Return the outline if at most SMALL_BYTES have to be read for it: a small file, or appended lines."""
        if self._known_outline(name, file) is not None or file.size <= SMALL_BYTES:
            return self._outline(name, file, never)
        before = self._source.outlines.get(name)
        if before is None or not before.holds(file) or file.size - before.end > SMALL_BYTES:
            return None
        return self._outline(name, file, never, before)

    def _current_outline(self, name: str, file: OpenFile, outline: FileOutline) -> FileOutline:
        """Return `outline` if its rows are still in place, else a new one. Raises Busy if that takes long."""
        current = outline if outline.holds(file) else self._quick_outline(name, file)
        if current is None:
            raise Busy(f"{name}: was saved anew a moment ago and is being read; try again.")
        return current

    def _outline(self, name: str, file: OpenFile, cancel: Cancel, before: FileOutline | None = None) -> FileOutline:
        """Return the outline of a file and keep it. Only what follows `before` is read, if that is given."""
        known = self._known_outline(name, file)
        # An outline that was continued relies on a checksum. A full read replaces it.
        if known is not None and (known.certain or before is not None):
            return known
        rows = outline_rows(file, cancel, before)
        outline = self._with_states(file, rows, self._listing.head(name, file)[0])
        self._source.keep(name, outline)
        return outline

    def _with_states(self, file: OpenFile, rows: FileOutline, head: FileHead) -> FileOutline:
        """Return an outline with its states: messages up to the offset are compacted, the others are active."""
        _, offset = self._loaded(file, rows, head)
        states = {}
        if offset.value:
            states[State.COMPACTED.value] = [(1, offset.value)]
        if offset.value < rows.messages:
            states[State.ACTIVE.value] = [(offset.value + 1, rows.messages)]
        return replace(rows, states=states, next_seq=rows.messages + 1, last_compact_seq=offset.value)

    def _loaded(self, file: OpenFile, outline: FileOutline, head: FileHead) -> tuple[Metadata | None, Offset]:
        """Return the metadata line that nanobot loads, if there is one, and its offset."""
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
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            return self._quick_outline(name, file)

    # -- rows

    def timeline(
        self, ref: Ref, view: View, outline: Outline | None = None, limits: Limits | None = None
    ) -> FileTimeline | Tail:
        name = self._name_of(ref)
        if outline is None:
            with opening(self._path(name)) as file:
                if file.size > SMALL_BYTES:
                    if view is View.ALL:
                        tail = outline_tail(file, TAIL_BYTES)
                    else:
                        # Which lines it has depends on the number of messages, which is not known yet.
                        tail = FileOutline({}, starts=array("q"), end=0)
                    return Tail(self._read_function(name), tail, self._clock)
                file_outline = self._outline(name, file, never)
        else:
            file_outline = _file_outline(outline)
        if view is View.CONTEXT:
            return self._context_timeline(name, file_outline, limits or Limits())
        return self._timeline(name, file_outline, display_of(file_outline, view))

    def timeline_of_runs(self, ref: Ref, outline: Outline, runs: Sequence[Run]) -> FileTimeline:
        file_outline = _file_outline(outline)
        all_runs = [(1, file_outline.messages)]
        existing = [run for first, last in runs for run in outlines.within(all_runs, first, last)]
        return self._timeline(self._name_of(ref), file_outline, outlines.only(existing))

    def _timeline(self, name: str, outline: FileOutline, display: Display) -> FileTimeline:
        return FileTimeline(self._read_function(name), outline, outline.last_compact_seq or 0, self._clock, display)

    def _context_timeline(self, name: str, outline: FileOutline, limits: Limits) -> FileTimeline:
        offset = outline.last_compact_seq or 0
        with opening(self._path(name)) as file:
            outline = self._current_outline(name, file, outline)
            head, _ = self._listing.head(name, file)
            metadata, stored = self._loaded(file, outline, head)
            has_summary = metadata is not None and metadata.summary is not None
            sent = context.context(file, outline, stored, head.later, limits, has_summary)
        display = outlines.only(runs_of(sent.entries))
        return FileTimeline(self._read_function(name), outline, offset, self._clock, display, sent.about, sent.entries)

    def _read_function(self, name: str) -> Callable[[Callable[[OpenFile], Any]], Any]:
        """Return a function that opens a file and returns the result of another function on it."""
        return lambda work: read(self._path(name), work)

    def message(self, ref: Ref, row: str, start: int = 0, stop: int = PIECE_BYTES) -> Message:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            message = self._message(name, file, row, start, stop)
        if message is None:
            raise UnknownSession(wording.message_is_gone(row, ref.id))
        return message

    def messages(self, ref: Ref, rows: Sequence[str], stop: int = PIECE_BYTES) -> list[Message]:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            messages = [self._message(name, file, row, 0, stop) for row in rows]
        return [message for message in messages if message is not None]

    def _message(self, name: str, file: OpenFile, row: str, start: int, stop: int) -> Message | None:
        """Return a message with bytes `start` to `stop` of its content, or None if its row has changed."""
        row_id = RowId.parse(row)
        if row_id is None:
            return None
        outline = self._quick_outline(name, file)
        offset = outline.last_compact_seq if outline is not None else None
        return record.message(file, row_id, offset, self._clock, start, stop)

    # -- compactions and links

    def audit(self, ref: Ref, outline: Outline) -> Audit:
        name, file_outline = self._name_of(ref), _file_outline(outline)
        with opening(self._path(name)) as file:
            head, _ = self._listing.head(name, file)
            metadata, offset = self._loaded(file, self._current_outline(name, file, file_outline), head)
        return audit_of(metadata, offset, head.key, self._folder.log, self._clock)

    def context(self, ref: Ref) -> Context:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            held = Held(file.read(0, file.size), file.stat.mtime_ns)
        outline = self._with_states(held, outline_rows(held, never), self._listing.head(name, held)[0])
        return context.context_of(scan_messages(held), held.data, outline.last_compact_seq or 0)

    def growth(self, ref: Ref, known: Audit) -> list[int]:
        notes = (compaction.note for compaction in reversed(known.compactions) if not compaction.undone)
        latest_note = next((note for note in notes if note), None)
        rows = [(row.seq, row.role, row.tokens) for row in self.context(ref).rows]
        if latest_note is not None:
            rows.insert(0, (0, "system", tokens_of(len(latest_note))))
        return growth(rows, ())

    def usage(self, ref: Ref) -> Usage:
        return Usage([], 0, 0, 0, None, "nanobot stores no usage")

    def follow(self, ref: Ref, row: str) -> Link | None:
        name, row_id = self._name_of(ref), RowId.parse(row)
        if row_id is None or row_id.seq is None:
            return None
        with opening(self._path(name)) as file:
            outline = self._quick_outline(name, file)
            if outline is None:
                raise Busy(f"session {ref.id!r} is still being read; try again in a moment.")
            if row_id.seq > outline.messages:
                return None
            target = links.follow(file, outline, row_id.seq)
            if target is None:
                return None
            return Link(ref, record.row_at(file, outline, target[0]), *target)

    def spawner(self, ref: Ref) -> Link | None:
        """Return the session from which this one was forked: it begins with the same message."""
        source = self._listing.source_of(self._name_of(ref))
        if source is None:
            return None
        return Link(source, None, None, Certainty.INFERRED, "the session it was forked from")

    def find(self, ref: Ref, text: str, start: int, forward: bool, cancel: Cancel = never) -> int | None:
        name = self._name_of(ref)
        with opening(self._path(name)) as file:
            return links.find(file, self._outline(name, file, cancel), text, start, forward, cancel)

    # -- findings

    def findings(
        self, ref: Ref | None = None, progress: Progress = silent, cancel: Cancel = never
    ) -> Iterator[Finding]:
        name = self._name_of(ref) if ref is not None else None
        # Imported here, since reading does not need it.
        from .doctor import checkup

        return checkup.findings(self._folder, name, progress, cancel)


def _file_outline(outline: Outline) -> FileOutline:
    """Return an outline that this reader made. Raises TypeError for any other."""
    if not isinstance(outline, FileOutline):
        raise TypeError("this outline is of another kind of archive")
    return outline
