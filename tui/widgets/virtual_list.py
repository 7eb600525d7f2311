"""A list of any length in constant memory: a row is read only when it is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from sessionscope.tui.compat import resize_content
from sessionscope.tui.text.styles import named_style

Span = tuple[str, str]
"""A piece of a line: its text, and the name of a text style or nothing."""

MANY = 10**12


class AboutRow(Message):
    """Something happened to a row of a list."""

    def __init__(self, view: VirtualList, index: int) -> None:
        super().__init__()
        self.view, self.index = view, index

    @property
    def control(self) -> VirtualList:
        return self.view


class VirtualList(ScrollView, can_focus=True):
    """Draws `count` rows of `LINES` lines each. Subclasses return the lines of a row as spans.

    The cursor is an index. Moving it paints two rows. Only what is on the screen is ever read.
    """

    ALLOW_SELECT = False
    HELP: ClassVar[str] = ""
    """Its part of the help, as Markdown."""
    LINES: ClassVar[int] = 1
    DEFAULT_CSS = """
    VirtualList {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False, id="list.down"),
        Binding("up,k", "move(-1)", "Up", show=False, id="list.up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="list.page_down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list.page_up"),
        Binding("home,g", f"move(-{MANY})", "Top", show=False, id="list.top"),
        Binding("end,G", f"move({MANY})", "End", show=False, id="list.end"),
        Binding("enter", "choose", "Open", show=False, id="list.choose"),
    ]
    cursor: reactive[int] = reactive(0, repaint=False)

    class Highlighted(AboutRow):
        """The cursor is on another row now."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, VirtualList.Highlighted) and message.view is self.view

    class Chosen(AboutRow):
        """A row was opened, with enter or a second click."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.count = 0
        self._style_cache: dict[str, Style] = {}

    # -- what subclasses give

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        """Return what line `line` of row `index` shows, in at most `width` cells. A longer line is cut."""
        raise NotImplementedError

    def empty(self) -> str:
        """Return what to show if there is no row."""
        return ""

    # -- size and place

    def set_count(self, count: int, cursor: int | None = None, top: int | None = None, reveal: bool = True) -> None:
        """Take another number of rows, and keep the cursor unless another index is given.

        `top` is the index of the first row to show. Unless `reveal`, that holds even if the cursor is elsewhere.
        """
        self.count = count
        resize_content(self, Size(self.scrollable_content_region.width, count * self.LINES))
        if cursor is not None or self.cursor >= count:
            # The rows changed under the cursor, so its watcher must not see a move.
            self.set_reactive(VirtualList.cursor, max(0, min(self.cursor if cursor is None else cursor, count - 1)))
        if top is not None:
            self.scroll_to(y=top * self.LINES, animate=False, immediate=True)
        if reveal:
            self._reveal()
        self.refresh()

    @property
    def top(self) -> int:
        """The first row on the screen."""
        return int(self.scroll_offset.y // self.LINES)

    @property
    def rows_visible(self) -> int:
        """How many rows fit the screen, at least one."""
        return max(1, self.scrollable_content_region.height // self.LINES)

    def _reveal(self) -> None:
        height = self.scrollable_content_region.height
        first, y = self.cursor * self.LINES, self.scroll_offset.y
        if not height:
            # Before the first layout nothing is clamped, and this is what the first frame shows.
            self.set_scroll(0, first)
            return
        if first < y:
            self.scroll_to(y=first, animate=False, immediate=True)
        elif first + self.LINES > y + height:
            self.scroll_to(y=first + self.LINES - height, animate=False, immediate=True)

    def on_resize(self, _event: events.Resize) -> None:
        resize_content(self, Size(self.scrollable_content_region.width, self.count * self.LINES))
        self._reveal()

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, self.count - 1))

    def watch_cursor(self, old: int, new: int) -> None:
        self._reveal()
        for index in (old, new):
            for line in range(self.LINES):
                self.refresh_line(index * self.LINES + line)
        self.post_message(self.Highlighted(self, new))

    # -- drawing

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._style_cache.clear()

    def style(self, name: str) -> Style:
        """Return a text style on the background of the list."""
        cached = self._style_cache.get(name)
        if cached is None:
            base = self.rich_style
            cached = self._style_cache[name] = base + named_style(self, name) if name else base
        return cached

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index, line = divmod(self.scroll_offset.y + y, self.LINES)
        base = self.style("")
        if index >= self.count:
            hint = wrap(self.empty(), max(1, width - 2))[y : y + 1] if not self.count else []
            return Strip([Segment(f" {line}", self.style("dim")) for line in hint]).adjust_cell_length(width, base)
        segments = [Segment(text, self.style(name)) for text, name in self.spans(index, line, width) if text]
        strip = Strip(segments).adjust_cell_length(width, base)
        if index == self.cursor:
            cursor = self.style("cursor" if self.has_focus else "cursor-blurred")
            # In focus, only the cursor's own colour is certain to be readable on its background.
            over = cursor if self.has_focus else Style(bgcolor=cursor.bgcolor)
            strip = Strip([Segment(text, (style or base) + over) for text, style, _ in strip], strip.cell_length)
        return strip

    # -- keys and mouse

    def action_move(self, by: int) -> None:
        self.cursor += by

    def action_page(self, by: int) -> None:
        self.cursor += by * max(1, self.rows_visible - 1)

    def action_choose(self) -> None:
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def row_at(self, y: int) -> int | None:
        """Return the row at a line of the widget, None below the last."""
        index = (self.scroll_offset.y + y) // self.LINES
        return index if index < self.count else None

    def on_click(self, event: events.Click) -> None:
        index = self.row_at(event.y)
        if index is None:
            return
        self.cursor = index
        if event.chain > 1:
            self.action_choose()
