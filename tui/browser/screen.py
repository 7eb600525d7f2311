"""The main screen: sessions at the left, the timeline in the middle, compactions and the inspector at the right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from rich.style import Style
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Input

from sessionscope.store import View
from sessionscope.tui.sessions.current_session import CurrentSession
from sessionscope.tui.sessions.session_catalog import Key, SessionCatalog
from sessionscope.tui.text.styles import StyledScreen
from sessionscope.tui.widgets.column import plain_lines
from sessionscope.tui.widgets.prompt import Prompt
from sessionscope.tui.widgets.ranged_list import RangedList
from sessionscope.tui.widgets.timeline import TimelinePane
from sessionscope.tui.widgets.virtual_list import VirtualList
from sessionscope.tui.workers import action_workers, read_workers

from .commands import SessionCommands
from .guard import guarded
from .notices import Notices
from .panes import HEIGHTS, TITLES, WIDTHS, Panes, classes_for
from .verbs import NEEDS, VERBS
from .wiring import Controllers


class Browser(StyledScreen[None]):
    """Owns the panes and the controllers, and passes keys and messages on to them.

    Every method that Textual calls and that reaches a controller is `guarded`.
    """

    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    AUTO_FOCUS = None
    COMMANDS = {SessionCommands}
    BINDINGS: ClassVar[list[BindingType]] = VERBS

    def __init__(self, catalog: SessionCatalog, size: Size, summarizer: str | None = None) -> None:
        """`size` is that of the terminal, and `summarizer` the user's command that writes notes."""
        super().__init__(classes=classes_for(size))
        self.catalog = catalog
        self.panes = Panes(self, catalog, lambda: self.controllers.titles_changed())
        self.controllers = Controllers(self, self.panes, catalog, summarizer)

    @property
    def notices(self) -> Notices:
        """Where to say something to the user."""
        return self.controllers.notices

    @property
    def current_session(self) -> CurrentSession | None:
        """The open session."""
        return self.controllers.opening.current

    # -- the beginning

    def compose(self) -> ComposeResult:
        yield from self.panes.compose()

    @guarded
    def on_mount(self) -> None:
        self.controllers.begin()
        self.call_after_refresh(self._mount_others)

    @guarded
    async def _mount_others(self) -> None:
        """Mount the panes that the first frame does not wait for."""
        if not await self.panes.mount_others():
            if self.is_attached and self.is_running:
                self.call_after_refresh(self._mount_others)
            return
        self.controllers.panes_completed()

    @on(action_workers.Applied)
    @on(action_workers.GivenUp)
    @on(action_workers.Planned)
    @on(read_workers.Failed)
    @on(read_workers.Outlined)
    @on(read_workers.PreviewsMatched)
    @on(read_workers.SessionRead)
    @on(read_workers.SessionTableRead)
    @on(read_workers.TextFound)
    @guarded
    def _worker_posted(self, event: Message) -> None:
        self.controllers.take(event)

    # -- the screen itself

    def render_lines(self, crop: Region) -> list[Strip]:
        # All of it lies hidden under the panes.
        return plain_lines(self, Style.null(), crop)

    @guarded
    def on_screen_resume(self, event: events.ScreenResume) -> None:
        # Before the first frame everything was styled as it was mounted; later a theme may have changed meanwhile.
        event.refresh_styles = self.panes.complete

    @guarded
    def on_resize(self) -> None:
        if self.panes.focused is not None:
            self.call_after_refresh(self.panes.slide, self.panes.focused)
        self.call_after_refresh(self.controllers.titles_changed)

    @guarded
    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if event.widget.id in TITLES:
            self.panes.slide(event.widget.id)
        if event.widget is self.panes.timeline:
            self.controllers.inspection.timeline_focused()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer an action only if one of the archives that it could be about is capable of it."""
        needed = NEEDS.get(action)
        return needed is None or any(
            needed in archive.capabilities for archive in self.controllers.archives_for(action)
        )

    # -- sessions

    @on(VirtualList.Highlighted, "#sessions")
    @guarded
    def _session_highlighted(self) -> None:
        self.controllers.opening.open_soon(self.panes.tree.node)

    @on(VirtualList.Highlighted, "#previews")
    @guarded
    def _preview_highlighted(self) -> None:
        if self.panes.focused == "previews":
            self.controllers.opening.open_soon(self.panes.previews.node)

    @on(VirtualList.Chosen, "#sessions")
    @guarded
    def _session_chosen(self) -> None:
        tree = self.panes.tree
        if tree.node is not None and tree.node >= 0:
            self.controllers.opening.open(tree.node)
            self.panes.focus("timeline")
        elif tree.node in tree.expanded:
            tree.action_collapse()
        elif tree.node is not None:
            tree.action_expand()

    @on(VirtualList.Chosen, "#previews")
    @guarded
    def _preview_chosen(self) -> None:
        if self.panes.previews.node is not None:
            self.controllers.opening.open_and_focus(self.panes.previews.node)

    @guarded
    def open_key(self, key: Key) -> None:
        """Select and open a session that was listed a while ago."""
        self.controllers.opening.open_key(key)

    @guarded
    def action_sort(self) -> None:
        self.catalog.next_order()
        self.panes.show_sessions()
        self.controllers.titles_changed()

    # -- the timeline

    @on(VirtualList.Highlighted, "#timeline")
    @guarded
    def _message_highlighted(self) -> None:
        self.controllers.inspection.message_highlighted()

    @on(VirtualList.Chosen, "#timeline")
    @guarded
    def _message_chosen(self) -> None:
        self.controllers.inspection.look_at("message")
        self.panes.focus("inspector")

    @on(RangedList.RangeChanged, "#timeline")
    @guarded
    def _messages_marked(self) -> None:
        self.controllers.titles_changed()

    @on(TimelinePane.ReadFailed)
    @guarded
    def _timeline_read_failed(self, event: TimelinePane.ReadFailed) -> None:
        self.notices.failed(event.text)

    @guarded
    def action_view(self, name: str) -> None:
        self.controllers.opening.choose_view(View(name))

    @guarded
    def action_cycle_view(self) -> None:
        self.controllers.opening.choose_next_view()

    # -- navigation

    @guarded
    def action_follow(self) -> None:
        self.controllers.navigation.follow()

    @guarded
    def action_up(self) -> None:
        self.controllers.navigation.up()

    @guarded
    def action_back(self) -> None:
        self.controllers.navigation.back()

    @guarded
    def action_compaction(self, by: int) -> None:
        self.controllers.navigation.next_compaction(by)

    @guarded
    def action_find_next(self, by: int) -> None:
        self.controllers.find.go_on(by)

    # -- compactions

    @on(VirtualList.Highlighted, "#audit")
    @guarded
    def _compaction_highlighted(self) -> None:
        if self.panes.focused == "audit":
            self.controllers.inspection.look_soon_at("compaction")

    @on(VirtualList.Chosen, "#audit")
    @guarded
    def _compaction_chosen(self) -> None:
        if self.panes.compactions.runs:
            self.controllers.opening.narrow_to(self.panes.compactions.runs)
            self.controllers.inspection.look_at("compaction")
            if self.panes.narrow:
                self.panes.focus("timeline")

    @guarded
    def action_compact(self) -> None:
        self.controllers.compaction_actions.compact()

    @guarded
    def action_uncompact(self) -> None:
        self.controllers.compaction_actions.undo_compaction()

    @guarded
    async def action_context_usage(self) -> None:
        await self.controllers.compaction_actions.open_context_usage()

    # -- the inspector, and copying

    @guarded
    def action_mode(self) -> None:
        self.controllers.inspection.next_mode()

    @guarded
    def action_about(self) -> None:
        self.controllers.inspection.toggle_session()

    @guarded
    def action_piece(self, by: int) -> None:
        self.controllers.inspection.turn_piece(by)

    @guarded
    def action_pager(self) -> None:
        self.controllers.inspection.open_pager()

    @guarded
    def action_copy(self) -> None:
        self.controllers.inspection.copy_message()

    @guarded
    def action_copy_id(self) -> None:
        self.controllers.inspection.copy_session_id()

    # -- actions on archives

    @guarded
    async def action_doctor(self) -> None:
        await self.controllers.repair_actions.open_doctor()

    @guarded
    def action_settle(self) -> None:
        self.controllers.repair_actions.settle()

    @guarded
    def action_mark(self) -> None:
        self.controllers.session_actions.mark()

    @guarded
    def action_close(self) -> None:
        self.controllers.session_actions.close()

    @guarded
    def action_archive(self) -> None:
        self.controllers.session_actions.archive()

    @guarded
    async def action_trash(self) -> None:
        await self.controllers.session_actions.open_trash()

    @guarded
    def action_undo(self) -> None:
        self.controllers.runner.undo()

    # -- the prompt

    @guarded
    async def action_find_here(self) -> None:
        await self._ask(self.controllers.questions.ask_here)

    @guarded
    async def action_ask(self, question: str) -> None:
        await self._ask(self.controllers.questions.ask, question)

    @guarded
    async def action_ask_limits(self) -> None:
        await self._ask(self.controllers.questions.ask, "limits")

    async def _ask(self, ask: Callable[..., Awaitable[None]], *question: str) -> None:
        """Ask now, or as soon as the prompt is there: the user may type ahead of the first frame."""
        if self.panes.complete:
            await ask(*question)
        else:
            self.call_after_refresh(self._ask, ask, *question)

    @on(Input.Changed, "#prompt Input")
    @guarded
    def _prompt_changed(self, event: Input.Changed) -> None:
        self.controllers.questions.changed(event.value)

    @on(Prompt.Answered)
    @guarded
    def _prompt_answered(self, event: Prompt.Answered) -> None:
        self.controllers.questions.answered(event.what, event.text)

    @on(Prompt.Moved)
    @guarded
    def _prompt_moved(self, event: Prompt.Moved) -> None:
        self.controllers.questions.moved(event.by)

    @on(Prompt.Dismissed)
    @guarded
    def _prompt_dismissed(self, event: Prompt.Dismissed) -> None:
        self.controllers.questions.dismissed(event.what)

    # -- panes

    @guarded
    def action_pane(self, name: str) -> None:
        self.panes.focus(name)
        if name == "audit":
            self.controllers.inspection.look_at("compaction")

    @guarded
    def action_focus_next(self) -> None:
        self.panes.cycle(1)

    @guarded
    def action_focus_previous(self) -> None:
        self.panes.cycle(-1)

    @guarded
    def action_leave(self) -> None:
        """Leave one thing: marked messages, marked sessions, a filter, a side pane, or a narrowed timeline."""
        if self.panes.timeline.unmark() or self.controllers.session_actions.clear_marks():
            return
        if self.controllers.session_filter.clear():
            return
        behind_side_pane = self.panes.narrow and self.panes.focused != "timeline"
        if behind_side_pane or not self.controllers.opening.widen():
            self.panes.focus("timeline")

    @guarded
    async def action_help(self) -> None:
        if not self.is_active:
            return
        from sessionscope.tui.dialogs.help import Help

        await self.app.push_screen(Help(getattr(self.focused, "HELP", TimelinePane.HELP), self))

    async def action_quit(self) -> None:
        # A key that was typed while something was opening on top was meant for that.
        if self.is_active:
            self.app.exit()
        else:
            self.app.screen.dismiss()
