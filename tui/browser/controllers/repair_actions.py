"""What the main screen offers against damage: the doctor, and finishing a turn that a crash left open."""

from __future__ import annotations

from sessionscope.store import Plan, Settle, Spot
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.sessions.session_catalog import SessionCatalog

from .action_runner import ActionRunner, Answered
from .navigation import Navigation
from .opening import Opening


class RepairActions:
    """Opens the doctor, and finishes the open turn of a session."""

    def __init__(
        self,
        host: Host,
        panes: Panes,
        catalog: SessionCatalog,
        opening: Opening,
        navigation: Navigation,
        runner: ActionRunner,
    ) -> None:
        self._host, self._panes, self._catalog, self._opening = host, panes, catalog, opening
        self._navigation, self._runner = navigation, runner
        runner.handle(Settle, self._confirm_settle)

    async def open_doctor(self) -> None:
        """Show what is wrong with the archive, and go to the finding that is chosen there."""
        if not self._host.is_active:
            return
        from sessionscope.tui.screens.doctor import Doctor

        opened_archive, session = self._opening.archive, self._opening.current

        def closed(spot: Spot | None) -> None:
            self._panes.tree.refresh()
            if spot is not None:
                # The screen gets its focus back first.
                self._host.after_refresh(lambda: self._navigation.go_to_spot(opened_archive, spot))

        await self._host.push(
            Doctor(self._catalog, opened_archive, session.ref if session is not None else None), closed
        )

    def settle(self) -> None:
        """Plan to finish the open turn of the session."""
        session = self._opening.current
        if session is not None:
            self._runner.plan(session.opened_archive, Settle(session.ref))

    def _confirm_settle(self, _: OpenedArchive, plan: Plan, answered: Answered) -> None:
        from sessionscope.tui.dialogs.plan import PlanDialog

        self._host.push(PlanDialog(plan, "Settle what a crash left open"), answered)
