"""The sessions of all open archives, as the tree and the previews show them: filtered and sorted."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from sessionscope.store import Archive, Order, Ref, SessionSummary

from .opened_archive import POSITION_BITS, POSITION_MASK, OpenedArchive

MOST_TREE_MATCHES = 5_000
"""Up to how many matching sessions a filter shows as a tree; more are shown flat."""

Key = tuple[int, int | None, str]
"""What a node stands for, in terms that outlast a session table: archive index, storage key and id of the session.

The id must match too, since a storage key can be given to another session. A group has no storage key, and its name
instead of the id. An archive has neither.
"""


class SessionCatalog:
    """The open archives with the order and the filter in which their sessions are shown."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self.opened_archives = [OpenedArchive(index, archive) for index, archive in enumerate(archives)]
        counts = Counter(opened_archive.name for opened_archive in self.opened_archives)
        for opened_archive in self.opened_archives:
            if counts[opened_archive.name] > 1:
                folder = Path(opened_archive.archive.info.location).parent.name
                opened_archive.name = f"{folder}/{opened_archive.name}"
        self.order = Order.ACTIVITY
        self.words: tuple[str, ...] = ()
        """The words of the filter, none if all sessions are shown."""
        self.marked: set[Key] = set()
        """The sessions that the user has marked for an action."""
        self.preview_matches: dict[int, set[int]] = {}
        """The storage keys of sessions whose preview matches the filter, by archive index."""

    # -- nodes

    def opened_archive(self, node: int) -> OpenedArchive:
        """Return the archive of a node."""
        return self.opened_archives[(-node & POSITION_MASK) - 1 if node < 0 else node >> POSITION_BITS]

    def key(self, node: int) -> Key:
        """Return what a node stands for, in terms that outlast the session table."""
        opened_archive = self.opened_archive(node)
        if node < 0:
            return opened_archive.index, None, opened_archive.group_name(node) or ""
        position, session_table = node & POSITION_MASK, opened_archive.session_table
        return opened_archive.index, session_table.keys[position], session_table.ids[position]

    def node(self, key: Key) -> int | None:
        """Return the node of a key, None if the session no longer exists."""
        index, storage_key, name = key
        if storage_key is None:
            return self.opened_archives[index].group(name) if name else -index - 1
        return self.opened_archives[index].find(storage_key, name)

    def node_of(self, opened_archive: OpenedArchive, ref: Ref) -> int | None:
        """Return the node of a session, None if it no longer exists. One bounded read. Raises StoreError."""
        key = opened_archive.reader.key(ref)
        return None if key is None else opened_archive.find(key, ref.id)

    def summary(self, node: int) -> SessionSummary | None:
        """Return the summary of a session, None if it was not loaded or the node is no session."""
        return None if node < 0 else self.opened_archive(node).summary(node & POSITION_MASK)

    def load(self, nodes: Iterable[int]) -> None:
        """Read the summaries of sessions that are not cached, with one bounded read for each archive."""
        positions: dict[int, list[int]] = {}
        for node in nodes:
            if node >= 0:
                positions.setdefault(node >> POSITION_BITS, []).append(node & POSITION_MASK)
        for index, archive_positions in positions.items():
            self.opened_archives[index].load(archive_positions)

    # -- marks, order and filter

    def toggle_mark(self, node: int) -> None:
        """Mark a session, or take its mark away."""
        self.marked ^= {self.key(node)}

    def clear_marks(self) -> bool:
        """Take all marks away. Return False if there were none."""
        any_marked = bool(self.marked)
        self.marked.clear()
        return any_marked

    def marked_nodes(self) -> list[int]:
        """Return the nodes of the marked sessions that still exist."""
        return [node for key in self.marked if (node := self.node(key)) is not None]

    def next_order(self) -> None:
        """Sort by the next order."""
        orders = list(Order)
        self.order = orders[(orders.index(self.order) + 1) % len(orders)]

    def filter(self, text: str) -> None:
        """Show only sessions whose id or title holds every word of a text. `preview_matches` may add more."""
        self.words = tuple(text.split())
        self.preview_matches = {}

    def show_preview_matches(self, opened_archive: OpenedArchive, keys: set[int]) -> None:
        """Let sessions of an archive pass the filter, by their storage keys, since their preview matches."""
        self.preview_matches[opened_archive.index] = keys

    def matches(self, opened_archive: OpenedArchive) -> list[int]:
        """Return the positions of the sessions that pass the filter, in order."""
        session_table = opened_archive.session_table
        keys = self.preview_matches.get(opened_archive.index, set())
        positions = {position for key in keys if (position := session_table.find(key)) is not None}
        return session_table.sorted(session_table.matching(self.words, positions), self.order)

    # -- the previews: a flat list

    def listed(self) -> array[int]:
        """Return the nodes of all sessions that pass the filter, over all archives, in order."""
        if len(self.opened_archives) == 1:
            opened_archive = self.opened_archives[0]
            return array("q", map(opened_archive.node, self._positions(opened_archive)))
        nodes = [
            (self._sort_value(opened_archive, position), opened_archive.node(position))
            for opened_archive in self.opened_archives
            for position in self._positions(opened_archive)
        ]
        nodes.sort(key=lambda value_and_node: value_and_node[0], reverse=True)
        return array("q", (node for _, node in nodes))

    def _positions(self, opened_archive: OpenedArchive) -> list[int]:
        return self.matches(opened_archive) if self.words else opened_archive.ordered(self.order)

    def _sort_value(self, opened_archive: OpenedArchive, position: int) -> int:
        session_table = opened_archive.session_table
        if self.order is Order.ACTIVITY:
            return session_table.updated[position]
        if self.order is Order.CREATED:
            return session_table.created[position]
        return session_table.sizes[position]

    # -- the tree

    def tree(self, expanded: set[int]) -> tuple[array[int], array[int]]:
        """Return the visible nodes of the tree and their depths.

        Nodes in `expanded` show their children. A filter shows every session that passes, below its ancestors.
        """
        nodes, depths = array("q"), array("q")
        several = len(self.opened_archives) > 1
        for opened_archive in self.opened_archives:
            top = -opened_archive.index - 1
            if several:
                nodes.append(top)
                depths.append(0)
            if self.words:
                self._add_matches(opened_archive, nodes, depths, int(several))
            elif top in expanded or not several:
                self._add_subtree(opened_archive, top, int(several), expanded, nodes, depths)
        return nodes, depths

    def branch(self, node: int, depth: int, expanded: set[int]) -> tuple[array[int], array[int]]:
        """Return the nodes and depths that appear below a node of some depth when it is expanded."""
        nodes, depths = array("q"), array("q")
        self._add_subtree(self.opened_archive(node), node, depth + 1, expanded, nodes, depths)
        return nodes, depths

    def groups(self) -> set[int]:
        """Return the nodes of all groups."""
        return {group for opened_archive in self.opened_archives for group in opened_archive.grouped(self.order)}

    def path(self, node: int) -> set[int]:
        """Return the nodes that must be expanded for a session to be visible."""
        if node < 0:
            return set()
        opened_archive = self.opened_archive(node)
        ancestors = opened_archive.session_table.ancestors(node & POSITION_MASK)
        path = set(map(opened_archive.node, ancestors))
        group = opened_archive.group_of(ancestors[0] if ancestors else node & POSITION_MASK)
        if group is not None:
            path.add(group)
        if len(self.opened_archives) > 1:
            path.add(-opened_archive.index - 1)
        return path

    def children(self, node: int) -> Sequence[int]:
        """Return the nodes right below a node, in order."""
        opened_archive = self.opened_archive(node)
        if node >= 0:
            positions = opened_archive.session_table.children(node & POSITION_MASK, self.order)
            return [opened_archive.node(position) for position in positions]
        if opened_archive.group_name(node) is not None:
            return opened_archive.grouped(self.order).get(node, [])
        return _in_groups(opened_archive, opened_archive.session_table.roots(self.order))

    def _add_subtree(
        self,
        opened_archive: OpenedArchive,
        node: int,
        depth: int,
        expanded: set[int],
        nodes: array[int],
        depths: array[int],
    ) -> None:
        """Add all visible nodes below a node."""
        top, archive_node = self.children(node), -opened_archive.index - 1
        if not any(other != archive_node and self.opened_archive(other) is opened_archive for other in expanded):
            # Nothing is expanded: most trees, and much faster for a hundred thousand sessions.
            nodes.extend(top)
            depths.extend(array("q", [depth]) * len(top))
            return
        stack = [(child, depth) for child in reversed(top)]
        while stack:
            child, child_depth = stack.pop()
            nodes.append(child)
            depths.append(child_depth)
            if child in expanded:
                stack += [(grandchild, child_depth + 1) for grandchild in reversed(self.children(child))]

    def _add_matches(self, opened_archive: OpenedArchive, nodes: array[int], depths: array[int], depth: int) -> None:
        """Add the sessions that pass the filter, below their ancestors and in their groups."""
        matches = self.matches(opened_archive)
        if len(matches) > MOST_TREE_MATCHES:
            nodes.extend(map(opened_archive.node, matches))
            depths.extend(array("q", [depth]) * len(matches))
            return
        session_table = opened_archive.session_table
        visible = _with_ancestors(session_table.parents, matches)
        roots = session_table.sorted(
            (position for position in visible if session_table.parents[position] < 0), self.order
        )
        roots_by_group: dict[int | None, list[int]] = {}
        for position in roots:
            roots_by_group.setdefault(opened_archive.group_of(position), []).append(position)
        stack = [(node, depth) for node in reversed(_in_groups(opened_archive, roots))]
        while stack:
            node, node_depth = stack.pop()
            nodes.append(node)
            depths.append(node_depth)
            below = roots_by_group[node] if node < 0 else session_table.children(node & POSITION_MASK, self.order)
            stack += [
                (opened_archive.node(position), node_depth + 1) for position in reversed(below) if position in visible
            ]


def _with_ancestors(parents: Sequence[int], positions: Iterable[int]) -> set[int]:
    """Return positions and those of all their ancestors."""
    result = set(positions)
    for position in list(result):
        ancestor = parents[position]
        while ancestor >= 0 and ancestor not in result:
            result.add(ancestor)
            ancestor = parents[ancestor]
    return result


def _in_groups(opened_archive: OpenedArchive, roots: Sequence[int]) -> Sequence[int]:
    """Return the nodes of sessions without a parent, with each group in the place of its first session."""
    if not opened_archive.session_table.groups:
        return array("q", map(opened_archive.node, roots))
    nodes: dict[int, None] = {}
    for position in roots:
        group = opened_archive.group_of(position)
        nodes[opened_archive.node(position) if group is None else group] = None
    return list(nodes)
