"""Runs the browser without a terminal: opens archives, presses keys, waits until it rests, reads what it shows."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from textual import events
from textual.drivers.headless_driver import HeadlessDriver
from textual.geometry import Size
from textual.keys import _character_to_key
from textual.notifications import Notification, Notifications
from textual.pilot import Pilot
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from sessionscope.store import Archive, View, open_archive, write_demo
from sessionscope.tui.app import Sessionscope
from sessionscope.tui.browser.screen import Browser
from sessionscope.tui.browser.wiring import Controllers
from sessionscope.tui.config import Config
from sessionscope.tui.widgets.audit_pane import AuditPane
from sessionscope.tui.widgets.inspector import Inspector
from sessionscope.tui.widgets.preview_list import PreviewList
from sessionscope.tui.widgets.session_tree import SessionTree
from sessionscope.tui.widgets.timeline import TimelinePane

NOW = 1_760_000_000_000
"""The one moment at which all of these tests happen, in epoch milliseconds: 2025-10-09 08:53:20 UTC."""
NANOBOT_NOW = 1_764_200_000_000 + 31_536_000_000
"""The moment of the tests that show nanobot's samples, some days after the last of these was written."""
SAMPLES = Path(__file__).parents[1] / "data" / "power-loop"
SMALL, MEDIUM, LARGE = (80, 24), (120, 40), (200, 60)
SIZES = (SMALL, MEDIUM, LARGE)
DEADLINE_S, POLL_S = 20.0, 0.005
REST_S = 0.01
"""How long keys rest here before the inspector follows, instead of what a person needs."""


def demo(folder: Path, name: str = "demo.db") -> Path:
    """A fresh sample, two minutes old."""
    path = folder / name
    write_demo(path, now_ms=NOW)
    return path


def opened(*places: Path | str) -> list[Archive]:
    """The archives at some places, as the app is given them."""
    return [archive for place in places for archive in open_archive(place)]


async def until(pilot: Pilot[None], condition: Callable[[], bool], what: str, within: float = DEADLINE_S) -> None:
    """Lets the app work until a condition holds. Fails, saying `what` was waited for, when that takes too long."""
    end = time.monotonic() + within
    while not condition():
        assert pilot.app._exception is None, pilot.app._exception
        assert time.monotonic() < end, f"waited {within} s in vain for {what}"
        await pilot.pause(POLL_S)


def _due(timer: Timer | None) -> bool:
    return timer is not None and timer._task is not None and not timer._task.done()


def rests(app: Sessionscope) -> bool:
    """Whether no message waits, no worker runs, nothing is to be painted and no timer is about to open something."""
    timers = [app.browser.controllers.opening._timer, app.browser.controllers.inspection._timer]
    pumps = [app, *app.screen.walk_children(with_self=True), app.browser]
    return (
        all(worker.is_finished for worker in app.workers)
        and not any(map(_due, timers))
        and not app.screen._layout_required
        and not app.screen._dirty_widgets
        and not app.screen._callbacks
        and not any(pump.message_queue_size or pump._next_callbacks for pump in pumps)
    )


async def settle(pilot: Pilot[None]) -> None:
    """Waits until everything that follows from the last key is on the screen."""
    app = pilot.app
    assert isinstance(app, Sessionscope)
    await until(pilot, lambda: hasattr(app, "browser") and app.browser.panes.complete, "the browser")
    still = 0
    while still < 2:
        # Once more after the first rest: what a worker posted last may have started the next thing.
        await until(pilot, lambda: rests(app), "the browser to rest")
        await pilot.pause(0)
        still = still + 1 if rests(app) else 0
    assert app._exception is None, app._exception


class RecordedNotifications(Notifications):
    """Notifications that also keep the texts of those whose time on the screen has passed.

    A slow machine needs longer for some keys than a toast is shown.
    """

    def __init__(self, earlier: Iterable[Notification]) -> None:
        super().__init__()
        self.messages: list[str] = []
        for notification in earlier:
            self.add(notification)

    def add(self, notification: Notification) -> Self:
        self.messages.append(notification.message)
        return super().add(notification)


