"""The compactions of a session with the rows that each compacted, and the token usage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from sessionscope.store.io.sqlitefile import Read
from sessionscope.store.model.outline import Outline, Run, following, gaps, union
from sessionscope.store.model.rows import Audit, Certainty, Compaction, State, Usage, UsageRound
from sessionscope.store.powerloop.format.decode import Cells, note_span, number, recorded_runs, text
from sessionscope.store.powerloop.format.layout import NOTE_NAME, Layout
from sessionscope.store.rules.compaction_history import CompactionRecord, Taken, anomalies_of, explain
from sessionscope.store.rules.values import Damages, parse

from .messages import HEAD_BYTES, HEAD_CHARS, Owner

CHUNK, NOTE_META_BYTES, EDGES = 500, 1_048_576, 64
_COLUMNS = (
    "compact_seq",
    "from_seq",
    "to_seq",
    "note_seq",
    "before_tokens",
    "after_tokens",
    "round_index",
    "created_at",
)


def _chunks(seqs: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(seqs), CHUNK):
        yield seqs[start : start + CHUNK]


def _stored(
    conn: sqlite3.Connection, layout: Layout, owner: Owner
) -> tuple[list[dict[str, int | None]], list[Damages], dict[int, _Note]]:
    """Return the audit rows with what is wrong with each, and the notes that they name."""
    shown = ", ".join(layout.column("compactions", column) for column in _COLUMNS)
    stored = conn.execute(
        f"SELECT {shown} FROM {layout.table('compactions')} WHERE {owner.condition} ORDER BY compact_seq",
        (owner.value,),
    ).fetchall()
    damages = [Damages() for _ in stored]
    rows = [
        dict(zip(_COLUMNS, (number(value, name, bad) for name, value in zip(_COLUMNS, row, strict=True)), strict=True))
        for row, bad in zip(stored, damages, strict=True)
    ]
    notes = _notes(conn, layout, owner, [seq for row in rows if (seq := row["note_seq"]) is not None])
    return rows, damages, notes


def audit(read: Read, layout: Layout, owner: Owner, outline: Outline) -> Audit:
    """Return every recorded compaction, oldest first.

    Two bursts: two statements, and two more for each 500 compactions. What each compacted is worked out between the
    bursts, so that it blocks no writer.
    """
    if not layout.has("compactions"):
        return Audit([], tuple(outline.runs(State.COMPACTED)))
    rows, damages, notes = read(lambda conn: _stored(conn, layout, owner))
    compactions = []
    for row in rows:
        note = notes.get(row["note_seq"] or 0)
        compactions.append(
            CompactionRecord(
                row["compact_seq"] or 0,
                row["from_seq"],
                row["to_seq"],
                row["note_seq"],
                row["before_tokens"],
                row["after_tokens"],
                note.ord if note and layout.by_ord else None,
                note.recorded if note else None,
                note_readable=not layout.by_ord or (note is not None and note.readable),
            )
        )
    seqs = outline.runs()
    known = union(*(outline.runs(state) for state in (State.COMPACTED, State.ACTIVE, State.DROPPED)))
    missing = gaps(known, 1, known[-1][1]) if known else []
    taken, unexplained = explain(compactions, outline.runs(State.COMPACTED), outline.runs(State.ACTIVE), missing)
    split = read(lambda conn: _split(conn, layout, owner, seqs, taken))
    found = []
    for at, compaction in enumerate(compactions):
        if at not in taken:
            continue
        note = notes.get(compaction.note_seq or 0)
        before, after, tokens_are = _tokens(compaction, note)
        found.append(
            Compaction(
                number=compaction.number,
                from_seq=compaction.from_seq,
                to_seq=compaction.to_seq,
                rows=taken[at].rows,
                set_runs=taken[at].runs,
                set_is=taken[at].certainty,
                note_seq=compaction.note_seq,
                note_head=note.head if note else None,
                note_row=str(compaction.note_seq) if note else None,
                before_tokens=before,
                after_tokens=after,
                tokens_are=tokens_are,
                round_index=rows[at]["round_index"],
                created_at=rows[at]["created_at"],
                undone=taken[at].undone,
                anomalies=(
                    *anomalies_of(compaction, taken[at], compactions[:at], seqs),
                    *(["it splits a tool call from its result"] if at in split else []),
                    *(["its note row is no compaction note"] if note and not note.genuine else []),
                    *damages[at],
                ),
            )
        )
    return Audit(found, tuple(unexplained))


class _Note:
    def __init__(self, cells: Cells, row: tuple[Any, ...]) -> None:
        rowid, self.seq, name, content_kind, meta_kind = row
        damages = Damages()
        self.genuine = name == NOTE_NAME
        self.head = cells.head("content", rowid, content_kind, HEAD_BYTES, "content", damages)[0][:HEAD_CHARS]
        stored, size = cells.head("meta_json", rowid, meta_kind, NOTE_META_BYTES, "meta", damages)
        meta = parse(stored, "meta", damages) if size <= NOTE_META_BYTES else None
        self.readable = isinstance(meta, dict)
        self.meta = meta if isinstance(meta, dict) else {}
        span = note_span(NOTE_NAME, meta)
        self.ord = span.ord if span else None
        self.recorded = recorded_runs(meta)


def _notes(conn: sqlite3.Connection, layout: Layout, owner: Owner, seqs: list[int]) -> dict[int, _Note]:
    cells = Cells(conn, layout.name("messages"))
    name = layout.column("messages", "name")
    kinds = ", ".join(
        f"typeof({column})" if layout.has("messages", column) else "'null'" for column in ("content", "meta_json")
    )
    found: dict[int, _Note] = {}
    for some in _chunks(seqs):
        for row in conn.execute(
            f"SELECT rowid, seq, {name}, {kinds} FROM {layout.table('messages')} "
            f"WHERE {owner.condition} AND seq IN ({','.join('?' * len(some))})",
            (owner.value, *some),
        ).fetchall():
            found[row[1]] = _Note(cells, row)
    return found


def _tokens(compaction: CompactionRecord, note: _Note | None) -> tuple[int | None, int | None, Certainty]:
    """Return the figures of the audit row, else those that the note's meta repeats."""
    before, after, damages = compaction.before_tokens, compaction.after_tokens, Damages()
    if note:
        before = before if before is not None else number(note.meta.get("original_tokens"), "", damages)
        after = after if after is not None else number(note.meta.get("summary_tokens"), "", damages)
    return before, after, Certainty.UNKNOWN if before is None or after is None else Certainty.RECORDED


