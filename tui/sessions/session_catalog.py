"""The sessions of all open archives, as the tree and the list ask for them: nodes in order, filtered, with summaries.

A node is a number: the archive's place in the high bits, the session's position in that archive's session table in the
low ones. A negative node is an archive itself, with more in its high bits one of the groups that its sessions stand in.
"""

from __future__ import annotations

from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from sessionscope.store import (
    Action,
    Archive,
    Busy,
    Count,
    Damaged,
    Order,
    Receipt,
    Ref,
    SessionSummary,
    SessionTable,
    Severity,
    Stamp,
    StoreError,
)

SHIFT = 40
LOW = (1 << SHIFT) - 1
CACHED, FLAT = 4_000, 5_000


Key = tuple[int, int | None, str]
"""A session for longer than a session table lasts: archive, key and id. Keys are given anew, so the id has to fit; a
group has its name instead, an archive itself neither."""


class OpenedArchive:
    """One open archive: its session table as far as it is known, and the summaries that were looked at."""

    def __init__(self, index: int, archive: Archive) -> None:
        self.index, self.archive = index, archive
        self.reader = archive.reader()
        self.name = archive.info.name
        """What to call the archive among those that are open."""
        self.capabilities = archive.info.capabilities
        self.session_table = SessionTable()
        self.complete = False
        self.stamp: Stamp = ()
        self.previews: dict[int, str] = {}
        self.trouble: str | None = None
        """Why summaries could not be read, until somebody says so."""
        self.busy = False
        self.lost: set[int] = set()
        self.sick: dict[Ref, Severity] = {}
        """What the doctor thinks of sessions, by the last time that somebody asked."""
        self.undos: list[Action] = []
        """What takes back that which was done here, the last at the end."""
        self._ordered: tuple[Order, list[int]] | None = None
        self._grouped: tuple[Order, dict[int, list[int]]] | None = None
        self._groups: dict[str, int] = {}
        """Numbers of groups, which stay the same whatever a later session table says."""
        self._summaries: OrderedDict[int, SessionSummary] = OrderedDict()

    def done(self, action: object, receipt: Receipt) -> None:
        """Notes how something that was done is taken back, or that it was."""
        if action in self.undos:
            self.undos = [undo for undo in self.undos if undo != action]
        elif receipt.undo is not None:
            self.undos.append(receipt.undo)

    def node(self, at: int) -> int:
        """The node of a session by its position."""
        return (self.index << SHIFT) | at

    def group(self, name: str) -> int:
        """The node of a group."""
        number = self._groups.setdefault(name, len(self._groups))
        return -(((number + 1) << SHIFT) | (self.index + 1))

    def group_name(self, node: int) -> str | None:
        """The name of a group by its node, None for an archive's."""
        number = (-node >> SHIFT) - 1
        return next((name for name, known in self._groups.items() if known == number), None) if number >= 0 else None

    def grouped(self, order: Order) -> dict[int, list[int]]:
        """The nodes of the sessions in each group by its node, in order; worked out once a session table."""
        if self._grouped is None or self._grouped[0] is not order:
            found: dict[int, list[int]] = {}
            for at in self.session_table.roots(order) if self.session_table.groups else ():
                if (group := self.group_of(at)) is not None:
                    found.setdefault(group, []).append(self.node(at))
            self._grouped = order, found
        return self._grouped[1]

    def group_of(self, at: int) -> int | None:
        """The node of the group that a session without a parent stands in, None where it is in none."""
        name = self.session_table.groups.get(at)
        return self.group(name) if name is not None and self.session_table.parents[at] < 0 else None

    def find(self, key: int, id_: str) -> int | None:
        """The node of a session, None when it is gone."""
        at = self.session_table.find(key)
        return None if at is None or self.session_table.ids[at] != id_ else self.node(at)

    def replace(self, session_table: SessionTable, complete: bool, keep: bool = False) -> None:
        """Takes a newer session table; `keep` says that the summaries read so far are still true."""
        self.session_table, self.complete, self._ordered, self._grouped = session_table, complete, None, None
        if not keep:
            self._summaries.clear()

    def forget(self, keys: Iterable[int]) -> None:
        """Drops the summaries of sessions that changed."""
        for key in keys:
            self._summaries.pop(key, None)
            self.previews.pop(key, None)

    def load(self, positions: Iterable[int]) -> None:
        """Makes sure that these sessions' summaries are at hand. One bounded read for those that are not."""
        missing = {key: at for at in positions if (key := self.session_table.keys[at]) not in self._summaries}
        if not missing:
            return
        found = self._read(list(missing))
        self.keep(found)
        for key in missing.keys() - {summary.key for summary in found}:
            # Nothing would be asked for again and again; the next session table or retry clears it.
            self._summaries[key] = self._lost(missing[key])
            self.lost.add(key)
        while len(self._summaries) > CACHED:
            self._summaries.popitem(last=False)

    def keep(self, summaries: Iterable[SessionSummary]) -> None:
        """Takes summaries that were just read."""
        for summary in summaries:
            self._summaries[summary.key] = summary
            self.previews[summary.key] = summary.preview

    def _read(self, keys: list[int]) -> list[SessionSummary]:
        """Summaries as far as they can be read: one that cannot does not take the others along."""
        self.busy = False
        try:
            return self.reader.summaries(keys)
        except Damaged as error:
            self.trouble = str(error)
            half = len(keys) // 2
            return self._read(keys[:half]) + self._read(keys[half:]) if half else []
        except StoreError as error:
            self.trouble, self.busy = str(error), isinstance(error, Busy)
            return []

    def _lost(self, at: int) -> SessionSummary:
        """What stands for a session that cannot be read or is gone."""
        session_table = self.session_table
        return SessionSummary(
            Ref(self.archive.info.layout, session_table.ids[at]),
            session_table.keys[at],
            None,
            "root",
            "",
            "",
            session_table.titles.get(at),
            "",
            Count(session_table.sizes[at], False),
            Count(0, False),
            0,
            session_table.created[at],
            session_table.updated[at],
            damage=("cannot be read now",),
        )

    def retry(self) -> bool:
        """Forgets what could not be read, so that it is asked for again; whether there was any."""
        self.trouble = None
        lost, self.lost = self.lost, set()
        self.forget(lost)
        return bool(lost)

    def ordered(self, order: Order) -> list[int]:
        """All positions in order, sorted once a session table."""
        if self._ordered is None or self._ordered[0] is not order:
            self._ordered = order, self.session_table.sorted(range(len(self.session_table)), order)
        return self._ordered[1]

    def summary(self, at: int) -> SessionSummary | None:
        """A summary that was loaded, None where it was not."""
        return self._summaries.get(self.session_table.keys[at])


