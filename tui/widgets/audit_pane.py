"""The compactions of a session, with what each compacted and what it saved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType

from sessionscope.store import Archived, Audit, Compaction
from sessionscope.tui.text import compaction_lines, glyphs
from sessionscope.tui.text.fitting import fit

from .virtual_list import Span, VirtualList


class AuditPane(VirtualList):
    """Three lines for each compaction, the newest first.

    After them come rows that no compaction explains, and summaries from a log.
    """

    LINES: ClassVar[int] = 3
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "u",
            "screen.uncompact",
            "Take back",
            id="compactions.uncompact",
            tooltip="take the compaction under the cursor back",
        ),
    ]
    HELP = """\
### Compactions
What was folded into which note, how many rows that really took, tokens before and after, and what is odd.

- the note of the fold under the cursor stands in the inspector; `enter` shows the folded rows in the timeline, \
`esc` goes back to all rows
- `u` takes the compaction under the cursor back: its rows are in the context again
- `▤` a summary from nanobot's `memory/history.jsonl`, which keeps every one that was ever written
- `recorded` stands in the file, `inferred` was worked out from it, `unknown` means that more than one answer fits
"""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.audit = Audit([])
        self.hint = ""

    def show(self, audit: Audit | None, hint: str = "no compaction yet") -> None:
        """Show the compactions of another session, or None while they are read. Keep the cursor on the same number."""
        number = compaction.number if (compaction := self.compaction) else None
        self.audit = audit or Audit([])
        self.hint = hint
        compactions = self.audit.compactions[::-1]
        cursor = next((at for at, compaction in enumerate(compactions) if compaction.number == number), 0)
        self.set_count(len(compactions) + bool(self.audit.unexplained) + len(self.audit.archived or ()), cursor)

    @property
    def compaction(self) -> Compaction | None:
        """The compaction under the cursor, None if there is none."""
        compactions = self.audit.compactions
        return compactions[-1 - self.cursor] if self.cursor < len(compactions) else None

    @property
    def entry(self) -> Archived | None:
        """The summary from a log under the cursor, None if there is none."""
        return self._entry(self.cursor)

    def _entry(self, index: int) -> Archived | None:
        at, entries = index - len(self.audit.compactions) - bool(self.audit.unexplained), self.audit.archived or ()
        return entries[-1 - at] if 0 <= at < len(entries) else None

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """The compacted rows under the cursor, as runs of seqs."""
        if (compaction := self.compaction) is not None:
            return compaction.set_runs
        return self.audit.unexplained if self.entry is None else ()

    def select(self, number: int) -> None:
        """Put the cursor on a compaction by its number."""
        for index, compaction in enumerate(reversed(self.audit.compactions)):
            if compaction.number == number:
                self.cursor = index

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        compactions = self.audit.compactions
        if index < len(compactions):
            return compaction_lines.compaction_lines(compactions[-1 - index], width)[line]
        if (entry := self._entry(index)) is not None:
            return compaction_lines.archived_lines(entry, self.audit.source, width)[line]
        rows = sum(last - first + 1 for first, last in self.audit.unexplained)
        texts = (f" {glyphs.DAMAGE} {rows} folded row{'s' if rows != 1 else ''}", "    that no compaction explains", "")
        return [(fit(texts[line], width), "damage" if line == 0 else "dim")]

    def empty(self) -> str:
        return self.hint
