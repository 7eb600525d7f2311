"""The interface that every kind of archive offers to whoever browses it.

A `Reader` answers in windows and holds nothing between two calls. Its methods say which reads are bounded, hence fit
for an event loop, and which walk a whole index and belong into a worker: these take `cancel`, which is asked between
two bursts and stops the walk with `Cancelled` when it answers True.
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
"""Asked for the time zone of an archive whose times have none; None is that of the machine."""


def never() -> bool:
    """The `cancel` of a walk that nobody will stop."""
    return False


def machine_zone() -> None:
    """The time zone of the machine."""


class Timeline(Protocol):
    """The rows of one session in one view, by their index from 0."""

    @property
    def length(self) -> Count: ...

    @property
    def highest(self) -> int:
        """The highest seq in this view, 0 where there is none. No read."""
        ...

    @property
    def digits(self) -> int:
        """How many characters the longest name of a row has: its seq, or for damage an L and its line. No read."""
        ...

    @property
    def about(self) -> str:
        """What this view cannot know, in words; empty where it is the whole truth."""
        ...

    def window(self, start: int, stop: int) -> list[TimelineRow]:
        """Rows `start` to `stop`, fewer at the end. One indexed statement; bodies stay on disk."""
        ...

    def locate(self, seq: int) -> int | None:
        """The index of a message by its seq, None where this view does not hold it. No read."""
        ...

    def nearest(self, seq: int) -> int:
        """The index of the message, or of the row where it would stand. No read."""
        ...


class Reader(Protocol):
    """Reads one archive. Not shared between threads; `Archive.reader` gives one to each."""

    def newest(self, limit: int) -> list[SessionSummary]:
        """The newest sessions that have no parent, newest first: by creation, or by their last change. Bounded."""
        ...

    def session_table(self, cancel: Cancel = never) -> SessionTable:
        """Every session as flat arrays. A walk over all sessions."""
        ...

    def summaries(self, keys: Sequence[int], exact: bool = False) -> list[SessionSummary]:
        """Sessions by key, those that still exist. Bounded by the number of keys, but for counts that are `exact`."""
        ...

    def previews(self, keys: Sequence[int]) -> dict[int, str]:
        """Just the previews of sessions by key. Bounded by the number of keys."""
        ...

    def session_table_if_small(self) -> SessionTable | None:
        """The session table where there are so few sessions that nobody notices, None where there are more. Bounded."""
        ...

    def resolve(self, name: str) -> Ref:
        """The session that a ref or an id names. Bounded where there is one; else it raises `UnknownSession` with
        candidates, for which it takes a session table.
        """
        ...

    def key(self, ref: Ref) -> int | None:
        """The key of a session, None when it is gone. Bounded."""
        ...

    def session(self, ref: Ref) -> SessionDetail:
        """One session with its prompt, config, state and unanswered calls. Raises `UnknownSession`.

        Its messages are counted, a pass over the session's index.
        """
        ...

    def outline(self, ref: Ref, cancel: Cancel = never) -> Outline:
        """Which seqs exist in which state. A walk over the session's index."""
        ...

    def outline_if_small(self, ref: Ref) -> Outline | None:
        """The outline of a session of at most some thousand rows, None for a longer one. Bounded, one burst."""
        ...

    def grown(self, ref: Ref, outline: Outline) -> Outline | None:
        """The outline with what was appended since, None where more than that happened. Bounded."""
        ...

    def timeline(self, ref: Ref, view: View, outline: Outline | None = None, limits: Limits | None = None) -> Timeline:
        """A session's rows. Bounded. `limits` are for the context of an archive that is capable of "limits".

        Without an outline a session of at most some thousand rows is outlined on the way. A longer one gives in the
        view of all rows what it can, all seqs with holes included or just the newest rows without their seqs, and
        nothing in the other views: they need the outline.
        """
        ...

    def timeline_of_runs(self, ref: Ref, outline: Outline, runs: Sequence[tuple[int, int]]) -> Timeline:
        """Just the rows in `runs` of seqs, in storage order. Bounded."""
        ...

    def message(self, ref: Ref, row: str, start: int = 0, stop: int = 65_536) -> Message:
        """A message with bytes `start` to `stop` of its content. Bounded. Raises `UnknownSession` if it is gone."""
        ...

    def messages(self, ref: Ref, rows: Sequence[str], stop: int = 65_536) -> list[Message]:
        """Messages in one read, those that still exist, with the first `stop` bytes of content. Bounded."""
        ...

    def audit(self, ref: Ref, outline: Outline) -> Audit:
        """All folds of a session. Costs one statement and a pass over the folded runs."""
        ...

    def context(self, ref: Ref) -> Context:
        """What the model sees of a session, each message with its size in tokens, estimated. A walk over its messages.

        Raises UnknownSession.
        """
        ...

    def growth(self, ref: Ref, known: Audit) -> list[int]:
        """Tokens in the context at each call of the model, estimated, the oldest first. A walk over its messages.

        Where the archive does not tell when a compaction was made, just those since the newest one.
        """
        ...

    def usage(self, ref: Ref) -> Usage:
        """Token usage by round. Costs one row a round."""
        ...

    def follow(self, ref: Ref, row: str) -> Link | None:
        """Where a call, result or spawning call leads to. Bounded."""
        ...

    def spawner(self, ref: Ref) -> Link | None:
        """The call in the parent that started this session. Bounded."""
        ...

    def find(self, ref: Ref, text: str, start: int, forward: bool, cancel: Cancel = never) -> int | None:
        """The seq of the first message from `start` on, up or down, whose text holds `text` in any case. A walk."""
        ...

    def findings(
        self, ref: Ref | None = None, progress: Progress = silent, cancel: Cancel = never
    ) -> Iterator[Finding]:
        """What is wrong with one session, or with all and the archive itself. A walk that only reads, in windows.

        A consumer that stops asking ends it. Raises Cancelled.
        """
        ...


