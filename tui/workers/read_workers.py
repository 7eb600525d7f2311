"""Background reads. Each function is the body of one worker and posts its results as messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from msgspec import Struct
from textual.message import Message
from textual.worker import get_current_worker

from sessionscope.store import (
    Archive,
    Audit,
    Busy,
    Cancel,
    Cancelled,
    Changes,
    Order,
    Outline,
    Reader,
    Ref,
    SessionDetail,
    SessionTable,
    StoreError,
    UnknownSession,
    Usage,
    View,
)

from .context_usage import ContextUsage, context_usage_of
from .reporting import Post, reporting

T = TypeVar("T")
PREVIEWS_PER_READ = 200
"""How many previews are read at once: between two reads the worker can be cancelled."""
PREVIEWS_EVERY_S = 0.25
"""Seconds between two messages about previews: the lists are built anew for each."""


@dataclass(eq=False, repr=False)
class SessionTableRead(Message):
    """A session table of an archive, and what changed since the one `before` it; `seconds` is how long that took."""

    opened_archive: int
    session_table: SessionTable
    before: SessionTable
    changes: Changes
    seconds: float


@dataclass(eq=False, repr=False)
class Outlined(Message):
    """The outline of a session; `seconds` is how long reading it took."""

    epoch: int
    outline: Outline
    seconds: float


@dataclass(eq=False, repr=False)
class SessionRead(Message):
    """Compactions, bookkeeping and usage of a session. `trouble` says why one of them could not be read.

    `began` is when the read began, in seconds of the monotonic clock. What was written before that is included.
    """

    epoch: int
    began: float
    audit: Audit | None
    detail: SessionDetail | None
    usage: Usage | None
    trouble: str | None


@dataclass(eq=False, repr=False)
class ContextUsageRead(Message):
    """The context usage of a session."""

    epoch: int
    context_usage: ContextUsage


@dataclass(eq=False, repr=False)
class PreviewsMatched(Message):
    """The storage keys of all sessions so far whose preview holds every word of the filter."""

    opened_archive: int
    epoch: int
    session_table: SessionTable
    """The session table that was gone through: a key has a meaning only in it."""
    matches: set[int]
    read: dict[int, str]
    """Previews that were read since the last such message, by storage key."""


@dataclass(eq=False, repr=False)
class TextFound(Message):
    """The seq of the next message that holds the text, None if there is none."""

    epoch: int
    text: str
    seq: int | None


@dataclass(eq=False, repr=False)
class Failed(Message):
    """A read failed. `text` says why in one sentence, and `again` whether a later try may succeed.

    `gone` says that the session was not found. Only a session table tells whether it stays so.
    """

    text: str
    again: bool
    epoch: int | None = None
    opened_archive: int | None = None
    gone: bool = False


def stopped() -> bool:
    """Return whether the calling worker was cancelled. This is the `cancel` of what it runs."""
    return get_current_worker().is_cancelled


def read_session_table(post: Post, archive: Archive, opened_archive: int, before: SessionTable, cancel: Cancel) -> None:
    """Read the session table of an archive and compare it with the one before."""
    with _reporting(post, opened_archive=opened_archive):
        began = time.perf_counter()
        session_table = archive.reader().session_table(cancel)
        post(
            SessionTableRead(
                opened_archive, session_table, before, before.changes(session_table), time.perf_counter() - began
            )
        )


def read_session(post: Post, archive: Archive, ref: Ref, epoch: int, outline: Outline | None, cancel: Cancel) -> None:
    """Read the outline of a session unless it is given, then its compactions, bookkeeping and usage."""
    with _reporting(post, epoch=epoch):
        reader, began = archive.reader(), time.monotonic()
        if outline is None:
            outline = reader.outline(ref, cancel)
            post(Outlined(epoch, outline, time.monotonic() - began))
        if cancel():
            return
        rows = outline
        audit, trouble = _part(lambda: reader.audit(ref, rows))
        detail, further = _part(lambda: reader.session(ref))
        usage, last = _part(lambda: reader.usage(ref))
        post(SessionRead(epoch, began, audit, detail, usage, trouble or further or last))


def _part(read: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return what a read returns, or why it failed. Raises Busy: then a later try may succeed."""
    try:
        return read(), None
    except Busy:
        raise
    except StoreError as error:
        return None, str(error)


