"""The context of a session: what the model is sent, with estimated tokens for each message."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from sessionscope.store.model import wording
from sessionscope.store.model.context import Candidate, Context, tokens_of
from sessionscope.store.model.errors import UnknownSession
from sessionscope.store.powerloop.format.layout import Layout

from . import sessions
from .messages import Owner
from .session_facts import MessageFacts, SessionFacts, read_facts
from .tool_call_pairs import pair_tool_calls

WHOLE_SEQ = "typeof(seq) = 'integer'"
"""The condition for rows that can be named by a seq. Others are left as they are."""


def context_of(conn: sqlite3.Connection, layout: Layout, id_: str) -> Context:
    """Return what the model is sent of a session, in that order. Raises UnknownSession."""
    return context_in(layout, facts_of(conn, layout, id_, bodies=True))


def context_in(layout: Layout, facts: SessionFacts) -> Context:
    """Return the same for a session whose facts were read."""
    answers = pair_tool_calls(facts.rows).answers
    found, elsewhere = [], False
    for at, row in enumerate(facts.rows):
        if not row.active:
            continue
        place, note, kept = row.seq, False, at == 0 and row.role == "system"
        if row.name is not None:
            note, kept = row.note, kept or str(row.name).startswith("memory_")
        if note:
            place, kept = _place(layout, row), False
            elsewhere |= place != row.seq
        found.append(
            Candidate(
                row.seq,
                place,
                str(row.role),
                answers[at].row if at in answers else at,
                tokens_of(row.size),
                note,
                kept,
                str(row.head) if row.head else _called(row),
            )
        )
    if elsewhere:
        found.sort(key=lambda one: (one.place, one.seq))
    return Context(tuple(found), facts.highest, note_last=not layout.by_ord)


def sizes(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> Iterator[tuple[int, str, int]]:
    """Yield every message's seq, role and tokens, in the order in which they were written."""
    for seq, role, size in conn.execute(
        f"SELECT seq, role, {layout.chars} FROM {layout.table('messages')} WHERE {owner.condition} "
        f"AND {WHOLE_SEQ} ORDER BY seq",
        (owner.value,),
    ):
        yield seq, str(role), tokens_of(size)


def _called(row: MessageFacts) -> str:
    """Return the names of the calls of a message without a content."""
    return ", ".join(name for _, name in row.calls if name)


def _place(layout: Layout, note: MessageFacts) -> int:
    place = note.meta.get("ord") if layout.by_ord and isinstance(note.meta, dict) else None
    return place if type(place) is int else note.seq


def facts_of(conn: sqlite3.Connection, layout: Layout, id_: str, bodies: bool) -> SessionFacts:
    """Return the facts of a session by its id. Raises UnknownSession."""
    key = sessions.rowid_of(conn, layout, id_)
    facts = read_facts(conn, layout, key, bodies) if key is not None else None
    if facts is None:
        raise UnknownSession(wording.session_is_gone(id_))
    return facts
