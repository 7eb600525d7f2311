"""Compactions by hand, recorded as power-loop itself records its own, and their undo."""

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
from sessionscope.store.rules.compaction_planning import check_note, cut_or_proposal

SHOWN_CHANGES = 200
"""How many messages of a compaction a plan lists."""
_MIXED_SEQ = "(seq * 2654435761 % 2147483647) * (seq * 40503 % 65521) % 1000003"
"""SQL for a hash of a seq. Its sum also tells apart sets of rows whose seqs, and their squares, have equal sums."""


class CompactionWork(Struct, frozen=True):
    """The work of a plan that makes or undoes a compaction."""

    key: int
    """The rowid of the session."""
    runs: tuple[tuple[int, int], ...]
    """The first and last seq of each run of messages that change their state."""
    rows: int
    """How many messages change their state, without the note."""
    seal: str
    """The seal of the session when the plan was made."""
    span: tuple[int, int]
    """The values of from_seq and to_seq in the audit row."""
    note_place: int
    """The place of the note in the context, which is stored as `meta.ord`. Not used by an undo."""
    tokens: tuple[int | None, int | None]
    """The values of before_tokens and after_tokens in the audit row."""
    note_seq: int | None = None
    """The seq of the note; None for a compaction, whose note gets its seq when it is written."""


