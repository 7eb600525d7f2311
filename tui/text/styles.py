"""The styles of text, named by what they mean. They are looked up once for each screen, and shared by its panes."""

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


class StyledScreen(GuardedDismiss[Result]):
    """A screen whose panes write with named text styles. The style sheet defines each as `.text--NAME`."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"text--{name}" for name in NAMES}
    _text_styles: dict[str, Style] | None = None

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._text_styles = None

    def named_style(self, name: str) -> Style:
        """Return the style of a name in the current theme, without a background except for the cursors'."""
        if self._text_styles is None:
            self._text_styles = {}
        cached = self._text_styles.get(name)
        if cached is None:
            style = self.get_component_rich_style(f"text--{name}")
            if not name.startswith("cursor"):
                style = style.without_color + Style(color=style.color)
            cached = self._text_styles[name] = style
        return cached


def named_style(widget: Widget, name: str) -> Style:
    """Return a text style of the screen that a pane is on."""
    return cast("StyledScreen[object]", widget.screen).named_style(name)


def strip_of(widget: Widget, spans: Iterable[tuple[str, str]], width: int) -> Strip:
    """Return spans of text and style as one line on the background of a pane."""
    base = widget.rich_style
    segments = [Segment(text, base + named_style(widget, name) if name else base) for text, name in spans if text]
    return Strip(segments).adjust_cell_length(width, base)