class Hands:
    """One run of the app: its keyboard, counted, and its screen."""

    def __init__(self, pilot: Pilot[None]) -> None:
        assert isinstance(pilot.app, Sessionscope)
        self.pilot, self.app = pilot, pilot.app
        self.pressed = 0
        self._notifications = self.app._notifications = RecordedNotifications(self.app._notifications)

    async def press(self, *keys: str) -> None:
        """Presses keys one after the other, then lets the app settle."""
        for key in keys:
            self.pressed += 1
            self.send(key)
            await self.settle()

    def send(self, key: str) -> None:
        """What a terminal sends for a key, and nothing waited for."""
        name = _character_to_key(key) if len(key) == 1 else key
        driver = self.app._driver
        assert driver is not None
        driver.send_message(events.Key(name, key if len(key) == 1 else None))

    async def type(self, text: str) -> None:
        """Presses a key for each letter."""
        await self.press(*text)

    async def paste(self, text: str) -> None:
        """What a terminal sends for a paste."""
        driver = self.app._driver
        assert driver is not None
        driver.send_message(events.Paste(text))
        await self.settle()

    async def settle(self) -> None:
        await settle(self.pilot)

    async def until(self, condition: Callable[[], bool], what: str, within: float = DEADLINE_S) -> None:
        await until(self.pilot, condition, what, within)

    async def resize(self, width: int, height: int) -> None:
        driver, size = self.app._driver, Size(width, height)
        assert isinstance(driver, HeadlessDriver)
        driver._size = size
        self.app.post_message(events.Resize(size, size))
        await self.until(lambda: self.app.screen._compositor.size == size, f"a screen of {width} by {height}")
        await self.settle()

    # -- the panes

    @property
    def browser(self) -> Browser:
        return self.app.browser

    @property
    def controllers(self) -> Controllers:
        return self.browser.controllers

    @property
    def tree(self) -> SessionTree:
        return self.browser.panes.tree

    @property
    def previews(self) -> PreviewList:
        return self.browser.panes.previews

    @property
    def timeline(self) -> TimelinePane:
        return self.browser.panes.timeline

    @property
    def audit(self) -> AuditPane:
        return self.browser.panes.compactions

    @property
    def inspector(self) -> Inspector:
        return self.browser.panes.inspector

    @property
    def focus(self) -> str | None:
        """The id of the widget that has the focus."""
        return self.app.focused.id if self.app.focused is not None else None

    @property
    def seq(self) -> int | None:
        """The seq under the timeline's cursor."""
        return row.seq if (row := self.timeline.current) is not None else None

    @property
    def seqs(self) -> list[int | None]:
        """Every seq of the timeline, in order; only for sessions that are small."""
        rows = (self.timeline.row(at) for at in range(self.timeline.count))
        return [row.seq if row is not None else None for row in rows]

    @property
    def session(self) -> str:
        """The id of the session that is open."""
        assert self.browser.current_session is not None
        return self.browser.current_session.ref.id

    @property
    def view(self) -> View:
        assert self.browser.current_session is not None
        return self.browser.current_session.view

    @property
    def title(self) -> str:
        """What the session that is open is called."""
        opened = self.browser.current_session
        assert opened is not None
        assert opened.detail is not None
        return opened.detail.summary.title or opened.detail.summary.preview

    @property
    def notes(self) -> list[str]:
        """What the app has notified so far, the oldest first."""
        return list(self._notifications.messages)

    # -- the screen

    def strips(self) -> list[Strip]:
        """The lines of the screen as they are painted."""
        return self.app.screen._compositor.render_strips()

    def lines(self) -> list[str]:
        return [strip.text for strip in self.strips()]

    def text(self) -> str:
        """The whole screen as text."""
        return "\n".join(self.lines())

    def pane(self, widget: Widget | str) -> list[str]:
        """The lines of one pane as they stand on the screen; none where it is hidden."""
        found = self.browser.query_one(f"#{widget}") if isinstance(widget, str) else widget
        region = found.region.intersection(self.app.screen.region)
        if not found.display or not region:
            return []
        return [strip.crop(region.x, region.right).text for strip in self.strips()[region.y : region.bottom]]

    def shown(self, widget: Widget | str) -> bool:
        """Whether any part of a pane is on the screen."""
        return bool(self.pane(widget))

    def cursor_line(self) -> int:
        """On which line of the timeline its cursor stands."""
        return self.timeline.cursor - self.timeline.top


@asynccontextmanager
async def browsing(
    *places: Path | str, size: tuple[int, int] = SMALL, config: Config | None = None
) -> AsyncIterator[Hands]:
    """The app with some archives open, settled; whatever crashed it is raised."""
    async with running(opened(*places), size, config) as hands:
        await hands.settle()
        yield hands


@asynccontextmanager
async def running(
    archives: Sequence[Archive], size: tuple[int, int] = SMALL, config: Config | None = None
) -> AsyncIterator[Hands]:
    """The app as it is right after its start, nothing waited for."""
    app = Sessionscope(archives, config)
    app.animation_level = "none"
    try:
        async with app.run_test(size=size, notifications=True) as pilot:
            yield Hands(pilot)
    finally:
        for archive in archives:
            archive.close()
    assert app._exception is None, app._exception