def _seal(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> str:
    """Return a digest of a session that changes if its context or its bookkeeping does."""
    # A hash of the seqs in each state takes a tenth of the time that their list would take.
    states = conn.execute(
        f"SELECT state, count(*), min(seq), max(seq), sum({_MIXED_SEQ}) FROM {layout.table('messages')} "
        f"WHERE {owner.condition} AND {WHOLE_SEQ} GROUP BY state ORDER BY state",
        (owner.value,),
    ).fetchall()
    bookkeeping = conn.execute(
        f"SELECT next_seq || ' ' || last_compact_seq || ' ' || ifnull(pending_json, '') FROM "
        f"{layout.table('session_state')} WHERE {owner.condition}",
        (owner.value,),
    ).fetchone()
    digest = blake2b(digest_size=16)
    for rows in (states, bookkeeping):
        digest.update(repr(rows).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


# -- plans


def plan_compaction(conn: sqlite3.Connection, layout: Layout, action: Compact) -> Plan:
    """Return the plan of a compaction. Raises Misused for an illegal range or note, UnknownSession, Refused."""
    facts = _compactable(conn, layout, action.ref.id, bodies=True)
    check_note(action.note)
    context = context_in(layout, facts)
    cut = cut_or_proposal(context, action.first, action.last, action.keep)
    owner = sessions.owner_of(layout, facts.key, facts.stored_id)
    work = CompactionWork(
        facts.key,
        tuple(cut.runs),
        len(cut.leaves),
        _seal(conn, layout, owner),
        cut.span,
        min(cut.leaves, key=lambda row: (row.position, row.seq)).position,
        (cut.before, cut.after(action.note)),
    )
    compaction = CompactionPlan(context, cut, action.note, recorded=audit.last_sent(conn, layout, owner))
    sentences = cut.said(action.note)
    if context.note_last:
        sentences.append("The note will stand last, as this release puts its notes.")
    else:
        sentences.append("The note will stand where they stood.")
    if compaction.recorded is not None:
        sentences.append(
            f"The agent recorded {compaction.recorded:,} tokens of its last call, prompt and tools included."
        )
    warnings = []
    if facts.state is not None and facts.state.get("pending_json"):
        warnings.append("A turn is open; its agent holds a context of its own.")
    return Plan(
        action,
        len(cut.leaves),
        tuple(sentences),
        tuple(warnings),
        tuple(_changes(action, cut)),
        work=work,
        compaction=compaction,
    )


def _compactable(conn: sqlite3.Connection, layout: Layout, id_: str, bodies: bool) -> SessionFacts:
    """Read a session. Raises UnknownSession, Refused or Misused if it cannot record a compaction."""
    facts = facts_of(conn, layout, id_, bodies)
    if facts.state is None:
        raise Refused(f"session {id_!r}: its bookkeeping is missing; repair it first.")
    if type(facts.state.get("next_seq")) is not int or facts.state["next_seq"] <= facts.highest:
        raise Refused(f"session {id_!r}: it takes no message any more; repair it first.")
    if not layout.has("compactions"):
        raise Misused("these tables record no compactions.")
    return facts


def _changes(action: Compact, cut: Cut) -> Iterator[Change]:
    for row in cut.leaves[:SHOWN_CHANGES]:
        yield Change(Spot(action.ref, str(row.seq), row.seq), row.role, row.head, None)
    yield Change(Spot(action.ref), NOTE_NAME, None, action.note)


def plan_undo(conn: sqlite3.Connection, layout: Layout, action: Uncompact) -> Plan:
    """Return the plan for undoing a compaction.

    Raises Misused if there is none with this number or it is undone already, UnknownSession, Refused if it cannot be
    undone.
    """
    facts = _compactable(conn, layout, action.ref.id, bodies=False)
    compaction = next((other for other in facts.audit.compactions if other.number == action.number), None)
    if compaction is None:
        numbers = ", ".join(str(other.number) for other in facts.audit.compactions if not other.undone)
        raise Misused(f"there is no compaction {action.number}; there is {numbers or 'none'}.")
    if compaction.undone:
        raise Misused(wording.already_undone(action.number))
    _check_undoable(facts, compaction)
    owner = sessions.owner_of(layout, facts.key, facts.stored_id)
    rows = compaction.rows or 0
    work = CompactionWork(
        facts.key,
        compaction.set_runs,
        rows,
        _seal(conn, layout, owner),
        (compaction.from_seq or 0, compaction.to_seq or 0),
        0,
        (compaction.after_tokens, compaction.before_tokens),
        compaction.note_seq,
    )
    sentence = f"{rows:,} messages come back into the context, and note {compaction.note_seq} leaves it."
    if compaction.set_is is not Certainty.RECORDED:
        sentence += " Which ones they are was worked out from what the agent recorded."
    changes = tuple(
        Change(Spot(action.ref), "messages", State.COMPACTED.value, f"{first} to {last} active")
        for first, last in compaction.set_runs
    )
    return Plan(action, rows, (sentence,), (), changes, work=work)


def _check_undoable(facts: SessionFacts, compaction: Compaction) -> None:
    """Raise Refused if a compaction cannot be undone."""
    number = compaction.number
    rows = {row.seq: row for row in facts.rows}
    note = rows.get(compaction.note_seq or 0)
    if note is None:
        raise Refused(f"compaction {number} cannot be taken back: its note is gone.")
    if not note.active:
        later = _compaction_of_note(facts, number, note.seq)
        raise Refused(
            f"compaction {number} cannot be taken back while its note is folded"
            + (f" by compaction {later}; take that one back first." if later else ".")
        )
    if compaction.set_is is Certainty.UNKNOWN or not compaction.rows:
        raise Refused(
            f"compaction {number} cannot be taken back: which messages it took is not known "
            f"({'; '.join(compaction.anomalies) or 'nothing tells'})."
        )
    seqs = [seq for first, last in compaction.set_runs for seq in range(first, last + 1)]
    if any(seq not in rows or rows[seq].state != State.COMPACTED for seq in seqs):
        raise Refused(
            f"compaction {number} cannot be taken back: some of its messages are gone, or in the context again."
        )


def _compaction_of_note(facts: SessionFacts, number: int, note_seq: int) -> int | None:
    """Return the number of the compaction, later than `number` and in force, that compacted a note."""
    for compaction in facts.audit.compactions:
        if not compaction.undone and compaction.number > number and holds(compaction.set_runs, note_seq):
            return compaction.number
    return None


# -- transactions


def compact(conn: sqlite3.Connection, layout: Layout, work: CompactionWork, note: str, now_ms: int) -> int:
    """Write a compaction in the open transaction. Return its number. Raises Refused if the session has changed."""
    owner, stored_id = _unchanged_session(conn, layout, work)
    next_seq, round_index, last_number = _counters(conn, layout, owner)
    _change_state(conn, layout, owner, work, State.ACTIVE, State.COMPACTED)
    meta = {
        "compacted_at_round": round_index,
        "from_seq": work.span[0],
        "to_seq": work.span[1],
        "original_tokens": work.tokens[0],
        "summary_tokens": work.tokens[1],
        "ord": work.note_place,
        "fold_seqs": [list(run) for run in work.runs],
    }
    _insert(
        conn,
        layout,
        "messages",
        {
            "session_id": stored_id,
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
    number = last_number + 1
    _insert_audit_row(conn, layout, stored_id, number, next_seq, work, round_index, now_ms)
    conn.execute(
        f"UPDATE {layout.table('session_state')} SET next_seq = ?, last_compact_seq = ? WHERE {owner.condition}",
        (next_seq + 1, number, owner.value),
    )
    _touch(conn, layout, work.key, now_ms)
    return number


def undo_compaction(conn: sqlite3.Connection, layout: Layout, work: CompactionWork, now_ms: int) -> None:
    """Undo a compaction in the open transaction. Raises Refused if the session has changed.

    A second audit row with the same note and span and with swapped tokens records the undo. Every release loads the
    result. A release that keeps a window by the number of compactions sees a new number, so it does not take its old
    window for the current one.
    """
    owner, stored_id = _unchanged_session(conn, layout, work)
    _, round_index, last_number = _counters(conn, layout, owner)
    _change_state(conn, layout, owner, work, State.COMPACTED, State.ACTIVE)
    conn.execute(
        f"UPDATE {layout.table('messages')} SET state = '{State.COMPACTED}' WHERE {owner.condition} AND seq = ?",
        (owner.value, work.note_seq),
    )
    number = last_number + 1
    _insert_audit_row(conn, layout, stored_id, number, work.note_seq or 0, work, round_index, now_ms)
    conn.execute(
        f"UPDATE {layout.table('session_state')} SET last_compact_seq = ? WHERE {owner.condition}",
        (number, owner.value),
    )
    _touch(conn, layout, work.key, now_ms)


# -- statements


def _unchanged_session(conn: sqlite3.Connection, layout: Layout, work: CompactionWork) -> tuple[Owner, Any]:
    """Return the owner and the stored id of a session. Raises Refused if it has changed since the plan."""
    row = conn.execute(f"SELECT session_id FROM {layout.table('sessions')} WHERE rowid = ?", (work.key,)).fetchone()
    if row is None:
        raise Refused(wording.SESSION_CHANGED)
    owner = sessions.owner_of(layout, work.key, row[0])
    if _seal(conn, layout, owner) != work.seal:
        raise Refused(wording.SESSION_CHANGED)
    return owner, row[0]


def _counters(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> tuple[int, int, int]:
    """Return the next seq, the round, and the highest number of a compaction of a session."""
    next_seq, round_index, stored_number = conn.execute(
        f"SELECT next_seq, round_index, last_compact_seq FROM {layout.table('session_state')} WHERE {owner.condition}",
        (owner.value,),
    ).fetchone()
    (highest_number,) = conn.execute(
        f"SELECT max(compact_seq) FROM {layout.table('compactions')} WHERE {owner.condition}", (owner.value,)
    ).fetchone()
    if type(highest_number) is not int:
        highest_number = 0
    return int(next_seq), int(round_index or 0), max(int(stored_number or 0), highest_number)


def _change_state(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, work: CompactionWork, old: State, new: State
) -> None:
    """Change the state of the planned messages. Raises Refused if any of them is not in the old state."""
    changed = 0
    for run in work.runs:
        # FAIL, since an error rolls back the whole transaction: SQLite need not journal this statement by itself.
        changed += conn.execute(
            f"UPDATE OR FAIL {layout.table('messages')} SET state = '{new}' WHERE {owner.condition} "
            f"AND seq BETWEEN ? AND ? AND {WHOLE_SEQ} AND state = '{old}'",
            (owner.value, *run),
        ).rowcount
    if changed != work.rows:
        raise Refused(wording.SESSION_CHANGED)


def _insert_audit_row(
    conn: sqlite3.Connection,
    layout: Layout,
    stored_id: Any,
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
            "session_id": stored_id,
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
    """Insert a row, without the columns that this layout does not have."""
    stored = {name: value for name, value in values.items() if layout.has(table, name)}
    conn.execute(
        f"INSERT INTO {layout.table(table)} ({', '.join(stored)}) VALUES ({', '.join('?' * len(stored))})",
        list(stored.values()),
    )


def _touch(conn: sqlite3.Connection, layout: Layout, key: int, now_ms: int) -> None:
    """Set `updated_at` of a session, unless it is later already."""
    conn.execute(
        f"UPDATE {layout.table('sessions')} SET updated_at = max(updated_at, ?) WHERE rowid = ?", (now_ms, key)
    )
