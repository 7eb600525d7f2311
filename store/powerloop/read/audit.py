"""The compactions of a session with the messages that each took, and the session's recorded usage of the model."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from sessionscope.store.io.sqlitefile import Read
from sessionscope.store.model.outline import Outline, Run, following, gaps, holds, union
from sessionscope.store.model.rows import Audit, Certainty, Compaction, State, Usage, UsageRound
from sessionscope.store.powerloop.format.decode import Cells, note_span, number, recorded_runs, text
from sessionscope.store.powerloop.format.layout import NOTE_NAME, Layout
from sessionscope.store.rules.compaction_history import CompactionRecord, Taken, anomalies_of, explain
from sessionscope.store.rules.values import Damages, parse

from .messages import HEAD_BYTES, HEAD_CHARS, Owner

SEQS_PER_STATEMENT = 500
"""How many seqs one statement names."""
NOTE_META_BYTES = 1_048_576
"""The longest meta of a note that is decoded, in bytes."""
MAX_EDGE_RUNS = 64
"""Runs up to which the edges of what a compaction took are checked for split tool calls."""
_AUDIT_COLUMNS = (
    "compact_seq",
    "from_seq",
    "to_seq",
    "note_seq",
    "before_tokens",
    "after_tokens",
    "round_index",
    "created_at",
)
_USAGE_COLUMNS = (
    "send_index",
    "round_index",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "model",
    "created_at",
)


class _Note(Struct, frozen=True):
    """The message that the audit row of a compaction names as its note."""

    head: str
    """The beginning of its content."""
    genuine: bool
    """Whether it is named as a compaction note."""
    meta: dict[str, Any]
    """Its meta, empty if that cannot be read."""
    readable: bool
    """Whether its meta can be read."""
    ord: int | None
    """Its position in the model's order, if its meta records one."""
    recorded: tuple[Run, ...] | None
    """The seqs that the compaction took, if its meta records them."""


class _StoredCompaction(Struct, frozen=True):
    """An audit row with its note."""

    numbers: dict[str, int | None]
    """The row by column, None for each value that is not an integer."""
    damages: Damages
    note: _Note | None


def audit(read: Read, layout: Layout, owner: Owner, outline: Outline) -> Audit:
    """Return every recorded compaction of a session, oldest first.

    Two bursts are read: two statements, and two more for each 500 compactions. What each compaction took is worked out
    between the bursts, so that no connection is held meanwhile.
    """
    if not layout.has("compactions"):
        return Audit([], tuple(outline.runs(State.COMPACTED)))
    stored = read(lambda conn: _read_compactions(conn, layout, owner))
    records = [_record(layout, compaction) for compaction in stored]
    seqs = outline.runs()
    taken, unexplained = explain(
        records, outline.runs(State.COMPACTED), outline.runs(State.ACTIVE), _missing_seqs(outline)
    )
    splitting = read(lambda conn: _splitting_tool_calls(conn, layout, owner, seqs, taken))
    compactions = []
    for index, record in enumerate(records):
        # An audit row that records an undo took nothing.
        if index not in taken:
            continue
        anomalies = anomalies_of(record, taken[index], records[:index], seqs)
        if index in splitting:
            anomalies.append("it splits a tool call from its result")
        compactions.append(_compaction(stored[index], record, taken[index], anomalies))
    return Audit(compactions, tuple(unexplained))


