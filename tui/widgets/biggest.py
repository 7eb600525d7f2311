"""The messages of a context, the biggest first, with the share of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType

from sessionscope.store import Candidate
from sessionscope.tui.text import glyphs, message_lines
from sessionscope.tui.text.clock import human
from sessionscope.tui.text.fitting import fit, one_line
from sessionscope.tui.workers.context_usage import ContextUsage, bar, context_usage_of, share

from .virtual_list import Span, VirtualList

BAR_CELLS = 12
"""Cells of a bar."""
ROOMY = 52
"""From how many cells on there is room for bars."""


class Biggest(VirtualList):
    """One line for each message: seq, role, its size as a bar and in tokens, first words."""

    HELP = """\
### Context
What the model is sent of this session, estimated from the length of each message.

- at the left its messages, the biggest first; `enter` goes to one, `esc` back to where you were
- beside them how much each role takes, what each compaction saved, and how much was sent in each round, where the \
agent recorded that
"""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "Go to it", id="gauge.go")]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.context_usage: ContextUsage = context_usage_of(())
        self.hint = "weighing…"

    def show(self, context_usage: ContextUsage) -> None:
        """Show other messages."""
        self.context_usage, self.hint = context_usage, "the model is sent nothing of it"
        self.set_count(len(context_usage.rows), 0)

    @property
    def current(self) -> Candidate | None:
        """The message under the cursor."""
        rows = self.context_usage.rows
        return rows[self.cursor] if self.cursor < len(rows) else None

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        rows = self.context_usage.rows
        row, most, digits = rows[index], rows[0].tokens, max(3, len(str(max(one.seq for one in rows[:1]))))
        cells = BAR_CELLS if width >= ROOMY else BAR_CELLS // 2
        role = fit(one_line(message_lines.ROLES.get(row.role, row.role)), message_lines.ROLE_CELLS)
        glyph: Span = (glyphs.NOTE, "note") if row.note else ("●", "title")
        left: list[Span] = [
            (f"{row.seq:>{digits}} ", "dim"),
            glyph,
            (f" {role} ", "note" if row.note else "dim"),
            (f"{fit(bar(row.tokens, most, cells), cells)} ", "title"),
            (f"{human(row.tokens):>5} ", ""),
            (f"{share(row.tokens, self.context_usage.tokens):>4} ", "dim"),
        ]
        used = digits + 3 + message_lines.ROLE_CELLS + 1 + cells + 1 + 6 + 5
        return [*left, (fit(one_line(row.head), width - used), "")]

    def empty(self) -> str:
        return self.hint
