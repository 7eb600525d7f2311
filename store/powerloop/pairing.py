"""Which result answers which call in a session, what nobody answered, and room for what is missing. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from .chart import Call, Chart, Row
from .edits import Edit


class Pairing(Struct):
    """Positions are those of rows. `answers` maps each result to its call; `orphans` are results without one."""

    answers: dict[int, Call]
    unanswered: list[Call]
    orphans: list[int]


def pair(rows: Sequence[Row]) -> Pairing:
    """Matches each result with the latest call before it that has its id; one without an id with any without."""
    by_id: dict[str, Call] = {}
    waiting: dict[Call, None] = {}
    nameless: list[Call] = []
    found = Pairing({}, [], [])
    for at, row in enumerate(rows):
        for place, (id_, name) in enumerate(row.calls):
            call = Call(at, place, id_, name)
            waiting[call] = None
            if id_:
                by_id[id_] = call
            else:
                nameless.append(call)
        if row.role != "tool":
            continue
        call_of = by_id.get(row.answers) if isinstance(row.answers, str) and row.answers else None
        if call_of is None and not row.answers and nameless:
            call_of = nameless.pop(0)
        if call_of is None:
            found.orphans.append(at)
        else:
            found.answers[at] = call_of
            waiting.pop(call_of, None)
    found.unanswered = list(waiting)
    return found


def open_calls(chart: Chart, pairing: Pairing) -> dict[int, list[Call]]:
    """The unanswered calls of rows that the model still sees, by the position of the row that makes them."""
    found: dict[int, list[Call]] = {}
    for call in pairing.unanswered:
        if chart.rows[call.row].active:
            found.setdefault(call.row, []).append(call)
    return found


def awaited(chart: Chart) -> tuple[set[str], bool]:
    """The ids of calls that a session's pending says it waits for, and whether it also waits for something else."""
    pending = _pending(chart)
    ids = pending.get("tool_call_ids")
    made = pending.get("tool_calls")
    waits = {one for one in ids if isinstance(one, str)} if isinstance(ids, list) else set()
    for one in made if isinstance(made, list) else ():
        if isinstance(one, dict) and isinstance(one.get("id"), str):
            waits.add(one["id"])
    return waits, bool(pending.get("pending_interactions"))


def _pending(chart: Chart) -> dict[str, Any]:
    stored = chart.state.get("pending_json") if chart.state else None
    try:
        value = json.loads(stored) if isinstance(stored, str) and stored else None
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


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


def make_room(chart: Chart, rooms: Rooms) -> list[Edit]:
    """Moves rows on so that there is room, and with them whatever names them."""
    moved = rooms.moved
    edits: list[Edit] = []
    # The last first: no two rows may have one seq, not even for a moment.
    for row in reversed(chart.rows):
        values: dict[str, Any] = {"seq": moved(row.seq)} if moved(row.seq) != row.seq else {}
        if isinstance(row.meta, dict):
            values |= _moved_meta(row.meta, moved)
        if values:
            edits.append(Edit("messages", row.rowid, values, chart.spot(row)))
    for fold in chart.folds:
        named = {"note_seq": fold.note_seq, "from_seq": fold.from_seq, "to_seq": fold.to_seq}
        values = {column: moved(seq) for column, seq in named.items() if moved(seq) != seq}
        if values:
            edits.append(Edit("compactions", fold.rowid, values, chart.spot()))
    for table, rowid, column, seq in chart.mentions:
        if moved(seq) != seq:
            edits.append(Edit(table, rowid, {column: moved(seq)}, chart.spot()))
    return edits


def count_on(chart: Chart, highest: int) -> list[Edit]:
    """Lets the next message get a seq above `highest`."""
    stored = chart.state.get("next_seq") if chart.state else None
    if chart.state_rowid is None or (type(stored) is int and stored > highest):
        return []
    return [Edit("session_state", chart.state_rowid, {"next_seq": highest + 1}, chart.spot())]


def _moved_meta(meta: dict[str, Any], moved: Any) -> dict[str, Any]:
    """The meta column of a note whose span moves; nothing where it does not."""
    changed = {key: moved(meta[key]) for key in ("from_seq", "to_seq", "ord") if moved(meta.get(key)) != meta.get(key)}
    runs = meta.get("fold_seqs")
    if isinstance(runs, list):
        shifted = [[moved(end) for end in run] if isinstance(run, list) else run for run in runs]
        changed |= {"fold_seqs": shifted} if shifted != runs else {}
    return {"meta_json": dumps(meta | changed)} if changed else {}


def dumps(value: Any) -> str:
    """JSON as power-loop writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def first_free(chart: Chart, at: int) -> int:
    """The seq right behind a row and the results that follow it at once, where answers to its calls belong."""
    last = at
    while last + 1 < len(chart.rows) and chart.rows[last + 1].role == "tool":
        last += 1
    return chart.rows[last].seq + 1


def is_free(chart: Chart, first: int, many: int) -> bool:
    """Whether no row has any of these seqs."""
    taken: Iterable[int] = (row.seq for row in chart.rows)
    return not any(first <= seq < first + many for seq in taken)
