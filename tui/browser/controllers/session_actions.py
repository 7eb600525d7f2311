"""Actions on whole sessions: marking, closing with subagents, archiving, and the trash."""

from __future__ import annotations

from sessionscope.store import Close, Plan, Ref, SetArchived
from sessionscope.tui.browser.host import Host
from sessionscope.tui.browser.panes import Panes
from sessionscope.tui.sessions.opened_archive import POSITION_MASK, OpenedArchive
from sessionscope.tui.sessions.session_catalog import SessionCatalog
from sessionscope.tui.workers.action_workers import Applied

from .action_runner import ActionRunner, Answered
from .opening import Opening
from .watcher import Watcher

LISTS = ("sessions", "previews")
"""The panes in which sessions can be marked."""
Chosen = tuple[OpenedArchive, list[Ref]]
"""Sessions of one archive."""


class SessionActions:
    """Closes and archives the sessions that the user has chosen, after showing what that does."""

    def __init__(
        self,
        host: Host,
        panes: Panes,
        catalog: SessionCatalog,
        opening: Opening,
        watcher: Watcher,
        runner: ActionRunner,
    ) -> None:
        self._host, self._panes, self._catalog, self._opening = host, panes, catalog, opening
        self._watcher, self._runner = watcher, runner
        runner.handle(Close, self._confirm_close, self._closed)
        runner.handle(SetArchived, self._confirm_archive)

    # -- marks

    def mark(self) -> None:
        """Mark the session under the cursor, or take its mark away, and go on to the next."""
        pane = self._panes.focused
        if pane not in LISTS:
            self._host.notices.say(
                "sessions are marked in the tree and the preview list, rows in the timeline", seconds=3
            )
            return
        source = self._panes.tree if pane == "sessions" else self._panes.previews
        node = source.node
        if node is None or node < 0:
            return
        self._catalog.toggle_mark(node)
        source.cursor += 1
        self._panes.refresh_lists()

    def clear_marks(self) -> bool:
        """Take all marks away. Return False if there were none."""
        if not self._catalog.clear_marks():
            return False
        self._panes.refresh_lists()
        return True

    def _chosen(self) -> Chosen | None:
        """Return the marked sessions of one archive, else the one under the cursor or, in other panes, the open one."""
        nodes = self._catalog.marked_nodes()
        if not nodes:
            pane, session = self._panes.focused, self._opening.current
            if pane not in LISTS:
                return (session.opened_archive, [session.ref]) if session is not None else None
            node = self._panes.tree.node if pane == "sessions" else self._panes.previews.node
            if node is None or node < 0:
                return None
            nodes = [node]
        opened_archive = self._catalog.opened_archive(nodes[0])
        if any(self._catalog.opened_archive(node) is not opened_archive for node in nodes):
            self._host.notices.say("close the marked sessions of each archive by themselves", level="warning")
            return None
        keys = [opened_archive.session_table.keys[node & POSITION_MASK] for node in sorted(nodes)]
        return opened_archive, [summary.ref for summary in opened_archive.reader.summaries(keys)]

    # -- closing

    def close(self) -> None:
        """Plan to close the chosen sessions. Raises StoreError."""
        chosen = self._chosen()
        if chosen is not None and chosen[1]:
            opened_archive, refs = chosen
            # `anyway`: the dialog shows what speaks against it.
            self._runner.plan(opened_archive, Close(tuple(refs), anyway=True))

    def _confirm_close(self, _: OpenedArchive, plan: Plan, answered: Answered) -> None:
        from sessionscope.tui.dialogs.plan import CloseDialog

        count = len(plan.deleted)
        self._host.push(CloseDialog(plan, f"Close {count} {'session' if count == 1 else 'sessions'}"), answered)

    def _closed(self, opened_archive: OpenedArchive, event: Applied) -> None:
        """Open another session if the one that was open is closed."""
        self._catalog.clear_marks()
        session, closed_ids = self._opening.current, {member.ref.id for member in event.plan.deleted}
        if session is None or session.opened_archive is not opened_archive or session.ref.id not in closed_ids:
            return
        nodes = list(self._catalog.listed())
        cursor = self._panes.tree.node
        start = nodes.index(cursor) if cursor in nodes else 0
        for node in (*nodes[start:], *reversed(nodes[:start])):
            if self._catalog.opened_archive(node) is not opened_archive or self._catalog.key(node)[2] not in closed_ids:
                self._panes.tree.select(node)
                self._opening.open(node)
                return

    # -- archiving and the trash

    def archive(self) -> None:
        """Mark the first chosen session as archived, or as active again. Raises StoreError."""
        chosen = self._chosen()
        if chosen is None or not chosen[1]:
            return
        opened_archive, refs = chosen
        key = opened_archive.reader.key(refs[0])
        summaries = opened_archive.reader.summaries([key]) if key is not None else []
        if summaries:
            self._runner.plan(opened_archive, SetArchived(refs[0], summaries[0].status != "archived"))

    @staticmethod
    def _confirm_archive(_: OpenedArchive, plan: Plan, answered: Answered) -> None:
        """Apply without a question: one key undoes it."""
        answered(True)

    async def open_trash(self) -> None:
        """Show the sessions that were closed."""
        if not self._host.is_active:
            return
        from sessionscope.tui.screens.trash import Trash

        await self._host.push(Trash(self._opening.archive), lambda _: self._watcher.look())
