"""What the browser does about damage: the doctor's screen, settling a session, and taking back what was done."""

from __future__ import annotations

from collections.abc import Callable

from textual import on

from sessionscope.store import Action, Plan, SetArchived, Settle, Spot
from sessionscope.tui.sessions.library import Shelf
from sessionscope.tui.text import render
from sessionscope.tui.workers import care, study

from .travel import Travel
from .verbs import NEEDS, ON_LISTS

LOOK_AROUND = 2_000
"""Rows at most that are gone through for a line that has no seq."""


class Healing(Travel):
    """The part of the browser that changes archives. Nothing is done that was not asked for and seen before."""

    _care_epoch = 0
    _care_shelf: Shelf | None = None

    @property
    def shelf(self) -> Shelf:
        """The archive that is looked at."""
        node = self.tree_pane.node
        if self.opened is not None:
            return self.opened.shelf
        return self.library.shelf(node) if node is not None else self.library.shelves[0]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what no archive offers that the action could be about."""
        needed = NEEDS.get(action)
        return needed is None or any(needed in shelf.capabilities for shelf in self._shelves_for(action))

    def _shelves_for(self, action: str) -> list[Shelf]:
        """The archives that an action could be about: of marked sessions, under the cursor, or the open one."""
        if not self.furnished:
            return [self.opened.shelf] if self.opened is not None else list(self.library.shelves)
        if action not in ON_LISTS:
            return [self.shelf]
        nodes = [node for key in self.library.marked if (node := self.library.node(key)) is not None]
        nodes += [node for node in (self.tree_pane.node, self.list_pane.node) if node is not None]
        return [self.shelf, *map(self.library.shelf, nodes)]

    # -- the doctor

    async def action_doctor(self) -> None:
        if not self.is_active:
            return
        from sessionscope.tui.screens.doctor import Doctor

        shelf, opened = self.shelf, self.opened

        def left(place: Spot | None) -> None:
            self.tree_pane.refresh()
            if place is not None:
                # The screen gets its focus back first.
                self.call_after_refresh(self._to_place, shelf, place)

        await self.app.push_screen(Doctor(self.library, shelf, opened.ref if opened is not None else None), left)

    def _to_place(self, shelf: Shelf, place: Spot) -> None:
        """Goes to where something was found."""
        if place.session is None:
            return
        self.remember()
        self.travel(shelf, place.session, place.seq)
        if place.seq is None and (place.line is not None or place.row is not None):
            self._to_row_without_seq(place)

    def _to_row_without_seq(self, place: Spot) -> None:
        """Goes to a row by its identity or its line: nearly every row is one line."""
        rows = self.timeline.rows
        if rows is None or not self.timeline.count:
            return
        start = max(0, min(place.line or 0, self.timeline.count) - LOOK_AROUND // 2)
        for at, row in enumerate(rows.window(start, min(start + LOOK_AROUND, self.timeline.count)), start):
            beyond = row.line is not None and place.line is not None and row.line >= place.line
            if beyond or (row.row is not None and row.row == place.row):
                self.timeline.cursor = at
                return

    # -- settling

    def action_settle(self) -> None:
        opened = self.opened
        if opened is not None:
            self.plan_here(opened.shelf, Settle(opened.ref))

    def plan_here(self, shelf: Shelf, action: Action) -> None:
        """Plans an action beside the screen; the plan is shown, or done where that is taken back with one key."""
        self.care_for(shelf, lambda epoch: care.plan(self.post_message, shelf.archive, action, epoch, study.stopped))

    def care_for(self, shelf: Shelf, work: Callable[[int], None]) -> None:
        """Runs some care for an archive in a worker, which is given its epoch."""
        self._care_shelf = shelf
        self._care_epoch += 1
        epoch = self._care_epoch
        self.run_worker(lambda: work(epoch), thread=True, group="care", exclusive=True, exit_on_error=False)

    @on(care.Planned)
    def _planned(self, event: care.Planned) -> None:
        shelf = self._care_shelf
        if event.epoch != self._care_epoch or shelf is None:
            return
        if event.plan.empty:
            self.notify(render.one_line(" ".join(event.plan.reasons)), timeout=3, markup=False)
            return

        def answered(take: bool | None) -> None:
            if take and event.epoch == self._care_epoch:
                self.run_worker(
                    lambda: care.apply(self.post_message, shelf.archive, event.plan, event.epoch, study.stopped),
                    thread=True,
                    group="care",
                    exclusive=True,
                    exit_on_error=False,
                )

        self.confirm(shelf, event.plan, answered)

    def confirm(self, shelf: Shelf, plan: Plan, answered: Callable[[bool | None], None]) -> None:
        """Shows a plan and gives the answer to it."""
        if isinstance(plan.action, SetArchived):
            answered(True)
            return
        from sessionscope.tui.dialogs.plan import PlanDialog

        self.app.push_screen(PlanDialog(plan, "Settle what a crash left open"), answered)

    @on(care.Applied)
    def applied(self, event: care.Applied) -> None:
        """Shows at once what was carried out."""
        shelf = self._care_shelf
        if shelf is not None:
            shelf.done(event.plan.action, event.receipt)
        more = " · u takes it back" if shelf and shelf.undos and shelf.undos[-1] == event.receipt.undo else ""
        for note in event.receipt.notes:
            self.notify(render.one_line(note), severity="warning", markup=False)
        self.done(event)
        self.notify(f"{render.one_line(event.receipt.said)}{more}", markup=False)
        # What was written here shows at once, not at the next look.
        self.look()

    def done(self, event: care.Applied) -> None:
        """Does what the screen needs once something was carried out."""

    @on(care.GivenUp)
    def _given_up(self, event: care.GivenUp) -> None:
        if event.epoch == self._care_epoch and event.text:
            self.failed(event.text)

    @on(care.Progressed)
    def _progressed(self, event: care.Progressed) -> None:
        """What takes that long is told by the doctor; here it is a moment."""

    # -- undo

    def action_undo(self) -> None:
        shelf = self.shelf
        if not shelf.undos:
            self.notify("nothing was done here that could be taken back", timeout=3)
            return
        action = shelf.undos[-1]
        self.care_for(shelf, lambda epoch: care.undo(self.post_message, shelf.archive, action, epoch, study.stopped))
