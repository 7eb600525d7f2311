"""What runs beside the screen when something is looked for, planned, or put right; each result is a posted message."""

from __future__ import annotations

import time
from dataclasses import dataclass

from textual.message import Message

from store import (
    Action,
    Actions,
    Archive,
    Cancel,
    Cancelled,
    Finding,
    Misused,
    Plan,
    Progress,
    Receipt,
    Ref,
    Refused,
    StoreError,
)

from .study import Post

TELL_EVERY_S = 0.1


@dataclass(eq=False, repr=False)
class Progressed(Message):
    """How far some work is."""

    epoch: int
    what: str
    done: int
    total: int


@dataclass(eq=False, repr=False)
class FoundSome(Message):
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


def look(post: Post, archive: Archive, ref: Ref | None, epoch: int, cancel: Cancel) -> None:
    """Looks for what is wrong with an archive, or one session of it."""
    with _Reporting(post, epoch):
        some: list[Finding] = []
        due = time.monotonic() + TELL_EVERY_S
        for finding in archive.reader().findings(ref, _telling(post, epoch), cancel):
            some.append(finding)
            if time.monotonic() >= due:
                post(FoundSome(epoch, some, False))
                some, due = [], time.monotonic() + TELL_EVERY_S
        post(FoundSome(epoch, some, True))


def plan(post: Post, archive: Archive, action: Action, epoch: int, cancel: Cancel) -> None:
    """Plans an action; nothing is changed."""
    with _Reporting(post, epoch):
        post(Planned(epoch, _actions(archive).plan(action, _telling(post, epoch), cancel)))


def apply(post: Post, archive: Archive, planned: Plan, epoch: int, cancel: Cancel) -> None:
    """Carries a plan out that somebody has seen and confirmed, also that no agent is running where that matters."""
    with _Reporting(post, epoch):
        actions = _actions(archive)
        post(Applied(epoch, planned, actions.apply(planned, _telling(post, epoch), cancel, offline=planned.offline)))


def undo(post: Post, archive: Archive, action: Action, epoch: int, cancel: Cancel) -> None:
    """Takes something back."""
    with _Reporting(post, epoch):
        actions, progress = _actions(archive), _telling(post, epoch)
        planned = actions.plan(action, progress, cancel)
        if planned.empty:
            raise Misused("nothing is left to be taken back.")
        post(Applied(epoch, planned, actions.apply(planned, progress, cancel, offline=planned.offline)))


def _actions(archive: Archive) -> Actions:
    actions = archive.actions
    if actions is None:
        raise Refused(f"{archive.info.location}: cannot be written; check the permissions of it and of its folder.")
    return actions


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
        elif isinstance(error, (StoreError, OSError)):
            text = str(error)
        else:
            text = f"something unforeseen went wrong, and nothing was changed: {error!r}"
        self._post(GivenUp(self._epoch, text))
        return True
