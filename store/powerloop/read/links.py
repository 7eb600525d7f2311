"""Links of a row: from a call to its result, from a spawning call to the child session, and back.

power-loop never fills `spawn_tool_call_id`, so the child of a call is mostly inferred from names and times.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from msgspec import Struct

from sessionscope.store.model.rows import Certainty, Link, Ref, ToolCall
from sessionscope.store.powerloop.format.decode import HIGHEST, LOWEST, Cells
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.rules.values import Damages, parse, tool_calls

from .messages import Owner, highest_seq
from .sessions import id_text

SPAWNERS = {"run_agent", "spawn_agent"}
NEAR, CHILDREN, BYTES, FIND_ROWS = 300, 500, 262_144, 5_000


class Caller(Struct, frozen=True):
    """An assistant row that calls tools. `until` gives, by a call's id, the time before which its child was created."""

    seq: int
    created_at: int
    calls: tuple[ToolCall, ...]
    until: dict[str | None, int]


class Child(Struct, frozen=True):
    """A subagent, with what its parent's calls can be matched by."""

    id: str
    created_at: int
    spawn_call: str | None
    spec: str | None


def _callers(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, first: int, last: int, newest_first: bool = False
) -> Iterable[Caller]:
    cells, damages = Cells(conn, layout.name("messages")), Damages()
    rows = conn.execute(
        f"SELECT rowid, seq, {layout.column('messages', 'created_at')}, "
        f"{layout.column('messages', 'tool_call_id')}, typeof(tool_calls_json) FROM {layout.table('messages')} "
        f"WHERE {owner.condition} AND seq BETWEEN ? AND ? AND typeof(seq) = 'integer' "
        f"ORDER BY seq {'DESC' if newest_first else ''}",
        (owner.value, max(first, LOWEST), min(last, HIGHEST)),
    ).fetchall()
    times = {
        answers: created for _, _, created, answers, _ in rows if isinstance(answers, str) and isinstance(created, int)
    }
    # A call without a result here may have one further on. Then its child was created before whatever follows the last
    # row.
    whole = not rows or max(row[1] for row in rows) < last
    end = HIGHEST if whole else max((row[2] for row in rows if isinstance(row[2], int)), default=HIGHEST)
    for rowid, seq, created, _, kind in rows:
        stored, size = cells.head("tool_calls_json", rowid, kind, BYTES, "tool_calls", damages)
        if size and size <= BYTES:
            calls = tool_calls(parse(stored, "tool_calls", damages), damages)
            if calls:
                until = {call.id: times.get(call.id or "", end) for call in calls}
                yield Caller(seq, created if isinstance(created, int) else 0, calls, until)


def _children(conn: sqlite3.Connection, layout: Layout, parent: Owner) -> list[Child]:
    if not layout.has("sessions", "parent_session_id"):
        return []
    damages, cells = Damages(), Cells(conn, layout.name("sessions"))
    columns = ", ".join(layout.column("sessions", column) for column in ("created_at", "spawn_tool_call_id"))
    config_kind = "typeof(config_json)" if layout.has("sessions", "config_json") else "'null'"
    condition = parent.condition.replace("session_id", "parent_session_id", 1)
    found = []
    for rowid, id_, created, call, kind in conn.execute(
        f"SELECT rowid, session_id, {columns}, {config_kind} FROM {layout.table('sessions')} "
        f"WHERE {condition} ORDER BY rowid LIMIT ?",
        (parent.value, CHILDREN),
    ).fetchall():
        stored, size = cells.head("config_json", rowid, kind, BYTES, "config", damages)
        config = parse(stored, "config", damages) if size <= BYTES else None
        spec = config.get("spec_name") if isinstance(config, dict) else None
        found.append(
            Child(
                id_text(rowid, id_),
                created if isinstance(created, int) else 0,
                call if isinstance(call, str) else None,
                spec if isinstance(spec, str) else None,
            )
        )
    return found


def _spec_name(call: ToolCall) -> str | None:
    arguments = call.arguments if isinstance(call.arguments, dict) else {}
    spec = arguments.get("spec", arguments.get("agent", arguments.get("name")))
    name = spec.get("name") if isinstance(spec, dict) else spec
    return name if isinstance(name, str) else None


def match(callers: Iterable[Caller], children: list[Child]) -> dict[str, tuple[int, ToolCall, Certainty]]:
    """Return, for each child id, the call that spawned it.

    Recorded ids are matched first, then spec names and times. Each call has one child.
    """
    calls = [(caller, call) for caller in callers for call in caller.calls]
    by_id = {call.id: (caller.seq, call) for caller, call in calls if call.id}
    found: dict[str, tuple[int, ToolCall, Certainty]] = {}
    for child in children:
        if child.spawn_call in by_id:
            found[child.id] = (*by_id[child.spawn_call], Certainty.RECORDED)
    used = {(seq, call.id) for seq, call, _ in found.values()}
    spawning = [(caller, call) for caller, call in calls if call.name in SPAWNERS and (caller.seq, call.id) not in used]
    for child in sorted(children, key=lambda child: child.created_at):
        if child.id in found or child.spawn_call:
            continue
        fits = [
            (caller, call)
            for caller, call in spawning
            if caller.created_at <= child.created_at <= caller.until.get(call.id, HIGHEST)
            and (child.spec is None or _spec_name(call) in (None, child.spec))
        ]
        named = [pair for pair in fits if child.spec and _spec_name(pair[1]) == child.spec]
        fits = named or fits
        if fits:
            newest = max(caller.created_at for caller, _ in fits)
            caller, call = next(pair for pair in fits if pair[0].created_at == newest)
            spawning.remove((caller, call))
            found[child.id] = (caller.seq, call, Certainty.INFERRED)
    return found


