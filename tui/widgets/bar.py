"""One line of text with something at its left and something at its right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from ..ink import ink

Piece = tuple[str, str] | tuple[str, str, str]
"""Text, style name, and maybe the action that a click runs."""


class Bar(Widget):
    """The title of a pane, or of the whole screen. Text never is markup."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    Bar {
        height: 1;
        width: 1fr;
        & > .bar--dim { color: $text-muted; }
        & > .bar--strong { text-style: bold; }
        link-style: none;
        link-color: $text-muted;
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._left: Sequence[Piece] = ()
        self._right: Sequence[Piece] = ()

    def show(self, left: Sequence[Piece], right: Sequence[Piece] = ()) -> None:
        """Shows other pieces; nothing is painted if they are the same."""
        if (left, right) != (self._left, self._right):
            self._left, self._right = left, right
            self.refresh()

    def _text(self, pieces: Sequence[Piece]) -> Text:
        text = Text(no_wrap=True)
        for content, name, *action in pieces:
            style = ink(self, name) if name else Style()
            text.append(content, style + Style(meta={"@click": action[0]}) if action else style)
        return text

    def render(self) -> Text:
        width = self.size.width
        left, right = self._text(self._left), self._text(self._right)
        room = width - cell_len(right.plain)
        if room < min(12, cell_len(left.plain)):
            right, room = Text(), width
        left.truncate(max(0, room), overflow="ellipsis", pad=True)
        return left + right


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
                pieces += [(f" {self.app.get_key_display(binding)}", "tab", action),
                           (f" {binding.description} ", "dim", action)]
        self.show(pieces)
