"""What runs beside the screen: each function is a worker's whole work, and its result is a message that is posted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message

from store import (
    Archive,
    Audit,
    Cancel,
    Cancelled,
    Census,
    Order,
    Outline,
    Ref,
    SessionDetail,
    StoreError,
    Usage,
)

Post = Callable[[Message], object]
PREVIEWS_A_BURST, TELL_EVERY_S = 200, 0.25


@dataclass
class Counted(Message):
    """A census of an archive."""

    shelf: int
    census: Census
    seconds: float


@dataclass
class Outlined(Message):
    """Which rows a session has."""

    epoch: int
    outline: Outline
    seconds: float


@dataclass
class Studied(Message):
    """Everything about a session that is not its rows."""

    epoch: int
    audit: Audit
    detail: SessionDetail
    usage: Usage


@dataclass
class PreviewsMatched(Message):
    """Positions of sessions whose preview holds every word of the filter."""

    shelf: int
    epoch: int
    found: set[int]


@dataclass
class Found(Message):
    """The next hit of a search in a session, None where there is none."""

    epoch: int
    text: str
    seq: int | None


@dataclass
class Failed(Message):
    """A worker could not do its work; `text` says why in one sentence."""

    text: str


def count(post: Post, archive: Archive, shelf: int, cancel: Cancel) -> None:
    """Takes a census."""
    with _Reporting(post):
        began = time.perf_counter()
        census = archive.reader().census(cancel)
        post(Counted(shelf, census, time.perf_counter() - began))


def study(post: Post, archive: Archive, ref: Ref, epoch: int, outline: Outline | None, cancel: Cancel) -> None:
    """Reads a session's outline unless it is at hand, then its audit, bookkeeping and usage."""
    with _Reporting(post):
        reader = archive.reader()
        if outline is None:
            began = time.perf_counter()
            outline = reader.outline(ref, cancel)
            post(Outlined(epoch, outline, time.perf_counter() - began))
        if not cancel():
            post(Studied(epoch, reader.audit(ref, outline), reader.session(ref), reader.usage(ref)))


def match_previews(
    post: Post, archive: Archive, shelf: int, census: Census, order: Order, known: dict[int, str],
    words: tuple[str, ...], epoch: int, cancel: Cancel,
) -> None:
    """Compares the words with every preview, reading those that are not known yet, the first in order first."""
    needles = [word.casefold() for word in words]
    found: set[int] = set()
    told, due = 0, 0.0
    with _Reporting(post):
        reader, line = archive.reader(), census.sorted(range(len(census)), order)
        for start in range(0, len(line), PREVIEWS_A_BURST):
            if cancel():
                return
            positions = line[start : start + PREVIEWS_A_BURST]
            missing = [census.keys[at] for at in positions if census.keys[at] not in known]
            if missing:
                known.update(reader.previews(missing))
            found |= {at for at in positions if (text := known.get(census.keys[at], "").casefold())
                      and all(needle in text for needle in needles)}
            if len(found) > told and time.monotonic() >= due:
                told, due = len(found), time.monotonic() + TELL_EVERY_S
                post(PreviewsMatched(shelf, epoch, set(found)))
        if len(found) > told:
            post(PreviewsMatched(shelf, epoch, found))


def find(
    post: Post, archive: Archive, ref: Ref, epoch: int, text: str, start: int, forward: bool, cancel: Cancel
) -> None:
    """Looks for the next message that holds a text."""
    with _Reporting(post):
        post(Found(epoch, text, archive.reader().find(ref, text, start, forward, cancel)))


class _Reporting:
    """Turns what the store raises into a message; a cancelled worker has nothing to say."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, StoreError) and not isinstance(error, Cancelled):
            self._post(Failed(str(error)))
        return isinstance(error, StoreError)
