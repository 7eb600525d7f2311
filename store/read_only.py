"""Base classes for formats that are only read.

A format says what its archive is, which sessions it has, and which messages each of them has. The base derives
everything else from that, and says so where the format cannot know. It reads a session as a whole; a format with long
sessions overrides `outline`, `timeline` and `message` with reads of windows.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from .model import wording
from .model.archive_info import ArchiveInfo
from .model.context import Candidate, Context, tokens_of
from .model.errors import Cancelled, Damaged, UnknownSession
from .model.findings import UNREADABLE, Finding, Severity
from .model.outline import Outline, Run, holds, runs_of, without
from .model.plans import Progress, silent
from .model.rows import (
    Audit,
    Certainty,
    Count,
    Limits,
    Link,
    Message,
    Ref,
    SessionDetail,
    SessionSummary,
    Spot,
    State,
    TimelineRow,
    Usage,
    View,
)
from .model.session_table import SessionTable, TableEntry
from .protocols import Actions, Cancel, Reader, Stamp, never
from .rules.compaction_planning import growth
from .rules.message_rows import piece_of, row_of

CANDIDATES = 5
"""How many sessions are suggested for an unknown name."""
DAMAGED_MESSAGE = "damaged-message"
DAMAGED_SESSION = "damaged-session"


class ReadOnlyArchive(ABC):
    """An archive that is never written to and is read where it is."""

    actions: Actions | None = None
    aside: str | None = None

    def __init__(self, info: ArchiveInfo) -> None:
        self.info = info

    @abstractmethod
    def reader(self) -> Reader: ...

    @abstractmethod
    def stamp(self) -> Stamp: ...

    def close(self) -> None:
        """Do nothing: there is no private copy."""
        return


class Rows:
    """A `Timeline` of rows in memory, in the order in which they are shown."""

    def __init__(self, rows: Sequence[TimelineRow], about: str = "") -> None:
        self._rows, self.about = rows, about
        self.length = Count(len(rows))
        self._index_by_seq = {row.seq: at for at, row in enumerate(rows) if row.seq is not None}
        self._seqs = sorted(self._index_by_seq)
        self.highest = self._seqs[-1] if self._seqs else 0
        names = [row.seq if row.seq is not None else f"L{row.line}" if row.line is not None else "" for row in rows]
        self.digits = max((len(str(name)) for name in names), default=1)

    def window(self, start: int, stop: int) -> list[TimelineRow]:
        return list(self._rows[max(0, start) : stop])

    def locate(self, seq: int) -> int | None:
        return self._index_by_seq.get(seq)

    def nearest(self, seq: int) -> int:
        at = min(bisect_left(self._seqs, seq), len(self._seqs) - 1)
        return self._index_by_seq[self._seqs[at]] if self._seqs else 0


class ReadOnlyReader(ABC):
    """Answers from lists of sessions and messages."""

    @abstractmethod
    def all_sessions(self) -> Sequence[SessionSummary]:
        """Return every session, the first created first. Each key stays with its session while the archive is open."""

    @abstractmethod
    def all_messages(self, ref: Ref) -> Sequence[Message]:
        """Return every message of a session with its whole content, in the order of the file. Raises UnknownSession.

        The `seq` of each is its number from 1. One without a seq is damage, which is shown in its place. Its `row`
        identifies it among the messages of the session, and stays the same while the file is only appended to. Other
        errors must be raised as Damaged or Busy, with a sentence.
        """

    # -- sessions

    def session_table(self, cancel: Cancel = never) -> SessionTable:
        return SessionTable(
            TableEntry(
                key=session.key,
                id=session.ref.id,
                parent_id=session.parent_id,
                created_at=session.created_at or 0,
                updated_at=session.updated_at or 0,
                size=session.message_count.value,
                compactions=session.compaction_count,
                subagent=session.parent_id is not None,
                title=session.title,
                group=session.group,
            )
            for session in self.all_sessions()
        )

    def session_table_if_small(self) -> SessionTable | None:
        return self.session_table()

    def newest(self, limit: int) -> list[SessionSummary]:
        # Of two that were created at the same time, the later one in the list is the newer.
        roots = enumerate(session for session in self.all_sessions() if session.parent_id is None)
        found = sorted(roots, key=lambda pair: (pair[1].created_at or 0, pair[0]), reverse=True)
        return [session for _, session in found[:limit]]

    def summaries(self, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        known = {one.key: one for one in self.all_sessions()}
        return [known[key] for key in keys if key in known]

    def previews(self, keys: Sequence[int]) -> dict[int, str]:
        return {one.key: one.preview for one in self.summaries(keys)}

    def key(self, ref: Ref) -> int | None:
        return next((one.key for one in self.all_sessions() if one.ref == ref), None)

    def resolve(self, name: str) -> Ref:
        sessions = self.all_sessions()
        refs = [session.ref for session in sessions if name in (session.ref.id, str(session.ref), session.ref.file)]
        if len(refs) == 1:
            return refs[0]
        if refs:
            raise UnknownSession(wording.name_is_ambiguous(name, refs))
        near = [session.ref.id for session in sessions if name.casefold() in session.ref.id.casefold()][:CANDIDATES]
        raise UnknownSession(wording.name_is_unknown(name, near))

    def session(self, ref: Ref) -> SessionDetail:
        summary = next((one for one in self.all_sessions() if one.ref == ref), None)
        if summary is None:
            raise UnknownSession(f"session {ref.id!r} no longer exists.")
        return SessionDetail(
            summary=summary,
            prompt=None,
            prompt_size=0,
            model=None,
            config=None,
            metadata=None,
            spawn_tool_call_id=None,
            stored_depth=None,
            next_seq=None,
            round_index=None,
            last_compact_seq=None,
            pending=None,
            unanswered=_unanswered(self.all_messages(ref)),
        )

    # -- messages

    def outline(self, ref: Ref, cancel: Cancel = never) -> Outline:
        states: dict[str, list[int]] = {}
        messages = self.all_messages(ref)
        for message in messages:
            if message.seq is not None:
                states.setdefault(message.state, []).append(message.seq)
        rows_without_seq = [at for at, message in enumerate(messages) if message.seq is None]
        return Outline(
            {state: runs_of(sorted(seqs)) for state, seqs in states.items()}, rows_without_seq=rows_without_seq
        )

    def outline_if_small(self, ref: Ref) -> Outline | None:
        return self.outline(ref)

    def grown(self, ref: Ref, outline: Outline) -> Outline | None:
        now = self.outline(ref)
        moved = (without(runs, now.runs(state)) for state, runs in outline.states.items())
        if any(moved) or now.rows_without_seq[: len(outline.rows_without_seq)] != outline.rows_without_seq:
            return None
        return now

    def timeline(self, ref: Ref, view: View, outline: Outline | None = None, limits: Limits | None = None) -> Rows:
        messages = self.all_messages(ref)
        if view is View.ALL:
            return Rows([row_of(message) for message in messages])
        state = State.COMPACTED if view is View.COMPACTED else State.ACTIVE
        about = "what was sent is not recorded; these are the active messages" if view is View.CONTEXT else ""
        return Rows([row_of(message) for message in messages if message.state == state], about)

    def timeline_of_runs(self, ref: Ref, outline: Outline, runs: Sequence[Run]) -> Rows:
        ordered = sorted(runs)
        return Rows([row_of(one) for one in self.all_messages(ref) if one.seq is not None and holds(ordered, one.seq)])

    def message(self, ref: Ref, row: str, start: int = 0, stop: int = 65_536) -> Message:
        message = next((candidate for candidate in self.all_messages(ref) if candidate.row == row), None)
        if message is None:
            raise UnknownSession(f"message {row} of session {ref.id!r} no longer exists.")
        return piece_of(message, start, stop)

    def messages(self, ref: Ref, rows: Sequence[str], stop: int = 65_536) -> list[Message]:
        known = {one.row: one for one in self.all_messages(ref)}
        return [piece_of(known[row], 0, stop) for row in rows if row in known]

    # -- beyond messages

    def audit(self, ref: Ref, outline: Outline) -> Audit:
        return Audit([], tuple(outline.runs(State.COMPACTED)))

    def context(self, ref: Ref) -> Context:
        groups: dict[str, int] = {}
        candidates: list[Candidate] = []
        messages = self.all_messages(ref)
        for index, message in enumerate(messages):
            groups.update((call.id, index) for call in message.tool_calls if call.id)
            if message.state == State.ACTIVE and message.seq is not None:
                group = groups.get(message.tool_call_id or "", index)
                line = row_of(message)
                candidates.append(
                    Candidate(message.seq, message.seq, message.role, group, tokens_of(line.size), head=line.head)
                )
        return Context(tuple(candidates), max((message.seq or 0 for message in messages), default=0))

    def growth(self, ref: Ref, known: Audit) -> list[int]:
        sizes = (
            (one.seq, one.role, tokens_of(row_of(one).size)) for one in self.all_messages(ref) if one.seq is not None
        )
        compactions = [
            (compaction.note_seq, compaction.set_runs)
            for compaction in known.compactions
            if compaction.note_seq is not None and not compaction.undone
        ]
        return growth(sizes, compactions)

    def usage(self, ref: Ref) -> Usage:
        return Usage([], 0, 0, 0, None, "token usage is not recorded")

    def follow(self, ref: Ref, row: str) -> Link | None:
        """Return the first result of a call, or the latest call before a result that has its id."""
        messages = self.all_messages(ref)
        index = next((index for index, message in enumerate(messages) if message.row == row), None)
        if index is None:
            return None
        current, ids = messages[index], {call.id for call in messages[index].tool_calls if call.id}
        for message in messages[index + 1 :] if ids else ():
            if message.tool_call_id in ids:
                return Link(ref, message.row, message.seq, Certainty.RECORDED, "the result")
        for message in reversed(messages[:index]) if current.tool_call_id else ():
            if current.tool_call_id in {call.id for call in message.tool_calls}:
                return Link(ref, message.row, message.seq, Certainty.RECORDED, "the call")
        return None

    def spawner(self, ref: Ref) -> Link | None:
        """Return a link to the parent session as a whole."""
        sessions = self.all_sessions()
        parent_id = next((one.parent_id for one in sessions if one.ref == ref), None)
        parent = next((one.ref for one in sessions if parent_id is not None and one.ref.id == parent_id), None)
        return Link(parent, None, None, Certainty.RECORDED, "the parent session") if parent is not None else None

    def find(self, ref: Ref, text: str, start: int, forward: bool, cancel: Cancel = never) -> int | None:
        needle = text.casefold()
        found = [(message.seq, message) for message in self.all_messages(ref) if message.seq is not None]
        for seq, message in found if forward else reversed(found):
            if cancel():
                raise Cancelled("stopped")
            if (seq >= start if forward else seq <= start) and needle in _searched(message).casefold():
                return seq
        return None

    def findings(
        self, ref: Ref | None = None, progress: Progress = silent, cancel: Cancel = never
    ) -> Iterator[Finding]:
        sessions = [one for one in self.all_sessions() if ref in (None, one.ref)]
        if ref is not None and not sessions:
            raise UnknownSession(f"session {ref.id!r} no longer exists.")
        for done, session in enumerate(sessions):
            if cancel():
                raise Cancelled("stopped")
            progress("sessions", done, len(sessions))
            try:
                yield from _damage_of(session, self.all_messages(session.ref))
            except UnknownSession:
                if ref is not None:
                    raise
            except Damaged as error:
                place = Spot(session.ref, file=session.ref.file)
                yield Finding(UNREADABLE, Severity.ERROR, place, _sentence(str(error)))


def _damage_of(session: SessionSummary, messages: Sequence[Message]) -> Iterator[Finding]:
    ref = session.ref
    for damage in session.damage:
        yield Finding(DAMAGED_SESSION, Severity.WARNING, Spot(ref, file=ref.file), _sentence(damage))
    for message in messages:
        for damage in message.damage:
            place = Spot(ref, message.row, message.seq, ref.file, message.line)
            yield Finding(DAMAGED_MESSAGE, Severity.WARNING, place, _sentence(damage))


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _unanswered(messages: Sequence[Message]) -> tuple[tuple[int, str], ...]:
    """Return the calls without a result, as (seq, name). A result answers the latest open call of its id."""
    waiting: list[tuple[str | None, int, str]] = []
    for message in messages:
        waiting += [(call.id, message.seq or 0, call.name or "?") for call in message.tool_calls]
        if message.role == "tool" or message.tool_call_id is not None:
            latest_first = reversed(range(len(waiting)))
            answered = next((index for index in latest_first if waiting[index][0] == message.tool_call_id), None)
            if answered is not None:
                del waiting[answered]
    return tuple((seq, name) for _, seq, name in waiting)


def _searched(message: Message) -> str:
    calls = " ".join(f"{call.name} {_text(call.arguments)}" for call in message.tool_calls)
    return f"{message.content or ''} {calls} {message.name or ''}"


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
