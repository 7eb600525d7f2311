"""All sessions of an archive as flat arrays: the tree, its orders and its filter. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct

from .rows import Place

NONE = -1


class Order(StrEnum):
    """What sessions are sorted by, the newest, largest or latest first."""

    ACTIVITY = "activity"
    CREATED = "created"
    SIZE = "size"


class TableEntry(Struct, frozen=True, gc=False):
    """One session of a session table. `size` is in messages, times are epoch milliseconds.

    `group` is the group that a session without a parent is in. `parent_key` is the storage key of the parent, for
    archives whose ids may not be unique.
    """

    key: int
    id: str
    parent_id: str | None
    created_at: int
    updated_at: int
    size: int
    compactions: int
    subagent: bool
    title: str | None
    group: str | None = None
    parent_key: int | None = None


class Changes(Struct, frozen=True):
    """The storage keys of sessions that differ between two session tables of one archive."""

    appended: set[int]
    edited: set[int]
    added: set[int]
    gone: set[int]

    def __bool__(self) -> bool:
        return bool(self.appended or self.edited or self.added or self.gone)


class SessionTable:
    """Sessions by position, 0 to n - 1 in order of creation, as a tree.

    A session whose parent is not here is a root of its own. A parent cycle is cut at its smallest key.
    """

    def __init__(self, entries: Iterable[TableEntry] = ()) -> None:
        # Column by column, since there may be hundreds of thousands.
        all_ = list(entries)
        self.keys = array("q", [entry.key for entry in all_])
        self.created = array("q", [entry.created_at for entry in all_])
        self.updated = array("q", [entry.updated_at for entry in all_])
        self.sizes = array("q", [entry.size for entry in all_])
        self.compactions = array("q", [entry.compactions for entry in all_])
        self.ids = [entry.id for entry in all_]
        self.titles = {position: entry.title for position, entry in enumerate(all_) if entry.title}
        self.groups = {position: entry.group for position, entry in enumerate(all_) if entry.group is not None}
        """The group of each session that is in one, by position."""
        parent_ids = {position: entry.parent_id for position, entry in enumerate(all_) if entry.parent_id is not None}
        self.parents = array("q", [NONE]) * len(all_)
        """The position of the parent of each session, `NONE` for a root."""
        # Of sessions with the same id, the first is the parent.
        positions = {id_: position for position, id_ in reversed(list(enumerate(self.ids)))} if parent_ids else {}
        for position, parent_id in parent_ids.items():
            self.parents[position] = positions.get(parent_id, NONE)
        for position, entry in enumerate(all_):
            if entry.parent_key is not None:
                parent = self.find(entry.parent_key)
                self.parents[position] = NONE if parent is None else parent
        self._cuts = self._cut_cycles() if any(position != NONE for position in self.parents) else set()
        self._orphans = {position for position in parent_ids if self.parents[position] == NONE}
        self._survivors = {
            position for position, entry in enumerate(all_) if entry.subagent and entry.parent_id is None
        }
        self._first, self._children = self._adjacency()
        self._haystack: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def _cut_cycles(self) -> set[int]:
        """Make the smallest key of each parent cycle a root, and return these."""
        cuts: set[int] = set()
        seen = bytearray(len(self.ids))
        for start in range(len(self.ids)):
            path: list[int] = []
            current = start
            while current != NONE and not seen[current]:
                seen[current] = 1
                path.append(current)
                current = self.parents[current]
            if current != NONE and seen[current] == 1:
                circle = path[path.index(current) :]
                cut = min(circle, key=self.keys.__getitem__)
                self.parents[cut] = NONE
                cuts.add(cut)
            for done in path:
                seen[done] = 2
        return cuts

    def _adjacency(self) -> tuple[array[int], array[int]]:
        """Return the children of all sessions as one array, and where those of each begin.

        Those of the roots come last.
        """
        count = len(self.ids)
        first = array("q", bytes(8 * (count + 2)))
        if not any(parent != NONE for parent in self.parents):
            first[count + 1] = count
            return first, array("q", range(count))
        for parent in self.parents:
            first[(count if parent == NONE else parent) + 1] += 1
        for index in range(count + 1):
            first[index + 1] += first[index]
        fill = array("q", first)
        children = array("q", bytes(8 * count))
        for index, parent in enumerate(self.parents):
            slot = count if parent == NONE else parent
            children[fill[slot]] = index
            fill[slot] += 1
        return first, children

    def place_in_tree(self, at: int) -> Place:
        """Return the place of a session in the tree, and why."""
        if at in self._cuts:
            return Place.CYCLE
        if at in self._orphans:
            return Place.ORPHAN
        if at in self._survivors:
            return Place.SURVIVOR
        return Place.ROOT if self.parents[at] == NONE else Place.CHILD

    def child_count(self, at: int) -> int:
        """Return how many direct children a session has."""
        return self._first[at + 1] - self._first[at]

    def children(self, at: int, order: Order = Order.ACTIVITY) -> list[int]:
        """Return the positions of direct children, in order."""
        return self.sorted(self._children[self._first[at] : self._first[at + 1]], order)

    def roots(self, order: Order = Order.ACTIVITY) -> list[int]:
        """Return the positions of all sessions without a parent here, in order.

        These are roots, survivors, orphans and the cuts of cycles.
        """
        count = len(self.ids)
        return self.sorted(self._children[self._first[count] : self._first[count + 1]], order)

    def sorted(self, positions: Iterable[int], order: Order) -> list[int]:
        """Return positions with the latest, newest or largest first, and ties by creation, the newest first."""
        by = {Order.ACTIVITY: self.updated, Order.CREATED: self.created, Order.SIZE: self.sizes}[order]
        return sorted(positions, key=lambda at: (by[at], at), reverse=True)

    def depth(self, at: int) -> int:
        """Return the steps from the root; 0 for a root."""
        depth = 0
        while (at := self.parents[at]) != NONE:
            depth += 1
        return depth

    def ancestors(self, at: int) -> list[int]:
        """Return the positions from the root down to the parent."""
        line: list[int] = []
        while (at := self.parents[at]) != NONE:
            line.append(at)
        return line[::-1]

    def find(self, key: int) -> int | None:
        """Return the position of a session by its storage key."""
        if self._positions is None:
            self._positions = {key: at for at, key in enumerate(self.keys)}
        return self._positions.get(key)

    _positions: dict[int, int] | None = None

    def matching(self, words: Sequence[str], also: set[int] | None = None) -> list[int]:
        """Return the positions of sessions whose id or title holds every word, in any case, and those in `also`."""
        if self._haystack is None:
            self._haystack = [f"{id_}\n{self.titles.get(at, '')}".casefold() for at, id_ in enumerate(self.ids)]
        needles = [word.casefold() for word in words]
        extra = also or set()
        return [
            at for at, text in enumerate(self._haystack) if at in extra or all(needle in text for needle in needles)
        ]

    def changes(self, later: SessionTable) -> Changes:
        """Return what differs in a later session table."""
        appended: set[int] = set()
        edited: set[int] = set()
        added: set[int] = set()
        before = {key: at for at, key in enumerate(self.keys)}
        for at, key in enumerate(later.keys):
            was = before.pop(key, None)
            if was is None or self.ids[was] != later.ids[at]:
                added.add(key)
            elif self.compactions[was] != later.compactions[at] or self.sizes[was] > later.sizes[at]:
                edited.add(key)
            elif self.sizes[was] < later.sizes[at]:
                appended.add(key)
            elif (self.updated[was], self.titles.get(was)) != (later.updated[at], later.titles.get(at)):
                edited.add(key)
        return Changes(appended, edited, added, set(before))
