"""What the browser does about compactions: folding a range by hand, taking a fold back, and watching that it stands."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace
from textual.geometry import Size

from sessionscope.store import Certainty, Compact, Compaction, Plan, Ref, Uncompact, View
from sessionscope.tui.sessions.session_catalog import OpenedArchive, SessionCatalog
from sessionscope.tui.text import render
from sessionscope.tui.workers import action_workers, read_workers

from .closing import Closing

Owner = tuple[int, Ref]


class AppliedCompaction(Struct, frozen=True):
    """A compaction that was made here, by its number in the audit; `seen` says that this has shown it.

    `at` is when that was, in seconds of the monotonic clock: an audit that was begun before cannot tell of it.
    """

    action: Compact
    number: int
    at: float
    seen: bool = False

    def stands(self, compaction: Compaction | None) -> bool:
        """Whether this is it: an agent that wrote over it may have given its number to another one."""
        return compaction is not None and not compaction.undone and compaction.note in (None, self.action.note)


class Compacting(Closing):
    """The part of the browser that compacts. What was made here is made again with one key where it is written over."""

    def __init__(self, catalog: SessionCatalog, size: Size) -> None:
        super().__init__(catalog, size)
        self.summarizer: str | None = None
        """The user's command that writes notes."""
        self._drafts: dict[Owner, str] = {}
        """Notes that were typed and not used."""
        self._applied: dict[Owner, list[AppliedCompaction]] = {}
        """Compactions that were made here and stand, the oldest first."""
        self._lost: dict[Owner, tuple[int, int]] = {}
        """The range of one that was written over since."""

    # -- folding

    def action_compact(self) -> None:
        """Opens the dialog for the marked rows, for a compaction that was written over, or for what is proposed."""
        current_session = self.current_session
        if current_session is None or not self.is_active:
            return
        archive, ref = current_session.opened_archive.archive, current_session.ref
        span, stored = self.timeline.span, current_session.view is not View.CONTEXT
        if span is None:
            # What is not possible any more is offered once, and what is proposed after that.
            span, stored = self._lost.pop((current_session.opened_archive.index, ref), None), False
        if span is None:
            self.start_action(
                current_session.opened_archive,
                lambda epoch: action_workers.propose(self.post_message, archive, ref, epoch, read_workers.stopped),
            )
        else:
            wanted = span
            self.start_action(
                current_session.opened_archive,
                lambda epoch: action_workers.plan_range(
                    self.post_message, archive, ref, wanted, stored, epoch, read_workers.stopped
                ),
            )

    def confirm(self, opened_archive: OpenedArchive, plan: Plan, answered: Callable[[bool | None], None]) -> None:
        if isinstance(plan.action, Uncompact):
            from sessionscope.tui.dialogs.plan import PlanDialog

            self.app.push_screen(PlanDialog(plan, f"Take compaction {plan.action.number} back"), answered)
        elif isinstance(plan.action, Compact):
            # Somebody who has opened another session meanwhile is not asked about this one.
            if self.current_session is not None and (self.current_session.opened_archive, self.current_session.ref) == (
                opened_archive,
                plan.action.ref,
            ):
                self._ask_for_note(opened_archive, plan, (opened_archive.index, plan.action.ref))
        else:
            super().confirm(opened_archive, plan, answered)

    def _ask_for_note(self, opened_archive: OpenedArchive, plan: Plan, owner: Owner) -> None:
        from sessionscope.tui.dialogs.compact import CompactDialog

        dialog = CompactDialog(
            opened_archive.archive, plan, self._title(owner[1]), self._drafts.get(owner), self.summarizer
        )

        def left(event: action_workers.Applied | None) -> None:
            self._drafts.pop(owner, None)
            if dialog.unused is not None:
                self._drafts[owner] = dialog.unused
            if event is not None:
                self._acted_on = opened_archive
                self.applied(event)

        self.app.push_screen(dialog, left)

    def done(self, event: action_workers.Applied) -> None:
        super().done(event)
        opened_archive, action = self._acted_on, event.plan.action
        if opened_archive is None or not isinstance(action, (Compact, Uncompact)):
            return
        owner, undo = (opened_archive.index, action.ref), event.receipt.undo
        self._lost.pop(owner, None)
        applied = self._applied.setdefault(owner, [])
        if isinstance(action, Compact) and isinstance(undo, Uncompact):
            applied.append(AppliedCompaction(action, undo.number, time.monotonic()))
            self.timeline.unmark()
        elif isinstance(action, Uncompact):
            self._applied[owner] = [one for one in applied if one.number != action.number]

    # -- what fills the context

    async def action_context_usage(self) -> None:
        """Shows what the context is filled with, and goes to the row that is chosen there."""
        current_session = self.current_session
        if current_session is None or not self.is_active:
            return
        from sessionscope.tui.screens.context_usage import ContextUsageScreen

        def left(seq: int | None) -> None:
            if seq is not None:
                # The screen gets its focus back first.
                self.call_after_refresh(self._to_row, seq, "", Certainty.RECORDED)

        await self.app.push_screen(
            ContextUsageScreen(
                current_session.opened_archive.archive, current_session.ref, self._title(current_session.ref)
            ),
            left,
        )

    def _title(self, ref: Ref) -> str:
        """What the opened session is called."""
        node = self.current_session.node if self.current_session is not None else None
        summary = self.catalog.summary(node) if node is not None else None
        return render.title_of(summary) if summary is not None else render.one_line(ref.id)

    # -- taking back

    def action_uncompact(self) -> None:
        """Plans to take the compaction under the cursor of the audit back."""
        current_session, compaction = self.current_session, self.audit_pane.compaction
        if current_session is None or compaction is None:
            self.notify("no compaction is under the cursor", timeout=3)
        elif compaction.undone:
            self.notify(f"compaction {compaction.number} was taken back already", timeout=3)
        else:
            self.plan_here(current_session.opened_archive, Uncompact(current_session.ref, compaction.number))

    # -- standing

    def audited(self, began: float) -> None:
        """Says where a compaction that was made here does not stand any more."""
        current_session = self.current_session
        if current_session is None or current_session.audit is None:
            return
        owner = current_session.opened_archive.index, current_session.ref
        found = {compaction.number: compaction for compaction in current_session.audit.compactions}
        lost: list[AppliedCompaction] = []
        for applied in self._applied.pop(owner, []):
            compaction = found.get(applied.number)
            if applied.stands(compaction):
                if not applied.seen:
                    self.audit_pane.select(applied.number)
                self._applied.setdefault(owner, []).append(replace(applied, seen=True))
            elif began <= applied.at:
                self._applied.setdefault(owner, []).append(applied)
            else:
                undo = Uncompact(applied.action.ref, applied.number)
                current_session.opened_archive.undos = [
                    action for action in current_session.opened_archive.undos if action != undo
                ]
                if compaction is None or not compaction.undone or compaction.anomalies:
                    lost.append(applied)
        if lost:
            self._offer_again(owner, lost[-1].action)

    def _offer_again(self, owner: Owner, action: Compact) -> None:
        """Keeps the range and the note of a compaction that was written over for the next dialog."""
        draft = self._drafts.get(owner, "")
        self._drafts[owner] = action.note if draft in ("", action.note) else f"{action.note}\n\n{draft}"
        if action.first is not None and action.last is not None:
            self._lost[owner] = action.first, action.last
        self.notify(
            f"an agent wrote over your compaction of {action.first} to {action.last} · c applies it again",
            severity="warning",
            timeout=10,
            markup=False,
        )
