"""The findings of the doctor: one line each, the worst first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sessionscope.store import Finding, Ref, Severity
from sessionscope.tui.text import finding_lines

from .virtual_list import Span, VirtualList

HEAVIEST_FIRST = list(Severity)


class FindingsList(VirtualList):
    """The findings of one archive. `named` returns what a session is called."""

    HELP = """\
### Doctor
What is wrong or odd, in this archive or in one of its sessions. Looking changes nothing.

- `enter` goes to the place, `esc` back to where you were
- `r` repairs the finding under the cursor, `R` all that have a safe fix; you see what would change first
- `1` to `9` take one of the choices where a person must decide
- `u` takes the last repair back, `d` looks again, `t` this session or all
- `‼` error: something is lost or does not work. `!` warning: wrong, but it works. `·` good to know
"""

    def __init__(self, named: Callable[[Ref], str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._named = named
        self.found: Sequence[Finding] = ()
        self.hint = ""

    def show(self, found: Sequence[Finding], hint: str = "") -> None:
        """Show other findings. Keep the cursor on the same one, or at its place."""
        before = self.current
        self.found, self.hint = found, hint
        cursor = next((at for at, finding in enumerate(found) if finding == before), self.cursor) if before else 0
        self.set_count(len(found), max(0, min(cursor, len(found) - 1)))

    @property
    def current(self) -> Finding | None:
        """The finding under the cursor."""
        return self.found[self.cursor] if self.cursor < len(self.found) else None

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        finding = self.found[index]
        name = self._named(finding.spot.session) if finding.spot.session is not None else ""
        return finding_lines.finding_line(finding, name, width)

    def empty(self) -> str:
        return self.hint
