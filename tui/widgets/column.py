"""A column of panes. Its own lines are hidden below them, so they are made once and cost nothing to draw."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.containers import Vertical
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from sessionscope.tui.text.styles import named_style

LINE = "▏"


def plain_lines(widget: Widget, style: Style, crop: Region, edge: Style | None = None) -> list[Strip]:
    """Return empty lines for a region of a widget, with a thin line in the first cell if it has an edge."""
    blank = Segment(" " * widget.size.width, style)
    width = widget.outer_size.width
    strip = Strip([Segment(LINE, edge), blank] if edge is not None else [blank]).adjust_cell_length(width, style)
    for line_filter in widget.get_line_filters():
        strip = strip.apply_filter(line_filter, widget.background_colors[1])
    return [strip.crop(crop.x, crop.right)] * crop.height


class LeftBorder(Vertical):
    """Draws a line at its left, if the style sheet gives it a cell of padding for that."""

    _base: Style | None = None

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._base = None

    def render_lines(self, crop: Region) -> list[Strip]:
        if self._base is None:
            self._base = self.rich_style
        edge = self._base + named_style(self, "line") if self.styles.padding.left else None
        return plain_lines(self, self._base, crop, edge)
