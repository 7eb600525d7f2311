"""A list in which a range of rows can be selected, with keys or by dragging."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from .virtual_list import AboutRow, VirtualList


class RangedList(VirtualList):
    """Selects the rows from one end, where the range began, to the other, which shift or the held cursor moves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("shift+down,J", "stretch(1)", "Range down", show=False, id="range.down"),
        Binding("shift+up,K", "stretch(-1)", "Range up", show=False, id="range.up"),
        Binding("space", "hold", "Mark rows", show=False, id="range.mark"),
    ]

    class RangeChanged(AboutRow):
        """Other rows are selected now, or none. `index` is the end that moved."""

        def can_replace(self, message: object) -> bool:
            return isinstance(message, RangedList.RangeChanged) and message.view is self.view

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.markable = True
        """Whether rows can be selected: only if something can be done with them."""
        self._ends: tuple[int, int] | None = None
        self._held = False
        """Whether the cursor moves the second end."""
        self._pressed: int | None = None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.markable or action not in ("stretch", "hold")

    @property
    def marked(self) -> tuple[int, int] | None:
        """The first and the last row of the range, None if none is selected."""
        return (min(self._ends), max(self._ends)) if self._ends is not None else None

    def is_marked(self, index: int) -> bool:
        return self._ends is not None and min(self._ends) <= index <= max(self._ends)

    def mark(self, first: int, last: int) -> None:
        """Select a range. Keys move its end at `last`."""
        self._held = False
        self._set((first, last), last)

    def move_ends(self, first: int, last: int) -> None:
        """Select the same rows at their new places."""
        if self._ends is not None:
            self._ends = (first, last) if self._ends[0] <= self._ends[1] else (last, first)

    def unmark(self) -> bool:
        """Select nothing. Return False if nothing was selected."""
        there, self._held = self._ends is not None, False
        if there:
            self._set(None, self.cursor)
        return there

    def _set(self, ends: tuple[int, int] | None, index: int) -> None:
        if ends != self._ends:
            self._ends = ends
            self.refresh()
            self.post_message(self.RangeChanged(self, index))

    def watch_cursor(self, old: int, new: int) -> None:
        super().watch_cursor(old, new)
        if self._held and self._ends is not None:
            self._set((self._ends[0], new), new)

    # -- keys

    def action_stretch(self, by: int) -> None:
        """Move the second end of the range. If none is selected, it begins under the cursor."""
        if not self.count:
            return
        first, last = self._ends or (self.cursor, self.cursor)
        self.cursor = last + by
        self._set((first, self.cursor), self.cursor)

    def action_hold(self) -> None:
        """Begin a range under the cursor that the cursor stretches. A second time, the range stays as it is."""
        if self._held:
            self._held = False
        elif self.count:
            self._held = True
            self._set((self.cursor, self.cursor), self.cursor)

    # -- mouse

    def on_mouse_down(self, event: events.MouseDown) -> None:
        index = self.row_at(event.y)
        if event.button != 1 or index is None or not self.markable:
            return
        if event.shift:
            first = self._ends[0] if self._ends is not None else self.cursor
            self.mark(first, index)
        self._pressed = index

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._pressed is None or event.button != 1 or event.shift:
            return
        # Above or below the list, the next rows scroll into it.
        index = max(0, min((self.scroll_offset.y + event.y) // self.LINES, self.count - 1))
        if index != self._pressed or self._ends is not None:
            self.capture_mouse()
            self.cursor = index
            self.mark(self._pressed, index)

    def on_leave(self, _event: events.Leave) -> None:
        # A drag that began elsewhere does not begin a range here.
        if self.app.mouse_captured is not self:
            self._pressed = None

    def on_mouse_up(self, _event: events.MouseUp) -> None:
        self._pressed = None
        self.release_mouse()
