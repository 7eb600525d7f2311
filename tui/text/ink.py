"""The colours of text, named by what they mean and looked up once a screen: every pane on it writes with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeVar, cast

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from sessionscope.tui.guarded_dismiss import GuardedDismiss

NAMES = (
    "dim",
    "accent",
    "note",
    "damage",
    "strong",
    "title",
    "hole",
    "compacted",
    "tab",
    "current",
    "line",
    "cursor",
    "cursor-blurred",
)
Result = TypeVar("Result")


class Inked(GuardedDismiss[Result]):
    """A screen whose panes write with inks. The style sheet gives each its look as `.ink--NAME`."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"ink--{name}" for name in NAMES}
    _inks: dict[str, Style] | None = None

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._inks = None

    def ink(self, name: str) -> Style:
        """The style of a name in the theme of the moment, without a background except for the cursors'."""
        if self._inks is None:
            self._inks = {}
        found = self._inks.get(name)
        if found is None:
            style = self.get_component_rich_style(f"ink--{name}")
            if not name.startswith("cursor"):
                style = style.without_color + Style(color=style.color)
            found = self._inks[name] = style
        return found


def ink(widget: Widget, name: str) -> Style:
    """An ink of the screen that a pane is on."""
    return cast("Inked[object]", widget.screen).ink(name)


def strip_of(widget: Widget, spans: Iterable[tuple[str, str]], width: int) -> Strip:
    """Spans of text and ink as one line on the background of a pane."""
    base = widget.rich_style
    segments = [Segment(text, base + ink(widget, name) if name else base) for text, name in spans if text]
    return Strip(segments).adjust_cell_length(width, base)
