"""What runs beside the screen: each function is a worker's whole work, and its result is a message that is posted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

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
    Ref,
    SessionDetail,
    SessionTable,
    StoreError,
    UnknownSession,
    Usage,
    View,
)

from .context_usage import ContextUsage, context_usage_of

T = TypeVar("T")
Post = Callable[[Message], object]
PREVIEWS_A_BURST, TELL_EVERY_S = 200, 0.25


@dataclass(eq=False, repr=False)
class SessionTableRead(Message):
    """A session table of an archive, and what changed since the one `before` it."""

    opened_archive: int
    session_table: SessionTable
    before: SessionTable
    changes: Changes
    seconds: float


@dataclass(eq=False, repr=False)
class Outlined(Message):
    """Which rows a session has."""

    epoch: int
    outline: Outline
    seconds: float


@dataclass(eq=False, repr=False)
class SessionRead(Message):
    """What a session is beyond its rows, as far as that can be read; `trouble` says why some of it cannot.

    `began` is when the reading began, in seconds of the monotonic clock: what was done before that is in it.
    """

    epoch: int
    began: float
    audit: Audit | None
    detail: SessionDetail | None
    usage: Usage | None
    trouble: str | None


@dataclass(eq=False, repr=False)
class ContextUsageRead(Message):
    """What fills the context of a session."""

    epoch: int
    weight: ContextUsage


@dataclass(eq=False, repr=False)
class PreviewsMatched(Message):
    """Keys of sessions whose preview holds every word of the filter."""

    opened_archive: int
    epoch: int
    found: set[int]


@dataclass(eq=False, repr=False)
class TextFound(Message):
    """The next hit of a search in a session, None where there is none."""

    epoch: int
    text: str
    seq: int | None


@dataclass(eq=False, repr=False)
class Failed(Message):
    """A worker could not do its work; `text` says why in one sentence, `again` whether it may work later.

    Whether a session is `gone` for good, a session table tells.
    """

    text: str
    again: bool
    epoch: int | None = None
    opened_archive: int | None = None
    gone: bool = False


def stopped() -> bool:
    """Whether the worker that asks is not wanted any more: the `cancel` of what it runs."""
    return get_current_worker().is_cancelled


def count(post: Post, archive: Archive, opened_archive: int, before: SessionTable, cancel: Cancel) -> None:
    """Takes a session table and compares it with the one before."""
    with _Reporting(post, opened_archive=opened_archive):
        began = time.perf_counter()
        session_table = archive.reader().session_table(cancel)
        post(
            SessionTableRead(
                opened_archive, session_table, before, before.changes(session_table), time.perf_counter() - began
            )
        )


def read_session(post: Post, archive: Archive, ref: Ref, epoch: int, outline: Outline | None, cancel: Cancel) -> None:
    """Reads a session's outline unless it is at hand, then its audit, bookkeeping and usage, each for itself."""
    with _Reporting(post, epoch=epoch):
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
    """What a read gives, or why it cannot. Raises Busy, as then nothing is lost but time."""
    try:
        return read(), None
    except Busy:
        raise
    except StoreError as error:
        return None, str(error)


def measure_context(post: Post, archive: Archive, ref: Ref, epoch: int, cancel: Cancel) -> None:
    """Weighs the messages that the model is sent of a session."""
    with _Reporting(post, epoch=epoch):
        reader = archive.reader()
        outline = reader.outline(ref, cancel)
        sent = reader.timeline(ref, View.CONTEXT, outline)
        rows = [row for row in reader.context(ref).rows if sent.locate(row.seq) is not None]
        audit, _ = _part(lambda: reader.audit(ref, outline))
        usage, _ = _part(lambda: reader.usage(ref))
        growth = reader.growth(ref, audit) if audit is not None else []
        post(ContextUsageRead(epoch, context_usage_of(rows, audit, usage, growth)))


def match_previews(
    post: Post,
    archive: Archive,
    opened_archive: int,
    session_table: SessionTable,
    order: Order,
    known: dict[int, str],
    words: tuple[str, ...],
    epoch: int,
    cancel: Cancel,
) -> None:
    """Compares the words with every preview, reading those that are not known yet, the first in order first."""
    needles = [word.casefold() for word in words]
    found: set[int] = set()
    told, due = 0, 0.0
    with _Reporting(post):
        reader, line = archive.reader(), session_table.sorted(range(len(session_table)), order)
        for start in range(0, len(line), PREVIEWS_A_BURST):
            if cancel():
                return
            positions = line[start : start + PREVIEWS_A_BURST]
            missing = [session_table.keys[at] for at in positions if session_table.keys[at] not in known]
            if missing:
                known.update(reader.previews(missing))
            found |= {
                session_table.keys[at]
                for at in positions
                if (text := known.get(session_table.keys[at], "").casefold())
                and all(needle in text for needle in needles)
            }
            if len(found) > told and time.monotonic() >= due:
                told, due = len(found), time.monotonic() + TELL_EVERY_S
                post(PreviewsMatched(opened_archive, epoch, set(found)))
        if len(found) > told:
            post(PreviewsMatched(opened_archive, epoch, found))


def find(
    post: Post, archive: Archive, ref: Ref, epoch: int, text: str, start: int, forward: bool, cancel: Cancel
) -> None:
    """Looks for the next message that holds a text."""
    with _Reporting(post):
        post(TextFound(epoch, text, archive.reader().find(ref, text, start, forward, cancel)))


class _Reporting:
    """Turns what a worker raises into a message; a cancelled one has nothing to say."""

    def __init__(self, post: Post, epoch: int | None = None, opened_archive: int | None = None) -> None:
        self._post, self._epoch, self._opened_archive = post, epoch, opened_archive

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None or isinstance(error, Cancelled):
            return True
        if not isinstance(error, Exception):
            return False
        text = str(error) if isinstance(error, StoreError) else f"something unforeseen went wrong: {error!r}"
        gone = isinstance(error, UnknownSession)
        self._post(Failed(text, gone or isinstance(error, Busy), self._epoch, self._opened_archive, gone))
        return True