def measure_context(post: Post, archive: Archive, ref: Ref, epoch: int, cancel: Cancel) -> None:
    """Read the messages that the model is sent, and how large they are."""
    with _reporting(post, epoch=epoch):
        reader = archive.reader()
        outline = reader.outline(ref, cancel)
        sent = reader.timeline(ref, View.CONTEXT, outline)
        rows = [row for row in reader.context(ref).rows if sent.locate(row.seq) is not None]
        audit, _ = _part(lambda: reader.audit(ref, outline))
        usage, _ = _part(lambda: reader.usage(ref))
        growth = reader.growth(ref, audit) if audit is not None else []
        post(ContextUsageRead(epoch, context_usage_of(rows, audit, usage, growth)))


class PreviewQuery(Struct, frozen=True):
    """What to find in the previews of one archive."""

    epoch: int
    opened_archive: int
    """The archive, by its index among those that are open."""
    session_table: SessionTable
    order: Order
    """The first sessions in this order are read first."""
    known_previews: dict[int, str]
    """Previews that were read already, by storage key."""
    words: tuple[str, ...]
    """What a preview must hold, in upper or lower case."""


def match_previews(post: Post, archive: Archive, query: PreviewQuery, cancel: Cancel) -> None:
    """Compare the words with every preview. Read the previews that are not known yet.

    Posts `PreviewsMatched` at most every `PREVIEWS_EVERY_S` seconds and once at the end, also if it is cancelled:
    what was read until then need not be read again.
    """
    with _reporting(post):
        matching = _MatchingPreviews(query)
        positions = query.session_table.sorted(range(len(query.session_table)), query.order)
        reader, due = archive.reader(), 0.0
        try:
            for start in range(0, len(positions), PREVIEWS_PER_READ):
                if cancel():
                    return
                matching.add(
                    reader, [query.session_table.keys[at] for at in positions[start : start + PREVIEWS_PER_READ]]
                )
                if matching.has_news and time.monotonic() >= due:
                    due = time.monotonic() + PREVIEWS_EVERY_S
                    post(matching.message())
        finally:
            if matching.has_news:
                post(matching.message())


class _MatchingPreviews:
    """The sessions that match so far, and the previews that were read since the last message."""

    def __init__(self, query: PreviewQuery) -> None:
        self._query = query
        self._words = [word.casefold() for word in query.words]
        self._matches: set[int] = set()
        self._posted_matches = 0
        self._read: dict[int, str] = {}

    @property
    def has_news(self) -> bool:
        """Whether there is something that no message has told yet."""
        return len(self._matches) > self._posted_matches or bool(self._read)

    def add(self, reader: Reader, keys: list[int]) -> None:
        """Match some sessions by their storage keys. Raises StoreError."""
        known = self._query.known_previews
        new = reader.previews([key for key in keys if key not in known])
        self._read.update(new)
        for key in keys:
            preview = (known.get(key) or new.get(key, "")).casefold()
            if preview and all(word in preview for word in self._words):
                self._matches.add(key)

    def message(self) -> PreviewsMatched:
        """Return all matches so far and the previews that were read since the last message."""
        read, self._read = self._read, {}
        self._posted_matches = len(self._matches)
        query = self._query
        return PreviewsMatched(query.opened_archive, query.epoch, query.session_table, set(self._matches), read)


def find_text(
    post: Post, archive: Archive, ref: Ref, epoch: int, text: str, start: int, forward: bool, cancel: Cancel
) -> None:
    """Find the next message that holds a text."""
    with _reporting(post):
        post(TextFound(epoch, text, archive.reader().find(ref, text, start, forward, cancel)))


def _reporting(post: Post, epoch: int | None = None, opened_archive: int | None = None) -> AbstractContextManager[None]:
    """Post `Failed` for what is raised inside, and nothing for a worker that was cancelled."""

    def message_for(error: Exception) -> Failed | None:
        if isinstance(error, Cancelled):
            return None
        text = str(error) if isinstance(error, StoreError) else f"Unexpected error: {error!r}."
        gone = isinstance(error, UnknownSession)
        return Failed(text, gone or isinstance(error, Busy), epoch, opened_archive, gone)

    return reporting(post, message_for)
