"""What the browser does about compactions: folding a range by hand, taking a fold back, and watching that it stands."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace
from textual.geometry import Size

from store import Certainty, Compact, Plan, Ref, Uncompact, View

from .. import care, render
from ..library import Library, Shelf
from .closing import Closing
from .healing import stopped

Owner = tuple[int, Ref]


class Made(Struct, frozen=True):
    """A compaction that was made here, by its number in the audit.

    `seen` says that the audit has shown it; one that was begun before, in the same `epoch`, cannot.
    """

    action: Compact
    number: int
    epoch: int
    seen: bool = False


class Folding(Closing):
    """The part of the browser that compacts. What was made here is made again with one key where it is written over."""

    def __init__(self, library: Library, size: Size) -> None:
        super().__init__(library, size)
        self.summarizer: str | None = None
        """The user's command that writes notes."""
        self._drafts: dict[Owner, str] = {}
        """Notes that were typed and not used."""
        self._made: dict[Owner, Made] = {}
        self._lost: dict[Owner, Compact] = {}
        """Compactions that were made here and written over since."""

    # -- folding

    def action_compact(self) -> None:
        """Opens the dialog for the marked rows, for a compaction that was written over, or for what is proposed."""
        opened = self.opened
        if opened is None or not self.is_current:
            return
        archive, ref = opened.shelf.archive, opened.ref
        lost, span = self._lost.get((opened.shelf.index, ref)), self.timeline.span
        stored = opened.view is not View.CONTEXT
        if span is None and lost is not None and lost.first is not None and lost.last is not None:
            span, stored = (lost.first, lost.last), False
            self._drafts[opened.shelf.index, ref] = lost.note
        if span is None:
            self.care_for(opened.shelf, lambda epoch: care.propose(self.post_message, archive, ref, epoch, stopped))
        else:
            wanted = span
            self.care_for(opened.shelf, lambda epoch: care.plan_range(
                self.post_message, archive, ref, wanted, stored, epoch, stopped))

    def confirm(self, shelf: Shelf, plan: Plan, answered: Callable[[bool | None], None]) -> None:
        if isinstance(plan.action, Uncompact):
            from .sheet import PlanSheet

            self.app.push_screen(PlanSheet(plan, f"Take compaction {plan.action.number} back"), answered)
        elif isinstance(plan.action, Compact):
            self._ask_for_note(shelf, plan, plan.action)
        else:
            super().confirm(shelf, plan, answered)

    def _ask_for_note(self, shelf: Shelf, plan: Plan, action: Compact) -> None:
        from .fold_sheet import FoldSheet

        owner = shelf.index, action.ref
        sheet = FoldSheet(shelf.archive, plan, self._title(action.ref), self._drafts.get(owner), self.summarizer)

        def left(event: care.Applied | None) -> None:
            if event is None:
                self._drafts[owner] = sheet.draft
                return
            self._drafts.pop(owner, None)
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
        if isinstance(action, Compact) and isinstance(undo, Uncompact):
            self._made[owner] = Made(action, undo.number, self.opened.epoch if self.opened is not None else 0)
            self.timeline.unmark()
        elif isinstance(action, Uncompact) and owner in self._made and self._made[owner].number == action.number:
            del self._made[owner]

    # -- what fills the context

    async def action_weigh(self) -> None:
        """Shows what the context is filled with, and goes to the row that is chosen there."""
        opened = self.opened
        if opened is None or not self.is_current:
            return
        from .gauge import Gauge

        def left(seq: int | None) -> None:
            if seq is not None:
                # The screen gets its focus back first.
                self.call_after_refresh(self._to_row, seq, "", Certainty.RECORDED)

        await self.app.push_screen(Gauge(opened.shelf.archive, opened.ref, self._title(opened.ref)), left)

    def _title(self, ref: Ref) -> str:
        """What the opened session is called."""
        node = self.opened.node if self.opened is not None else None
        summary = self.library.summary(node) if node is not None else None
        return render.title_of(summary) if summary is not None else render.one_line(ref.id)

    # -- taking back

    def action_uncompact(self) -> None:
        """Plans to take the compaction under the cursor of the audit back."""
        opened, fold = self.opened, self.audit_pane.fold
        if opened is None or fold is None:
            self.notify("no compaction is under the cursor", timeout=3)
        elif fold.undone:
            self.notify(f"compaction {fold.number} was taken back already", timeout=3)
        else:
            self.plan_here(opened.shelf, Uncompact(opened.ref, fold.number))

    # -- standing

    def audited(self) -> None:
        """Says where a compaction that was made here does not stand any more."""
        opened = self.opened
        owner = (opened.shelf.index, opened.ref) if opened is not None else None
        made = self._made.get(owner) if owner is not None else None
        if opened is None or owner is None or made is None or opened.audit is None:
            return
        found = next((fold for fold in opened.audit.compactions if fold.number == made.number), None)
        if found is not None and not found.undone:
            if not made.seen:
                self._made[owner] = replace(made, seen=True)
                self.audit_pane.select(made.number)
        elif made.seen or opened.epoch != made.epoch:
            del self._made[owner]
            undo = Uncompact(made.action.ref, made.number)
            opened.shelf.undos = [action for action in opened.shelf.undos if action != undo]
            if found is None or found.odd:
                self._lost[owner] = made.action
                self.notify(f"an agent wrote over your compaction of {made.action.first} to {made.action.last} · "
                            "c applies it again", severity="warning", timeout=10, markup=False)
