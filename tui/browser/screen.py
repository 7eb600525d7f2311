"""The browser: sessions at the left, the timeline in the middle, compactions and the inspector at the right."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on, work
from textual.binding import BindingType
from textual.widgets import Input

from sessionscope.store import Limits, Order, StoreError, View
from sessionscope.tui.external import clipboard, pager
from sessionscope.tui.sessions.session_catalog import Key
from sessionscope.tui.text import describe, render
from sessionscope.tui.widgets.prompt import Prompt
from sessionscope.tui.widgets.ranged_list import RangedList
from sessionscope.tui.widgets.timeline import TimelinePane
from sessionscope.tui.widgets.virtual_list import VirtualList
from sessionscope.tui.workers import read_workers

from .commands import SessionCommands
from .compaction import Compacting
from .stage import INSPECT_AFTER_S, TITLES, VIEWS
from .travel import DIGITS
from .verbs import VERBS

PANES = tuple(TITLES)


class Browser(Compacting):
    """Owns what is open and who has the word; the panes only draw and say what the user wants."""

    COMMANDS = {SessionCommands}
    BINDINGS: ClassVar[list[BindingType]] = VERBS

    def on_mount(self) -> None:
        self.find_panes()
        for opened_archive in self.catalog.opened_archives:
            opened_archive.stamp = opened_archive.archive.stamp()
            self.first_look(opened_archive)
        if len(self.catalog.opened_archives) > 1:
            self.tree_pane.expanded |= {-opened_archive.index - 1 for opened_archive in self.catalog.opened_archives}
        self.show_sessions(keep=False)
        self.set_pane("sessions")
        newest = next(iter(self.catalog.listed()), None)
        if newest is not None:
            self.tree_pane.select(newest)
            self.open_node(newest)
        for opened_archive in self.catalog.opened_archives:
            if opened_archive.archive.info.warning:
                self.notify(
                    opened_archive.archive.info.warning,
                    title=render.one_line(opened_archive.name),
                    severity="warning",
                    markup=False,
                )
        self.start_watching()
        self.call_after_refresh(self.furnish)

    # -- sessions

    @on(VirtualList.Highlighted, "#sessions")
    def _session_highlighted(self) -> None:
        self._open_soon(self.tree_pane.node)

    @on(VirtualList.Highlighted, "#previews")
    def _preview_highlighted(self) -> None:
        if self.focused is self.list_pane:
            self._open_soon(self.list_pane.node)

    def _open_soon(self, node: int | None) -> None:
        """Opens the session under the cursor once the cursor rests."""
        if self.opening is not None:
            self.opening.stop()
        if node is not None and node >= 0:
            key = self.catalog.key(node)
            self.opening = self.set_timer(INSPECT_AFTER_S, lambda: self._open_if_there(key))

    def _open_if_there(self, key: Key) -> None:
        node = self.catalog.node(key)
        if node is not None:
            self.open_node(node)

    @on(VirtualList.Chosen, "#sessions")
    def _session_chosen(self) -> None:
        node = self.tree_pane.node
        if node is not None and node < 0:
            self.tree_pane.action_collapse() if node in self.tree_pane.expanded else self.tree_pane.action_expand()
        elif node is not None:
            self.open_node(node)
            self.set_pane("timeline")

    @on(VirtualList.Chosen, "#previews")
    def _preview_chosen(self) -> None:
        if self.list_pane.node is not None:
            self.open_here(self.list_pane.node)

    def open_key(self, key: Key) -> None:
        """Selects and opens a session that was shown a while ago."""
        node = self.catalog.node(key)
        if node is None:
            self.failed("that session is gone")
        else:
            self.open_here(node)

    def open_here(self, node: int) -> None:
        """Selects a session in the tree and opens it."""
        self.tree_pane.select(node)
        self.open_node(node)
        self.set_pane("timeline")

    # -- the timeline

    @on(VirtualList.Highlighted, "#timeline")
    def _row_highlighted(self) -> None:
        self.piece = 0
        # What was asked for stays while whoever asked is still there, though the rows change below it.
        kept = {"session": self.focused is not self.timeline, "compaction": self.focused is self.audit_pane}
        if not kept.get(self.subject, False):
            self.subject = "message"
            self.inspect_soon()
        self.show_titles()

    @on(VirtualList.Chosen, "#timeline")
    def _row_chosen(self) -> None:
        self.subject = "message"
        self.inspect()
        self.set_pane("inspector")

    @on(RangedList.RangeChanged, "#timeline")
    def _rows_marked(self) -> None:
        self.show_titles()

    @on(TimelinePane.ReadFailed)
    def _read_failed(self, event: TimelinePane.ReadFailed) -> None:
        self.failed(event.text)

    def action_view(self, name: str) -> None:
        current_session = self.current_session
        if current_session is None:
            return
        row = self.timeline.current
        current_session.view, current_session.only_runs = View(name), None
        self.show_rows(row.seq if row is not None else None)
        about = self.timeline.rows.about if self.timeline.rows is not None else ""
        if current_session.view is View.CONTEXT and about and self.says_anew(about):
            self.notify(f"{about[:1].upper()}{about[1:]}.", timeout=3, markup=False)

    def action_cycle_view(self) -> None:
        views = list(VIEWS)
        if self.current_session is not None:
            self.action_view(views[(views.index(self.current_session.view) + 1) % len(views)])

    # -- compactions

    @on(VirtualList.Highlighted, "#audit")
    def _compaction_highlighted(self) -> None:
        if self.focused is self.audit_pane:
            self.subject = "compaction"
            self.inspect_soon()

    @on(VirtualList.Chosen, "#audit")
    def _compaction_chosen(self) -> None:
        if self.current_session is not None and self.audit_pane.runs:
            self.current_session.only_runs = self.audit_pane.runs
            self.subject = "compaction"
            self.show_rows(self.audit_pane.runs[0][0])
            self.inspect()
            if self.narrow:
                self.set_pane("timeline")

    # -- the inspector

    def action_mode(self) -> None:
        self.mode = describe.MODES[(describe.MODES.index(self.mode) + 1) % len(describe.MODES)]
        self.inspect()

    def action_about(self) -> None:
        self.subject = "message" if self.subject == "session" else "session"
        self.inspect()
        if self.subject == "session" and self.narrow:
            self.set_pane("inspector")

    def action_piece(self, by: int) -> None:
        if 0 <= (self.piece + by) * describe.PIECE < self.message_bytes:
            self.piece += by
            self.inspect()

    def action_pager(self) -> None:
        row = self.timeline.current
        if self.current_session is not None and row is not None and row.row is not None:
            pager.show(self.app, self.current_session.opened_archive.reader, self.current_session.ref, row.row)

    # -- copying

    def action_copy(self) -> None:
        row = self.timeline.current
        if self.current_session is None or row is None or row.row is None:
            return
        try:
            clipboard.copy(
                self.app,
                pager.text_of(self.current_session.opened_archive.reader, self.current_session.ref, row.row),
                f"message {row.seq}",
            )
        except StoreError as error:
            self.failed(str(error))

    def action_copy_id(self) -> None:
        if self.current_session is not None:
            clipboard.copy(self.app, self.current_session.ref.id, "the session's id")

    # -- panes

    def action_pane(self, name: str) -> None:
        self.set_pane(name)
        if name == "audit":
            self.subject = "compaction"
            self.inspect()

    def action_focus_next(self) -> None:
        self._cycle_pane(1)

    def action_focus_previous(self) -> None:
        self._cycle_pane(-1)

    def _cycle_pane(self, by: int) -> None:
        here = self.focused.id if self.focused is not None and self.focused.id in PANES else "timeline"
        self.set_pane(PANES[(PANES.index(here) + by) % len(PANES)])

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if event.widget.id in PANES:
            self.slide(event.widget.id)

    def action_leave(self) -> None:
        current_session = self.current_session
        if self.timeline.unmark() or self.leave_marks():
            pass
        elif self.catalog.words:
            self._apply_filter("")
        elif self.narrow and self.focused is not self.timeline:
            # What else could be left is behind this pane.
            self.set_pane("timeline")
        elif current_session is not None and current_session.only_runs is not None:
            row = self.timeline.current
            current_session.only_runs = None
            self.show_rows(row.seq if row is not None else None)
        else:
            self.set_pane("timeline")

    async def action_help(self) -> None:
        from sessionscope.tui.dialogs.help import Help

        if self.is_active:
            await self.app.push_screen(Help(getattr(self.focused, "HELP", TimelinePane.HELP), self))

    async def action_quit(self) -> None:
        # A key that was typed while something was opening on top was meant for that.
        if self.is_active:
            self.app.exit()
        else:
            self.app.screen.dismiss()

    def action_sort(self) -> None:
        orders = list(Order)
        self.catalog.order = orders[(orders.index(self.catalog.order) + 1) % len(orders)]
        self.show_sessions()

    # -- filter and find

    async def action_find_here(self) -> None:
        await self.action_ask("filter" if self.focused in (self.tree_pane, self.list_pane) else "find")

    async def action_ask(self, what: str) -> None:
        if not self.furnished:
            self.call_after_refresh(self.action_ask, what)
            return
        if what == "filter" and self.focused is not self.list_pane:
            self.set_pane("sessions")
        await self.prompt.ask(what, " ".join(self.catalog.words) if what == "filter" else "")

    async def action_ask_limits(self) -> None:
        await self.action_ask("limits")

    @on(Input.Changed, "#prompt Input")
    def _prompt_changed(self, event: Input.Changed) -> None:
        if self.prompt.what == "filter" and self.prompt.display:
            self._apply_filter(event.value)

    @on(Prompt.Answered)
    def _prompt_answered(self, event: Prompt.Answered) -> None:
        if event.what == "filter":
            node = self.tree_pane.node
            if node is not None and node >= 0:
                self.open_node(node)
                self.set_pane("timeline")
            else:
                self.set_pane("previews" if self.has_class("-show-previews") else "sessions")
            return
        self.set_pane("timeline")
        if event.what == "seq":
            self.jump(event.text)
        elif event.what == "find":
            self.search(event.text)
        elif event.what == "limits":
            self._limit(event.text)

    def _limit(self, text: str) -> None:
        """Sets how many messages, and maybe tokens, the context view may hold; nothing means the release's own."""
        words = text.split()
        if len(words) > 2 or not all(word.isdecimal() and len(word) <= DIGITS for word in words):
            self.notify(
                "limits are a number of messages and maybe one of tokens; 0 is none", severity="warning", timeout=4
            )
        elif self.current_session is not None:
            self.current_session.limits = Limits(*map(int, words)) if words else None
            self.action_view(View.CONTEXT)

    @on(Prompt.Moved)
    def _prompt_moved(self, event: Prompt.Moved) -> None:
        self.tree_pane.action_move(event.by)

    @on(Prompt.Dismissed)
    def _prompt_dismissed(self, event: Prompt.Dismissed) -> None:
        if event.what == "filter":
            self._apply_filter("")
        self.set_pane("timeline" if event.what != "filter" else "sessions")

    def _apply_filter(self, text: str) -> None:
        self.catalog.filter(text)
        self.filter_epoch += 1
        self.show_sessions()
        self._to_first_match()
        if self.catalog.words:
            self._match_previews()

    def _to_first_match(self) -> None:
        """Puts the cursor on the first session that itself matches: its ancestors are only shown for the way there."""
        first = self.list_pane.first
        if self.catalog.words and first is not None:
            self.tree_pane.select(first)
            self.list_pane.select(first)
            self._open_soon(first)

    def sessions_changed(self) -> None:
        if self.catalog.words:
            self.filter_epoch += 1
            self._match_previews()

    @work(thread=True, group="previews", exclusive=True, exit_on_error=False)
    def _match_previews(self) -> None:
        epoch, words = self.filter_epoch, self.catalog.words
        for opened_archive in self.catalog.opened_archives:
            read_workers.match_previews(
                self.post_message,
                opened_archive.archive,
                opened_archive.index,
                opened_archive.session_table,
                self.catalog.order,
                opened_archive.previews,
                words,
                epoch,
                read_workers.stopped,
            )

    @on(read_workers.PreviewsMatched)
    def _previews_matched(self, event: read_workers.PreviewsMatched) -> None:
        if event.epoch == self.filter_epoch:
            empty = not self.list_pane.count
            self.catalog.preview_matches[event.opened_archive] = event.found
            self.show_sessions()
            if empty:
                self._to_first_match()
