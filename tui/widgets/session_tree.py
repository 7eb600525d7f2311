"""The session tree: roots and subagents of every archive, collapsed at first, as two flat arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from sessionscope.tui.sessions.opened_archive import POSITION_MASK
from sessionscope.tui.sessions.session_catalog import Key, SessionCatalog
from sessionscope.tui.text import session_lines

from .virtual_list import Span, VirtualList

AHEAD = 8


class SessionTree(VirtualList):
    """One line for each session. `node` is the one under the cursor, None in an empty tree."""

    HELP = """\
### Sessions
Roots with their subagents folded below them, nanobot's sessions by channel. `▸` has children, `▾` shows them.

- `right`/`l` unfold, `left`/`h` fold or go to the parent, `E` unfold all of a session's subagents
- `enter` opens the session, `t` sorts by activity, creation or size, `/` filters
- `!` orphan: its parent is named but gone. `↥` survivor: it outlived its parent. `↻` a circle of parents, cut here
- `space` marks a session, `x` closes it or all that are marked with what goes with them, `A` archives or reopens
- `✚` the doctor (`r`) found something in it
- `linked`, `detached` and `ephemeral` say what happens to a subagent when its parent closes
- `fork` began as a copy of the session above it, `leftover` is what a save that was cut off left behind
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "expand", "Unfold", show=False, id="tree.unfold"),
        Binding("left,h", "collapse", "Fold", show=False, id="tree.fold"),
        Binding("E", "expand_all", "Unfold all below", show=False, id="tree.unfold_all"),
    ]

    def __init__(self, catalog: SessionCatalog, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.catalog = catalog
        self.expanded: set[int] = set()
        self._met: set[int] = set()
        """Groups that were shown before. A new one is expanded, one that the user collapsed stays collapsed."""
        self._shown, self._depths = array("q"), array("q")

    @property
    def node(self) -> int | None:
        return self._shown[self.cursor] if self.count else None

    def rebuild(self, keep: bool = True) -> None:
        """Show the catalog as it is now. With `keep`, the cursor stays on its session and at its place."""
        key = self._key
        groups = self.catalog.groups()
        self.expanded |= groups - self._met
        self._met |= groups
        nodes, depths = self.catalog.tree(self.expanded)
        offset = self.cursor - self.top
        self._shown, self._depths = nodes, depths
        cursor = 0
        if keep and key is not None:
            node = self.catalog.node(key)
            cursor = self._index(node) if node is not None else min(self.cursor, len(nodes) - 1)
        self.set_count(len(nodes), max(0, cursor), max(0, cursor - offset) if keep else 0)
        self._remember()

    def _index(self, node: int) -> int:
        try:
            return self._shown.index(node)
        except ValueError:
            return 0

    # Positions change with the session table, so what must outlast it is kept as keys.
    _key: Key | None = None
    _expanded_keys: frozenset[Key] = frozenset()

    def _remember(self) -> None:
        node = self.node if self.cursor < len(self._shown) else None
        self._key = self.catalog.key(node) if node is not None else None

    def watch_cursor(self, old: int, new: int) -> None:
        super().watch_cursor(old, new)
        self._remember()

    def before_session_table(self) -> None:
        """Remember what is expanded and where the cursor is, before the catalog takes a new session table."""
        self._remember()
        self._expanded_keys = frozenset(self.catalog.key(node) for node in self.expanded)

    def after_session_table(self, keep: bool = True) -> None:
        """Show the new session table with the same sessions expanded."""
        nodes = (self.catalog.node(key) for key in self._expanded_keys)
        self.expanded = {node for node in nodes if node is not None}
        self.rebuild(keep)

    def select(self, node: int) -> None:
        """Put the cursor on a session, and expand what hides it."""
        path = self.catalog.path(node)
        if not path <= self.expanded:
            self.expanded |= path
            self.rebuild()
        if node in self._shown:
            self.cursor = self._index(node)
            self._remember()

    # -- drawing

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        node, depth = self._shown[index], self._depths[index]
        if node < 0:
            expanded = node in self.expanded or bool(self.catalog.words)
            group = self.catalog.opened_archive(node).group_name(node)
            if group is not None:
                count = self._below(index) if self.catalog.words else self._children(node)
                return session_lines.group_line(group, depth, expanded, count, width)
            return session_lines.archive_line(self.catalog.opened_archive(node), node in self.expanded, width)
        if self.catalog.summary(node) is None:
            start = max(0, index - AHEAD)
            self.catalog.load(self._shown[start : index + self.rows_visible + AHEAD])
        opened_archive, position = self.catalog.opened_archive(node), node & POSITION_MASK
        shown = (
            None
            if not opened_archive.session_table.child_count(position)
            else node in self.expanded or bool(self.catalog.words)
        )
        summary = self.catalog.summary(node)
        sick = opened_archive.sick.get(summary.ref) if summary is not None else None
        return session_lines.tree_line(
            summary,
            opened_archive.session_table.place_in_tree(position),
            depth,
            shown,
            opened_archive.session_table.child_count(position),
            width,
            sick,
            self.catalog.key(node) in self.catalog.marked,
        )

    def empty(self) -> str:
        return "nothing matches" if self.catalog.words else "no sessions yet"

    # -- folding

    def _children(self, node: int) -> int:
        opened_archive = self.catalog.opened_archive(node)
        if node >= 0:
            return opened_archive.session_table.child_count(node & POSITION_MASK)
        return (
            len(opened_archive.session_table)
            if opened_archive.group_name(node) is None
            else len(self.catalog.children(node))
        )

    def _below(self, index: int) -> int:
        """Return how many lines are below a node."""
        end = index + 1
        while end < self.count and self._depths[end] > self._depths[index]:
            end += 1
        return end - index - 1

    def action_expand(self) -> None:
        node = self.node
        if node is None or self.catalog.words or not self._children(node):
            return
        if node in self.expanded:
            self.cursor += 1
            return
        self.expanded.add(node)
        nodes, depths = self.catalog.branch(node, self._depths[self.cursor], self.expanded)
        self._shown[self.cursor + 1 : self.cursor + 1] = nodes
        self._depths[self.cursor + 1 : self.cursor + 1] = depths
        self.set_count(len(self._shown))

    def action_collapse(self) -> None:
        node = self.node
        if node is None:
            return
        depth = self._depths[self.cursor]
        if node in self.expanded and not self.catalog.words:
            self.expanded.discard(node)
            end = self.cursor + 1 + self._below(self.cursor)
            del self._shown[self.cursor + 1 : end], self._depths[self.cursor + 1 : end]
            self.set_count(len(self._shown))
            return
        for index in range(self.cursor - 1, -1, -1):
            if self._depths[index] < depth:
                self.cursor = index
                return

    def action_expand_all(self) -> None:
        if self.node is None or self.catalog.words:
            return
        stack = [self.node]
        while stack:
            node = stack.pop()
            if self._children(node):
                self.expanded.add(node)
                stack += self.catalog.children(node)
        self.rebuild()

    def on_click(self, event: events.Click) -> None:
        index = self.row_at(event.y)
        if index is None:
            return
        at = self._depths[index] * 2
        self.cursor = index
        if event.chain == 1 and at <= event.x <= at + 2 and self._children(self._shown[index]):
            if self._shown[index] in self.expanded:
                self.action_collapse()
            else:
                self.action_expand()
        elif event.chain > 1:
            self.action_choose()
        # The base class would do its own part as well.
        event.prevent_default()
