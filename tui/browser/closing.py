"""What the browser does to sessions as a whole: closing them with what goes with them, archiving, and the trash."""

from __future__ import annotations

from collections.abc import Callable

from textual.widget import Widget

from sessionscope.store import Close, Plan, Ref, SetArchived
from sessionscope.tui.sessions.session_catalog import LOW, OpenedArchive
from sessionscope.tui.workers import action_workers

from .healing import Healing


class Closing(Healing):
    """The part of the browser that closes. A plan is shown first, and what is closed comes back with one key."""

    # -- which sessions

    def action_mark(self) -> None:
        """Marks the session under the cursor, or takes the mark away, and goes on to the next."""
        pane: Widget | None = self.focused
        if pane is not self.tree_pane and pane is not self.list_pane:
            self.notify("sessions are marked in the tree and the preview list, rows in the timeline", timeout=3)
            return
        source = self.tree_pane if pane is self.tree_pane else self.list_pane
        node = source.node
        if node is None or node < 0:
            return
        self.catalog.marked ^= {self.catalog.key(node)}
        source.cursor += 1
        self._show_marks()

    def _show_marks(self) -> None:
        self.tree_pane.refresh()
        self.list_pane.refresh()

    def leave_marks(self) -> bool:
        """Takes all marks away; whether there were any."""
        there = bool(self.catalog.marked)
        self.catalog.marked.clear()
        self._show_marks()
        return there

    def _chosen(self) -> tuple[OpenedArchive, list[Ref]] | None:
        """The sessions that are marked in one archive, else the one under the cursor or the one that is open."""
        nodes = [node for key in self.catalog.marked if (node := self.catalog.node(key)) is not None]
        if not nodes:
            node = self.tree_pane.node if self.focused is self.tree_pane else self.list_pane.node
            if self.focused not in (self.tree_pane, self.list_pane):
                return (
                    (self.current_session.opened_archive, [self.current_session.ref])
                    if self.current_session is not None
                    else None
                )
            nodes = [node] if node is not None and node >= 0 else []
        if not nodes:
            return None
        opened_archive = self.catalog.opened_archive(nodes[0])
        if any(self.catalog.opened_archive(node) is not opened_archive for node in nodes):
            self.notify("close the marked sessions of each archive by themselves", severity="warning")
            return None
        keys = [opened_archive.session_table.keys[node & LOW] for node in sorted(nodes)]
        return opened_archive, [summary.ref for summary in opened_archive.reader.summaries(keys)]

    # -- what is done

    def action_close(self) -> None:
        chosen = self._chosen()
        if chosen is not None and chosen[1]:
            # Whoever confirms has seen what speaks against it.
            self.plan_here(chosen[0], Close(tuple(chosen[1]), anyway=True))

    def confirm(self, opened_archive: OpenedArchive, plan: Plan, answered: Callable[[bool | None], None]) -> None:
        if not isinstance(plan.action, Close):
            super().confirm(opened_archive, plan, answered)
            return
        from sessionscope.tui.dialogs.plan import CloseDialog

        many = len(plan.deleted)
        self.app.push_screen(CloseDialog(plan, f"Close {many} {'session' if many == 1 else 'sessions'}"), answered)

    def done(self, event: action_workers.Applied) -> None:
        super().done(event)
        if isinstance(event.plan.action, Close):
            self._leave_deleted(event.plan)

    def _leave_deleted(self, plan: Plan) -> None:
        """Shows another session where the one that was open is gone."""
        self.catalog.marked.clear()
        current_session, gone = self.current_session, {member.ref.id for member in plan.deleted}
        if current_session is None or current_session.ref.id not in gone:
            return
        nodes = list(self.catalog.listed())
        here = self.tree_pane.node
        start = nodes.index(here) if here in nodes else 0
        for node in (*nodes[start:], *reversed(nodes[:start])):
            if self.catalog.key(node)[2] not in gone:
                self.tree_pane.select(node)
                self.open_node(node)
                return

    def action_archive(self) -> None:
        chosen = self._chosen()
        if chosen is None or not chosen[1]:
            return
        opened_archive, refs = chosen
        key = opened_archive.reader.key(refs[0])
        found = opened_archive.reader.summaries([key]) if key is not None else []
        if found:
            self.plan_here(opened_archive, SetArchived(refs[0], found[0].status != "archived"))

    async def action_trash(self) -> None:
        if not self.is_active:
            return
        from sessionscope.tui.screens.trash import Trash

        def left(_: None) -> None:
            self.look()

        await self.app.push_screen(Trash(self.opened_archive), left)
