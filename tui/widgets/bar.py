"""One line of text, with one part at the left and one at the right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from sessionscope.tui.text.styles import named_style

Piece = tuple[str, str] | tuple[str, str, str]
"""Text, style name, and maybe the action that a click runs."""
LEAST_LEFT = 12
"""How many cells the left needs before it leaves room to the right."""


class Bar(Widget):
    """The title of a pane, or of the whole screen. Its text is never markup."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    Bar {
        height: 1;
        width: 1fr;
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._left: Sequence[Piece] = ()
        self._right: Sequence[Piece] = ()
        self._base: Style | None = None

    def show(self, left: Sequence[Piece], right: Sequence[Piece] = ()) -> None:
        """Show other pieces. Nothing is painted if they are the same."""
        if (left, right) != (self._left, self._right):
            self._left, self._right = left, right
            self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._base = None

    def _segments(self, pieces: Sequence[Piece]) -> list[Segment]:
        if self._base is None:
            # Computing it walks all ancestors, so it is done once for each style sheet.
            self._base = self.rich_style
        segments = []
        for text, name, *action in pieces:
            style = self._base + named_style(self, name) if name else self._base
            segments.append(Segment(text, style + Style(meta={"@click": action[0]}) if action else style))
        return segments

    def render_line(self, _y: int) -> Strip:
        width = self.size.width
        left, right = Strip(self._segments(self._left)), Strip(self._segments(self._right))
        if width - right.cell_length < min(LEAST_LEFT, left.cell_length):
            right = Strip([])
        room = max(0, width - right.cell_length)
        # A gap, so that a cut left part does not touch the right one.
        left = left.crop(0, room - 1) if right.cell_length and left.cell_length >= room else left
        return Strip.join([left.adjust_cell_length(room, self._base), right])


class KeyBar(Bar):
    """The keys that do something now. A click on one does the same."""

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self._update())
        self._update()

    def _update(self) -> None:
        pieces: list[Piece] = []
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled:
                action = binding.action if "." in binding.action else f"screen.{binding.action}"
                pieces += [
                    (f" {self.app.get_key_display(binding)}", "tab", action),
                    (f" {binding.description} ", "dim", action),
                ]
        self.show(pieces)
