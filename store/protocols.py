"""The interface that every kind of archive offers to the screen and to the command line.

A `Reader` reads in windows and holds nothing between two calls. Each method says what it costs: "bounded" reads are fit
for an event loop; "full" reads go through a whole index and belong into a worker. Full reads take `cancel`, a function
that is called between two bursts; if it returns True, they raise `Cancelled`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from .model.archive_info import ArchiveInfo, Capability
from .model.context import Context
from .model.errors import Misused, Refused, StoreError
from .model.findings import Finding
from .model.outline import Outline
from .model.plans import Action, Plan, Progress, Receipt, silent
from .model.rows import (
    Audit,
    Count,
    Limits,
    Link,
    Message,
    Ref,
    SessionDetail,
    SessionSummary,
    TimelineRow,
    Usage,
    View,
)
from .model.session_table import SessionTable

Cancel = Callable[[], bool]
Stamp = tuple[object, ...]
Zone = Callable[[], tzinfo | None]
"""Returns the time zone of archives that store local times without one; None means the zone of this machine."""


def never() -> bool:
    """Return False: the `cancel` of a read that nobody stops."""
    return False


def machine_zone() -> None:
    """Return None, which means the time zone of this machine."""


class Timeline(Protocol):
    """The rows of one session in one view, by index from 0."""

    @property
    def length(self) -> Count: ...

    @property
    def highest(self) -> int:
        """The highest seq in this view, 0 if there is none. Reads nothing."""
        ...

    @property
    def digits(self) -> int:
        """How many characters the longest row number needs: a seq or, for damage, "L" and its line. Reads nothing."""
        ...

    @property
    def about(self) -> str:
        """What this view cannot show, in words; empty if it is complete."""
        ...

    def window(self, start: int, stop: int) -> list[TimelineRow]:
        """Return rows `start` to `stop`, fewer at the end. One indexed statement; message bodies are not read."""
        ...

    def locate(self, seq: int) -> int | None:
        """Return the index of a message by its seq, None if it is not in this view. Reads nothing."""
        ...

    def nearest(self, seq: int) -> int:
        """Return the index of a message by its seq, or the index at which it would be. Reads nothing."""
        ...


class Reader(Protocol):
    """Reads one archive. It is not shared between threads; `Archive.reader` returns one for each."""

    def newest(self, limit: int) -> list[SessionSummary]:
        """Return the newest sessions without a parent, newest first, by creation or by last change. Bounded."""
        ...

    def session_table(self, cancel: Cancel = never) -> SessionTable:
        """Return the table of all sessions. A full read."""
        ...

    def summaries(self, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        """Return the summaries of sessions by storage key, without those that no longer exist.

        Bounded by the number of keys, except for counts that are `exact`.
        """
        ...

    def previews(self, keys: Sequence[int]) -> dict[int, str]:
        """Return only the previews of sessions, by storage key. Bounded by the number of keys."""
        ...

    def session_table_if_small(self) -> SessionTable | None:
        """Return the table of all sessions if there are few enough for an event loop, else None. Bounded."""
        ...

    def resolve(self, name: str) -> Ref:
        """Return the session that a ref or an id names.

        Bounded if it exists. Otherwise it raises `UnknownSession` with candidates, which takes a full read.
        """
        ...

    def key(self, ref: Ref) -> int | None:
        """Return the storage key of a session, None if it no longer exists. Bounded."""
        ...

    def session(self, ref: Ref) -> SessionDetail:
        """Return one session with its prompt, config, state and unanswered calls. Raises `UnknownSession`.

        Its messages are counted, which goes through the index of the session.
        """
        ...

    def outline(self, ref: Ref, cancel: Cancel = never) -> Outline:
        """Return which seqs exist in which state. A full read of the session's index."""
        ...

    def outline_if_small(self, ref: Ref) -> Outline | None:
        """Return the outline of a session of at most some thousand rows, None for a longer one. Bounded."""
        ...

    def grown(self, ref: Ref, outline: Outline) -> Outline | None:
        """Return the outline with what was appended since, None if more has changed than that. Bounded."""
        ...

    def timeline(self, ref: Ref, view: View, outline: Outline | None = None, limits: Limits | None = None) -> Timeline:
        """Return the rows of a session in a view. Bounded.

        `limits` apply to the context, in archives with the capability "limits". Without an outline, a session of at
        most some thousand rows is outlined on the way. Of a longer one, the view of all rows shows what it can: all
        seqs including holes, or only the newest rows without their seqs. The other views need the outline and are
        empty.
        """
        ...

    def timeline_of_runs(self, ref: Ref, outline: Outline, runs: Sequence[tuple[int, int]]) -> Timeline:
        """Return only the rows in `runs` of seqs, in storage order. Bounded."""
        ...

    def message(self, ref: Ref, row: str, start: int = 0, stop: int = 65_536) -> Message:
        """Return a message with bytes `start` to `stop` of its content.

        Bounded. Raises `UnknownSession` if it no longer exists.
        """
        ...

    def messages(self, ref: Ref, rows: Sequence[str], stop: int = 65_536) -> list[Message]:
        """Return messages in one read, without those that no longer exist, with the first `stop` bytes of content.

        Bounded.
        """
        ...

    def audit(self, ref: Ref, outline: Outline) -> Audit:
        """Return all compactions of a session. One statement, and a pass over the compacted runs."""
        ...

    def context(self, ref: Ref) -> Context:
        """Return what the model is sent of a session, with estimated tokens for each message.

        A full read of its messages. Raises UnknownSession.
        """
        ...

    def growth(self, ref: Ref, known: Audit) -> list[int]:
        """Return the estimated tokens in the context at each call of the model, the oldest first.

        A full read of its messages. If the archive does not record when a compaction was made, only calls since the
        newest one are included.
        """
        ...

    def usage(self, ref: Ref) -> Usage:
        """Return the token usage by round. Reads one row for each round."""
        ...

    def follow(self, ref: Ref, row: str) -> Link | None:
        """Return where a call, a result or a spawning call leads to. Bounded."""
        ...

    def spawner(self, ref: Ref) -> Link | None:
        """Return the call in the parent that started this session. Bounded."""
        ...

    def find(self, ref: Ref, text: str, start: int, forward: bool, cancel: Cancel = never) -> int | None:
        """Return the seq of the first message from `start` on, up or down, whose text holds `text` in any case.

        A full read.
        """
        ...

    def findings(
        self, ref: Ref | None = None, progress: Progress = silent, cancel: Cancel = never
    ) -> Iterator[Finding]:
        """Yield what is wrong with one session, or with all sessions and the archive itself. A full read, in windows.

        It ends when the consumer stops iterating. Raises Cancelled.
        """
        ...