class SessionCatalog:
    """What is open, in which order and through which filter it is shown."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self.opened_archives = [OpenedArchive(index, archive) for index, archive in enumerate(archives)]
        names = Counter(opened_archive.name for opened_archive in self.opened_archives)
        for opened_archive in self.opened_archives:
            if names[opened_archive.name] > 1:
                opened_archive.name = f"{Path(opened_archive.archive.info.location).parent.name}/{opened_archive.name}"
        self.order = Order.ACTIVITY
        self.words: tuple[str, ...] = ()
        self.marked: set[Key] = set()
        """Sessions that somebody marked, to do something with all of them."""
        self.preview_matches: dict[int, set[int]] = {}
        """By archive, the keys of sessions whose preview matches."""

    def opened_archive(self, node: int) -> OpenedArchive:
        """The archive of a node."""
        return self.opened_archives[(-node & LOW) - 1 if node < 0 else node >> SHIFT]

    def summary(self, node: int) -> SessionSummary | None:
        """A node's summary, None for an archive or where it was not loaded."""
        return None if node < 0 else self.opened_archive(node).summary(node & LOW)

    def load(self, nodes: Iterable[int]) -> None:
        """Makes sure that these nodes' summaries are at hand. One bounded read an archive."""
        wanted: dict[int, list[int]] = {}
        for node in nodes:
            if node >= 0:
                wanted.setdefault(node >> SHIFT, []).append(node & LOW)
        for index, positions in wanted.items():
            self.opened_archives[index].load(positions)

    def key(self, node: int) -> Key:
        """What a node is, in terms that outlive a session table."""
        opened_archive = self.opened_archive(node)
        if node < 0:
            return opened_archive.index, None, opened_archive.group_name(node) or ""
        return (
            opened_archive.index,
            opened_archive.session_table.keys[node & LOW],
            opened_archive.session_table.ids[node & LOW],
        )

    def node(self, key: Key) -> int | None:
        """The node of a key, None when the session is gone."""
        index, session, id_ = key
        if session is None:
            return self.opened_archives[index].group(id_) if id_ else -index - 1
        return self.opened_archives[index].find(session, id_)

    def node_of(self, opened_archive: OpenedArchive, ref: Ref) -> int | None:
        """The node of a session by its ref. One bounded read; raises StoreError."""
        key = opened_archive.reader.key(ref)
        return None if key is None else opened_archive.find(key, ref.id)

    # -- filter

    def filter(self, text: str) -> None:
        """Shows only sessions whose id or title holds every word; previews are matched by whoever can wait."""
        self.words = tuple(text.split())
        self.preview_matches = {}

    def matches(self, opened_archive: OpenedArchive) -> list[int]:
        """Positions that pass the filter, in order."""
        keys = self.preview_matches.get(opened_archive.index, set())
        also = {at for key in keys if (at := opened_archive.session_table.find(key)) is not None}
        return opened_archive.session_table.sorted(opened_archive.session_table.matching(self.words, also), self.order)

    # -- what is shown

    def listed(self) -> array[int]:
        """All sessions that pass the filter as nodes, over all archives, in order."""
        lists = [
            (opened_archive, self.matches(opened_archive) if self.words else opened_archive.ordered(self.order))
            for opened_archive in self.opened_archives
        ]
        if len(lists) == 1:
            opened_archive, positions = lists[0]
            return array("q", map(opened_archive.node, positions))
        nodes = [
            (self._value(opened_archive, at), opened_archive.node(at))
            for opened_archive, positions in lists
            for at in positions
        ]
        return array("q", (node for _, node in sorted(nodes, key=lambda pair: pair[0], reverse=True)))

    def _value(self, opened_archive: OpenedArchive, at: int) -> int:
        session_table = opened_archive.session_table
        return {
            Order.ACTIVITY: session_table.updated,
            Order.CREATED: session_table.created,
            Order.SIZE: session_table.sizes,
        }[self.order][at]

    def tree(self, expanded: set[int]) -> tuple[array[int], array[int]]:
        """The visible tree as nodes and depths: `opened` nodes show their children. A filter opens what it found."""
        nodes, depths = array("q"), array("q")
        several = len(self.opened_archives) > 1
        for opened_archive in self.opened_archives:
            top = -opened_archive.index - 1
            if several:
                nodes.append(top)
                depths.append(0)
            if self.words:
                self._filtered(opened_archive, nodes, depths, int(several))
            elif top in expanded or not several:
                self._subtree(opened_archive, top, int(several), expanded, nodes, depths)
        return nodes, depths

    def branch(self, node: int, depth: int, expanded: set[int]) -> tuple[array[int], array[int]]:
        """What unfolding a node shows below it."""
        nodes, depths = array("q"), array("q")
        self._subtree(self.opened_archive(node), node, depth + 1, expanded, nodes, depths)
        return nodes, depths

    def groups(self) -> set[int]:
        """The nodes of all groups."""
        return {group for opened_archive in self.opened_archives for group in opened_archive.grouped(self.order)}

    def path(self, node: int) -> set[int]:
        """The nodes that must be open for a session to be seen."""
        opened_archive = self.opened_archive(node)
        if node < 0:
            return set()
        ancestors = opened_archive.session_table.ancestors(node & LOW)
        group = opened_archive.group_of(ancestors[0] if ancestors else node & LOW)
        return (
            {opened_archive.node(at) for at in ancestors}
            | ({group} if group is not None else set())
            | ({-opened_archive.index - 1} if len(self.opened_archives) > 1 else set())
        )

    def children(self, node: int) -> Sequence[int]:
        """What stands right below a node, in order."""
        opened_archive = self.opened_archive(node)
        if node >= 0:
            return [opened_archive.node(at) for at in opened_archive.session_table.children(node & LOW, self.order)]
        if opened_archive.group_name(node) is not None:
            return opened_archive.grouped(self.order).get(node, [])
        return _grouped(opened_archive, opened_archive.session_table.roots(self.order))

    def _subtree(
        self,
        opened_archive: OpenedArchive,
        node: int,
        depth: int,
        expanded: set[int],
        nodes: array[int],
        depths: array[int],
    ) -> None:
        top = self.children(node)
        if not any(
            inner != -opened_archive.index - 1 and self.opened_archive(inner) is opened_archive for inner in expanded
        ):
            nodes.extend(top)
            depths.extend(array("q", [depth]) * len(top))
            return
        stack = [(inner, depth) for inner in reversed(top)]
        while stack:
            node, level = stack.pop()
            nodes.append(node)
            depths.append(level)
            if node in expanded:
                stack += [(inner, level + 1) for inner in reversed(self.children(node))]

    def _filtered(self, opened_archive: OpenedArchive, nodes: array[int], depths: array[int], depth: int) -> None:
        found = self.matches(opened_archive)
        if len(found) > FLAT:
            nodes.extend(map(opened_archive.node, found))
            depths.extend(array("q", [depth]) * len(found))
            return
        shown = set(found)
        for at in found:
            while (at := opened_archive.session_table.parents[at]) >= 0 and at not in shown:
                shown.add(at)
        roots = opened_archive.session_table.sorted(
            (at for at in shown if opened_archive.session_table.parents[at] < 0), self.order
        )
        inside: dict[int | None, list[int]] = {}
        for at in roots:
            inside.setdefault(opened_archive.group_of(at), []).append(at)
        stack = [(node, depth) for node in reversed(_grouped(opened_archive, roots))]
        while stack:
            node, level = stack.pop()
            nodes.append(node)
            depths.append(level)
            inner = (
                inside[node]
                if node < 0
                else [at for at in opened_archive.session_table.children(node & LOW, self.order) if at in shown]
            )
            stack += [(opened_archive.node(at), level + 1) for at in reversed(inner)]


def _grouped(opened_archive: OpenedArchive, roots: Sequence[int]) -> Sequence[int]:
    """Sessions without a parent as nodes, each group in the place of the first of its own."""
    if not opened_archive.session_table.groups:
        return array("q", map(opened_archive.node, roots))
    return list(
        dict.fromkeys(
            group if (group := opened_archive.group_of(at)) is not None else opened_archive.node(at) for at in roots
        )
    )
