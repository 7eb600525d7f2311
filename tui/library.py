"""The sessions of all open archives, as the tree and the list ask for them: nodes in order, filtered, with summaries.

A node is a number: the archive's place in the high bits, the session's position in that archive's census in the low
ones. A negative node is an archive itself.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from msgspec import Struct

from store import Archive, Census, Order, Ref, SessionSummary, Stamp

SHIFT = 40
LOW = (1 << SHIFT) - 1
CACHED, FLAT = 4_000, 5_000


class Row(Struct, frozen=True, gc=False):
    """One visible line of the tree."""

    node: int
    depth: int


class Shelf:
    """One open archive: its census as far as it is known, and the summaries that were looked at."""

    def __init__(self, index: int, archive: Archive) -> None:
        self.index, self.archive = index, archive
        self.reader = archive.reader()
        self.census = Census()
        self.complete = False
        self.stamp: Stamp = ()
        self.previews: dict[int, str] = {}
        self._summaries: OrderedDict[int, SessionSummary] = OrderedDict()

    def node(self, at: int) -> int:
        """The node of a session by its position."""
        return (self.index << SHIFT) | at

    def replace(self, census: Census, complete: bool, keep: bool = False) -> None:
        """Takes a newer census; `keep` says that the summaries read so far are still true."""
        self.census, self.complete = census, complete
        if not keep:
            self._summaries.clear()

    def forget(self, keys: Iterable[int]) -> None:
        """Drops the summaries of sessions that changed."""
        for key in keys:
            self._summaries.pop(key, None)
            self.previews.pop(key, None)

    def load(self, positions: Iterable[int]) -> None:
        """Makes sure that these sessions' summaries are at hand. One bounded read for those that are not."""
        keys = [key for at in positions if (key := self.census.keys[at]) not in self._summaries]
        if not keys:
            return
        for summary in self.reader.summaries(keys):
            self._summaries[summary.key] = summary
            self.previews[summary.key] = summary.preview
        while len(self._summaries) > CACHED:
            self._summaries.popitem(last=False)

    def summary(self, at: int) -> SessionSummary | None:
        """A summary that was loaded, None where it was not or the session is gone."""
        return self._summaries.get(self.census.keys[at])