def follow(conn: sqlite3.Connection, layout: Layout, ref: Ref, owner: Owner, seq: int) -> Link | None:
    """Return the link from a spawning call to its child, from a call to its first result, or from a result to its
    call.
    """
    if not layout.has("messages", "tool_calls_json") or not layout.has("messages", "tool_call_id"):
        return None
    messages = layout.table("messages")
    row = conn.execute(
        f"SELECT role, tool_call_id FROM {messages} WHERE {owner.condition} AND seq = ?", (owner.value, seq)
    ).fetchone()
    if row is None:
        return None
    if isinstance(row[1], str) and row[0] == "tool":
        for caller in _callers(conn, layout, owner, seq - NEAR, seq - 1, newest_first=True):
            if any(call.id == row[1] for call in caller.calls):
                return Link(ref, str(caller.seq), caller.seq, Certainty.RECORDED, "the call")
        return None
    calls = [call for caller in _callers(conn, layout, owner, seq, seq) for call in caller.calls]
    if any(call.name in SPAWNERS for call in calls):
        around = list(_callers(conn, layout, owner, seq - NEAR, seq + NEAR))
        matched = match(around, _children(conn, layout, owner))
        for child, (at, _, certainty) in matched.items():
            if at == seq:
                return Link(Ref(layout.prefix, child), None, None, certainty, "the child session")
    results: dict[object, int] = {}
    for answered, answers in conn.execute(
        f"SELECT tool_call_id, seq FROM {messages} WHERE {owner.condition} AND seq > ? AND seq <= ? "
        "AND tool_call_id IS NOT NULL ORDER BY seq",
        (owner.value, seq, min(seq + NEAR, HIGHEST)),
    ):
        results.setdefault(answered, answers)
    found = next((results[call.id] for call in calls if call.id in results), None)
    return Link(ref, str(found), found, Certainty.RECORDED, "the result") if found is not None else None


def spawner(
    conn: sqlite3.Connection, layout: Layout, ref: Ref, parent: Ref, owner: Owner, created_at: int
) -> Link | None:
    """Return the row in the parent that started a session, or the parent alone if none of its calls fits."""
    if not layout.has("messages", "tool_calls_json"):
        return Link(parent, None, None, Certainty.RECORDED, "the parent session")
    at = _seq_at(conn, layout, owner, created_at)
    callers = list(_callers(conn, layout, owner, at - NEAR, at + NEAR))
    found = match(callers, _children(conn, layout, owner)).get(ref.id)
    if found is None:
        return Link(parent, None, None, Certainty.RECORDED, "the parent session")
    return Link(parent, str(found[0]), found[0], found[2], "the spawning call")


def _seq_at(conn: sqlite3.Connection, layout: Layout, owner: Owner, created_at: int) -> int:
    """Return the first seq written at or after a time, by bisection: rows are written in order of time."""
    messages = layout.table("messages")

    def probe(seq: int) -> tuple[int, int] | None:
        row = conn.execute(
            f"SELECT seq, {layout.column('messages', 'created_at')} FROM {messages} "
            f"WHERE {owner.condition} AND seq >= ? ORDER BY seq LIMIT 1",
            (owner.value, seq),
        ).fetchone()
        return (row[0], row[1] if isinstance(row[1], int) else 0) if row and isinstance(row[0], int) else None

    low, high = 0, highest_seq(conn, layout, owner) + 1
    while low < high:
        middle = (low + high) // 2
        row = probe(middle)
        if row is None or row[1] >= created_at:
            high = middle
        else:
            low = row[0] + 1
    return low


def find(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, like: str, start: int, forward: bool
) -> tuple[int | None, int | None]:
    """Search a bounded number of rows from `start` on, up or down, for text that is LIKE `like`.

    Returns the first seq that matches, or else where to go on.
    """
    columns = [column for column in ("content", "tool_calls_json", "name") if layout.has("messages", column)]
    condition = " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in columns)
    from_here = (
        f"FROM {layout.table('messages')} WHERE {owner.condition} AND seq {'>=' if forward else '<='} ? "
        "AND typeof(seq) = 'integer'"
    )
    order = f"ORDER BY seq {'' if forward else 'DESC'}"
    after = conn.execute(f"SELECT seq {from_here} {order} LIMIT 1 OFFSET ?", (owner.value, start, FIND_ROWS)).fetchone()
    end = int(after[0]) if after else HIGHEST if forward else LOWEST
    row = conn.execute(
        f"SELECT seq {from_here} AND seq {'<=' if forward else '>='} ? AND ({condition}) {order} LIMIT 1",
        (owner.value, start, end, *[like] * len(columns)),
    ).fetchone()
    return int(row[0]) if row else None, int(after[0]) if after else None
