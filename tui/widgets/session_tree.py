"""The session tree: roots and subagents of every archive, folded until asked, as two flat arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from sessionscope.tui.sessions.library import LOW, Key, Library
from sessionscope.tui.text import render

from .virtual_list import Span, VirtualList

AHEAD = 8


class SessionTree(VirtualList):
    """One line a session. `node` is the one under the cursor, None in an empty tree."""

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

    def __init__(self, library: Library, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.library = library
        self.opened: set[int] = set()
        self._met: set[int] = set()
        """Groups that were shown before: a new one is shown open, one that somebody folded stays so."""
        self._shown, self._depths = array("q"), array("q")

    @property
    def node(self) -> int | None:
        return self._shown[self.cursor] if self.count else None

    def rebuild(self, keep: bool = True) -> None:
        """Shows the library as it is now; with `keep`, the cursor stays on its session and at its place."""
        key = self._key
        groups = self.library.groups()
        self.opened |= groups - self._met
        self._met |= groups
        nodes, depths = self.library.tree(self.opened)
        offset = self.cursor - self.top
        self._shown, self._depths = nodes, depths
        cursor = 0
        if keep and key is not None:
            node = self.library.node(key)
            cursor = self._index(node) if node is not None else min(self.cursor, len(nodes) - 1)
        self.set_count(len(nodes), max(0, cursor), max(0, cursor - offset) if keep else 0)
        self._remember()

    def _index(self, node: int) -> int:
        try:
            return self._shown.index(node)
        except ValueError:
            return 0

    # Positions change with the session table, so what must outlive one is kept as keys.
    _key: Key | None = None
    _opened_keys: frozenset[Key] = frozenset()

    def _remember(self) -> None:
        node = self.node if self.cursor < len(self._shown) else None
        self._key = self.library.key(node) if node is not None else None

    def watch_cursor(self, old: int, new: int) -> None:
        super().watch_cursor(old, new)
        self._remember()

    def before_session_table(self) -> None:
        """Remembers, before the library takes a new session table, what is unfolded and where the cursor is."""
        self._remember()
        self._opened_keys = frozenset(self.library.key(node) for node in self.opened)

    def after_session_table(self, keep: bool = True) -> None:
        """Shows the new session table with the same sessions unfolded."""
        nodes = (self.library.node(key) for key in self._opened_keys)
        self.opened = {node for node in nodes if node is not None}
        self.rebuild(keep)

    def select(self, node: int) -> None:
        """Puts the cursor on a session, unfolding what hides it."""
        wanted = self.library.path(node)
        if not wanted <= self.opened:
            self.opened |= wanted
            self.rebuild()
        if node in self._shown:
            self.cursor = self._index(node)
            self._remember()

    # -- drawing

    def spans(self, index: int, line: int, width: int) -> Iterable[Span]:
        node, depth = self._shown[index], self._depths[index]
        if node < 0:
            expanded = node in self.opened or bool(self.library.words)
            group = self.library.shelf(node).group_name(node)
            if group is not None:
                count = self._below(index) if self.library.words else self._children(node)
                return render.group_line(group, depth, expanded, count, width)
            return render.archive_line(self.library.shelf(node), node in self.opened, width)
        if self.library.summary(node) is None:
            start = max(0, index - AHEAD)
            self.library.load(self._shown[start : index + self.rows_visible + AHEAD])
        shelf, at = self.library.shelf(node), node & LOW
        shown = None if not shelf.session_table.child_count(at) else node in self.opened or bool(self.library.words)
        summary = self.library.summary(node)
        sick = shelf.sick.get(summary.ref) if summary is not None else None
        return render.tree_line(
            summary,
            shelf.session_table.place(at),
            depth,
            shown,
            shelf.session_table.child_count(at),
            width,
            sick,
            self.library.key(node) in self.library.marked,
        )

    def empty(self) -> str:
        return "nothing matches" if self.library.words else "no sessions yet"

    # -- folding

    def _children(self, node: int) -> int:
        shelf = self.library.shelf(node)
        if node >= 0:
            return shelf.session_table.child_count(node & LOW)
        return len(shelf.session_table) if shelf.group_name(node) is None else len(self.library.children(node))

    def _below(self, index: int) -> int:
        """How many lines stand below a node."""
        end = index + 1
        while end < self.count and self._depths[end] > self._depths[index]:
            end += 1
        return end - index - 1

    def action_expand(self) -> None:
        node = self.node
        if node is None or self.library.words or not self._children(node):
            return
        if node in self.opened:
            self.cursor += 1
            return
        self.opened.add(node)
        nodes, depths = self.library.branch(node, self._depths[self.cursor], self.opened)
        self._shown[self.cursor + 1 : self.cursor + 1] = nodes
        self._depths[self.cursor + 1 : self.cursor + 1] = depths
        self.set_count(len(self._shown))

    def action_collapse(self) -> None:
        node = self.node
        if node is None:
            return
        depth = self._depths[self.cursor]
        if node in self.opened and not self.library.words:
            self.opened.discard(node)
            end = self.cursor + 1 + self._below(self.cursor)
            del self._shown[self.cursor + 1 : end], self._depths[self.cursor + 1 : end]
            self.set_count(len(self._shown))
            return
        for index in range(self.cursor - 1, -1, -1):
            if self._depths[index] < depth:
                self.cursor = index
                return

    def action_expand_all(self) -> None:
        if self.node is None or self.library.words:
            return
        stack = [self.node]
        while stack:
            node = stack.pop()
            if self._children(node):
                self.opened.add(node)
                stack += self.library.children(node)
        self.rebuild()

    def on_click(self, event: events.Click) -> None:
        index = self.row_at(event.y)
        if index is None:
            return
        at = self._depths[index] * 2
        self.cursor = index
        if event.chain == 1 and at <= event.x <= at + 2 and self._children(self._shown[index]):
            if self._shown[index] in self.opened:
                self.action_collapse()
            else:
                self.action_expand()
        elif event.chain > 1:
            self.action_choose()
        # The base class would do its own part on top of it.
        event.prevent_default()
