"""Links between messages and sessions: from a tool call to its result or to the session that it spawned, and back.

power-loop never fills `spawn_tool_call_id`, so which call spawned a session is mostly inferred from names and times.
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
"""The tools that start a subagent."""
NEARBY_SEQS = 300
"""How many seqs before and after a message are searched for the other end of a link."""
MAX_CHILDREN = 500
"""How many child sessions are matched with calls."""
JSON_BYTES = 262_144
"""The longest JSON value that is decoded, in bytes."""
FIND_ROWS = 5_000
"""How many rows one step of `find` searches."""


class Caller(Struct, frozen=True):
    """A message that calls tools."""

    seq: int
    created_at: int
    """In milliseconds, 0 if unknown."""
    calls: tuple[ToolCall, ...]
    until: dict[str | None, int]
    """The latest time, in milliseconds, at which a child of a call was created, by the call's id."""


class Child(Struct, frozen=True):
    """What is known of a subagent's session for matching it with a call of its parent."""

    id: str
    created_at: int
    """In milliseconds, 0 if unknown."""
    spawn_call: str | None
    """The id of the call that spawned it, if it is recorded."""
    spec: str | None
    """The name of the agent's specification."""


def _callers(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, first: int, last: int, newest_first: bool = False
) -> Iterable[Caller]:
    """Yield the messages with tool calls that have seqs `first` to `last`, in that order unless `newest_first`."""
    cells, damages = Cells(conn, layout.name("messages")), Damages()
    rows = conn.execute(
        f"SELECT rowid, seq, {layout.column('messages', 'created_at')}, "
        f"{layout.column('messages', 'tool_call_id')}, typeof(tool_calls_json) FROM {layout.table('messages')} "
        f"WHERE {owner.condition} AND seq BETWEEN ? AND ? AND typeof(seq) = 'integer' "
        f"ORDER BY seq {'DESC' if newest_first else ''}",
        (owner.value, max(first, LOWEST), min(last, HIGHEST)),
    ).fetchall()
    result_times = {
        answers: created for _, _, created, answers, _ in rows if isinstance(answers, str) and isinstance(created, int)
    }
    # A call without a result among these rows may have one after them. Then it is matched only with children that were
    # created before the newest of these rows.
    end = HIGHEST
    if rows and max(seq for _, seq, _, _, _ in rows) >= last:
        end = max((created for _, _, created, _, _ in rows if isinstance(created, int)), default=HIGHEST)
    for rowid, seq, created, _, kind in rows:
        stored, size = cells.head("tool_calls_json", rowid, kind, JSON_BYTES, "tool_calls", damages)
        if not 0 < size <= JSON_BYTES:
            continue
        calls = tool_calls(parse(stored, "tool_calls", damages), damages)
        if calls:
            until = {call.id: result_times.get(call.id or "", end) for call in calls}
            yield Caller(seq, created if isinstance(created, int) else 0, calls, until)


def _children(conn: sqlite3.Connection, layout: Layout, parent: Owner) -> list[Child]:
    """Return the sessions that name a session as their parent, at most MAX_CHILDREN."""
    if not layout.has("sessions", "parent_session_id"):
        return []
    damages, cells = Damages(), Cells(conn, layout.name("sessions"))
    columns = ", ".join(layout.column("sessions", column) for column in ("created_at", "spawn_tool_call_id"))
    config_kind = "typeof(config_json)" if layout.has("sessions", "config_json") else "'null'"
    condition = parent.condition.replace("session_id", "parent_session_id", 1)
    children = []
    for rowid, id_, created, call, kind in conn.execute(
        f"SELECT rowid, session_id, {columns}, {config_kind} FROM {layout.table('sessions')} "
        f"WHERE {condition} ORDER BY rowid LIMIT ?",
        (parent.value, MAX_CHILDREN),
    ).fetchall():
        stored, size = cells.head("config_json", rowid, kind, JSON_BYTES, "config", damages)
        config = parse(stored, "config", damages) if size <= JSON_BYTES else None
        spec = config.get("spec_name") if isinstance(config, dict) else None
        children.append(
            Child(
                id_text(rowid, id_),
                created if isinstance(created, int) else 0,
                call if isinstance(call, str) else None,
                spec if isinstance(spec, str) else None,
            )
        )
    return children


