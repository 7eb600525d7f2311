"""What the controllers need of the screen that owns them, so that a test can give them a fake one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.worker import Worker

from sessionscope.tui.workers.action_workers import Applied
from sessionscope.tui.workers.read_workers import SessionRead

from .notices import Notices

Answer = TypeVar("Answer")


class Host(Protocol):
    """The services of the screen, and the events by which one controller lets the others know what happened.

    What the host calls back, it guards: a `StoreError` that a controller does not handle becomes a notice.
    """

    @property
    def is_active(self) -> bool:
        """Whether the screen is the one on top."""

    @property
    def notices(self) -> Notices:
        """Where to say something to the user."""

    # -- services

    def post_message(self, message: Message) -> bool:
        """Post a message to the screen. May be called from any thread."""

    def start_worker(self, group: str, work: Callable[[], None]) -> Worker[None]:
        """Run a function in a thread. It ends the worker of the same group that still runs."""

    def after_seconds(self, seconds: float, then: Callable[[], None]) -> Timer:
        """Call a function once, later. The timer can be stopped."""

    def every_seconds(self, seconds: float, then: Callable[[], None]) -> Timer:
        """Call a function again and again."""

    def after_refresh(self, then: Callable[[], None]) -> None:
        """Call a function once what has changed is on the screen."""

    def push(self, screen: Screen[Answer], answered: Callable[[Answer | None], None]) -> Awaitable[None]:
        """Show another screen on top; `answered` gets its result."""

    def run_outside(self, program: Callable[[Any], None]) -> None:
        """Give the app to a function that leaves the terminal to another program."""

    # -- events

    def titles_changed(self) -> None:
        """Something that a title shows has changed."""

    def session_opened(self, archive_changed: bool) -> None:
        """Another session is open now, maybe of another archive."""

    def session_closed(self) -> None:
        """No session is open any longer."""

    def session_read(self, event: SessionRead) -> None:
        """Compactions, bookkeeping and usage of the open session were read."""

    def sessions_changed(self) -> None:
        """A newer session table is shown."""

    def action_done(self, event: Applied) -> None:
        """An action was carried out."""
