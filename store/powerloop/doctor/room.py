"""Room for missing messages between the messages of a session, made by moving the later ones up. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from sessionscope.store.powerloop.read.session_facts import SessionFacts
from sessionscope.store.powerloop.read.tool_call_pairs import dumps

from .edits import Edit


class Rooms(Struct, frozen=True):
    """The places at which messages are inserted."""

    gaps: tuple[tuple[int, int], ...]
    """Of each place, the lowest old seq that moves up, and how many messages are inserted before it."""

    def moved(self, seq: Any) -> Any:
        """Return the new seq of a message with an old one; a value that is not an integer is returned as it is."""
        if type(seq) is not int:
            return seq
        return seq + sum(count for first, count in self.gaps if first <= seq)

    def start(self, first: int) -> int:
        """Return the new seq of the first message that is inserted before the old seq `first`."""
        return first + sum(count for earlier, count in self.gaps if earlier < first)


def make_room(facts: SessionFacts, rooms: Rooms) -> list[Edit]:
    """Return the edits that move messages to their new seqs, and change every value that names a moved seq."""
    moved = rooms.moved
    edits: list[Edit] = []
    # From the last to the first: no two messages may have the same seq, not even between two edits.
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
    """Return the edits after which the next message gets a seq above `highest`; none if it does already."""
    stored = facts.state.get("next_seq") if facts.state else None
    if facts.state_rowid is None or (type(stored) is int and stored > highest):
        return []
    return [Edit("session_state", facts.state_rowid, {"next_seq": highest + 1}, facts.spot())]


def _moved_meta(meta: dict[str, Any], moved: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the new value of the meta column, by its name, of a note whose seqs move; {} if they do not."""
    changed = {key: moved(meta[key]) for key in ("from_seq", "to_seq", "ord") if moved(meta.get(key)) != meta.get(key)}
    runs = meta.get("fold_seqs")
    if isinstance(runs, list):
        moved_runs = [[moved(seq) for seq in run] if isinstance(run, list) else run for run in runs]
        if moved_runs != runs:
            changed["fold_seqs"] = moved_runs
    return {"meta_json": dumps(meta | changed)} if changed else {}