def _spec_name(call: ToolCall) -> str | None:
    """Return the name of the agent that a spawning call asks for, None if it names none."""
    arguments = call.arguments if isinstance(call.arguments, dict) else {}
    spec = arguments.get("spec", arguments.get("agent", arguments.get("name")))
    name = spec.get("name") if isinstance(spec, dict) else spec
    return name if isinstance(name, str) else None


def match(callers: Iterable[Caller], children: list[Child]) -> dict[str, tuple[int, ToolCall, Certainty]]:
    """Return the call that spawned each child, by the child's id, with the seq of the message that makes it.

    Recorded call ids come first. The other children are matched in the order of their creation, each with one call of
    its own: among the calls that were open when it was created, those that name its spec are preferred, and of these
    the newest.
    """
    calls = [(caller, call) for caller in callers for call in caller.calls]
    calls_by_id = {call.id: (caller.seq, call) for caller, call in calls if call.id}
    matches: dict[str, tuple[int, ToolCall, Certainty]] = {}
    for child in children:
        if child.spawn_call in calls_by_id:
            matches[child.id] = (*calls_by_id[child.spawn_call], Certainty.RECORDED)
    used = {(seq, call.id) for seq, call, _ in matches.values()}
    spawning = [(caller, call) for caller, call in calls if call.name in SPAWNERS and (caller.seq, call.id) not in used]
    for child in sorted(children, key=lambda child: child.created_at):
        if child.id in matches or child.spawn_call:
            continue
        spawning_call = _call_for(child, spawning)
        if spawning_call is not None:
            spawning.remove(spawning_call)
            caller, call = spawning_call
            matches[child.id] = (caller.seq, call, Certainty.INFERRED)
    return matches


def _call_for(child: Child, spawning: list[tuple[Caller, ToolCall]]) -> tuple[Caller, ToolCall] | None:
    """Return the spawning call that fits a child best, None if none fits."""
    fitting = [
        (caller, call)
        for caller, call in spawning
        if caller.created_at <= child.created_at <= caller.until.get(call.id, HIGHEST)
        and (child.spec is None or _spec_name(call) in (None, child.spec))
    ]
    if child.spec:
        fitting = [(caller, call) for caller, call in fitting if _spec_name(call) == child.spec] or fitting
    # Of several calls with the newest time, this is the first.
    return max(fitting, key=lambda pair: pair[0].created_at, default=None)


def follow(conn: sqlite3.Connection, layout: Layout, ref: Ref, owner: Owner, seq: int) -> Link | None:
    """Return where a message leads to, None if nowhere near.

    A result leads to its call, a spawning call to its child, and any other call to its first result.
    """
    if not layout.has("messages", "tool_calls_json") or not layout.has("messages", "tool_call_id"):
        return None
    row = conn.execute(
        f"SELECT role, tool_call_id FROM {layout.table('messages')} WHERE {owner.condition} AND seq = ?",
        (owner.value, seq),
    ).fetchone()
    if row is None:
        return None
    role, answered_id = row
    if role == "tool" and isinstance(answered_id, str):
        return _link_to_call(conn, layout, ref, owner, seq, answered_id)
    calls = [call for caller in _callers(conn, layout, owner, seq, seq) for call in caller.calls]
    if any(call.name in SPAWNERS for call in calls):
        link = _link_to_child(conn, layout, owner, seq)
        if link is not None:
            return link
    return _link_to_result(conn, layout, ref, owner, seq, calls)


def _link_to_call(
    conn: sqlite3.Connection, layout: Layout, ref: Ref, owner: Owner, seq: int, call_id: str
) -> Link | None:
    for caller in _callers(conn, layout, owner, seq - NEARBY_SEQS, seq - 1, newest_first=True):
        if any(call.id == call_id for call in caller.calls):
            return Link(ref, str(caller.seq), caller.seq, Certainty.RECORDED, "the call")
    return None


def _link_to_child(conn: sqlite3.Connection, layout: Layout, owner: Owner, seq: int) -> Link | None:
    callers = list(_callers(conn, layout, owner, seq - NEARBY_SEQS, seq + NEARBY_SEQS))
    matches = match(callers, _children(conn, layout, owner))
    for child_id, (caller_seq, _, certainty) in matches.items():
        if caller_seq == seq:
            return Link(Ref(layout.prefix, child_id), None, None, certainty, "the child session")
    return None


