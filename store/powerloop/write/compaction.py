"""Compacting a range of a session by hand, as power-loop itself records it, and undoing a compaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from sessionscope.store.model import wording
from sessionscope.store.model.context import Cut
from sessionscope.store.model.errors import Misused, Refused
from sessionscope.store.model.findings import Change
from sessionscope.store.model.outline import holds
from sessionscope.store.model.plans import Compact, CompactionPlan, Plan, Uncompact
from sessionscope.store.model.rows import Certainty, Compaction, Spot, State
from sessionscope.store.powerloop.format.layout import NOTE_NAME, Layout
from sessionscope.store.powerloop.read import audit, sessions
from sessionscope.store.powerloop.read.context import WHOLE_SEQ, context_in, facts_of
from sessionscope.store.powerloop.read.messages import Owner
from sessionscope.store.powerloop.read.session_facts import SessionFacts
from sessionscope.store.powerloop.read.tool_call_pairs import dumps
from sessionscope.store.rules.compaction_planning import check_note, wanted_cut

SHOWN = 200
_MIXED = "(seq * 2654435761 % 2147483647) * (seq * 40503 % 65521) % 1000003"
"""A hash of a seq. Its sum over some rows tells them from others with the same sum of seqs and of their squares."""


class CompactionWork(Struct, frozen=True):
    """What is written: runs of seqs that change their state, and what the plan saw of the session."""

    key: int
    runs: tuple[tuple[int, int], ...]
    rows: int
    seal: str
    span: tuple[int, int]
    place: int
    tokens: tuple[int | None, int | None]
    note_seq: int | None = None


def _seal(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> str:
    """Return a value that differs once the context or the bookkeeping of a session has changed."""
    seal = blake2b(digest_size=16)
    for found in (
        # Hashes which rows are in which state, in a tenth of the time that listing them would take.
        conn.execute(
            f"SELECT state, count(*), min(seq), max(seq), sum({_MIXED}) FROM {layout.table('messages')} "
            f"WHERE {owner.condition} AND {WHOLE_SEQ} GROUP BY state ORDER BY state",
            (owner.value,),
        ).fetchall(),
        conn.execute(
            f"SELECT next_seq || ' ' || last_compact_seq || ' ' || ifnull(pending_json, '') FROM "
            f"{layout.table('session_state')} WHERE {owner.condition}",
            (owner.value,),
        ).fetchone(),
    ):
        seal.update(repr(found).encode("utf-8", "surrogatepass"))
    return seal.hexdigest()


def _compactable(conn: sqlite3.Connection, layout: Layout, id_: str, bodies: bool) -> SessionFacts:
    facts = facts_of(conn, layout, id_, bodies)
    if facts.state is None:
        raise Refused(f"session {id_!r}: its bookkeeping is missing; repair it first.")
    if type(facts.state.get("next_seq")) is not int or facts.state["next_seq"] <= facts.highest:
        raise Refused(f"session {id_!r}: it takes no message any more; repair it first.")
    if not layout.has("compactions"):
        raise Misused("these tables record no compactions.")
    return facts


def plan_compaction(conn: sqlite3.Connection, layout: Layout, action: Compact) -> Plan:
    """Return what a compaction would do. Raises Misused for a range that is not allowed, UnknownSession, Refused."""
    facts = _compactable(conn, layout, action.ref.id, bodies=True)
    check_note(action.note)
    seen = context_in(layout, facts)
    found = wanted_cut(seen, action.first, action.last, action.keep)
    owner = sessions.owner_of(layout, facts.key, facts.stored_id)
    before, after = found.before, found.after(action.note)
    place = min(found.leaves, key=lambda row: (row.place, row.seq)).place
    work = CompactionWork(
        facts.key, tuple(found.runs), len(found.leaves), _seal(conn, layout, owner), found.span, place, (before, after)
    )
    place_said = (
        "The note will stand last, as this release puts its notes."
        if seen.note_last
        else ("The note will stand where they stood.")
    )
    planned = CompactionPlan(seen, found, action.note, recorded=audit.last_sent(conn, layout, owner))
    recorded = (
        [f"The agent recorded {planned.recorded:,} tokens of its last call, prompt and tools included."]
        if (planned.recorded is not None)
        else []
    )
    return Plan(
        action,
        len(found.leaves),
        (*found.said(action.note), place_said, *recorded),
        tuple(_against(facts)),
        tuple(_changes(action, found)),
        work=work,
        compaction=planned,
    )


def _against(facts: SessionFacts) -> Iterator[str]:
    if facts.state is not None and facts.state.get("pending_json"):
        yield "A turn is open; its agent holds a context of its own."


def _changes(action: Compact, found: Cut) -> Iterator[Change]:
    for row in found.leaves[:SHOWN]:
        yield Change(Spot(action.ref, str(row.seq), row.seq), row.role, row.head, None)
    yield Change(Spot(action.ref), NOTE_NAME, None, action.note)


def compact(conn: sqlite3.Connection, layout: Layout, work: CompactionWork, note: str, now_ms: int) -> int:
    """Compact in a transaction that is open already, and return the number that the compaction gets. Raises Refused."""
    owner = _unchanged(conn, layout, work)
    next_seq, round_index, last = _counters(conn, layout, owner)
    # What fails here fails as a whole, so SQLite need not keep a journal of the statement.
    done = sum(
        conn.execute(
            f"UPDATE OR FAIL {layout.table('messages')} SET state = '{State.COMPACTED}' WHERE {owner.condition} "
            f"AND seq BETWEEN ? AND ? AND {WHOLE_SEQ} AND state = '{State.ACTIVE}'",
            (owner.value, *run),
        ).rowcount
        for run in work.runs
    )
    if done != work.rows:
        raise Refused(wording.SESSION_CHANGED)
    stored = _stored_id(conn, layout, work)
    meta = {
        "compacted_at_round": round_index,
        "from_seq": work.span[0],
        "to_seq": work.span[1],
        "original_tokens": work.tokens[0],
        "summary_tokens": work.tokens[1],
        "ord": work.place,
        "fold_seqs": [list(run) for run in work.runs],
    }
    _insert(
        conn,
        layout,
        "messages",
        {
            "session_id": stored,
            "seq": next_seq,
            "role": "system",
            "name": NOTE_NAME,
            "content": note,
            "round_index": round_index,
            "state": State.ACTIVE.value,
            "meta_json": dumps(meta),
            "created_at": now_ms,
        },
    )
    _audit(conn, layout, stored, last + 1, next_seq, work, round_index, now_ms)
    conn.execute(
        f"UPDATE {layout.table('session_state')} SET next_seq = ?, last_compact_seq = ? WHERE {owner.condition}",
        (next_seq + 1, last + 1, owner.value),
    )
    _touch(conn, layout, work.key, now_ms)
    return last + 1


def plan_undo(conn: sqlite3.Connection, layout: Layout, action: Uncompact) -> Plan:
    """Return what undoing a compaction would do.

    Raises Misused if it is not in force, Refused if it cannot be undone.
    """
    facts = _compactable(conn, layout, action.ref.id, bodies=False)
    found = next((one for one in facts.audit.compactions if one.number == action.number), None)
    if found is None:
        numbers = ", ".join(str(one.number) for one in facts.audit.compactions if not one.undone)
        raise Misused(f"there is no compaction {action.number}; there is {numbers or 'none'}.")
    if found.undone:
        raise Misused(wording.already_undone(action.number))
    _check_undoable(facts, found)
    owner = sessions.owner_of(layout, facts.key, facts.stored_id)
    count = found.rows or 0
    span = found.from_seq or 0, found.to_seq or 0
    work = CompactionWork(
        facts.key,
        found.set_runs,
        count,
        _seal(conn, layout, owner),
        span,
        0,
        (found.after_tokens, found.before_tokens),
        found.note_seq,
    )
    said = f"{count:,} messages come back into the context, and note {found.note_seq} leaves it."
    more = " Which ones they are was worked out from what the agent recorded." * (
        found.set_is is not Certainty.RECORDED
    )
    changes = tuple(
        Change(Spot(action.ref), "messages", State.COMPACTED.value, f"{first} to {last} active")
        for first, last in found.set_runs
    )
    return Plan(action, count, (said + more,), (), changes, work=work)


def _check_undoable(facts: SessionFacts, found: Compaction) -> None:
    number = found.number
    rows = {row.seq: row for row in facts.rows}
    note = rows.get(found.note_seq or 0)
    if note is None:
        raise Refused(f"compaction {number} cannot be taken back: its note is gone.")
    if not note.active:
        later = next(
            (
                one.number
                for one in facts.audit.compactions
                if not one.undone and one.number > number and holds(one.set_runs, note.seq)
            ),
            None,
        )
        raise Refused(
            f"compaction {number} cannot be taken back while its note is folded"
            + (f" by compaction {later}; take that one back first." if later else ".")
        )
    if found.set_is is Certainty.UNKNOWN or not found.rows:
        raise Refused(
            f"compaction {number} cannot be taken back: which messages it took is not known "
            f"({'; '.join(found.anomalies) or 'nothing tells'})."
        )
    seqs = [seq for first, last in found.set_runs for seq in range(first, last + 1)]
    if any(seq not in rows or rows[seq].state != State.COMPACTED for seq in seqs):
        raise Refused(
            f"compaction {number} cannot be taken back: some of its messages are gone, or in the context again."
        )


def undo_compaction(conn: sqlite3.Connection, layout: Layout, work: CompactionWork, now_ms: int) -> None:
    """Undo a compaction in a transaction that is open already. Raises Refused.

    A second audit row with the same note and span and the tokens swapped records it. Every release loads the result,
    and a release that counts compactions to keep a window does not take it for the new one.
    """
    owner = _unchanged(conn, layout, work)
    _, round_index, last = _counters(conn, layout, owner)
    done = sum(
        conn.execute(
            f"UPDATE OR FAIL {layout.table('messages')} SET state = '{State.ACTIVE}' WHERE {owner.condition} "
            f"AND seq BETWEEN ? AND ? AND {WHOLE_SEQ} AND state = '{State.COMPACTED}'",
            (owner.value, *run),
        ).rowcount
        for run in work.runs
    )
    if done != work.rows:
        raise Refused(wording.SESSION_CHANGED)
    conn.execute(
        f"UPDATE {layout.table('messages')} SET state = '{State.COMPACTED}' WHERE {owner.condition} AND seq = ?",
        (owner.value, work.note_seq),
    )
    stored = _stored_id(conn, layout, work)
    _audit(conn, layout, stored, last + 1, work.note_seq or 0, work, round_index, now_ms)
    conn.execute(
        f"UPDATE {layout.table('session_state')} SET last_compact_seq = ? WHERE {owner.condition}",
        (last + 1, owner.value),
    )
    _touch(conn, layout, work.key, now_ms)


# -- statements


def _unchanged(conn: sqlite3.Connection, layout: Layout, work: CompactionWork) -> Owner:
    row = conn.execute(f"SELECT session_id FROM {layout.table('sessions')} WHERE rowid = ?", (work.key,)).fetchone()
    if row is None:
        raise Refused(wording.SESSION_CHANGED)
    owner = sessions.owner_of(layout, work.key, row[0])
    if _seal(conn, layout, owner) != work.seal:
        raise Refused(wording.SESSION_CHANGED)
    return owner


def _stored_id(conn: sqlite3.Connection, layout: Layout, work: CompactionWork) -> Any:
    return conn.execute(f"SELECT session_id FROM {layout.table('sessions')} WHERE rowid = ?", (work.key,)).fetchone()[0]


def _counters(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> tuple[int, int, int]:
    next_seq, round_index, last = conn.execute(
        f"SELECT next_seq, round_index, last_compact_seq FROM {layout.table('session_state')} WHERE {owner.condition}",
        (owner.value,),
    ).fetchone()
    (newest,) = conn.execute(
        f"SELECT max(compact_seq) FROM {layout.table('compactions')} WHERE {owner.condition}", (owner.value,)
    ).fetchone()
    return int(next_seq), int(round_index or 0), max(int(last or 0), newest if type(newest) is int else 0)


def _audit(
    conn: sqlite3.Connection,
    layout: Layout,
    stored: Any,
    number: int,
    note_seq: int,
    work: CompactionWork,
    round_index: int,
    now_ms: int,
) -> None:
    _insert(
        conn,
        layout,
        "compactions",
        {
            "session_id": stored,
            "compact_seq": number,
            "note_seq": note_seq,
            "from_seq": work.span[0],
            "to_seq": work.span[1],
            "before_tokens": work.tokens[0],
            "after_tokens": work.tokens[1],
            "round_index": round_index,
            "created_at": now_ms,
        },
    )


def _insert(conn: sqlite3.Connection, layout: Layout, table: str, values: dict[str, Any]) -> None:
    there = {name: value for name, value in values.items() if layout.has(table, name)}
    conn.execute(
        f"INSERT INTO {layout.table(table)} ({', '.join(there)}) VALUES ({', '.join('?' * len(there))})",
        list(there.values()),
    )


def _touch(conn: sqlite3.Connection, layout: Layout, key: int, now_ms: int) -> None:
    conn.execute(
        f"UPDATE {layout.table('sessions')} SET updated_at = max(updated_at, ?) WHERE rowid = ?", (now_ms, key)
    )
