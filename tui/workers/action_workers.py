"""What runs beside the screen when something is looked for, planned, or put right; each result is a posted message."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from msgspec import Struct
from textual.message import Message

from sessionscope.store import (
    Action,
    Archive,
    Cancel,
    Cancelled,
    Capability,
    Compact,
    CompactionPlan,
    Context,
    Cut,
    Finding,
    Misused,
    Plan,
    Progress,
    Receipt,
    Ref,
    StoreError,
    actions_for,
    needed,
    plan_cut,
    stored_range,
    usual_exchanges,
)
from sessionscope.tui.external.summarizer import NoteError, summarize
from sessionscope.tui.headless.excerpt import excerpt

from .read_workers import Post

TELL_EVERY_S = 0.1


class Job(Struct, frozen=True):
    """What works on the note, or carries the compaction out: that goes on until it says whether it was done."""

    epoch: int
    writes: bool
    stop: threading.Event


@dataclass(eq=False, repr=False)
class Progressed(Message):
    """How far some work is."""

    epoch: int
    what: str
    done: int
    total: int


@dataclass(eq=False, repr=False)
class FindingsRead(Message):
    """Some more of what the doctor finds; `complete` says that it was the last."""

    epoch: int
    findings: list[Finding]
    complete: bool


@dataclass(eq=False, repr=False)
class Planned(Message):
    """What an action would do."""

    epoch: int
    plan: Plan


@dataclass(eq=False, repr=False)
class Applied(Message):
    """What was done."""

    epoch: int
    plan: Plan
    receipt: Receipt


@dataclass(eq=False, repr=False)
class GivenUp(Message):
    """Some work was not done; `text` says why in one sentence, empty where somebody stopped it."""

    epoch: int
    text: str


@dataclass(eq=False, repr=False)
class RangeCut(Message):
    """What a range of a context takes, None with the reason why it takes nothing."""

    epoch: int
    cut: Cut | None
    text: str


@dataclass(eq=False, repr=False)
class Overtaken(Message):
    """What was wanted makes no sense, mostly as the context has become this one; `text` says why."""

    epoch: int
    context: Context
    text: str


@dataclass(eq=False, repr=False)
class Noted(Message):
    """A note that the user's command made."""

    epoch: int
    note: str


def look(post: Post, archive: Archive, ref: Ref | None, epoch: int, cancel: Cancel) -> None:
    """Looks for what is wrong with an archive, or one session of it."""
    with _Reporting(post, epoch):
        some: list[Finding] = []
        due = time.monotonic() + TELL_EVERY_S
        complete = False
        try:
            for finding in archive.reader().findings(ref, _telling(post, epoch), cancel):
                some.append(finding)
                if time.monotonic() >= due:
                    post(FindingsRead(epoch, some, False))
                    some, due = [], time.monotonic() + TELL_EVERY_S
            complete = True
        finally:
            # What was found before something failed is told all the same.
            post(FindingsRead(epoch, some, complete))


def plan(post: Post, archive: Archive, action: Action, epoch: int, cancel: Cancel) -> None:
    """Plans an action; nothing is changed."""
    with _Reporting(post, epoch):
        post(Planned(epoch, actions_for(archive, needed(action)).plan(action, _telling(post, epoch), cancel)))


def apply(post: Post, archive: Archive, planned: Plan, epoch: int, cancel: Cancel) -> None:
    """Carries a plan out that somebody has seen and confirmed, also that no agent is running where that matters."""
    with _Reporting(post, epoch):
        actions = actions_for(archive, needed(planned.action))
        receipt = actions.apply(planned, _telling(post, epoch), cancel, offline=bool(planned.offline))
        post(Applied(epoch, planned, receipt))


def undo(post: Post, archive: Archive, action: Action, epoch: int, cancel: Cancel) -> None:
    """Takes something back."""
    with _Reporting(post, epoch):
        actions, progress = actions_for(archive, needed(action)), _telling(post, epoch)
        planned = actions.plan(action, progress, cancel)
        if planned.empty:
            raise Misused("nothing is left to be taken back.")
        post(Applied(epoch, planned, actions.apply(planned, progress, cancel, offline=bool(planned.offline))))


def plan_range(
    post: Post, archive: Archive, ref: Ref, span: tuple[int, int], stored: bool, epoch: int, cancel: Cancel
) -> None:
    """Plans a compaction of the rows between two seqs, in the order in which they are `stored` or of the context."""
    with _Reporting(post, epoch):
        actions = actions_for(archive, Capability.COMPACT)
        first, last = stored_range(archive.reader().context(ref), *span) if stored else span
        post(Planned(epoch, actions.plan(Compact(ref, first, last, ""), _telling(post, epoch), cancel)))


def propose(post: Post, archive: Archive, ref: Ref, epoch: int, cancel: Cancel) -> None:
    """Plans a compaction that keeps the newest exchanges, fewer of them where the session is short."""
    with _Reporting(post, epoch):
        actions = actions_for(archive, Capability.COMPACT)
        action = Compact(ref, None, None, "", usual_exchanges(archive.reader().context(ref)))
        post(Planned(epoch, actions.plan(action, _telling(post, epoch), cancel)))


def cut(post: Post, context: Context, first: int, last: int, epoch: int) -> None:
    """Works out what a range takes."""
    with _Reporting(post, epoch):
        try:
            post(RangeCut(epoch, plan_cut(context, first, last), ""))
        except Misused as error:
            post(RangeCut(epoch, None, str(error)))


def compact(post: Post, archive: Archive, action: Compact, seen: CompactionPlan, epoch: int, cancel: Cancel) -> None:
    """Carries a compaction out that does what was seen. One that would do anything else by now is planned only."""
    with _Reporting(post, epoch):
        actions, progress = actions_for(archive, Capability.COMPACT), _telling(post, epoch)
        try:
            planned = actions.plan(action, progress, cancel)
        except Misused as error:
            post(Overtaken(epoch, archive.reader().context(action.ref), str(error)))
            return
        if planned.compaction is None or not planned.compaction.as_seen_in(seen):
            post(Planned(epoch, planned))
            return
        if cancel():
            raise Cancelled("stopped before anything was changed.")
        post(Applied(epoch, planned, actions.apply(planned, progress, cancel, offline=bool(planned.offline))))


def note(post: Post, archive: Archive, ref: Ref, cut: Cut, command: str, epoch: int, cancel: Cancel) -> None:
    """Has the user's command write a note of what leaves."""
    with _Reporting(post, epoch):
        pieces = excerpt(archive.reader(), ref, cut)
        post(Noted(epoch, summarize(command, pieces, _telling(post, epoch), cancel)))


def _telling(post: Post, epoch: int) -> Progress:
    """Progress as messages, not more often than anybody can see."""
    due = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + TELL_EVERY_S
            post(Progressed(epoch, what, done, total))

    return tell


class _Reporting:
    """Turns what a worker raises into a message."""

    def __init__(self, post: Post, epoch: int) -> None:
        self._post, self._epoch = post, epoch

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None:
            return True
        if not isinstance(error, Exception):
            return False
        if isinstance(error, Cancelled):
            text = ""
        elif isinstance(error, (StoreError, OSError, NoteError)):
            text = str(error)
        else:
            text = f"Unexpected error: {error!r}. Look again before you repeat it."
        self._post(GivenUp(self._epoch, text))
        return True
