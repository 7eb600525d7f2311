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

_BASE = ("messages", "session_state", "compactions", "usage_rounds")
OWNERLESS = 1_000
"""For each table, how many sessions that no longer exist are reported."""


class TreeNode(Struct, frozen=True, gc=False):
    """A session, with what it says of its parent."""

    key: int
    id: Any
    parent: Any
    depth: Any
    subagent: bool
    created_at: int


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
    found = tree_nodes(conn, layout)
    position = {one.id: at for at, one in reversed(list(enumerate(found)))}
    parents = [position.get(one.parent, -1) if one.parent is not None else -1 for one in found]
    for at, one in enumerate(found):
        if one.parent is not None and parents[at] < 0:
            yield check_result(
                "orphan",
                Severity.WARNING,
                _spot(layout, one),
                f"Its parent {str(one.parent)[:60]!r} is gone; a session that gets this id would adopt it.",
                choices={
                    Choice("detach", "let it stand by itself, as a root"): [
                        Edit("sessions", one.key, {"parent_session_id": None}, _spot(layout, one))
                    ]
                },
            )
    for circle in _circles(parents):
        cut = min(circle, key=lambda at: (found[at].created_at, found[at].key))
        parents[cut] = -1
        one, many = found[cut], len(circle)
        what = "It is its own parent" if many == 1 else f"It and {many - 1} others are each other's parents in a circle"
        yield check_result(
            "parent-cycle",
            Severity.ERROR,
            _spot(layout, one),
            f"{what}: power-loop can close none of them.",
            "The oldest of them loses the link and stands by itself.",
            [Edit("sessions", one.key, {"parent_session_id": None}, _spot(layout, one))],
        )
    if layout.has("sessions", "spawn_depth"):
        yield from _depths(layout, found, parents)


def _spot(layout: Layout, one: TreeNode) -> Spot:
    return Spot(Ref(layout.prefix, id_text(one.key, one.id)))


def _circles(parents: list[int]) -> Iterator[list[int]]:
    seen = bytearray(len(parents))
    for start in range(len(parents)):
        path: list[int] = []
        at = start
        while at >= 0 and not seen[at]:
            seen[at] = 1
            path.append(at)
            at = parents[at]
        if at >= 0 and seen[at] == 1:
            yield path[path.index(at) :]
        for done in path:
            seen[done] = 2


def _depths(layout: Layout, found: list[TreeNode], parents: list[int]) -> Iterator[CheckResult]:
    """Check depths: a child is one deeper than its parent.

    One that outlived its parent keeps its depth, and so do those below.
    """
    right: list[int | None] = [None] * len(found)
    for start in range(len(found)):
        path: list[int] = []
        at = start
        while at >= 0 and right[at] is None:
            path.append(at)
            at = parents[at]
        depth = right[at] if at >= 0 else None
        for at in reversed(path):
            one = found[at]
            if depth is None:
                outlived = one.subagent or one.parent is not None
                depth = one.depth if outlived and type(one.depth) is int and one.depth >= 0 else 0
            else:
                depth += 1
            right[at] = depth
    for at, one in enumerate(found):
        if one.depth != right[at] or type(one.depth) is not int:
            yield check_result(
                "wrong-depth",
                Severity.WARNING,
                _spot(layout, one),
                f"Its depth is {str(one.depth)[:20]}, "
                f"but by its parents it is {right[at]}, which limits what it may spawn.",
                f"Its depth becomes {right[at]}.",
                [Edit("sessions", one.key, {"spawn_depth": right[at]}, _spot(layout, one))],
            )


def check_owners(conn: sqlite3.Connection, layout: Layout) -> Iterator[CheckResult]:
    """Find rows whose session does not exist, one finding for each table and session."""
    for table in (*_BASE, *sorted(layout.tables.keys() - set(_BASE))):
        if table == "sessions" or not layout.has(table, "session_id"):
            continue
        name = layout.table(table)
        for id_, many in conn.execute(
            f"SELECT session_id, count(*) FROM {name} WHERE session_id IS NOT NULL AND NOT EXISTS "
            f"(SELECT 1 FROM {layout.table('sessions')} WHERE session_id = {name}.session_id) "
            "GROUP BY session_id LIMIT ?",
            (OWNERLESS,),
        ).fetchall():
            yield _without_owner(conn, layout, table, id_, many)


def _without_owner(conn: sqlite3.Connection, layout: Layout, table: str, id_: Any, many: int) -> CheckResult:
    place = Spot(Ref(layout.prefix, str(id_)[:200]))
    rowids = [
        rowid
        for (rowid,) in conn.execute(
            f"SELECT rowid FROM {layout.table(table)} WHERE session_id = ? ORDER BY rowid", (id_,)
        )
    ]
    choices = {}
    if table == "messages":
        adopt = Choice("adopt", "make a session for them, so that they can be read")
        choices[adopt] = _adopted(conn, layout, id_, place)
    choices[Choice("remove", "delete them; they are kept aside")] = [
        Edit(table, rowid, None, place) for rowid in rowids
    ]
    code = {"messages": "ownerless-messages", "session_state": "ownerless-state"}.get(table, "ownerless-rows")
    rows = f"1 row of {table}" if many == 1 else f"{many:,} rows of {table}"
    return check_result(
        code,
        Severity.WARNING,
        place,
        f"{rows} {'belongs' if many == 1 else 'belong'} to a session that is "
        "not there: nothing shows them, and a session that gets this id would take them.",
        choices=choices,
    )


def _adopted(conn: sqlite3.Connection, layout: Layout, id_: Any, place: Spot) -> list[Edit]:
    first, last, highest = conn.execute(
        f"SELECT min(created_at), max(created_at), max(seq) FROM {layout.table('messages')} "
        "WHERE session_id = ? AND typeof(seq) = 'integer'",
        (id_,),
    ).fetchone()
    values = {
        "session_id": id_,
        "created_at": first or 0,
        "updated_at": last or 0,
        "config_json": "{}",
        "metadata_json": "{}",
    }
    edits = [
        Edit("sessions", None, {name: value for name, value in values.items() if layout.has("sessions", name)}, place)
    ]
    state = conn.execute(f"SELECT 1 FROM {layout.table('session_state')} WHERE session_id = ?", (id_,)).fetchone()
    if state is None:
        edits.append(Edit("session_state", None, {"session_id": id_, "next_seq": (highest or 0) + 1}, place))
    return edits