def _split(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, seqs: Sequence[Run], taken: dict[int, Taken]
) -> set[int]:
    """Return the numbers of compactions that separate a tool result from its call at their edges."""
    edges: dict[int, list[int]] = {}
    for at, compaction in taken.items():
        if compaction.rows is None or compaction.undone or len(compaction.runs) > EDGES:
            continue
        for first, last in compaction.runs:
            after = following(seqs, last)
            for seq in (first, after):
                if seq is not None and (seq == first or not any(a <= seq <= b for a, b in compaction.runs)):
                    edges.setdefault(seq, []).append(at)
    split: set[int] = set()
    for some in _chunks(sorted(edges)):
        for (seq,) in conn.execute(
            f"SELECT seq FROM {layout.table('messages')} WHERE {owner.condition} "
            f"AND seq IN ({','.join('?' * len(some))}) AND role = 'tool'",
            (owner.value, *some),
        ):
            split.update(edges[seq])
    return split


def usage(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> Usage:
    """Return usage by round and in total, and how much of the session that covers."""
    if not layout.has("usage_rounds"):
        return Usage([], 0, 0, 0, None, "this release recorded no usage")
    columns = (
        "send_index",
        "round_index",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "model",
        "created_at",
    )
    sends = layout.has("usage_rounds", "send_index")
    damages = Damages()
    rounds = []
    for *figures, model, created in conn.execute(
        f"SELECT {', '.join(layout.column('usage_rounds', column) for column in columns)} "
        f"FROM {layout.table('usage_rounds')} WHERE {owner.condition} "
        f"ORDER BY {'send_index, ' if sends else ''}round_index",
        (owner.value,),
    ):
        send, at, prompt, completion, total, cache = (number(value, "", damages) for value in figures)
        rounds.append(
            UsageRound(
                send, at, prompt, completion, total, cache, text(model, "", damages), number(created, "", damages)
            )
        )
    cached = [found.cached_tokens for found in rounds if found.cached_tokens is not None]
    return Usage(
        rounds,
        sum(found.prompt_tokens or 0 for found in rounds),
        sum(found.completion_tokens or 0 for found in rounds),
        sum(found.total_tokens or 0 for found in rounds),
        sum(cached) if cached else None,
        _coverage(conn, layout, owner, len(rounds), sends) + ("; some figures cannot be read" if damages else ""),
    )


def last_sent(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> int | None:
    """Return the tokens that the agent recorded of its last call, None if it recorded none or has compacted since."""
    if not layout.has("usage_rounds", "prompt_tokens"):
        return None
    found = conn.execute(
        f"SELECT prompt_tokens, created_at FROM {layout.table('usage_rounds')} "
        f"WHERE {owner.condition} ORDER BY created_at DESC LIMIT 1",
        (owner.value,),
    ).fetchone()
    if found is None or type(found[0]) is not int or type(found[1]) is not int:
        return None
    (compacted,) = conn.execute(
        f"SELECT max(created_at) FROM {layout.table('compactions')} WHERE {owner.condition}", (owner.value,)
    ).fetchone()
    return found[0] if type(compacted) is not int or compacted <= found[1] else None


def _coverage(conn: sqlite3.Connection, layout: Layout, owner: Owner, rounds: int, sends: bool) -> str:
    if not rounds:
        return "nothing is recorded"
    if not sends:
        return "at least this: one row a round number is kept, and a later send overwrites an earlier one's"
    if layout.has("session_stats", "llm_calls"):
        row = conn.execute(
            f"SELECT llm_calls FROM {layout.table('session_stats')} WHERE {owner.condition}", (owner.value,)
        ).fetchone()
        calls = number(row[0], "", Damages()) if row else None
        if calls is not None:
            return f"{rounds} of {calls} model calls" if rounds < calls else f"all {rounds} model calls"
    return "at least this: releases before 5.2.2 recorded no round that called tools"
