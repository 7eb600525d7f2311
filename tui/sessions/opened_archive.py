"""An open archive: its session table and the summaries that were read so far.

A node is a number that stands for a line of the session tree. The archive's index is in its high bits, the position in
that archive's session table in its low bits. A negative node is an archive or, with more in its high bits, a group.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

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
    StoreError,
)

POSITION_BITS = 40
"""How many low bits of a node hold the position."""
POSITION_MASK = (1 << POSITION_BITS) - 1
"""The bits of a node that hold the position."""
CACHED_SUMMARIES = 4_000
"""How many summaries of an archive are kept."""


class OpenedArchive:
    """One open archive, with what was read of it, what the doctor found in it, and what can be undone in it."""

    def __init__(self, index: int, archive: Archive) -> None:
        """`index` is its place among the open archives."""
        self.index, self.archive = index, archive
        self.reader = archive.reader()
        self.name = archive.info.name
        """Its name among the open archives."""
        self.capabilities = archive.info.capabilities
        self.session_table = SessionTable()
        self.complete = False
        """Whether the session table holds all sessions."""
        self.previews: dict[int, str] = {}
        """Previews by storage key, kept longer than summaries."""
        self.trouble: str | None = None
        """Why summaries could not be read, for the next notice."""
        self.busy = False
        """Whether the last such read may succeed later."""
        self.sick: dict[Ref, Severity] = {}
        """The worst finding of each session, as of the last look of the doctor."""
        self.undos: list[Action] = []
        """The actions that undo what was done here, the newest last."""
        self._unreadable: set[int] = set()
        """Storage keys of sessions whose summary could not be read."""
        self._ordered: tuple[Order, list[int]] | None = None
        self._grouped: tuple[Order, dict[int, list[int]]] | None = None
        self._groups: dict[str, int] = {}
        """The number of each group. It stays the same whatever a later session table holds."""
        self._summaries: OrderedDict[int, SessionSummary] = OrderedDict()

    # -- what was done

    def done(self, action: Action, receipt: Receipt) -> None:
        """Remember how an action can be undone. If it was itself an undo, forget it."""
        if action in self.undos:
            self.forget_undo(action)
        elif receipt.undo is not None:
            self.undos.append(receipt.undo)

    def forget_undo(self, action: Action) -> None:
        """Offer an action no longer as undo."""
        self.undos = [undo for undo in self.undos if undo != action]

    # -- nodes

    def node(self, position: int) -> int:
        """Return the node of a session by its position in the session table."""
        return (self.index << POSITION_BITS) | position

    def find(self, key: int, session_id: str) -> int | None:
        """Return the node of a session by its storage key and id, None if it no longer exists."""
        position = self.session_table.find(key)
        return None if position is None or self.session_table.ids[position] != session_id else self.node(position)

    def group(self, name: str) -> int:
        """Return the node of a group."""
        number = self._groups.setdefault(name, len(self._groups))
        return -(((number + 1) << POSITION_BITS) | (self.index + 1))

    def group_name(self, node: int) -> str | None:
        """Return the name of a group by its node, None if the node is an archive."""
        number = (-node >> POSITION_BITS) - 1
        if number < 0:
            return None
        return next((name for name, known_number in self._groups.items() if known_number == number), None)

    def group_of(self, position: int) -> int | None:
        """Return the node of the group that a session without a parent is in, None if it is in none."""
        name = self.session_table.groups.get(position)
        return self.group(name) if name is not None and self.session_table.parents[position] < 0 else None

    # -- the session table

    def replace(self, session_table: SessionTable, complete: bool, keep: bool = False) -> None:
        """Take a newer session table. `keep` says that the summaries read so far are still true."""
        self.session_table, self.complete, self._ordered, self._grouped = session_table, complete, None, None
        if not keep:
            self._summaries.clear()

    def ordered(self, order: Order) -> list[int]:
        """Return all positions in order. They are sorted once for each session table."""
        if self._ordered is None or self._ordered[0] is not order:
            self._ordered = order, self.session_table.sorted(range(len(self.session_table)), order)
        return self._ordered[1]

    def grouped(self, order: Order) -> dict[int, list[int]]:
        """Return, for the node of each group, the nodes of its sessions in order."""
        if self._grouped is None or self._grouped[0] is not order:
            nodes_by_group: dict[int, list[int]] = {}
            for position in self.session_table.roots(order) if self.session_table.groups else ():
                if (group := self.group_of(position)) is not None:
                    nodes_by_group.setdefault(group, []).append(self.node(position))
            self._grouped = order, nodes_by_group
        return self._grouped[1]

    # -- summaries and previews

    def summary(self, position: int) -> SessionSummary | None:
        """Return a summary that was loaded, None if it was not."""
        return self._summaries.get(self.session_table.keys[position])

    def load(self, positions: Iterable[int]) -> None:
        """Read the summaries of sessions that are not cached, with one bounded read."""
        missing = {
            key: position for position in positions if (key := self.session_table.keys[position]) not in self._summaries
        }
        if not missing:
            return
        summaries = self._read(list(missing))
        self.keep(summaries)
        for key in missing.keys() - {summary.key for summary in summaries}:
            # Without this it would be read again for each frame. The next session table or retry clears it.
            self._summaries[key] = self._unreadable_summary(missing[key])
            self._unreadable.add(key)
        while len(self._summaries) > CACHED_SUMMARIES:
            self._summaries.popitem(last=False)

    def keep(self, summaries: Iterable[SessionSummary]) -> None:
        """Cache summaries that were just read."""
        for summary in summaries:
            self._summaries[summary.key] = summary
            self.previews[summary.key] = summary.preview

    def keep_previews(self, session_table: SessionTable, previews: dict[int, str]) -> None:
        """Keep previews that were read, unless the session table has changed and a key may mean another session."""
        if session_table is self.session_table:
            self.previews.update(previews)

    def forget(self, keys: Iterable[int]) -> None:
        """Drop what was read of sessions that changed, by their storage keys."""
        for key in keys:
            self._summaries.pop(key, None)
            self.previews.pop(key, None)

    def retry(self) -> bool:
        """Let the sessions that could not be read be read again. Return False if there are none."""
        self.trouble = None
        keys, self._unreadable = self._unreadable, set()
        self.forget(keys)
        return bool(keys)

    def _read(self, keys: list[int]) -> list[SessionSummary]:
        """Read summaries by storage keys. If some are damaged, the others are read all the same."""
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

    def _unreadable_summary(self, position: int) -> SessionSummary:
        """Return what is shown for a session whose summary cannot be read."""
        session_table = self.session_table
        return SessionSummary(
            Ref(self.archive.info.layout, session_table.ids[position]),
            session_table.keys[position],
            None,
            "root",
            "",
            "",
            session_table.titles.get(position),
            "",
            Count(session_table.sizes[position], False),
            Count(0, False),
            0,
            session_table.created[position],
            session_table.updated[position],
            damage=("cannot be read now",),
        )
