"""Compacting a range by hand, undoing a compaction, and noticing when an agent overwrites one."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from sessionscope.store import Certainty, Compact, Compaction, Plan, Ref, Uncompact, View
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.workers import action_workers, read_workers

from .action_runner import ActionRunner, Answered
from .navigation import Navigation
from .opening import Opening

Owner = tuple[int, Ref]
"""A session, with the index of its archive."""


class AppliedCompaction(Struct, frozen=True):
    """A compaction that was made on this screen."""

    action: Compact
    number: int
    """Its number among the compactions of the session."""
    applied_at: float
    """When it was made, in seconds of the monotonic clock. A read that began before may not include it."""
    seen: bool = False
    """Whether a read has shown it."""

    def is_still(self, compaction: Compaction | None) -> bool:
        """Return whether the compaction that has its number now is this one, and in force.

        An agent that overwrote it may have given the number to another one.
        """
        return compaction is not None and not compaction.undone and compaction.note in (None, self.action.note)


class CompactionActions:
    """Compacts and undoes compactions. One that an agent overwrote is offered again."""

    def __init__(
        self,
        host: Host,
        panes: Panes,
        opening: Opening,
        navigation: Navigation,
        runner: ActionRunner,
        summarizer: str | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`summarizer` is the user's command that writes notes."""
        self._host, self._panes, self._opening, self._navigation = host, panes, opening, navigation
        self._runner, self._summarizer, self._now = runner, summarizer, now
        self._drafts: dict[Owner, str] = {}
        """Notes that were typed and not used."""
        self._applied: dict[Owner, list[AppliedCompaction]] = {}
        """Compactions that were made here and are in force, the oldest first."""
        self._overwritten: dict[Owner, tuple[int, int]] = {}
        """The range of the last one that was overwritten since."""
        runner.handle(Compact, self._confirm_compact, self._compacted)
        runner.handle(Uncompact, self._confirm_undo, self._undone)

    # -- compacting

    def compact(self) -> None:
        """Plan to compact the marked messages, else the range that was overwritten, else what is proposed."""
        session = self._opening.current
        if session is None or not self._host.is_active:
            return
        archive, ref, post = session.opened_archive.archive, session.ref, self._host.post_message
        marked = self._panes.timeline.span
        # A range that is no longer possible is offered once, and after that the proposal.
        span = marked or self._overwritten.pop((session.opened_archive.index, ref), None)
        if span is None:
            self._runner.start(
                session.opened_archive,
                lambda epoch: action_workers.propose(post, archive, ref, epoch, read_workers.stopped),
            )
            return
        in_file_order = marked is not None and session.view is not View.CONTEXT
        self._runner.start(
            session.opened_archive,
            lambda epoch: action_workers.plan_range(
                post, archive, ref, span, in_file_order, epoch, read_workers.stopped
            ),
        )

    def _confirm_compact(self, opened_archive: OpenedArchive, plan: Plan, answered: Answered) -> None:
        """Show the dialog, which applies the compaction by itself, unless the user has opened another session."""
        from sessionscope.tui.dialogs.compact import CompactDialog

        session, action = self._opening.current, plan.action
        if not isinstance(action, Compact) or session is None:
            return
        if session.opened_archive is not opened_archive or session.ref != action.ref:
            return
        owner = opened_archive.index, action.ref
        dialog = CompactDialog(
            opened_archive.archive, plan, self._opening.title, self._drafts.get(owner), self._summarizer
        )

        def closed(event: action_workers.Applied | None) -> None:
            self._drafts.pop(owner, None)
            if dialog.unused is not None:
                self._drafts[owner] = dialog.unused
            if event is not None:
                self._runner.applied_in(opened_archive, event)

        self._host.push(dialog, closed)

    def _compacted(self, opened_archive: OpenedArchive, event: action_workers.Applied) -> None:
        action, undo = event.plan.action, event.receipt.undo
        if isinstance(action, Compact) and isinstance(undo, Uncompact):
            owner = opened_archive.index, action.ref
            self._overwritten.pop(owner, None)
            applied = AppliedCompaction(action, undo.number, self._now())
            self._applied.setdefault(owner, []).append(applied)
            self._panes.timeline.unmark()

    # -- undoing

    def undo_compaction(self) -> None:
        """Plan to undo the compaction under the cursor."""
        session, compaction = self._opening.current, self._panes.compactions.compaction
        if session is None or compaction is None:
            self._host.notices.say("no compaction is under the cursor", seconds=3)
        elif compaction.undone:
            self._host.notices.say(f"compaction {compaction.number} was taken back already", seconds=3)
        else:
            self._runner.plan(session.opened_archive, Uncompact(session.ref, compaction.number))

    def _confirm_undo(self, _: OpenedArchive, plan: Plan, answered: Answered) -> None:
        from sessionscope.tui.dialogs.plan import PlanDialog

        if isinstance(plan.action, Uncompact):
            self._host.push(PlanDialog(plan, f"Take compaction {plan.action.number} back"), answered)

    def _undone(self, opened_archive: OpenedArchive, event: action_workers.Applied) -> None:
        action = event.plan.action
        if isinstance(action, Uncompact):
            owner = opened_archive.index, action.ref
            self._overwritten.pop(owner, None)
            in_force = [applied for applied in self._applied.get(owner, []) if applied.number != action.number]
            self._applied[owner] = in_force

    # -- overwritten by an agent

    def check_applied(self, began: float) -> None:
        """Say which compactions made here an agent has overwritten, by a read of the session that `began` then."""
        session = self._opening.current
        if session is None or session.audit is None:
            return
        owner = session.opened_archive.index, session.ref
        by_number = {compaction.number: compaction for compaction in session.audit.compactions}
        in_force: list[AppliedCompaction] = []
        overwritten: list[AppliedCompaction] = []
        for applied in self._applied.pop(owner, []):
            compaction = by_number.get(applied.number)
            if applied.is_still(compaction):
                if not applied.seen:
                    self._panes.compactions.select(applied.number)
                in_force.append(replace(applied, seen=True))
            elif began <= applied.applied_at:
                in_force.append(applied)
            else:
                session.opened_archive.forget_undo(Uncompact(applied.action.ref, applied.number))
                undone_by_user = compaction is not None and compaction.undone and not compaction.anomalies
                if not undone_by_user:
                    overwritten.append(applied)
        if in_force:
            self._applied[owner] = in_force
        if overwritten:
            self._offer_again(owner, overwritten[-1].action)

    def _offer_again(self, owner: Owner, action: Compact) -> None:
        """Keep the range and the note of an overwritten compaction for the next dialog."""
        draft = self._drafts.get(owner, "")
        self._drafts[owner] = action.note if draft in ("", action.note) else f"{action.note}\n\n{draft}"
        if action.first is not None and action.last is not None:
            self._overwritten[owner] = action.first, action.last
        self._host.notices.say(
            f"an agent wrote over your compaction of {action.first} to {action.last} · c applies it again",
            level="warning",
            seconds=10,
        )

    # -- the use of the context

    async def open_context_usage(self) -> None:
        """Show how the context is used, and go to the message that is chosen there."""
        session = self._opening.current
        if session is None or not self._host.is_active:
            return
        from sessionscope.tui.screens.context_usage import ContextUsageScreen

        def closed(seq: int | None) -> None:
            if seq is not None:
                # The screen gets its focus back first.
                self._host.after_refresh(lambda: self._navigation.go_to_seq(seq, "", Certainty.RECORDED))

        screen = ContextUsageScreen(session.opened_archive.archive, session.ref, self._opening.title)
        await self._host.push(screen, closed)
