"""What the browser does about compactions: folding a range by hand, taking a fold back, and watching that it stands."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace
from textual.geometry import Size

from sessionscope.store import Certainty, Compact, Compaction, Plan, Ref, Uncompact, View
from sessionscope.tui.sessions.library import Library, Shelf
from sessionscope.tui.text import render
from sessionscope.tui.workers import care, study

from .closing import Closing

Owner = tuple[int, Ref]


class Made(Struct, frozen=True):
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

    def __init__(self, library: Library, size: Size) -> None:
        super().__init__(library, size)
        self.summarizer: str | None = None
        """The user's command that writes notes."""
        self._drafts: dict[Owner, str] = {}
        """Notes that were typed and not used."""
        self._made: dict[Owner, list[Made]] = {}
        """Compactions that were made here and stand, the oldest first."""
        self._lost: dict[Owner, tuple[int, int]] = {}
        """The range of one that was written over since."""

    # -- folding

    def action_compact(self) -> None:
        """Opens the dialog for the marked rows, for a compaction that was written over, or for what is proposed."""
        opened = self.opened
        if opened is None or not self.is_active:
            return
        archive, ref = opened.shelf.archive, opened.ref
        span, stored = self.timeline.span, opened.view is not View.CONTEXT
        if span is None:
            # What is not possible any more is offered once, and what is proposed after that.
            span, stored = self._lost.pop((opened.shelf.index, ref), None), False
        if span is None:
            self.care_for(
                opened.shelf, lambda epoch: care.propose(self.post_message, archive, ref, epoch, study.stopped)
            )
        else:
            wanted = span
            self.care_for(
                opened.shelf,
                lambda epoch: care.plan_range(self.post_message, archive, ref, wanted, stored, epoch, study.stopped),
            )

    def confirm(self, shelf: Shelf, plan: Plan, answered: Callable[[bool | None], None]) -> None:
        if isinstance(plan.action, Uncompact):
            from sessionscope.tui.dialogs.plan import PlanDialog

            self.app.push_screen(PlanDialog(plan, f"Take compaction {plan.action.number} back"), answered)
        elif isinstance(plan.action, Compact):
            # Somebody who has opened another session meanwhile is not asked about this one.
            if self.opened is not None and (self.opened.shelf, self.opened.ref) == (shelf, plan.action.ref):
                self._ask_for_note(shelf, plan, (shelf.index, plan.action.ref))
        else:
            super().confirm(shelf, plan, answered)

    def _ask_for_note(self, shelf: Shelf, plan: Plan, owner: Owner) -> None:
        from sessionscope.tui.dialogs.compact import CompactDialog

        sheet = CompactDialog(shelf.archive, plan, self._title(owner[1]), self._drafts.get(owner), self.summarizer)

        def left(event: care.Applied | None) -> None:
            self._drafts.pop(owner, None)
            if sheet.unused is not None:
                self._drafts[owner] = sheet.unused
            if event is not None:
                self._care_shelf = shelf
                self.applied(event)

        self.app.push_screen(sheet, left)

    def done(self, event: care.Applied) -> None:
        super().done(event)
        shelf, action = self._care_shelf, event.plan.action
        if shelf is None or not isinstance(action, (Compact, Uncompact)):
            return
        owner, undo = (shelf.index, action.ref), event.receipt.undo
        self._lost.pop(owner, None)
        made = self._made.setdefault(owner, [])
        if isinstance(action, Compact) and isinstance(undo, Uncompact):
            made.append(Made(action, undo.number, time.monotonic()))
            self.timeline.unmark()
        elif isinstance(action, Uncompact):
            self._made[owner] = [one for one in made if one.number != action.number]

    # -- what fills the context

    async def action_weigh(self) -> None:
        """Shows what the context is filled with, and goes to the row that is chosen there."""
        opened = self.opened
        if opened is None or not self.is_active:
            return
        from sessionscope.tui.screens.context_usage import ContextUsageScreen

        def left(seq: int | None) -> None:
            if seq is not None:
                # The screen gets its focus back first.
                self.call_after_refresh(self._to_row, seq, "", Certainty.RECORDED)

        await self.app.push_screen(ContextUsageScreen(opened.shelf.archive, opened.ref, self._title(opened.ref)), left)

    def _title(self, ref: Ref) -> str:
        """What the opened session is called."""
        node = self.opened.node if self.opened is not None else None
        summary = self.library.summary(node) if node is not None else None
        return render.title_of(summary) if summary is not None else render.one_line(ref.id)

    # -- taking back

    def action_uncompact(self) -> None:
        """Plans to take the compaction under the cursor of the audit back."""
        opened, compaction = self.opened, self.audit_pane.compaction
        if opened is None or compaction is None:
            self.notify("no compaction is under the cursor", timeout=3)
        elif compaction.undone:
            self.notify(f"compaction {compaction.number} was taken back already", timeout=3)
        else:
            self.plan_here(opened.shelf, Uncompact(opened.ref, compaction.number))

    # -- standing

    def audited(self, began: float) -> None:
        """Says where a compaction that was made here does not stand any more."""
        opened = self.opened
        if opened is None or opened.audit is None:
            return
        owner = opened.shelf.index, opened.ref
        found = {compaction.number: compaction for compaction in opened.audit.compactions}
        lost: list[Made] = []
        for made in self._made.pop(owner, []):
            compaction = found.get(made.number)
            if made.stands(compaction):
                if not made.seen:
                    self.audit_pane.select(made.number)
                self._made.setdefault(owner, []).append(replace(made, seen=True))
            elif began <= made.at:
                self._made.setdefault(owner, []).append(made)
            else:
                undo = Uncompact(made.action.ref, made.number)
                opened.shelf.undos = [action for action in opened.shelf.undos if action != undo]
                if compaction is None or not compaction.undone or compaction.anomalies:
                    lost.append(made)
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
