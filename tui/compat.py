"""The only place that uses private names of Textual, so that a new release breaks only this module."""

from __future__ import annotations

from rich.segment import Segments
from rich.text import Text
from textual import events
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.command import CommandPalette
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.widget import Widget
from textual.worker import Worker

from .guarded_dismiss import GuardedDismiss


def resize_content(view: ScrollView, size: Size) -> None:
    """Set a view's virtual size without laying out the whole screen, which would repaint every scrollbar."""
    if view.virtual_size != size:
        view.set_reactive(Widget.virtual_size, size)
        view._scroll_update(size)


class Palette(CommandPalette, GuardedDismiss[None]):
    """The command palette, made safe against clicks outside of the screen and against keys that come too fast."""

    def dismiss(self, result: None = None) -> AwaitComplete:
        # Commands that are still gathered would be added to a list that no longer exists.
        self._cancel_gather_commands()
        return super().dismiss(result)

    def _gather_commands(self, search_value: str) -> Worker[None] | None:  # type: ignore[override]
        # A letter may be handled after the key that closes the palette.
        return super()._gather_commands(search_value) if self.is_active else None

    def _on_click(self, event: events.Click) -> None:  # type: ignore[override]
        if not self.region.contains(int(event.screen_x), int(event.screen_y)):
            event.prevent_default()


class Quiet(App[None]):
    """An app that ends after an error of its own with one sentence and status 1, unless TEXTUAL=debug asks for more."""

    async def on_event(self, event: events.Event) -> None:
        # A click or key that comes while the app ends finds no screen.
        if self._screen_stack or not isinstance(event, events.InputEvent):
            await super().on_event(event)

    def _fatal_error(self) -> None:
        if "debug" in self.features:
            super()._fatal_error()
            return
        fault = type(self._exception).__name__
        words = Text(
            f"sessionscope: a fault in the program ended it ({fault}); no session was changed. "
            "Set TEXTUAL=debug and do the same again to see where."
        )
        self._exit_renderables.append(Segments(self.console.render(words, self.console.options)))
        self._close_messages_no_wait()