def _read_compactions(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> list[_StoredCompaction]:
    """Return the audit rows of a session, oldest first, each with its note."""
    columns = ", ".join(layout.column("compactions", column) for column in _AUDIT_COLUMNS)
    rows: list[tuple[dict[str, int | None], Damages]] = []
    for row in conn.execute(
        f"SELECT {columns} FROM {layout.table('compactions')} WHERE {owner.condition} ORDER BY compact_seq",
        (owner.value,),
    ).fetchall():
        damages = Damages()
        values = zip(_AUDIT_COLUMNS, row, strict=True)
        rows.append(({column: number(value, column, damages) for column, value in values}, damages))
    note_seqs = [seq for numbers, _ in rows if (seq := numbers["note_seq"]) is not None]
    notes = _read_notes(conn, layout, owner, note_seqs)
    return [_StoredCompaction(numbers, damages, notes.get(numbers["note_seq"] or 0)) for numbers, damages in rows]


def _read_notes(conn: sqlite3.Connection, layout: Layout, owner: Owner, seqs: list[int]) -> dict[int, _Note]:
    """Return the messages with these seqs as notes, by seq."""
    cells = Cells(conn, layout.name("messages"))
    name = layout.column("messages", "name")
    kinds = ", ".join(
        f"typeof({column})" if layout.has("messages", column) else "'null'" for column in ("content", "meta_json")
    )
    notes: dict[int, _Note] = {}
    for chunk in _chunks(seqs):
        for row in conn.execute(
            f"SELECT rowid, seq, {name}, {kinds} FROM {layout.table('messages')} "
            f"WHERE {owner.condition} AND seq IN ({','.join('?' * len(chunk))})",
            (owner.value, *chunk),
        ).fetchall():
            notes[row[1]] = _read_note(cells, row)
    return notes


def _read_note(cells: Cells, row: tuple[Any, ...]) -> _Note:
    rowid, _, name, content_kind, meta_kind = row
    damages = Damages()
    head, _ = cells.head("content", rowid, content_kind, HEAD_BYTES, "content", damages)
    stored_meta, meta_size = cells.head("meta_json", rowid, meta_kind, NOTE_META_BYTES, "meta", damages)
    meta = parse(stored_meta, "meta", damages) if meta_size <= NOTE_META_BYTES else None
    span = note_span(NOTE_NAME, meta)
    return _Note(
        head=head[:HEAD_CHARS],
        genuine=name == NOTE_NAME,
        meta=meta if isinstance(meta, dict) else {},
        readable=isinstance(meta, dict),
        ord=span.ord if span else None,
        recorded=recorded_runs(meta),
    )


def _chunks(seqs: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(seqs), SEQS_PER_STATEMENT):
        yield seqs[start : start + SEQS_PER_STATEMENT]


def _record(layout: Layout, stored: _StoredCompaction) -> CompactionRecord:
    """Return what the rules of the compaction history need of an audit row."""
    numbers, note = stored.numbers, stored.note
    return CompactionRecord(
        numbers["compact_seq"] or 0,
        numbers["from_seq"],
        numbers["to_seq"],
        numbers["note_seq"],
        numbers["before_tokens"],
        numbers["after_tokens"],
        note.ord if note and layout.sorts_notes_by_ord else None,
        note.recorded if note else None,
        # Without `meta.ord` a note's meta says nothing about how its compaction worked.
        note_readable=not layout.sorts_notes_by_ord or (note is not None and note.readable),
    )


def _missing_seqs(outline: Outline) -> list[Run]:
    """Return the seqs whose state is not known, because their messages were pruned or are damaged."""
    known_runs = union(*(outline.runs(state) for state in (State.COMPACTED, State.ACTIVE, State.DROPPED)))
    return gaps(known_runs, 1, known_runs[-1][1]) if known_runs else []


def _compaction(stored: _StoredCompaction, record: CompactionRecord, taken: Taken, anomalies: list[str]) -> Compaction:
    note = stored.note
    if note and not note.genuine:
        anomalies = [*anomalies, "its note row is no compaction note"]
    before, after, tokens_are = _tokens(record, note)
    return Compaction(
        number=record.number,
        from_seq=record.from_seq,
        to_seq=record.to_seq,
        rows=taken.rows,
        set_runs=taken.runs,
        set_is=taken.certainty,
        note_seq=record.note_seq,
        note_head=note.head if note else None,
        note_row=str(record.note_seq) if note else None,
        before_tokens=before,
        after_tokens=after,
        tokens_are=tokens_are,
        round_index=stored.numbers["round_index"],
        created_at=stored.numbers["created_at"],
        undone=taken.undone,
        anomalies=(*anomalies, *stored.damages),
    )


def _tokens(record: CompactionRecord, note: _Note | None) -> tuple[int | None, int | None, Certainty]:
    """Return tokens before and after, as the audit row records them, else as the note's meta does."""
    before, after, damages = record.before_tokens, record.after_tokens, Damages()
    if note:
        before = before if before is not None else number(note.meta.get("original_tokens"), "", damages)
        after = after if after is not None else number(note.meta.get("summary_tokens"), "", damages)
    return before, after, Certainty.UNKNOWN if before is None or after is None else Certainty.RECORDED


def _splitting_tool_calls(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, seqs: Sequence[Run], taken: dict[int, Taken]
) -> set[int]:
    """Return the compactions, by position, that took a tool call without its result, or a result without its call.

    That is the case if a run of what a compaction took begins with a result, or if one directly follows it.
    """
    compactions_by_edge: dict[int, list[int]] = {}
    for index, compaction in taken.items():
        if compaction.rows is None or compaction.undone or len(compaction.runs) > MAX_EDGE_RUNS:
            continue
        for first, last in compaction.runs:
            compactions_by_edge.setdefault(first, []).append(index)
            next_seq = following(seqs, last)
            if next_seq is not None and not holds(compaction.runs, next_seq):
                compactions_by_edge.setdefault(next_seq, []).append(index)
    splitting: set[int] = set()
    for chunk in _chunks(sorted(compactions_by_edge)):
        for (seq,) in conn.execute(
            f"SELECT seq FROM {layout.table('messages')} WHERE {owner.condition} "
            f"AND seq IN ({','.join('?' * len(chunk))}) AND role = 'tool'",
            (owner.value, *chunk),
        ):
            splitting.update(compactions_by_edge[seq])
    return splitting


def usage(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> Usage:
    """Return the recorded tokens of each round and in total, and in words how much of the session that covers."""
    if not layout.has("usage_rounds"):
        return Usage([], 0, 0, 0, None, "this release recorded no usage")
    has_sends = layout.has("usage_rounds", "send_index")
    order = "send_index, round_index" if has_sends else "round_index"
    damages = Damages()
    rounds = []
    for *figures, model, created_at in conn.execute(
        f"SELECT {', '.join(layout.column('usage_rounds', column) for column in _USAGE_COLUMNS)} "
        f"FROM {layout.table('usage_rounds')} WHERE {owner.condition} ORDER BY {order}",
        (owner.value,),
    ):
        send_index, round_index, prompt, completion, total, cached = (number(value, "", damages) for value in figures)
        rounds.append(
            UsageRound(
                send_index,
                round_index,
                prompt,
                completion,
                total,
                cached,
                text(model, "", damages),
                number(created_at, "", damages),
            )
        )
    cached_tokens = [round_.cached_tokens for round_ in rounds if round_.cached_tokens is not None]
    coverage = _coverage(conn, layout, owner, len(rounds), has_sends)
    if damages:
        coverage += "; some figures cannot be read"
    return Usage(
        rounds,
        sum(round_.prompt_tokens or 0 for round_ in rounds),
        sum(round_.completion_tokens or 0 for round_ in rounds),
        sum(round_.total_tokens or 0 for round_ in rounds),
        sum(cached_tokens) if cached_tokens else None,
        coverage,
    )


def last_sent(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> int | None:
    """Return the context's tokens as the agent recorded them of its latest call.

    None if it recorded none, or if the session was compacted since.
    """
    if not layout.has("usage_rounds", "prompt_tokens"):
        return None
    row = conn.execute(
        f"SELECT prompt_tokens, created_at FROM {layout.table('usage_rounds')} "
        f"WHERE {owner.condition} ORDER BY created_at DESC LIMIT 1",
        (owner.value,),
    ).fetchone()
    if row is None:
        return None
    prompt_tokens, called_at = row
    if type(prompt_tokens) is not int or type(called_at) is not int:
        return None
    (compacted_at,) = conn.execute(
        f"SELECT max(created_at) FROM {layout.table('compactions')} WHERE {owner.condition}", (owner.value,)
    ).fetchone()
    if type(compacted_at) is int and compacted_at > called_at:
        return None
    return prompt_tokens


def _coverage(conn: sqlite3.Connection, layout: Layout, owner: Owner, rounds: int, has_sends: bool) -> str:
    """Return how much of a session its recorded rounds cover, in words."""
    if not rounds:
        return "nothing is recorded"
    if not has_sends:
        return "at least this: one row a round number is kept, and a later send overwrites an earlier one's"
    if layout.has("session_stats", "llm_calls"):
        row = conn.execute(
            f"SELECT llm_calls FROM {layout.table('session_stats')} WHERE {owner.condition}", (owner.value,)
        ).fetchone()
        calls = number(row[0], "", Damages()) if row else None
        if calls is not None:
            return f"{rounds} of {calls} model calls" if rounds < calls else f"all {rounds} model calls"
    return "at least this: releases before 5.2.2 recorded no round that called tools"
