"""The previews: every session that passes the filter, as a flat list, with its first words."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import ClassVar

from sessionscope.tui.sessions.session_catalog import Key, SessionCatalog
from sessionscope.tui.text import session_lines

from .virtual_list import Span, VirtualList


class PreviewList(VirtualList):
    """Two lines for each session: title and counts, then the preview and the time of the last change."""

    LINES: ClassVar[int] = 2
    HELP = """\
### Previews
All sessions, subagents too, in the order of the tree: title or first words, then the first thing the user said.

- `enter` opens the session and selects it in the tree, `t` sorts, `/` filters
"""

    def __init__(self, catalog: SessionCatalog, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.catalog = catalog
        self._shown: array[int] = array("q")
        self._key: Key | None = None

    @property
    def node(self) -> int | None:
        return self._shown[self.cursor] if self.count else None

    @property
    def first(self) -> int | None:
        """The first session of the list."""
        return self._shown[0] if self.count else None

    def rebuild(self, keep: bool = True) -> None:
        """Show the catalog as it is now. With `keep`, the cursor stays on its session and at its place."""
        offset = self.cursor - self.top
        self._shown = self.catalog.listed()
        node = self.catalog.node(self._key) if keep and self._key is not None else None
        cursor = self._shown.index(node) if node is not None and node in self._shown else 0
        self.set_count(len(self._shown), cursor, max(0, cursor - offset))
        self._remember()

    def _remember(self) -> None:
        self._key = self.catalog.key(self.node) if self.node is not None else None

    def watch_cursor(self, old: int, new: int) -> None:
        super().watch_cursor(old, new)
        self._remember()

    def select(self, node: int) -> None:
        """Put the cursor on a session without posting a message."""
        if node in self._shown:
            with self.prevent(VirtualList.Highlighted):
                self.cursor = self._shown.index(node)

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        node = self._shown[index]
        if self.catalog.summary(node) is None:
            self.catalog.load(self._shown[max(0, index - 4) : index + self.rows_visible + 4])
        return session_lines.preview_line(
            self.catalog.summary(node), line, width, self.catalog.key(node) in self.catalog.marked
        )

    def empty(self) -> str:
        return "nothing matches" if self.catalog.words else "no sessions yet"
