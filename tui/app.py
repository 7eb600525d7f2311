"""The app: opens the archives, applies the config, shows the browser."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar

from msgspec.structs import replace
from textual import events
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.geometry import Size
from textual.screen import Screen

from sessionscope.store import Archive, StoreError, open_archive

from .browser.screen import Browser
from .compat import Palette, Quiet
from .config import Config, ConfigError, load
from .guarded_dismiss import GuardedDismiss
from .screens.doctor import Doctor
from .sessions.session_catalog import SessionCatalog
from .text.fitting import one_line

SETTLED_S = 0.5
"""Seconds after the start when everything that it needs is loaded."""
AGAIN_S = 10
"""Seconds within which a second ctrl+q quits despite a warning."""
PALETTE_CELLS = Size(20, 8)
"""The smallest screen on which the palette works."""


class Sessionscope(Quiet):
    """Shows archives that are already open. No text of a session is ever interpreted as markup."""

    TITLE = "sessionscope"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True, id="app.quit"),
    ]

    def __init__(self, archives: Sequence[Archive], config: Config | None = None, failures: Sequence[str] = ()) -> None:
        super().__init__()
        self.failures = failures
        self.archives = archives
        self.config = config or Config()
        self._quits_until = 0.0
        """Until when a second ctrl+q quits despite the warning, in seconds of the monotonic clock."""

    def get_default_screen(self) -> Browser:
        """Return the browser itself: a blank default screen would be laid out and painted first."""
        self.browser = Browser(SessionCatalog(self.archives), self.size, self.config.summarizer)
        return self.browser

    def on_mount(self) -> None:
        if self.config.keymap:
            self.set_keymap(self.config.keymap)
        if self.config.theme is not None:
            self.theme = self.config.theme
        for failure in self.failures:
            self.notify(one_line(failure), severity="warning", markup=False)
        self._end_on_signals()
        self.set_timer(SETTLED_S, self._freeze)

    def _end_on_signals(self) -> None:
        """Exit cleanly when the terminal goes away: private copies and the demo must not be left behind."""
        for name in ("SIGHUP", "SIGTERM"):
            # Not every system has these signals, and only the main thread can handle them.
            with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
                number = getattr(signal, name)
                asyncio.get_running_loop().add_signal_handler(number, self.exit, None, 128 + number)

    def on_resize(self, event: events.Resize) -> None:
        # Textual's palette cannot page through a list without a visible line.
        if isinstance(self.screen, CommandPalette) and not _holds_palette(event.size):
            self.screen.dismiss()

    def action_command_palette(self) -> None:
        if _holds_palette(self.size) and not isinstance(self.screen, CommandPalette):
            self.push_screen(Palette(id="--command-palette"))

    async def action_quit(self) -> None:
        """Quit. If something on the screen would be lost, warn first and quit only if asked again."""
        screens = [screen for screen in self.screen_stack if isinstance(screen, GuardedDismiss)]
        held = next(filter(None, (screen.unfinished() for screen in screens)), None)
        now = time.monotonic()
        if held is None or now < self._quits_until:
            self.exit()
        else:
            self._quits_until = now + AGAIN_S
            self.notify(f"{held}: ctrl+q again quits all the same", severity="warning", timeout=AGAIN_S)

    @staticmethod
    def _freeze() -> None:
        # A full collection of what the imports left would now and then delay a key by 30 ms.
        gc.collect()
        gc.freeze()
        gc.enable()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield every verb of the browser, and Textual's own commands."""
        yield from super().get_system_commands(screen)
        if isinstance(screen, (Browser, Doctor)):
            done: set[str] = set()
            for active in screen.active_bindings.values():
                binding = active.binding
                if binding.description and binding.action not in done and active.node is screen:
                    done.add(binding.action)
                    words = f"{binding.tooltip}, key " if binding.tooltip else "key "
                    yield SystemCommand(
                        binding.description,
                        words + self.get_key_display(binding),
                        partial(screen.run_action, binding.action),
                    )


def _holds_palette(size: Size) -> bool:
    return size.width >= PALETTE_CELLS.width and size.height >= PALETTE_CELLS.height


def binding_ids() -> set[str]:
    """Return the names that a keymap may use."""
    from .dialogs.compact import CompactDialog
    from .dialogs.help import Help
    from .dialogs.plan import CloseDialog, PlanDialog
    from .screens.context_usage import ContextUsageScreen
    from .screens.trash import Trash
    from .widgets.audit_pane import AuditPane
    from .widgets.biggest import Biggest
    from .widgets.inspector import Inspector
    from .widgets.ranged_list import RangedList
    from .widgets.session_tree import SessionTree
    from .widgets.virtual_list import VirtualList

    owners = (
        Sessionscope,
        Browser,
        SessionTree,
        Inspector,
        AuditPane,
        RangedList,
        VirtualList,
        Biggest,
        Doctor,
        Trash,
        PlanDialog,
        CloseDialog,
        CompactDialog,
        ContextUsageScreen,
        Help,
    )
    return {binding.id for owner in owners for binding in owner.BINDINGS if isinstance(binding, Binding) and binding.id}


def check(config: Config, themes: Iterable[str]) -> None:
    """Raise ConfigError if the config names a theme or a binding that does not exist."""
    if config.theme is not None and config.theme not in themes:
        raise ConfigError(f"the config names a theme {config.theme!r}; there are {', '.join(sorted(themes))}.")
    for name in config.keymap:
        if name not in binding_ids():
            raise ConfigError(f"the config's keymap names {name!r}; there are {', '.join(sorted(binding_ids()))}.")


def run(places: list[str], strict: bool = True, summarizer: str | None = None) -> int:
    """Open the archives, run the app, and return the exit status.

    Raises ConfigError, and StoreError if an archive cannot be opened; unless `strict`, only if none can. `summarizer`
    is used instead of the config's.
    """
    config = load()
    if summarizer is not None:
        config = replace(config, summarizer=summarizer)
    archives: list[Archive] = []
    failures: list[StoreError] = []
    for place in dict.fromkeys(places):
        try:
            archives += open_archive(place, config.zone)
        except StoreError as error:
            failures.append(error)
    if failures and (strict or not archives):
        raise failures[0]
    app = Sessionscope(archives, config, [str(failure) for failure in failures])
    check(config, app.available_themes)
    try:
        app.run()
    finally:
        for archive in archives:
            archive.close()
    return app.return_code or 0
