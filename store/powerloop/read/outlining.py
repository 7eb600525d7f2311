"""Runs of seqs by state, found from a session's index.

A run of a million messages is found by counting: the database counts without returning a row. Seqs are read one by one
only if the messages of a state are scattered.
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

SEQS_PER_BURST = 400_000
"""How many rows one burst reads if they must be read one by one."""
FEW_ROWS = 2_048
"""Rows of a range up to which their seqs are read instead of halving the range."""
MAX_STATES = 16
"""More different states than this in a session are damage; its rows are then read one by one."""


def states_of(read: Read, layout: Layout, owner: Owner, cancel: Cancel) -> tuple[dict[str, list[Run]], list[int]]:
    """Return the runs of seqs by state, and the rowids of rows whose seq is not an integer. Raises Cancelled."""
    states = read(lambda conn: _regular_states(conn, layout, owner))
    if states is None:
        return _read_all_rows(read, layout, owner, cancel)
    finder = _RunFinder(read, layout, owner, cancel)
    return {state: finder.runs(state) for state in states}, []


def _regular_states(conn: sqlite3.Connection, layout: Layout, owner: Owner) -> list[str] | None:
    """Return the states of a session's messages, in ascending order, by one seek each.

    None if a seq is not an integer, a state is not usable as a parameter, or there are too many states.
    """
    messages = layout.table("messages")
    without_seq = conn.execute(
        f"SELECT 1 FROM {messages} WHERE {owner.condition} AND typeof(seq) <> 'integer' LIMIT 1", (owner.value,)
    ).fetchone()
    if without_seq is not None:
        return None
    states: list[str] = []
    while len(states) <= MAX_STATES:
        condition, values = ("AND state > ?", [states[-1]]) if states else ("", [])
        row = conn.execute(
            f"SELECT state FROM {messages} WHERE {owner.condition} {condition} ORDER BY state LIMIT 1",
            (owner.value, *values),
        ).fetchone()
        if row is None:
            return states
        state = row[0]
        if type(state) is not str or "\0" in state:
            return None
        states.append(state)
    return None


class _RunFinder:
    """Finds the runs of a state by halving ranges: with as many rows as seqs a range is a run, with none a hole."""

    def __init__(self, read: Read, layout: Layout, owner: Owner, cancel: Cancel) -> None:
        self._read = read
        self._owner = owner
        self._cancel = cancel
        self._from = f"FROM {layout.table('messages')} WHERE {owner.condition} AND state = ?"

    def runs(self, state: str) -> list[Run]:
        """Return the runs of one state. Raises Cancelled."""
        # One seek for each end: one statement for both would read all rows of the state.
        lowest = self._query(f"SELECT min(seq) {self._from}", state)[0][0]
        highest = self._query(f"SELECT max(seq) {self._from}", state)[0][0]
        if lowest is None:
            return []
        runs: list[Run] = []
        ranges = [(lowest, highest)]
        while ranges:
            first, last = ranges.pop()
            count = self._query(f"SELECT count(*) {self._from} AND seq BETWEEN ? AND ?", state, first, last)[0][0]
            if count == 0:
                continue
            if count == last - first + 1:
                runs.append((first, last))
            elif count <= FEW_ROWS or first == last:
                rows = self._query(f"SELECT seq {self._from} AND seq BETWEEN ? AND ? ORDER BY seq", state, first, last)
                runs += runs_of(seq for (seq,) in rows)
            else:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
        return union(runs)

    def _query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a statement about the session, in a burst of its own. Raises Cancelled."""
        if self._cancel():
            raise Cancelled("stopped")
        rows: list[tuple[Any, ...]] = self._read(
            lambda conn: conn.execute(statement, (self._owner.value, *values)).fetchall()
        )
        return rows


def _read_all_rows(read: Read, layout: Layout, owner: Owner, cancel: Cancel) -> tuple[dict[str, list[Run]], list[int]]:
    """Return the same as `states_of` by reading row by row, for sessions with damaged states or seqs."""
    runs_by_state: dict[str, list[Run]] = {}
    rows_without_seq: list[int] = []
    last_rowid: int | None = None
    while True:
        if cancel():
            raise Cancelled("stopped")

        def burst(conn: sqlite3.Connection, last_rowid: int | None = last_rowid) -> list[tuple[Any, Any, int]]:
            return _next_rows(conn, layout, owner, last_rowid)

        rows = read(burst)
        seqs_by_state: dict[str, list[int]] = {}
        for state, seq, rowid in rows:
            if type(seq) is int:
                seqs_by_state.setdefault(state_of(seq, state), []).append(seq)
            else:
                rows_without_seq.append(rowid)
        for name, seqs in seqs_by_state.items():
            runs_by_state[name] = union(runs_by_state.get(name, []), runs_of(sorted(seqs)))
        if len(rows) < SEQS_PER_BURST:
            return runs_by_state, rows_without_seq
        last_rowid = rows[-1][2]


def _next_rows(
    conn: sqlite3.Connection, layout: Layout, owner: Owner, last_rowid: int | None
) -> list[tuple[Any, Any, int]]:
    """Return the next (state, seq, rowid) in order of state and seq, after the row with `last_rowid`."""
    messages = layout.table("messages")
    condition = ""
    if last_rowid is not None:
        # The last row is named by its rowid: a damaged state or seq may not compare equal as a parameter.
        condition = f"AND (state, seq) > (SELECT state, seq FROM {messages} WHERE rowid = {last_rowid})"
    return conn.execute(
        f"SELECT state, seq, rowid FROM {messages} WHERE {owner.condition} {condition} ORDER BY state, seq LIMIT ?",
        (owner.value, SEQS_PER_BURST),
    ).fetchall()
