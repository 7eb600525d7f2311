"""The one-line prompt at the bottom of the screen, for filters, texts to find, numbers and limits."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label

HINT = " enter ok · esc leave "
LABELS = {"filter": " filter ", "find": " find ", "seq": " go to seq ", "limits": " messages [tokens] "}


class Prompt(Horizontal):
    """Hidden until something is asked. Arrow keys move the list behind it."""

    DEFAULT_CSS = """
    Prompt {
        height: 1;
        dock: bottom;
        layer: drawer;
        display: none;
        background: $surface-lighten-1;
        & Label { width: auto; color: $text-accent; text-style: bold; }
        & .hint { color: $text-muted; text-style: none; }
        & Input { width: 1fr; min-width: 4; background: $surface-lighten-1; }
        & Input:focus { background: $surface-lighten-1; }
    }
    """

    class Answered(Message):
        """Enter was pressed."""

        def __init__(self, what: str, text: str) -> None:
            super().__init__()
            self.what, self.text = what, text

    class Dismissed(Message):
        """Escape was pressed."""

        def __init__(self, what: str) -> None:
            super().__init__()
            self.what = what

    class Moved(Message):
        """An arrow key was pressed."""

        can_bubble: ClassVar[bool] = True

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    what = ""

    async def ask(self, what: str, text: str = "") -> None:
        """Show the prompt for one of `LABELS` and take the focus."""
        if not self.children:
            # Made on first use: nothing is asked before the first frame.
            await self.mount(
                Label("", markup=False),
                Input(select_on_focus=False, compact=True),
                Label(HINT, classes="hint", markup=False),
            )
            self.query_one(Input).cursor_blink = False
        self.what = what
        self.display = True
        self.query(Label).first().update(LABELS[what])
        field = self.query_one(Input)
        with self.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        field.focus()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.display = False
        self.post_message(self.Answered(self.what, event.value))

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            self.display = False
            self.post_message(self.Dismissed(self.what))
        elif event.key in ("up", "down") and self.what == "filter":
            event.stop()
            self.post_message(self.Moved(1 if event.key == "down" else -1))
