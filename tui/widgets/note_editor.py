"""The editor of a note. Nothing that is typed or pasted into it is interpreted by the terminal."""

from __future__ import annotations

import re

from rich.text import Text
from textual.widgets import TextArea

from sessionscope.tui.text.visible import visible

_HIDDEN = re.compile(r"[^\s\w]|[\x0b-\x1f\x85\u2028\u2029]")
UNSHOWN = "\N{REPLACEMENT CHARACTER}"


class NoteEditor(TextArea):
    """A text area without line numbers and without syntax colours."""

    def __init__(self, text: str = "", *, id: str | None = None) -> None:
        super().__init__(
            text,
            id=id,
            soft_wrap=True,
            show_line_numbers=False,
            compact=True,
            tab_behavior="focus",
            highlight_cursor_line=False,
            placeholder="what the model will know of what leaves",
        )

    def get_line(self, line_index: int) -> Text:
        """Return a line with one character for each of its own, so that the cursor is where it seems to be."""
        return Text(_shown(self.document.get_line(line_index)), end="", no_wrap=True)


def _shown(line: str) -> str:
    shown = visible(line)
    return shown if len(shown) == len(line) and "\t" not in line else _HIDDEN.sub(_one, line)


def _one(found: re.Match[str]) -> str:
    # The editor itself lays out tabs.
    shown = visible(found[0]) if found[0] != "\t" else "\t"
    return shown if len(shown) == 1 else UNSHOWN
