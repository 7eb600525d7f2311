"""Room between the rows of a session for what is missing, made by moving the later rows on. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sessionscope.store.powerloop.read.session_facts import SessionFacts
from sessionscope.store.powerloop.read.tool_call_pairs import dumps

from .edits import Edit


class Rooms(Struct, frozen=True):
    """Where rows are put in between: each with the seq that the first of them gets among those as they are, and how
    many they are.
    """

    made: tuple[tuple[int, int], ...]

    def moved(self, seq: Any) -> Any:
        """The seq of a row once there is room; anything but a seq stays what it is."""
        return seq + sum(many for first, many in self.made if first <= seq) if type(seq) is int else seq

    def start(self, first: int) -> int:
        """The first seq of the room at `first`, or of a gap there, once there is room."""
        return first + sum(many for before, many in self.made if before < first)


def make_room(facts: SessionFacts, rooms: Rooms) -> list[Edit]:
    """Moves rows on so that there is room, and with them whatever names them."""
    moved = rooms.moved
    edits: list[Edit] = []
    # The last first: no two rows may have one seq, not even for a moment.
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
    """Lets the next message get a seq above `highest`."""
    stored = facts.state.get("next_seq") if facts.state else None
    if facts.state_rowid is None or (type(stored) is int and stored > highest):
        return []
    return [Edit("session_state", facts.state_rowid, {"next_seq": highest + 1}, facts.spot())]


def _moved_meta(meta: dict[str, Any], moved: Any) -> dict[str, Any]:
    """The meta column of a note whose span moves; nothing where it does not."""
    changed = {key: moved(meta[key]) for key in ("from_seq", "to_seq", "ord") if moved(meta.get(key)) != meta.get(key)}
    runs = meta.get("fold_seqs")
    if isinstance(runs, list):
        shifted = [[moved(end) for end in run] if isinstance(run, list) else run for run in runs]
        changed |= {"fold_seqs": shifted} if shifted != runs else {}
    return {"meta_json": dumps(meta | changed)} if changed else {}