class Library:
    """What is open, in which order and through which filter it is shown."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self.shelves = [Shelf(index, archive) for index, archive in enumerate(archives)]
        self.order = Order.ACTIVITY
        self.words: tuple[str, ...] = ()
        self.preview_matches: dict[int, set[int]] = {}

    def shelf(self, node: int) -> Shelf:
        """The archive of a node."""
        return self.shelves[-node - 1 if node < 0 else node >> SHIFT]

    def summary(self, node: int) -> SessionSummary | None:
        """A node's summary, None for an archive or where it was not loaded."""
        return None if node < 0 else self.shelf(node).summary(node & LOW)

    def load(self, nodes: Iterable[int]) -> None:
        """Makes sure that these nodes' summaries are at hand. One bounded read an archive."""
        wanted: dict[int, list[int]] = {}
        for node in nodes:
            if node >= 0:
                wanted.setdefault(node >> SHIFT, []).append(node & LOW)
        for index, positions in wanted.items():
            self.shelves[index].load(positions)

    def key(self, node: int) -> tuple[int, int]:
        """What a node is, in terms that outlive a census: the archive and the session's key."""
        shelf = self.shelf(node)
        return shelf.index, (-1 if node < 0 else shelf.census.keys[node & LOW])

    def node(self, key: tuple[int, int]) -> int | None:
        """The node of a key, None when the session is gone."""
        index, session = key
        if session == -1:
            return -index - 1
        at = self.shelves[index].census.find(session)
        return None if at is None else self.shelves[index].node(at)

    def node_of(self, shelf: Shelf, ref: Ref) -> int | None:
        """The node of a session by its ref."""
        key = shelf.reader.key(ref)
        return None if key is None else self.node((shelf.index, key))

    # -- filter

    def filter(self, text: str) -> None:
        """Shows only sessions whose id or title holds every word; previews are matched by whoever can wait."""
        self.words = tuple(text.split())
        self.preview_matches = {}

    def matches(self, shelf: Shelf) -> list[int]:
        """Positions that pass the filter, in order."""
        found = shelf.census.matching(self.words, self.preview_matches.get(shelf.index))
        return shelf.census.sorted(found, self.order)

    # -- what is shown

    def listed(self) -> array[int]:
        """All sessions that pass the filter as nodes, over all archives, in order."""
        lists = [(shelf, self.matches(shelf) if self.words else self._everything(shelf)) for shelf in self.shelves]
        if len(lists) == 1:
            shelf, positions = lists[0]
            return array("q", map(shelf.node, positions))
        nodes = [(self._value(shelf, at), shelf.node(at)) for shelf, positions in lists for at in positions]
        return array("q", (node for _, node in sorted(nodes, key=lambda pair: pair[0], reverse=True)))

    def _everything(self, shelf: Shelf) -> list[int]:
        return shelf.census.sorted(range(len(shelf.census)), self.order)

    def _value(self, shelf: Shelf, at: int) -> int:
        census = shelf.census
        return {Order.ACTIVITY: census.updated, Order.CREATED: census.created, Order.SIZE: census.sizes}[self.order][at]

    def tree(self, opened: set[int]) -> tuple[array[int], array[int]]:
        """The visible tree as nodes and depths: `opened` nodes show their children. A filter opens what it found."""
        nodes, depths = array("q"), array("q")
        tops = len(self.shelves) > 1
        for shelf in self.shelves:
            if tops:
                nodes.append(-shelf.index - 1)
                depths.append(0)
            if tops and -shelf.index - 1 not in opened and not self.words:
                continue
            if self.words:
                self._filtered(shelf, nodes, depths, int(tops))
                continue
            roots = array("q", map(shelf.node, shelf.census.roots(self.order)))
            inside = [node for node in opened if node >= 0 and node >> SHIFT == shelf.index]
            if not inside:
                nodes.extend(roots)
                depths.extend(array("q", [int(tops)]) * len(roots))
            else:
                self._walk(shelf, roots, int(tops), opened, nodes, depths)
        return nodes, depths

    def branch(self, node: int, depth: int, opened: set[int]) -> tuple[array[int], array[int]]:
        """What unfolding a node shows below it."""
        nodes, depths = array("q"), array("q")
        shelf = self.shelf(node)
        children = shelf.census.roots(self.order) if node < 0 else shelf.census.children(node & LOW, self.order)
        self._walk(shelf, map(shelf.node, children), depth + 1, opened, nodes, depths)
        return nodes, depths

    def _walk(
        self, shelf: Shelf, top: Iterable[int], depth: int, opened: set[int], nodes: array[int], depths: array[int]
    ) -> None:
        stack = [(node, depth) for node in reversed(list(top))]
        while stack:
            node, level = stack.pop()
            nodes.append(node)
            depths.append(level)
            if node in opened:
                children = shelf.census.children(node & LOW, self.order)
                stack += [(shelf.node(at), level + 1) for at in reversed(children)]

    def _filtered(self, shelf: Shelf, nodes: array[int], depths: array[int], depth: int) -> None:
        found = self.matches(shelf)
        if len(found) > FLAT:
            nodes.extend(map(shelf.node, found))
            depths.extend(array("q", [depth]) * len(found))
            return
        shown = set(found)
        for at in found:
            shown.update(shelf.census.ancestors(at))
        stack = [(at, depth) for at in reversed(shelf.census.sorted(
            (at for at in shown if shelf.census.parents[at] < 0), self.order))]
        while stack:
            at, level = stack.pop()
            nodes.append(shelf.node(at))
            depths.append(level)
            children = [child for child in shelf.census.children(at, self.order) if child in shown]
            stack += [(child, level + 1) for child in reversed(children)]
