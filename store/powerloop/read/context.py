"""The context that the model sees of a session, with an estimate of each message's tokens."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from operator import attrgetter

from sessionscope.store.model import wording
from sessionscope.store.model.context import Candidate, Context, tokens_of
from sessionscope.store.model.errors import UnknownSession
from sessionscope.store.powerloop.format.layout import NOTE_NAME, Layout

from . import sessions
from .messages import Owner
from .session_facts import MessageFacts, SessionFacts, read_facts
from .tool_call_pairs import pair_tool_calls

WHOLE_SEQ = "typeof(seq) = 'integer'"
"""The condition of rows that a seq can name; actions leave all others as they are."""


def context_of(conn: sqlite3.Connection, layout: Layout, id_: str) -> Context:
    """Return the context of a session, in the model's order. Raises UnknownSession."""
    return context_in(layout, facts_of(conn, layout, id_, bodies=True))


def context_in(layout: Layout, facts: SessionFacts) -> Context:
    """Return the context of a session whose facts were read with `bodies`, in the model's order."""
    calls_by_result = pair_tool_calls(facts.rows).calls_by_result
    candidates: list[Candidate] = []
    in_order = True
    for index, row in enumerate(facts.rows):
        if not row.active:
            continue
        note = row.name == NOTE_NAME
        place = row.seq
        if note:
            place = _note_place(layout, row)
            in_order = in_order and place == row.seq
        call = calls_by_result.get(index)
        candidates.append(
            Candidate(
                row.seq,
                place,
                str(row.role),
                index if call is None else call.message_index,
                tokens_of(row.size),
                note,
                not note and _is_kept(index, row),
                str(row.head) if row.head else _called_names(row),
            )
        )
    if not in_order:
        candidates.sort(key=attrgetter("position", "seq"))
    return Context(tuple(candidates), facts.highest, note_last=not layout.sorts_notes_by_ord)


def sizes(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> Iterator[tuple[int, str, int]]:
    """Yield the seq, role and estimated tokens of every message, in the order in which they were written."""
    for seq, role, size in conn.execute(
        f"SELECT seq, role, {layout.chars} FROM {layout.table('messages')} WHERE {owner.condition} "
        f"AND {WHOLE_SEQ} ORDER BY seq",
        (owner.value,),
    ):
        yield seq, str(role), tokens_of(size)


def _is_kept(index: int, row: MessageFacts) -> bool:
    """Return whether power-loop never compacts a message: a leading system message, or a recalled memory."""
    if index == 0 and row.role == "system":
        return True
    return row.name is not None and str(row.name).startswith("memory_")


def _called_names(row: MessageFacts) -> str:
    """Return the names of the tools that a message calls, which represent it if its content is empty."""
    return ", ".join(name for _, name in row.calls if name)


def _note_place(layout: Layout, note: MessageFacts) -> int:
    """Return the position of a note in the model's order: its `meta.ord` if the layout uses that, else its seq."""
    place = note.meta.get("ord") if layout.sorts_notes_by_ord and isinstance(note.meta, dict) else None
    return place if type(place) is int else note.seq


def facts_of(conn: sqlite3.Connection, layout: Layout, id_: str, bodies: bool) -> SessionFacts:
    """Read the facts of a session by its id. Raises UnknownSession."""
    key = sessions.rowid_of(conn, layout, id_)
    facts = read_facts(conn, layout, key, bodies) if key is not None else None
    if facts is None:
        raise UnknownSession(wording.session_is_gone(id_))
    return facts