class Actions(Protocol):
    """What can be done to an archive: always a plan first, which a person can look at, then its application."""

    def plan(self, action: Action, progress: Progress = silent, cancel: Cancel = never) -> Plan:
        """What an action would do; nothing is changed. A walk.

        Raises Misused where the action makes no sense here, Refused where the archive's state forbids it,
        UnknownSession, Busy, Cancelled.
        """
        ...

    def apply(self, plan: Plan, progress: Progress = silent, cancel: Cancel = never, offline: bool = False) -> Receipt:
        """Carries a plan out: all of it or nothing. `offline` is a person's word that no agent is running.

        Cancelled is raised only while nothing was changed. Raises Refused where something changed since the plan was
        made, where the archive is locked or in use, or where what has to be kept aside cannot be; nothing is changed
        then. Raises Misused where the plan needs `offline` and it was not given.
        """
        ...


class Archive(Protocol):
    """One place with sessions of one layout. `open_archive` makes it."""

    @property
    def info(self) -> ArchiveInfo:
        """What it is; another database may take the file's place."""
        ...

    def reader(self) -> Reader:
        """A reader for the calling thread."""
        ...

    @property
    def actions(self) -> Actions | None:
        """What can be done to it, None where nothing may be written. For a worker's thread as for any."""
        ...

    @property
    def aside(self) -> str | None:
        """Why a private copy is read instead of the archive itself, None while it is not."""
        ...

    def stamp(self) -> Stamp:
        """Changes whenever the archive may have changed. Costs a few `stat` calls and holds nothing."""
        ...

    def close(self) -> None:
        """Removes what was put aside to read the archive. Idempotent."""
        ...


def no_places() -> Sequence[Path]:
    """The usual places of a format that has none."""
    return ()


def no_findings(path: Path, archives: Sequence[Archive], error: StoreError | None) -> Iterator[Finding]:
    """What is wrong with a file as a whole, of a format that knows nothing of the kind."""
    return iter(())


class Format(Struct, frozen=True):
    """A kind of archive: how it is recognised and opened. The registry lists them."""

    archives: str
    """What a sentence calls archives of this format, such as "power-loop databases"."""
    detect: Callable[[Path, bytes], Path | None]
    """Given a path and the first bytes of the file, b"" for a folder: the file or folder to open, None if it is of
    another format. Cheap; raises nothing but PermissionError."""
    open: Callable[[Path, str | None, Zone], Sequence[Archive]]
    """The archives at such a path, one a layout, or just that of the layout that is named.

    Raises NotAnArchive, also for a layout that is not there, Damaged, Busy.
    """
    usual_places: Callable[[], Sequence[Path]] = no_places
    """Where agents keep such archives unless told otherwise, whether or not anything is there."""
    examine: Callable[[Path, Sequence[Archive], StoreError | None], Iterator[Finding]] = no_findings
    """What is wrong with a file as a whole: with its archives where it opens, else with the error. It only reads."""


def actions_for(archive: Archive, capability: Capability) -> Actions:
    """Return what changes an archive, for one of its capabilities.

    Raises Misused if this format never offers that, Refused if nothing in this archive may be changed now.
    """
    info, actions = archive.info, archive.actions
    if why := info.lacks(capability):
        raise Misused(f"{info.location}: {why}")
    if actions is None:
        why = info.read_only or f"{info.sessions} are read-only."
        raise Refused(f"{info.location}: {why if os.path.exists(info.location) else 'no longer exists.'}")
    return actions
