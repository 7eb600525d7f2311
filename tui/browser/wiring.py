"""The controllers of the main screen, and how they are connected with it and with each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.worker import Worker

from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.sessions.session_catalog import SessionCatalog
from sessionscope.tui.workers import action_workers, read_workers

from . import titles
from .controllers.action_runner import ActionRunner
from .controllers.compaction_actions import CompactionActions
from .controllers.find import Find
from .controllers.inspection import Inspection
from .controllers.navigation import Navigation
from .controllers.opening import Opening
from .controllers.questions import Questions
from .controllers.repair_actions import RepairActions
from .controllers.session_actions import SessionActions
from .controllers.session_filter import SessionFilter
from .controllers.session_reading import SessionReading
from .controllers.watcher import Watcher
from .guard import guard
from .notices import Notices
from .panes import Panes
from .verbs import ON_LISTS

Answer = TypeVar("Answer")


class Controllers:
    """Builds the controllers and is their `Host`: it gives them what a screen can do, and passes on what happened."""

    def __init__(
        self, screen: Screen[Any], panes: Panes, catalog: SessionCatalog, summarizer: str | None = None
    ) -> None:
        """`summarizer` is the user's command that writes notes."""
        self._screen, self._panes, self._catalog = screen, panes, catalog
        self.notices = Notices(screen.notify)
        self.opening = Opening(self, panes, catalog)
        self.inspection = Inspection(self, panes, self.opening)
        self.navigation = Navigation(self, panes, catalog, self.opening, self.inspection)
        self.find = Find(self, self.opening, self.navigation)
        self.session_filter = SessionFilter(self, panes, catalog, self.opening)
        self.questions = Questions(self, panes, self.opening, self.navigation, self.find, self.session_filter)
        self.reading = SessionReading(self, panes, self.opening)
        self.watcher = Watcher(self, panes, catalog, self.opening, self.reading)
        self.runner = ActionRunner(self, self.opening)
        self.repair_actions = RepairActions(self, panes, catalog, self.opening, self.navigation, self.runner)
        self.session_actions = SessionActions(self, panes, catalog, self.opening, self.watcher, self.runner)
        self.compaction_actions = CompactionActions(self, panes, self.opening, self.navigation, self.runner, summarizer)

        self._answers: dict[type[Message], Callable[[Any], None]] = {
            action_workers.Applied: self.runner.applied,
            action_workers.GivenUp: self.runner.given_up,
            action_workers.Planned: self.runner.planned,
            read_workers.Failed: self._read_failed,
            read_workers.Outlined: self.reading.outline_read,
            read_workers.PreviewsMatched: self.session_filter.previews_matched,
            read_workers.SessionRead: self.reading.session_read,
            read_workers.SessionTableRead: self.watcher.session_table_read,
            read_workers.TextFound: self.find.text_found,
        }

    # -- what the screen passes on

    def begin(self) -> None:
        """List the sessions, open the newest one, and begin to watch the files."""
        panes, opened_archives = self._panes, self._catalog.opened_archives
        for opened_archive in opened_archives:
            self.watcher.first_look(opened_archive)
        if len(opened_archives) > 1:
            panes.tree.expanded |= {-opened_archive.index - 1 for opened_archive in opened_archives}
        panes.show_sessions(keep=False)
        self.titles_changed()
        panes.focus("sessions")
        newest = next(iter(self._catalog.listed()), None)
        if newest is not None:
            panes.tree.select(newest)
            self.opening.open(newest)
        for opened_archive in opened_archives:
            if opened_archive.archive.info.warning:
                self.notices.say(opened_archive.archive.info.warning, level="warning", title=opened_archive.name)
        self.watcher.start()

    def panes_completed(self) -> None:
        """Fill the panes that the first frame did not wait for."""
        session = self.opening.current
        if session is not None and session.node is not None:
            self._panes.previews.select(session.node)
        self.reading.begin_with_known_outline()
        self.titles_changed()

    def take(self, answer: Message) -> None:
        """Pass the answer of a worker on to the controller that waits for it."""
        self._answers[type(answer)](answer)

    def _read_failed(self, event: read_workers.Failed) -> None:
        # A session that was not found is only reported once a session table shows that it stays so.
        if not event.gone:
            self.notices.failed(event.text)
        self.watcher.read_failed(event)
        self.reading.read_failed(event)

    def archives_for(self, action: str) -> list[OpenedArchive]:
        """Return the archives of the open session and, for actions on lists, of the sessions they could be about."""
        session = self.opening.current
        if not self._panes.complete:
            return [session.opened_archive] if session is not None else list(self._catalog.opened_archives)
        if action not in ON_LISTS:
            return [self.opening.archive]
        nodes = self._catalog.marked_nodes()
        nodes += [node for node in (self._panes.tree.node, self._panes.previews.node) if node is not None]
        return [self.opening.archive, *map(self._catalog.opened_archive, nodes)]

    # -- services of the screen

    @property
    def is_active(self) -> bool:
        """Whether the screen is the one on top."""
        return self._screen.is_active

    def post_message(self, message: Message) -> bool:
        """Post a message to the screen. May be called from any thread."""
        return self._screen.post_message(message)

    def start_worker(self, group: str, work: Callable[[], None]) -> Worker[None]:
        """Run a function in a thread, instead of the worker of the same group that still runs."""
        return self._screen.run_worker(work, thread=True, group=group, exclusive=True, exit_on_error=False)

    def after_seconds(self, seconds: float, then: Callable[[], None]) -> Timer:
        """Call a function once, guarded. The timer can be stopped."""
        return self._screen.set_timer(seconds, self._guarded(then))

    def every_seconds(self, seconds: float, then: Callable[[], None]) -> Timer:
        """Call a function again and again, guarded."""
        return self._screen.set_interval(seconds, self._guarded(then))

    def after_refresh(self, then: Callable[[], None]) -> None:
        """Call a function, guarded, once what has changed is on the screen."""
        self._screen.call_after_refresh(self._guarded(then))

    def push(self, screen: Screen[Answer], answered: Callable[[Answer | None], None]) -> Awaitable[None]:
        """Show another screen on top; `answered` gets its result, guarded."""

        def closed(answer: Answer | None) -> None:
            with guard(self.notices):
                answered(answer)

        return self._screen.app.push_screen(screen, closed)

    def run_outside(self, program: Callable[[Any], None]) -> None:
        """Give the app to a function that leaves the terminal to another program."""
        program(self._screen.app)

    def _guarded(self, then: Callable[[], None]) -> Callable[[], None]:
        def guarded_then() -> None:
            with guard(self.notices):
                then()

        return guarded_then

    # -- what happened

    def titles_changed(self) -> None:
        """Show all titles again."""
        panes, session = self._panes, self.opening.current
        shown = session.opened_archive if session is not None else self._catalog.opened_archives[0]
        panes.show_title("title", titles.archive_title(shown))
        panes.show_title("tree-title", titles.tree_title(self._catalog))
        panes.show_title("timeline-title", self._timeline_title())
        if panes.complete:
            audit = session.audit if session is not None else None
            panes.show_title("list-title", titles.previews_title(panes.previews.count))
            panes.show_title("audit-title", titles.compactions_title(audit))
            panes.show_title(
                "inspector-title", titles.inspector_title(self.inspection.shown_subject, self.inspection.mode)
            )

    def _timeline_title(self) -> titles.Title:
        timeline = self._panes.timeline
        length = timeline.rows.length if timeline.rows is not None else 0
        position = f"{timeline.cursor + 1 if timeline.count else 0}/{length}"
        return titles.timeline_title(
            self.opening.current, self.opening.title, timeline.marked, timeline.size.width, position
        )

    def session_opened(self, archive_changed: bool) -> None:
        """Let what depends on the open session follow."""
        self.inspection.session_opened()
        if archive_changed:
            self._screen.refresh_bindings()
        if self._panes.complete:
            # A worker needs the processor too, and the messages come first.
            self.after_refresh(self.reading.begin_with_known_outline)

    def session_closed(self) -> None:
        """Offer only what needs no open session."""
        self._screen.refresh_bindings()

    def session_read(self, event: read_workers.SessionRead) -> None:
        """Check the compactions that were made here, and show what was read."""
        self.compaction_actions.check_applied(event.began)
        self.inspection.show(keep=True)

    def sessions_changed(self) -> None:
        """Filter the newer session table."""
        self.session_filter.sessions_changed()

    def action_done(self, event: action_workers.Applied) -> None:
        """Show what was written at once, not at the next look."""
        self.watcher.look()
