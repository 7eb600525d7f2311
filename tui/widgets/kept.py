"""The bundles of an archive: two lines each, the newest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from sessionscope.store import Bundled
from sessionscope.tui.text import session_lines

from .virtual_list import Span, VirtualList


class KeptList(VirtualList):
    """Bundles: what was closed and how much of it, then its first words."""

    LINES: ClassVar[int] = 2
    HELP = """\
### Trash
Sessions that were closed here, each with what went with it. They stay until `trash empty` on the command line.

- `enter` or `r` brings the bundle under the cursor back: the same rows in the same order, nothing is overwritten
- `u` takes the last thing back, `t` shows all that was kept, also what repairs changed
"""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.found: Sequence[Bundled] = ()
        self.hint = ""

    def show(self, found: Sequence[Bundled], hint: str = "") -> None:
        """Show other bundles, and keep the cursor at its place."""
        self.found, self.hint = found, hint
        self.set_count(len(found), max(0, min(self.cursor, len(found) - 1)))

    @property
    def current(self) -> Bundled | None:
        """The bundle under the cursor."""
        return self.found[self.cursor] if self.cursor < len(self.found) else None

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        return session_lines.bundle_line(self.found[index], line, width)

    def empty(self) -> str:
        return self.hint