def _link_to_result(
    conn: sqlite3.Connection, layout: Layout, ref: Ref, owner: Owner, seq: int, calls: list[ToolCall]
) -> Link | None:
    first_results: dict[object, int] = {}
    for answered_id, result_seq in conn.execute(
        f"SELECT tool_call_id, seq FROM {layout.table('messages')} WHERE {owner.condition} AND seq > ? AND seq <= ? "
        "AND tool_call_id IS NOT NULL ORDER BY seq",
        (owner.value, seq, min(seq + NEARBY_SEQS, HIGHEST)),
    ):
        first_results.setdefault(answered_id, result_seq)
    for call in calls:
        if call.id in first_results:
            result_seq = first_results[call.id]
            return Link(ref, str(result_seq), result_seq, Certainty.RECORDED, "the result")
    return None


def spawner(
    conn: sqlite3.Connection, layout: Layout, ref: Ref, parent: Ref, owner: Owner, created_at: int
) -> Link | None:
    """Return the link to the message of the parent that started a session; to the parent itself if no call fits.

    `owner` selects the parent's rows; `created_at` is when the session was created, in milliseconds.
    """
    link_to_parent = Link(parent, None, None, Certainty.RECORDED, "the parent session")
    if not layout.has("messages", "tool_calls_json"):
        return link_to_parent
    seq = _seq_at(conn, layout, owner, created_at)
    callers = list(_callers(conn, layout, owner, seq - NEARBY_SEQS, seq + NEARBY_SEQS))
    spawning_call = match(callers, _children(conn, layout, owner)).get(ref.id)
    if spawning_call is None:
        return link_to_parent
    caller_seq, _, certainty = spawning_call
    return Link(parent, str(caller_seq), caller_seq, certainty, "the spawning call")


def _seq_at(conn: sqlite3.Connection, layout: Layout, owner: Owner, time_ms: int) -> int:
    """Return the first seq written at or after a time, by halving: messages are written in the order of time."""

    def message_from(seq: int) -> tuple[int, int] | None:
        """Return seq and time of the first message from a seq on."""
        row = conn.execute(
            f"SELECT seq, {layout.column('messages', 'created_at')} FROM {layout.table('messages')} "
            f"WHERE {owner.condition} AND seq >= ? ORDER BY seq LIMIT 1",
            (owner.value, seq),
        ).fetchone()
        if row is None or not isinstance(row[0], int):
            return None
        return row[0], row[1] if isinstance(row[1], int) else 0

    low, high = 0, highest_seq(conn, layout, owner) + 1
    while low < high:
        middle = (low + high) // 2
        message = message_from(middle)
        if message is None or message[1] >= time_ms:
            high = middle
        else:
            low = message[0] + 1
    return low


def find(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, like: str, start: int, forward: bool
) -> tuple[int | None, int | None]:
    """Search FIND_ROWS messages from seq `start` on, upwards or downwards, for text that is LIKE `like`.

    Returns the first matching seq, or None, and the seq at which the next step starts, None at the end.
    """
    columns = [column for column in ("content", "tool_calls_json", "name") if layout.has("messages", column)]
    matches = " OR ".join(f"{column} LIKE ? ESCAPE '\\'" for column in columns)
    if forward:
        from_start, to_end, order, limit = "seq >= ?", "seq <= ?", "ORDER BY seq", HIGHEST
    else:
        from_start, to_end, order, limit = "seq <= ?", "seq >= ?", "ORDER BY seq DESC", LOWEST
    rows = f"FROM {layout.table('messages')} WHERE {owner.condition} AND {from_start} AND typeof(seq) = 'integer'"
    after_step = conn.execute(f"SELECT seq {rows} {order} LIMIT 1 OFFSET ?", (owner.value, start, FIND_ROWS)).fetchone()
    next_start = int(after_step[0]) if after_step else None
    match_row = conn.execute(
        f"SELECT seq {rows} AND {to_end} AND ({matches}) {order} LIMIT 1",
        (owner.value, start, limit if next_start is None else next_start, *[like] * len(columns)),
    ).fetchone()
    return int(match_row[0]) if match_row else None, next_start
