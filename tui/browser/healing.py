"""What the browser does about damage: the doctor's screen, settling a session, and taking back what was done."""

from __future__ import annotations

from collections.abc import Callable

from textual import on

from sessionscope.store import Action, Plan, SetArchived, Settle, Spot
from sessionscope.tui.sessions.session_catalog import OpenedArchive
from sessionscope.tui.text import render
from sessionscope.tui.workers import action_workers, read_workers

from .travel import Travel
from .verbs import NEEDS, ON_LISTS

LOOK_AROUND = 2_000
"""Rows at most that are gone through for a line that has no seq."""


class Healing(Travel):
    """The part of the browser that changes archives. Nothing is done that was not asked for and seen before."""

    _action_epoch = 0
    _acted_on: OpenedArchive | None = None

    @property
    def opened_archive(self) -> OpenedArchive:
        """The archive that is looked at."""
        node = self.tree_pane.node
        if self.current_session is not None:
            return self.current_session.opened_archive
        return self.catalog.opened_archive(node) if node is not None else self.catalog.opened_archives[0]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what no archive offers that the action could be about."""
        needed = NEEDS.get(action)
        return needed is None or any(
            needed in opened_archive.capabilities for opened_archive in self._opened_archives_for(action)
        )

    def _opened_archives_for(self, action: str) -> list[OpenedArchive]:
        """The archives that an action could be about: of marked sessions, under the cursor, or the open one."""
        if not self.furnished:
            return (
                [self.current_session.opened_archive]
                if self.current_session is not None
                else list(self.catalog.opened_archives)
            )
        if action not in ON_LISTS:
            return [self.opened_archive]
        nodes = [node for key in self.catalog.marked if (node := self.catalog.node(key)) is not None]
        nodes += [node for node in (self.tree_pane.node, self.list_pane.node) if node is not None]
        return [self.opened_archive, *map(self.catalog.opened_archive, nodes)]

    # -- the doctor

    async def action_doctor(self) -> None:
        if not self.is_active:
            return
        from sessionscope.tui.screens.doctor import Doctor

        opened_archive, current_session = self.opened_archive, self.current_session

        def left(place: Spot | None) -> None:
            self.tree_pane.refresh()
            if place is not None:
                # The screen gets its focus back first.
                self.call_after_refresh(self._to_place, opened_archive, place)

        await self.app.push_screen(
            Doctor(self.catalog, opened_archive, current_session.ref if current_session is not None else None), left
        )

    def _to_place(self, opened_archive: OpenedArchive, place: Spot) -> None:
        """Goes to where something was found."""
        if place.session is None:
            return
        self.remember()
        self.travel(opened_archive, place.session, place.seq)
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
        current_session = self.current_session
        if current_session is not None:
            self.plan_here(current_session.opened_archive, Settle(current_session.ref))

    def plan_here(self, opened_archive: OpenedArchive, action: Action) -> None:
        """Plans an action beside the screen; the plan is shown, or done where that is taken back with one key."""
        self.start_action(
            opened_archive,
            lambda epoch: action_workers.plan(
                self.post_message, opened_archive.archive, action, epoch, read_workers.stopped
            ),
        )

    def start_action(self, opened_archive: OpenedArchive, work: Callable[[int], None]) -> None:
        """Runs some care for an archive in a worker, which is given its epoch."""
        self._acted_on = opened_archive
        self._action_epoch += 1
        epoch = self._action_epoch
        self.run_worker(lambda: work(epoch), thread=True, group="care", exclusive=True, exit_on_error=False)

    @on(action_workers.Planned)
    def _planned(self, event: action_workers.Planned) -> None:
        opened_archive = self._acted_on
        if event.epoch != self._action_epoch or opened_archive is None:
            return
        if event.plan.empty:
            self.notify(render.one_line(" ".join(event.plan.reasons)), timeout=3, markup=False)
            return

        def answered(take: bool | None) -> None:
            if take and event.epoch == self._action_epoch:
                self.run_worker(
                    lambda: action_workers.apply(
                        self.post_message, opened_archive.archive, event.plan, event.epoch, read_workers.stopped
                    ),
                    thread=True,
                    group="care",
                    exclusive=True,
                    exit_on_error=False,
                )

        self.confirm(opened_archive, event.plan, answered)

    def confirm(self, opened_archive: OpenedArchive, plan: Plan, answered: Callable[[bool | None], None]) -> None:
        """Shows a plan and gives the answer to it."""
        if isinstance(plan.action, SetArchived):
            answered(True)
            return
        from sessionscope.tui.dialogs.plan import PlanDialog

        self.app.push_screen(PlanDialog(plan, "Settle what a crash left open"), answered)

    @on(action_workers.Applied)
    def applied(self, event: action_workers.Applied) -> None:
        """Shows at once what was carried out."""
        opened_archive = self._acted_on
        if opened_archive is not None:
            opened_archive.done(event.plan.action, event.receipt)
        more = (
            " · u takes it back"
            if opened_archive and opened_archive.undos and opened_archive.undos[-1] == event.receipt.undo
            else ""
        )
        for note in event.receipt.notes:
            self.notify(render.one_line(note), severity="warning", markup=False)
        self.done(event)
        self.notify(f"{render.one_line(event.receipt.said)}{more}", markup=False)
        # What was written here shows at once, not at the next look.
        self.look()

    def done(self, event: action_workers.Applied) -> None:
        """Does what the screen needs once something was carried out."""

    @on(action_workers.GivenUp)
    def _given_up(self, event: action_workers.GivenUp) -> None:
        if event.epoch == self._action_epoch and event.text:
            self.failed(event.text)

    @on(action_workers.Progressed)
    def _progressed(self, event: action_workers.Progressed) -> None:
        """What takes that long is told by the doctor; here it is a moment."""

    # -- undo

    def action_undo(self) -> None:
        opened_archive = self.opened_archive
        if not opened_archive.undos:
            self.notify("nothing was done here that could be taken back", timeout=3)
            return
        action = opened_archive.undos[-1]
        self.start_action(
            opened_archive,
            lambda epoch: action_workers.undo(
                self.post_message, opened_archive.archive, action, epoch, read_workers.stopped
            ),
        )
