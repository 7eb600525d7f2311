"""Help for the focused pane, and every key."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen

from sessionscope.tui.text.describe import Block
from sessionscope.tui.text.styles import StyledScreen
from sessionscope.tui.widgets.inspector import Inspector


class Help(StyledScreen[None], ModalScreen[None]):
    """A dialog over the browser. Any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", show=False),
    ]

    def __init__(self, text: str, screen: Screen[Any]) -> None:
        super().__init__()
        self._text, self._over = text, screen

    def compose(self) -> ComposeResult:
        self._sheet = Inspector(id="help")
        yield self._sheet

    def on_mount(self) -> None:
        # A dialog that was closed while it opened has no screen to show itself on.
        if self._sheet.is_attached:
            self._sheet.show([Block((), self._text), Block(tuple(self._keys()))])
            self._sheet.focus()

    def _keys(self) -> list[tuple[str, str]]:
        spans: list[tuple[str, str]] = [("\nEvery key\n", "accent")]
        shown: dict[str, list[str]] = {}
        for active in self._over.active_bindings.values():
            binding = active.binding
            if binding.description and not binding.system:
                shown.setdefault(binding.description, []).append(self.app.get_key_display(binding))
        for description, keys in sorted(shown.items()):
            spans += [(f"{' '.join(keys):>12}  ", "strong"), (f"{description}\n", "")]
        return spans