class Actions(Protocol):
    """Changes an archive. A plan that a person can review always comes first, then it is applied."""

    def plan(self, action: Action, progress: Progress = silent, cancel: Cancel = never) -> Plan:
        """Return what an action would do. Nothing is changed. A full read.

        Raises Misused if the action makes no sense here, Refused if the archive's state forbids it, UnknownSession,
        Busy, Cancelled.
        """
        ...

    def apply(self, plan: Plan, progress: Progress = silent, cancel: Cancel = never, offline: bool = False) -> Receipt:
        """Carry out a plan: all of it or nothing. `offline` is the user's confirmation that no agent is running.

        Raises Cancelled only before anything is changed. Raises Refused, with nothing changed, if something has changed
        since the plan was made, if the archive is locked or in use, or if a backup cannot be made. Raises Misused if
        the plan needs `offline` and it was not given.
        """
        ...


class Archive(Protocol):
    """One place with sessions of one layout, made by `open_archive`."""

    @property
    def info(self) -> ArchiveInfo:
        """What it is. It can change if another database takes the place of the file."""
        ...

    def reader(self) -> Reader:
        """Return a reader for the calling thread."""
        ...

    @property
    def actions(self) -> Actions | None:
        """What changes it, None if nothing may be written. Can be used in any thread."""
        ...

    @property
    def aside(self) -> str | None:
        """Why a private copy is read instead of the archive itself, None if it is not."""
        ...

    def stamp(self) -> Stamp:
        """Return a value that differs whenever the archive may have changed. A few `stat` calls; holds nothing."""
        ...

    def close(self) -> None:
        """Remove private copies that were made to read the archive. Idempotent."""
        ...


def no_places() -> Sequence[Path]:
    """Return no places: for formats that have no usual ones."""
    return ()


def no_findings(path: Path, archives: Sequence[Archive], error: StoreError | None) -> Iterator[Finding]:
    """Yield nothing: for formats that find nothing in a file as a whole."""
    return iter(())


class Format(Struct, frozen=True):
    """A kind of archive: how it is recognised and opened. The registry lists them."""

    archives: str
    """What a sentence calls archives of this format, such as "power-loop databases"."""
    detect: Callable[[Path, bytes], Path | None]
    """Takes a path and the first bytes of the file (b"" for a folder).

    Returns the file or folder to open, None if it is of another format. Cheap; raises nothing but PermissionError.
    """
    open: Callable[[Path, str | None, Zone], Sequence[Archive]]
    """Returns the archives at such a path, one for each layout, or only that of the named layout.

    Raises NotAnArchive, also for a layout that is not there, Damaged, Busy.
    """
    usual_places: Callable[[], Sequence[Path]] = no_places
    """Returns where agents keep such archives by default, whether or not anything is there."""
    examine: Callable[[Path, Sequence[Archive], StoreError | None], Iterator[Finding]] = no_findings
    """Yields what is wrong with a file as a whole: with its archives if it opens, else with the error.

    Writes nothing.
    """


def actions_for(archive: Archive, capability: Capability) -> Actions:
    """Return what changes an archive, for one of its capabilities.

    Raises Misused if this format never offers that, Refused if this archive may not be changed now.
    """
    info, actions = archive.info, archive.actions
    if why := info.lacks(capability):
        raise Misused(f"{info.location}: {why}")
    if actions is None:
        why = info.read_only or f"{info.sessions} are read-only."
        raise Refused(f"{info.location}: {why if os.path.exists(info.location) else 'no longer exists.'}")
    return actions
