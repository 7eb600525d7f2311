"""Planning, confirming, applying and undoing actions on an archive."""

from __future__ import annotations

from collections.abc import Callable

from sessionscope.store import Action, Plan
from sessionscope.tui.browser.host import Host
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.text.fitting import one_line
from sessionscope.tui.workers import action_workers, read_workers
from sessionscope.tui.workers.action_workers import Applied, GivenUp, Planned

from .opening import Opening

Answered = Callable[[bool | None], None]
"""Takes the answer of the user: True applies the plan."""
Confirm = Callable[[OpenedArchive, Plan, Answered], None]
"""Shows a plan to the user and passes the answer on."""
Done = Callable[[OpenedArchive, Applied], None]
"""Does what the screen needs after an action of some type."""


class ActionRunner:
    """Runs one action at a time in a worker. Only a plan that the user has seen and confirmed is applied."""

    def __init__(self, host: Host, opening: Opening) -> None:
        self._host, self._opening = host, opening
        self._confirms: dict[type[Action], Confirm] = {}
        self._dones: dict[type[Action], Done] = {}
        self._epoch = 0
        self._archives: dict[int, OpenedArchive] = {}
        """The archive of each action that has not answered yet, by epoch."""

    def handle(self, action_type: type[Action], confirm: Confirm, done: Done | None = None) -> None:
        """Set how actions of a type are confirmed, and what follows when one was done."""
        self._confirms[action_type] = confirm
        if done is not None:
            self._dones[action_type] = done

    # -- beginning

    def plan(self, opened_archive: OpenedArchive, action: Action) -> None:
        """Plan an action; then its plan is confirmed and applied."""
        archive, post = opened_archive.archive, self._host.post_message
        self.start(
            opened_archive, lambda epoch: action_workers.plan(post, archive, action, epoch, read_workers.stopped)
        )

    def start(self, opened_archive: OpenedArchive, work: Callable[[int], None]) -> None:
        """Run a function that plans or undoes, with a new epoch. It takes the place of one that still runs."""
        self._epoch += 1
        epoch = self._epoch
        self._archives[epoch] = opened_archive
        self._host.start_worker("action", lambda: work(epoch))

    def undo(self) -> None:
        """Undo what was done last in the archive that the user looks at."""
        opened_archive = self._opening.archive
        if not opened_archive.undos:
            self._host.notices.say("nothing was done here that could be taken back", seconds=3)
            return
        archive, action, post = opened_archive.archive, opened_archive.undos[-1], self._host.post_message
        self.start(
            opened_archive, lambda epoch: action_workers.undo(post, archive, action, epoch, read_workers.stopped)
        )

    # -- answers of the worker

    def planned(self, event: Planned) -> None:
        """Show a plan to the user, and apply it if it is confirmed."""
        opened_archive = self._archives.get(event.epoch)
        if event.epoch != self._epoch or opened_archive is None:
            self._archives.pop(event.epoch, None)
            return
        if event.plan.empty:
            self._host.notices.say(" ".join(event.plan.reasons), seconds=3)
            return

        def answered(confirmed: bool | None) -> None:
            if confirmed and event.epoch == self._epoch:
                self._apply(opened_archive, event)

        self._confirms[type(event.plan.action)](opened_archive, event.plan, answered)

    def _apply(self, opened_archive: OpenedArchive, event: Planned) -> None:
        archive, plan, post = opened_archive.archive, event.plan, self._host.post_message
        self._host.start_worker(
            "action", lambda: action_workers.apply(post, archive, plan, event.epoch, read_workers.stopped)
        )

    def applied(self, event: Applied) -> None:
        """Show what was done. It counts even if another action was begun meanwhile."""
        opened_archive = self._archives.pop(event.epoch, None)
        if opened_archive is not None:
            self.applied_in(opened_archive, event)

    def applied_in(self, opened_archive: OpenedArchive, event: Applied) -> None:
        """Show what was done in an archive, by a worker of this controller or of a dialog."""
        receipt, notices = event.receipt, self._host.notices
        opened_archive.done(event.plan.action, receipt)
        for note in receipt.notes:
            notices.say(note, level="warning")
        done = self._dones.get(type(event.plan.action))
        if done is not None:
            done(opened_archive, event)
        undoable = receipt.undo is not None and opened_archive.undos[-1:] == [receipt.undo]
        notices.say(f"{one_line(receipt.said)}{' · u takes it back' if undoable else ''}")
        self._host.action_done(event)

    def given_up(self, event: GivenUp) -> None:
        """Say why an action failed, unless the user stopped it or began another one."""
        self._archives.pop(event.epoch, None)
        if event.epoch == self._epoch and event.text:
            self._host.notices.failed(event.text)
