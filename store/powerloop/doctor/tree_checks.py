"""Checks of the session tree: missing parents, parent cycles, wrong depths, and rows without a session."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from sessionscope.store.model.findings import Choice, Severity
from sessionscope.store.model.rows import Ref, Spot
from sessionscope.store.powerloop.format.decode import number
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.read.sessions import id_text
from sessionscope.store.rules.values import Damages

from .check_results import CheckResult, check_result
from .edits import Edit

_BASE_TABLES = ("messages", "session_state", "compactions", "usage_rounds")
"""The tables that every release has; they are checked first."""
MAX_MISSING_SESSIONS = 1_000
"""For how many missing sessions findings are made for each table."""
NO_PARENT = -1
"""The index of the parent of a node without one."""


class TreeNode(Struct, frozen=True, gc=False):
    """A session and the values by which it belongs to the tree, as they are stored."""

    key: int
    id: Any
    parent: Any
    """The id of its parent."""
    depth: Any
    subagent: bool
    created_at: int
    """In milliseconds, 0 if it is not an integer."""


def tree_nodes(conn: sqlite3.Connection, layout: Layout) -> list[TreeNode]:
    """Return every session, in storage order."""
    columns = ", ".join(
        layout.column("sessions", name) for name in ("parent_session_id", "spawn_depth", "kind", "created_at")
    )
    ignored = Damages()
    return [
        TreeNode(key, id_, parent, depth, kind == "subagent", number(created, "", ignored) or 0)
        for key, id_, parent, depth, kind, created in conn.execute(
            f"SELECT rowid, session_id, {columns} FROM {layout.table('sessions')} ORDER BY rowid"
        )
    ]


def check_tree(conn: sqlite3.Connection, layout: Layout) -> Iterator[CheckResult]:
    """Check parents, cycles and depths. Reads all sessions."""
    if not layout.has("sessions", "parent_session_id"):
        return
    nodes = tree_nodes(conn, layout)
    parents = _parents(nodes)
    yield from _missing_parents(layout, nodes, parents)
    for cycle in list(_cycles(parents)):
        oldest = min(cycle, key=lambda index: (nodes[index].created_at, nodes[index].key))
        # The fix cuts the cycle here, and depths are only defined without cycles.
        parents[oldest] = NO_PARENT
        yield _parent_cycle(layout, nodes[oldest], len(cycle))
    if layout.has("sessions", "spawn_depth"):
        yield from _wrong_depths(layout, nodes, parents)


def _spot(layout: Layout, node: TreeNode) -> Spot:
    return Spot(Ref(layout.prefix, id_text(node.key, node.id)))


def _parents(nodes: list[TreeNode]) -> list[int]:
    """Return the index of each node's parent, NO_PARENT if it names none or one that does not exist."""
    index_by_id: dict[Any, int] = {}
    for index, node in enumerate(nodes):
        index_by_id.setdefault(node.id, index)
    return [NO_PARENT if node.parent is None else index_by_id.get(node.parent, NO_PARENT) for node in nodes]


def _missing_parents(layout: Layout, nodes: list[TreeNode], parents: list[int]) -> Iterator[CheckResult]:
    """Find sessions whose parent does not exist."""
    for node, parent in zip(nodes, parents, strict=True):
        if node.parent is None or parent != NO_PARENT:
            continue
        spot = _spot(layout, node)
        yield check_result(
            "orphan",
            Severity.WARNING,
            spot,
            f"Its parent {str(node.parent)[:60]!r} is gone; a session that gets this id would adopt it.",
            choices={
                Choice("detach", "let it stand by itself, as a root"): [
                    Edit("sessions", node.key, {"parent_session_id": None}, spot)
                ]
            },
        )


def _parent_cycle(layout: Layout, oldest: TreeNode, length: int) -> CheckResult:
    """Return the finding about a parent cycle of `length` sessions, at the oldest of them."""
    spot = _spot(layout, oldest)
    problem = "It is its own parent"
    if length > 1:
        problem = f"It and {length - 1} others are each other's parents in a circle"
    return check_result(
        "parent-cycle",
        Severity.ERROR,
        spot,
        f"{problem}: power-loop can close none of them.",
        "The oldest of them loses the link and stands by itself.",
        [Edit("sessions", oldest.key, {"parent_session_id": None}, spot)],
    )


def _cycles(parents: list[int]) -> Iterator[list[int]]:
    """Yield each cycle as the indexes of its nodes."""
    new, on_path, done = 0, 1, 2
    status = bytearray(len(parents))
    for start in range(len(parents)):
        path: list[int] = []
        index = start
        while index != NO_PARENT and status[index] == new:
            status[index] = on_path
            path.append(index)
            index = parents[index]
        if index != NO_PARENT and status[index] == on_path:
            yield path[path.index(index) :]
        for visited in path:
            status[visited] = done


