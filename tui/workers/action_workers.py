"""Background work of the doctor and of actions. Each function is the body of one worker and posts its results."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
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

from .reporting import Post, reporting

REPORT_EVERY_S = 0.1
"""Seconds between two messages about progress: more often nobody could read them."""


class Job(Struct, frozen=True):
    """A worker of the compaction dialog. One that `writes` is waited for, since it may have written already."""

    epoch: int
    writes: bool
    stop: threading.Event


@dataclass(eq=False, repr=False)
class Progressed(Message):
    """The progress of a worker."""

    epoch: int
    what: str
    done: int
    total: int


@dataclass(eq=False, repr=False)
class FindingsRead(Message):
    """More findings of the doctor. `complete` says that these are the last."""

    epoch: int
    findings: list[Finding]
    complete: bool


@dataclass(eq=False, repr=False)
class Planned(Message):
    """The plan of an action."""

    epoch: int
    plan: Plan


@dataclass(eq=False, repr=False)
class Applied(Message):
    """A plan that was carried out."""

    epoch: int
    plan: Plan
    receipt: Receipt


@dataclass(eq=False, repr=False)
class GivenUp(Message):
    """An action failed. `text` says why in one sentence; it is empty if the user stopped it."""

    epoch: int
    text: str


@dataclass(eq=False, repr=False)
class RangeCut(Message):
    """The messages that a range compacts, or None and in `text` the reason why it compacts none."""

    epoch: int
    cut: Cut | None
    text: str


@dataclass(eq=False, repr=False)
class Overtaken(Message):
    """A compaction that cannot be done. `text` says why; mostly the context has changed to this one."""

    epoch: int
    context: Context
    text: str


@dataclass(eq=False, repr=False)
class Noted(Message):
    """A note that the user's command wrote."""

    epoch: int
    note: str


def look(post: Post, archive: Archive, ref: Ref | None, epoch: int, cancel: Cancel) -> None:
    """Read the findings of the doctor for an archive, or for one session of it."""
    with _reporting(post, epoch):
        batch: list[Finding] = []
        due = time.monotonic() + REPORT_EVERY_S
        complete = False
        try:
            for finding in archive.reader().findings(ref, _progress(post, epoch), cancel):
                batch.append(finding)
                if time.monotonic() >= due:
                    post(FindingsRead(epoch, batch, False))
                    batch, due = [], time.monotonic() + REPORT_EVERY_S
            complete = True
        finally:
            # Findings that were read before something failed are shown too.
            post(FindingsRead(epoch, batch, complete))


def plan(post: Post, archive: Archive, action: Action, epoch: int, cancel: Cancel) -> None:
    """Plan an action. Nothing is changed."""
    with _reporting(post, epoch):
        post(Planned(epoch, actions_for(archive, needed(action)).plan(action, _progress(post, epoch), cancel)))


def apply(post: Post, archive: Archive, planned: Plan, epoch: int, cancel: Cancel) -> None:
    """Carry out a confirmed plan. If it names a reason in `offline`, the user confirmed that no agent is running."""
    with _reporting(post, epoch):
        actions = actions_for(archive, needed(planned.action))
        receipt = actions.apply(planned, _progress(post, epoch), cancel, offline=bool(planned.offline))
        post(Applied(epoch, planned, receipt))


def undo(post: Post, archive: Archive, action: Action, epoch: int, cancel: Cancel) -> None:
    """Undo an action: plan and carry out the action that reverses it."""
    with _reporting(post, epoch):
        actions, progress = actions_for(archive, needed(action)), _progress(post, epoch)
        planned = actions.plan(action, progress, cancel)
        if planned.empty:
            raise Misused("nothing is left to be taken back.")
        post(Applied(epoch, planned, actions.apply(planned, progress, cancel, offline=bool(planned.offline))))


def plan_range(
    post: Post, archive: Archive, ref: Ref, span: tuple[int, int], stored: bool, epoch: int, cancel: Cancel
) -> None:
    """Plan a compaction from one seq to another, in the order of the file (`stored`) or of the context."""
    with _reporting(post, epoch):
        actions = actions_for(archive, Capability.COMPACT)
        first, last = stored_range(archive.reader().context(ref), *span) if stored else span
        post(Planned(epoch, actions.plan(Compact(ref, first, last, ""), _progress(post, epoch), cancel)))


def propose(post: Post, archive: Archive, ref: Ref, epoch: int, cancel: Cancel) -> None:
    """Plan a compaction that keeps the newest exchanges, fewer of them if the session is short."""
    with _reporting(post, epoch):
        actions = actions_for(archive, Capability.COMPACT)
        action = Compact(ref, None, None, "", usual_exchanges(archive.reader().context(ref)))
        post(Planned(epoch, actions.plan(action, _progress(post, epoch), cancel)))


def cut(post: Post, context: Context, first: int, last: int, epoch: int) -> None:
    """Find out which messages a range compacts."""
    with _reporting(post, epoch):
        try:
            post(RangeCut(epoch, plan_cut(context, first, last), ""))
        except Misused as error:
            post(RangeCut(epoch, None, str(error)))


def compact(post: Post, archive: Archive, action: Compact, seen: CompactionPlan, epoch: int, cancel: Cancel) -> None:
    """Compact if that does exactly what the user has seen in `seen`. Otherwise only plan it anew."""
    with _reporting(post, epoch):
        actions, progress = actions_for(archive, Capability.COMPACT), _progress(post, epoch)
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
    """Let the user's command write a note about the messages that are compacted."""
    with _reporting(post, epoch):
        pieces = excerpt(archive.reader(), ref, cut)
        post(Noted(epoch, summarize(command, pieces, _progress(post, epoch), cancel)))


def _progress(post: Post, epoch: int) -> Progress:
    """Return a progress function that posts a message at most every `REPORT_EVERY_S` seconds."""
    due = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + REPORT_EVERY_S
            post(Progressed(epoch, what, done, total))

    return tell


def _reporting(post: Post, epoch: int) -> AbstractContextManager[None]:
    """Post `GivenUp` for what is raised inside, without a text if the user stopped it."""

    def message_for(error: Exception) -> GivenUp:
        if isinstance(error, Cancelled):
            return GivenUp(epoch, "")
        if isinstance(error, (StoreError, OSError, NoteError)):
            return GivenUp(epoch, str(error))
        return GivenUp(epoch, f"Unexpected error: {error!r}. Look again before you repeat it.")

    return reporting(post, message_for)
