"""The outline of a session from its index: which seqs are in which state.

A run of a million rows is found by counting it, which the database does without returning a row. Rows are read one by
one only if those of a state are scattered.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sessionscope.store.io.sqlitefile import Read
from sessionscope.store.model.errors import Cancelled
from sessionscope.store.model.outline import Run, runs_of, union
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.protocols import Cancel

from .messages import Owner, state_of

SEQS_A_BURST, FEW, STATES = 400_000, 2_048, 16


def states_of(read: Read, layout: Layout, owner: Owner, cancel: Cancel) -> tuple[dict[str, list[Run]], list[int]]:
    """Return the runs of seqs by state, and the storage keys of rows whose seq is no number. Raises Cancelled."""
    plain = read(lambda conn: _plain_states(conn, layout, owner))
    if plain is None:
        return _walk(read, layout, owner, cancel)
    counting = _Counting(read, layout, owner, cancel)
    return {state: counting.state(state) for state in plain}, []


def _plain_states(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> list[str] | None:
    """Return the states of a session's rows, one seek each; None if a state or a seq has a type that is not valid."""
    messages = layout.table("messages")
    without_seq = conn.execute(
        f"SELECT 1 FROM {messages} WHERE {owner.condition} AND typeof(seq) <> 'integer' LIMIT 1", (owner.value,)
    ).fetchone()
    found: list[str] = []
    while without_seq is None and len(found) <= STATES:
        more, values = ("AND state > ?", [found[-1]]) if found else ("", [])
        row = conn.execute(
            f"SELECT state FROM {messages} WHERE {owner.condition} {more} ORDER BY state LIMIT 1",
            (owner.value, *values),
        ).fetchone()
        if row is None:
            return found
        if type(row[0]) is not str or "\0" in row[0]:
            return None
        found.append(row[0])
    return None


class _Counting:
    """Finds runs by bisection: if there are as many rows as seqs between two ends, they are a run; if none, a hole."""

    def __init__(self, read: Read, layout: Layout, owner: Owner, cancel: Cancel) -> None:
        self._read, self._owner, self._cancel = read, owner, cancel
        self._where = f"FROM {layout.table('messages')} WHERE {owner.condition} AND state = ?"

    def state(self, state: str) -> list[Run]:
        """Return the runs of one state."""
        # One seek for each end: asked for together, they would cost a pass over the whole state.
        ends = [self._ask(f"SELECT {end}(seq) {self._where}", state)[0][0] for end in ("min", "max")]
        runs: list[Run] = []
        stack = [(ends[0], ends[1])] if ends[0] is not None else []
        while stack:
            first, last = stack.pop()
            count = self._ask(f"SELECT count(*) {self._where} AND seq BETWEEN ? AND ?", state, first, last)[0][0]
            if count == last - first + 1:
                runs.append((first, last))
            elif 0 < count <= FEW or first == last:
                rows = self._ask(f"SELECT seq {self._where} AND seq BETWEEN ? AND ? ORDER BY seq", state, first, last)
                runs += runs_of(seq for (seq,) in rows)
            elif count:
                middle = (first + last) // 2
                stack += [(middle + 1, last), (first, middle)]
        return union(runs)

    def _ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        if self._cancel():
            raise Cancelled("stopped")
        found: list[tuple[Any, ...]] = self._read(
            lambda conn: conn.execute(statement, (self._owner.value, *values)).fetchall()
        )
        return found


def _walk(read: Read, layout: Layout, owner: Owner, cancel: Cancel) -> tuple[dict[str, list[Run]], list[int]]:
    """Return the same row by row, for sessions with a state or seq of an invalid type."""
    messages = layout.table("messages")
    runs: dict[str, list[Run]] = {}
    rows_without_seq: list[int] = []
    last: int | None = None
    while True:
        if cancel():
            raise Cancelled("stopped")

        def burst(conn: sqlite3.Connection, last: int | None = last) -> list[tuple[Any, Any, int]]:
            # By its storage key, since a state or seq of another type does not survive as a parameter.
            after = f"(SELECT state, seq FROM {messages} WHERE rowid = {last})"
            more = f"AND (state, seq) > {after}" if last is not None else ""
            return conn.execute(
                f"SELECT state, seq, rowid FROM {messages} WHERE {owner.condition} {more} ORDER BY state, seq LIMIT ?",
                (owner.value, SEQS_A_BURST),
            ).fetchall()

        some = read(burst)
        states: dict[str, list[int]] = {}
        for state, seq, rowid in some:
            if type(seq) is int:
                states.setdefault(state_of(seq, state), []).append(seq)
            else:
                rows_without_seq.append(rowid)
        for name, seqs in states.items():
            runs[name] = union(runs.get(name, []), runs_of(sorted(seqs)))
        if len(some) < SEQS_A_BURST:
            return runs, rows_without_seq
        last = some[-1][2]