def _wrong_depths(layout: Layout, nodes: list[TreeNode], parents: list[int]) -> Iterator[CheckResult]:
    """Find sessions whose stored depth does not follow from their parents. `parents` must be without cycles."""
    for node, depth in zip(nodes, _expected_depths(nodes, parents), strict=True):
        if node.depth == depth and type(node.depth) is int:
            continue
        spot = _spot(layout, node)
        yield check_result(
            "wrong-depth",
            Severity.WARNING,
            spot,
            f"Its depth is {str(node.depth)[:20]}, but by its parents it is {depth}, which limits what it may spawn.",
            f"Its depth becomes {depth}.",
            [Edit("sessions", node.key, {"spawn_depth": depth}, spot)],
        )


def _expected_depths(nodes: list[TreeNode], parents: list[int]) -> list[int]:
    """Return the depth of each node: one more than its parent's. `parents` must be without cycles."""
    depths: list[int | None] = [None] * len(nodes)
    for start in range(len(nodes)):
        # Go up to a node whose depth is known, or past the top; then down again.
        path: list[int] = []
        index = start
        while index != NO_PARENT and depths[index] is None:
            path.append(index)
            index = parents[index]
        depth = depths[index] if index != NO_PARENT else None
        for below in reversed(path):
            depth = _top_depth(nodes[below]) if depth is None else depth + 1
            depths[below] = depth
    return [depth or 0 for depth in depths]


def _top_depth(node: TreeNode) -> int:
    """Return the depth of a node without a parent: 0 for a root; a subagent that outlived its parent keeps its own."""
    outlived_parent = node.subagent or node.parent is not None
    if outlived_parent and type(node.depth) is int and node.depth >= 0:
        return node.depth
    return 0


def check_owners(conn: sqlite3.Connection, layout: Layout) -> Iterator[CheckResult]:
    """Find rows whose session does not exist, one finding for each table and session."""
    for table in (*_BASE_TABLES, *sorted(layout.tables.keys() - set(_BASE_TABLES))):
        if table == "sessions" or not layout.has(table, "session_id"):
            continue
        name = layout.table(table)
        for id_, count in conn.execute(
            f"SELECT session_id, count(*) FROM {name} WHERE session_id IS NOT NULL AND NOT EXISTS "
            f"(SELECT 1 FROM {layout.table('sessions')} WHERE session_id = {name}.session_id) "
            "GROUP BY session_id LIMIT ?",
            (MAX_MISSING_SESSIONS,),
        ).fetchall():
            yield _without_session(conn, layout, table, id_, count)


def _without_session(conn: sqlite3.Connection, layout: Layout, table: str, id_: Any, count: int) -> CheckResult:
    """Return the finding about the `count` rows of a table whose session does not exist."""
    spot = Spot(Ref(layout.prefix, str(id_)[:200]))
    choices = {}
    if table == "messages":
        adopt = Choice("adopt", "make a session for them, so that they can be read")
        choices[adopt] = _create_session(conn, layout, id_, spot)
    rowids = conn.execute(
        f"SELECT rowid FROM {layout.table(table)} WHERE session_id = ? ORDER BY rowid", (id_,)
    ).fetchall()
    remove = Choice("remove", "delete them; they are kept aside")
    choices[remove] = [Edit(table, rowid, None, spot) for (rowid,) in rowids]
    code = {"messages": "ownerless-messages", "session_state": "ownerless-state"}.get(table, "ownerless-rows")
    rows, belong = ("1 row", "belongs") if count == 1 else (f"{count:,} rows", "belong")
    return check_result(
        code,
        Severity.WARNING,
        spot,
        f"{rows} of {table} {belong} to a session that is "
        "not there: nothing shows them, and a session that gets this id would take them.",
        choices=choices,
    )


def _create_session(conn: sqlite3.Connection, layout: Layout, id_: Any, spot: Spot) -> list[Edit]:
    """Return the edits that create a session, and its bookkeeping if that is missing, for messages without one."""
    first_time, last_time, highest = conn.execute(
        f"SELECT min(created_at), max(created_at), max(seq) FROM {layout.table('messages')} "
        "WHERE session_id = ? AND typeof(seq) = 'integer'",
        (id_,),
    ).fetchone()
    values = {
        "session_id": id_,
        "created_at": first_time or 0,
        "updated_at": last_time or 0,
        "config_json": "{}",
        "metadata_json": "{}",
    }
    existing_columns = {column: value for column, value in values.items() if layout.has("sessions", column)}
    edits = [Edit("sessions", None, existing_columns, spot)]
    state = conn.execute(f"SELECT 1 FROM {layout.table('session_state')} WHERE session_id = ?", (id_,)).fetchone()
    if state is None:
        edits.append(Edit("session_state", None, {"session_id": id_, "next_seq": (highest or 0) + 1}, spot))
    return edits
