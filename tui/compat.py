"""The one place that uses private names of Textual, so that a new release breaks one file."""

from __future__ import annotations

from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.widget import Widget


def resize_content(view: ScrollView, size: Size) -> None:
    """Sets a view's virtual size without laying out the whole screen, which would repaint every scrollbar on it."""
    if view.virtual_size != size:
        view.set_reactive(Widget.virtual_size, size)
        view._scroll_update(size)
