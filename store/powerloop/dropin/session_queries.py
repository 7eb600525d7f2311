"""The reads of `SessionStore`: each is one statement, and says what it costs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from itertools import starmap
from pathlib import Path
from threading import RLock
from typing import TypeVar

from sessionscope.store.io.sqlitefile import decode_text
from sessionscope.store.io.transactions import Transactions, plain_cursor, waiting
from sessionscope.store.powerloop.format.decode import HIGHEST, LOWEST
from sessionscope.store.powerloop.format.layout import Layout
from sessionscope.store.powerloop.format.schema import COLUMNS
from sessionscope.store.powerloop.read import sessions
from sessionscope.store.powerloop.read.messages import Owner

from .session_rows import (
    CompactionRow,
    Counts,
    Descendant,
    MessageRow,
    MessageState,
    Page,
    SessionRow,
    SessionStateRow,
    UsageRow,
    decode_json,
)

T = TypeVar("T")
LAYOUT = Layout("", COLUMNS, "0.2.0", by_ord=False, poisoned=False)
# JSON is fetched as bytes, which tells it from decoded values and saves making a string.
_SESSIONS = """SELECT session_id, created_at, updated_at, system_prompt, model, CAST(ifnull(config_json, '') AS BLOB),
    status, kind, parent_session_id, spawn_tool_call_id, spawn_depth, lifecycle,
    CAST(ifnull(metadata_json, '') AS BLOB)"""
_MESSAGES = """SELECT seq, role, name, content, CAST(tool_calls_json AS BLOB), tool_call_id, round_index, state,
    CAST(ifnull(meta_json, '') AS BLOB), created_at FROM messages WHERE session_id = ?"""
# A session has one parent, so the only cycle on the way down leads through the session at the top.
_BELOW = """WITH RECURSIVE below(id, depth, created, key) AS (
        SELECT session_id, 1, created_at, rowid FROM sessions WHERE parent_session_id = ? AND session_id IS NOT ?
        UNION ALL
        SELECT s.session_id, depth + 1, s.created_at, s.rowid FROM below JOIN sessions s
        ON s.parent_session_id = below.id WHERE s.session_id IS NOT ? ORDER BY 2 DESC, 3, 4)
    SELECT id, depth FROM below"""


class SessionQueries:
    """The reading half of `SessionStore`.

    Rows are fetched as plain tuples, whatever `row_factory` the connection has.
    """

    def __init__(self, conn: sqlite3.Connection, path: str | Path) -> None:
        self._lock = RLock()
        self.path = path
        self._transactions = Transactions(conn, self._lock, str(path))

    @property
    def _conn(self) -> sqlite3.Connection:
        """The connection. Callers of upstream's store use it, or replace it with their own."""
        return self._transactions.conn

    @_conn.setter
    def _conn(self, conn: sqlite3.Connection) -> None:
        self._transactions.conn = conn

    def _read(self, what: str, session_id: str, work: Callable[[sqlite3.Cursor], T]) -> T:
        with self._lock, waiting(what, session_id, str(self.path)):
            try:
                return work(plain_cursor(self._conn))
            except sqlite3.OperationalError as error:
                if "UTF-8" not in str(error):
                    raise
            # Text that is not UTF-8 is rare. Decoding leniently from the start would double the time.
            strict, self._conn.text_factory = self._conn.text_factory, decode_text
            try:
                return work(plain_cursor(self._conn))
            finally:
                self._conn.text_factory = strict

    def _rows(self, what: str, session_id: str, row: Callable[..., T], statement: str, *values: object) -> list[T]:
        return self._read(what, session_id, lambda cursor: list(starmap(row, cursor.execute(statement, values))))

    # -- sessions

    def get_session(self, session_id: str) -> SessionRow | None:
        """Return a session, None if there is none. One look-up."""
        statement = f"{_SESSIONS} FROM sessions WHERE session_id = ?"
        return next(iter(self._rows("get_session", session_id, SessionRow, statement, session_id)), None)

    def list_children(self, parent_session_id: str) -> list[SessionRow]:
        """Return the direct children of a session, oldest first. Costs what the children cost."""
        statement = f"{_SESSIONS} FROM sessions WHERE parent_session_id = ? ORDER BY created_at, rowid"
        return self._rows("list_children", parent_session_id, SessionRow, statement, parent_session_id)

    def list_descendants(self, session_id: str) -> list[Descendant]:
        """Return every session below one, at any depth: parents before their children, siblings oldest first, cycles
        cut.

        One statement; costs an index entry and a row for each.
        """
        return self._rows("list_descendants", session_id, Descendant, _BELOW, *[session_id] * 3)

    def list_sessions(self, *, after: int | None = None, limit: int = 100) -> Page:
        """Return a page of all sessions, newest first. `after` is the `next` of the page before. Costs `limit` rows."""
        return self._page("list_sessions", "rowid < ?", after, limit)

    def list_roots(self, *, after: int | None = None, limit: int = 100) -> Page:
        """Return a page of the sessions without a parent, detached survivors included, newest first.

        `after` is the `next` of the page before. Costs `limit` rows, by the index on parents.
        """
        return self._page("list_roots", "parent_session_id IS NULL AND rowid < ?", after, limit)

    def _page(self, what: str, condition: str, after: int | None, limit: int) -> Page:
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        # The key comes last, so that the columns of the row keep their positions.
        statement = f"{_SESSIONS}, rowid FROM sessions WHERE {condition} ORDER BY rowid DESC LIMIT ?"
        values = (HIGHEST if after is None else after, min(limit, HIGHEST - 1) + 1)
        found = self._read(what, "", lambda cursor: cursor.execute(statement, values).fetchall())
        page = Page(SessionRow(*row[:-1]) for row in found[:limit])
        page.next = found[limit - 1][-1] if len(found) > limit else None
        return page

    def preview(self, session_id: str) -> str:
        """Return one line of at most 120 characters for a list.

        It is the first user message that says something, else the first assistant message, "" if there is neither.
        Reads at most the first 50 rows, and 4 KiB of each.
        """
        return self._read(
            "preview",
            session_id,
            lambda cursor: sessions.preview_of(cursor.connection, LAYOUT, Owner("session_id = ?", session_id)),
        )

    def counts(self, session_id: str) -> Counts:
        """Return how many rows a session has, all 0 for one that does not exist.

        Costs an index entry for each, no row.
        """
        statement = """SELECT count(*), ifnull(sum(state = 'active'), 0), ifnull(sum(state = 'compacted_out'), 0),
            (SELECT count(*) FROM compactions WHERE session_id = ?) FROM messages WHERE session_id = ?"""
        return self._rows("counts", session_id, Counts, statement, session_id, session_id)[0]

    # -- messages

    def _messages(self, what: str, session_id: str, more: str, *values: object) -> list[MessageRow]:
        row = partial(MessageRow, session_id)
        return self._rows(what, session_id, row, f"{_MESSAGES} {more}", session_id, *values)

    def load_active_messages(self, session_id: str) -> list[MessageRow]:
        """Return what the model would be sent, by seq. Costs the active rows."""
        return self._messages(
            "load_active_messages", session_id, "AND state = ? ORDER BY seq", MessageState.ACTIVE.value
        )

    def load_all_messages(self, session_id: str) -> list[MessageRow]:
        """Return every message by seq. Costs all rows; `messages` reads a part."""
        return self._messages("load_all_messages", session_id, "ORDER BY seq")

    def messages(
        self,
        session_id: str,
        *,
        from_seq: int | None = None,
        to_seq: int | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> list[MessageRow]:
        """Return the messages with seqs `from_seq` to `to_seq`, both included, by seq.

        With `limit`, at most so many: the first ones, or the last ones if `newest`. Found by key, so it costs the rows
        that it returns, wherever they are.
        """
        if limit is not None and limit < 0:
            raise ValueError(f"limit is at least 0, not {limit}")
        rows = self._messages(
            "messages",
            session_id,
            f"AND seq BETWEEN ? AND ? ORDER BY seq {'DESC' if newest else ''} LIMIT ?",
            LOWEST if from_seq is None else from_seq,
            HIGHEST if to_seq is None else to_seq,
            -1 if limit is None else limit,
        )
        return rows[::-1] if newest else rows

    def get_message(self, session_id: str, seq: int) -> MessageRow | None:
        """Return one message, None if there is none. One look-up."""
        return next(iter(self._messages("get_message", session_id, "AND seq = ?", seq)), None)

    # -- compactions, state and usage

    def list_compactions(self, session_id: str) -> list[CompactionRow]:
        """Return the audit of a session's compactions, oldest first. Costs its rows."""
        statement = """SELECT session_id, compact_seq, note_seq, from_seq, to_seq, before_tokens, after_tokens,
            round_index, created_at FROM compactions WHERE session_id = ? ORDER BY compact_seq"""
        return self._rows("list_compactions", session_id, CompactionRow, statement, session_id)

    def get_state(self, session_id: str) -> SessionStateRow | None:
        """Return a session's bookkeeping, None if it has none. One look-up."""

        def row(id_: str, next_seq: int, round_index: int, last_compact_seq: int, pending: bytes) -> SessionStateRow:
            return SessionStateRow(id_, next_seq, round_index, last_compact_seq, decode_json(pending))

        statement = """SELECT session_id, next_seq, round_index, last_compact_seq,
            CAST(ifnull(pending_json, '') AS BLOB) FROM session_state WHERE session_id = ?"""
        return next(iter(self._rows("get_state", session_id, row, statement, session_id)), None)

    def usage(self, session_id: str) -> list[UsageRow]:
        """Return the recorded rounds by index.

        Costs its rows. They are not a total: upstream records only some rounds.
        """
        statement = """SELECT session_id, round_index, prompt_tokens, completion_tokens, total_tokens, model, created_at
            FROM usage_rounds WHERE session_id = ? ORDER BY round_index"""
        return self._rows("usage", session_id, UsageRow, statement, session_id)
