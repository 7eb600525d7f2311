"""Room for missing rows between the rows of a session, made by renumbering the later rows. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sessionscope.store.powerloop.read.session_facts import SessionFacts
from sessionscope.store.powerloop.read.tool_call_pairs import dumps

from .edits import Edit


class Rooms(Struct, frozen=True):
    """The rooms of a session: for each, the present seq before which its rows are inserted, and how many rows it is
    for.
    """

    made: tuple[tuple[int, int], ...]

    def moved(self, seq: Any) -> Any:
        """Return the new seq of a row. Anything but a seq is returned unchanged."""
        return seq + sum(many for first, many in self.made if first <= seq) if type(seq) is int else seq

    def start(self, first: int) -> int:
        """Return the first seq of the room at `first`, or of a gap there, after renumbering."""
        return first + sum(many for before, many in self.made if before < first)


def make_room(facts: SessionFacts, rooms: Rooms) -> list[Edit]:
    """Return the edits that renumber rows to make room, and change everything that names them."""
    moved = rooms.moved
    edits: list[Edit] = []
    # The last row first: no two rows may share a seq, not even for a moment.
    for row in reversed(facts.rows):
        values: dict[str, Any] = {"seq": moved(row.seq)} if moved(row.seq) != row.seq else {}
        if isinstance(row.meta, dict):
            values |= _moved_meta(row.meta, moved)
        if values:
            edits.append(Edit("messages", row.rowid, values, facts.spot(row)))
    for audit_row in facts.audit_rows:
        named = {"note_seq": audit_row.note_seq, "from_seq": audit_row.from_seq, "to_seq": audit_row.to_seq}
        values = {column: moved(seq) for column, seq in named.items() if moved(seq) != seq}
        if values:
            edits.append(Edit("compactions", audit_row.rowid, values, facts.spot()))
    for table, rowid, column, seq in facts.mentions:
        if moved(seq) != seq:
            edits.append(Edit(table, rowid, {column: moved(seq)}, facts.spot()))
    return edits


def count_on(facts: SessionFacts, highest: int) -> list[Edit]:
    """Return the edits after which the next message gets a seq above `highest`."""
    stored = facts.state.get("next_seq") if facts.state else None
    if facts.state_rowid is None or (type(stored) is int and stored > highest):
        return []
    return [Edit("session_state", facts.state_rowid, {"next_seq": highest + 1}, facts.spot())]


def _moved_meta(meta: dict[str, Any], moved: Any) -> dict[str, Any]:
    """Return the new meta column of a note whose span moves; nothing if it does not move."""
    changed = {key: moved(meta[key]) for key in ("from_seq", "to_seq", "ord") if moved(meta.get(key)) != meta.get(key)}
    runs = meta.get("fold_seqs")
    if isinstance(runs, list):
        shifted = [[moved(end) for end in run] if isinstance(run, list) else run for run in runs]
        changed |= {"fold_seqs": shifted} if shifted != runs else {}
    return {"meta_json": dumps(meta | changed)} if changed else {}
