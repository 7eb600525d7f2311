"""The trash: closed sessions with their first words, and the other backups of an archive."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from sessionscope.store import Bundled, Restore, StoreError, bundles
from sessionscope.tui.dialogs.plan import PlanDialog
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.text import describe, session_lines
from sessionscope.tui.text.fitting import one_line
from sessionscope.tui.widgets.kept import KeptList
from sessionscope.tui.widgets.virtual_list import VirtualList
from sessionscope.tui.workers import action_workers, read_workers

from .pair import Pair


class Trash(Pair[None]):
    """Bundles at the left or above, the contents of the one under the cursor beside them."""

    list_pane: KeptList
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "restore", "Bring back", id="trash.restore", tooltip="put it back where it was"),
        Binding("u", "undo", "Undo", id="trash.undo", tooltip="take the last thing back"),
        Binding("t", "scope", "Trash/all", id="trash.scope", tooltip="closed sessions, or all that was kept"),
        Binding("tab,shift+tab", "other_pane", "Other pane", show=False, id="trash.pane"),
        Binding("question_mark", "help", "Help", key_display="?", id="trash.help"),
        Binding("escape", "leave", "Back", key_display="esc", id="trash.leave"),
        Binding("q", "leave", "Back", show=False, id="trash.quit"),
    ]

    def __init__(self, opened_archive: OpenedArchive) -> None:
        super().__init__(KeptList(id="bundles"))
        self.opened_archive = opened_archive
        self.everything = False
        self._epoch = 0

    def begin(self) -> None:
        self.look()

    def look(self) -> None:
        """Show the bundles as they are now. Reads a few small files."""
        try:
            listed = bundles(self.opened_archive.archive.info.root, None if self.everything else "trash")
        except (StoreError, OSError) as error:
            listed = []
            self.notify(one_line(str(error)), severity="error", markup=False)
        self.list_pane.show(listed, "nothing was kept" if self.everything else "the trash is empty")
        self.follow()

    def follow(self) -> None:
        current, info = self.list_pane.current, self.opened_archive.archive.info
        self.detail.show(describe.bundle_blocks(current) if current is not None else [])
        size = sum(one.size for one in self.list_pane.found)
        self.entitle(
            [(" trash  ", "tab"), (one_line(self.opened_archive.name), "strong"), (f"  {info.format}", "dim")],
            session_lines.size_of(size),
            "dim",
            [(" KEPT ASIDE" if self.everything else " CLOSED SESSIONS", "strong")],
            "HOLDS",
        )

    @on(VirtualList.Chosen)
    def _chosen(self) -> None:
        self.action_restore()

    # -- bringing back

    def action_restore(self) -> None:
        current: Bundled | None = self.list_pane.current
        if current is None:
            return
        if current.kind not in ("trash", "backups"):
            self.notify("this is kept to be looked at; its files are in the folder that is named here", timeout=5)
            return
        self._epoch += 1
        epoch, action = self._epoch, Restore(current.path)
        self.run_worker(
            lambda: action_workers.plan(
                self.post_message, self.opened_archive.archive, action, epoch, read_workers.stopped
            ),
            thread=True,
            group="care",
            exclusive=True,
            exit_on_error=False,
        )

    @on(action_workers.Planned)
    def _planned(self, event: action_workers.Planned) -> None:
        if event.epoch != self._epoch:
            return
        if not event.plan.offline and not event.plan.warnings:
            # It can be undone, so it asks no second time.
            self._apply(event)
            return

        def answered(take: bool | None) -> None:
            if take and event.epoch == self._epoch:
                self._apply(event)

        self.app.push_screen(PlanDialog(event.plan, "Bring it back"), answered)

    def _apply(self, planned: action_workers.Planned) -> None:
        epoch = planned.epoch
        self.run_worker(
            lambda: action_workers.apply(
                self.post_message, self.opened_archive.archive, planned.plan, epoch, read_workers.stopped
            ),
            thread=True,
            group="care",
            exclusive=True,
            exit_on_error=False,
        )

    @on(action_workers.Applied)
    def _applied(self, event: action_workers.Applied) -> None:
        self.opened_archive.done(event.plan.action, event.receipt)
        more = (
            " · u takes it back"
            if self.opened_archive.undos and self.opened_archive.undos[-1] == event.receipt.undo
            else ""
        )
        self.notify(f"{one_line(event.receipt.said)}{more}", markup=False)
        for note in event.receipt.notes:
            self.notify(one_line(note), severity="warning", markup=False)
        self.look()

    @on(action_workers.GivenUp)
    def _given_up(self, event: action_workers.GivenUp) -> None:
        if event.epoch == self._epoch and event.text:
            self.notify(one_line(event.text), severity="error", markup=False)

    def action_undo(self) -> None:
        if not self.opened_archive.undos:
            self.notify("nothing was done here that could be taken back", timeout=3)
            return
        self._epoch += 1
        epoch, action = self._epoch, self.opened_archive.undos[-1]
        self.run_worker(
            lambda: action_workers.undo(
                self.post_message, self.opened_archive.archive, action, epoch, read_workers.stopped
            ),
            thread=True,
            group="care",
            exclusive=True,
            exit_on_error=False,
        )

    # -- elsewhere

    def action_scope(self) -> None:
        self.everything = not self.everything
        self.look()
