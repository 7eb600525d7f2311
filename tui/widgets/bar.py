"""One line of text with something at its left and something at its right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.widget import Widget

Piece = tuple[str, str] | tuple[str, str, str]
"""Text, style name, and maybe the action that a click runs."""


class Bar(Widget):
    """The title of a pane, or of the whole screen. Text never is markup."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "bar--dim", "bar--strong", "bar--title", "bar--accent", "bar--note", "bar--damage",
    }
    DEFAULT_CSS = """
    Bar {
        height: 1;
        width: 1fr;
        & > .bar--dim { color: $text-muted; }
        & > .bar--strong { text-style: bold; }
        link-style: none;
        link-color: $text-muted;
        & > .bar--title { color: $text-accent; text-style: bold; }
        & > .bar--accent { color: $text-accent; text-style: bold underline; }
        & > .bar--note { color: $text-warning; }
        & > .bar--damage { color: $text-error; text-style: bold; }
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
            style = self.get_component_rich_style(f"bar--{name}") if name else Style()
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
