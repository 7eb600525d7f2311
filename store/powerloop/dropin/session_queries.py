"""The reading methods of `SessionStore`. Each runs one statement, and its docstring says what that costs."""

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
LAYOUT = Layout("", COLUMNS, "0.2.0", sorts_notes_by_ord=False, stamped_too_new=False)
"""The tables that the drop-in reads and writes."""
# JSON columns are selected as bytes: a row tells them from decoded values by that, and they are not decoded to str.
_SELECT_SESSION = """SELECT session_id, created_at, updated_at, system_prompt, model,
    CAST(ifnull(config_json, '') AS BLOB), status, kind, parent_session_id, spawn_tool_call_id, spawn_depth, lifecycle,
    CAST(ifnull(metadata_json, '') AS BLOB)"""
_SELECT_MESSAGES = """SELECT seq, role, name, content, CAST(tool_calls_json AS BLOB), tool_call_id, round_index, state,
    CAST(ifnull(meta_json, '') AS BLOB), created_at FROM messages WHERE session_id = ?"""
# A session has one parent, so the only cycle on the way down is one that contains the session at the top.
_SELECT_DESCENDANTS = """WITH RECURSIVE below(id, depth, created, key) AS (
        SELECT session_id, 1, created_at, rowid FROM sessions WHERE parent_session_id = ? AND session_id IS NOT ?
        UNION ALL
        SELECT s.session_id, depth + 1, s.created_at, s.rowid FROM below JOIN sessions s
        ON s.parent_session_id = below.id WHERE s.session_id IS NOT ? ORDER BY 2 DESC, 3, 4)
    SELECT id, depth FROM below"""


class SessionQueries:
    """The reading half of `SessionStore`. It does not depend on the `row_factory` of the connection."""

    def __init__(self, conn: sqlite3.Connection, path: str | Path) -> None:
        self._lock = RLock()
        self.path = path
        self._transactions = Transactions(conn, self._lock, str(path))

    @property
    def _conn(self) -> sqlite3.Connection:
        """The connection. Callers of upstream's store use this private attribute, and replace it by their own."""
        return self._transactions.conn

    @_conn.setter
    def _conn(self, conn: sqlite3.Connection) -> None:
        self._transactions.conn = conn

    def _read(self, method: str, session_id: str, work: Callable[[sqlite3.Cursor], T]) -> T:
        """Run `work` with a cursor that returns tuples. `method` and `session_id` are for the text of an error."""
        with self._lock, waiting(method, session_id, str(self.path)):
            try:
                return work(plain_cursor(self._conn))
            except sqlite3.OperationalError as error:
                if "UTF-8" not in str(error):
                    raise
            # Text that is not UTF-8 is rare, and to decode it leniently from the start would double the time.
            strict_factory, self._conn.text_factory = self._conn.text_factory, decode_text
            try:
                return work(plain_cursor(self._conn))
            finally:
                self._conn.text_factory = strict_factory

    def _rows(
        self, method: str, session_id: str, make_row: Callable[..., T], statement: str, *values: object
    ) -> list[T]:
        """Return the rows of a statement, each made by `make_row` from its columns."""
        return self._read(method, session_id, lambda cursor: list(starmap(make_row, cursor.execute(statement, values))))

    # -- sessions

    def get_session(self, session_id: str) -> SessionRow | None:
        """Return a session, None if it does not exist. One look-up."""
        statement = f"{_SELECT_SESSION} FROM sessions WHERE session_id = ?"
        return next(iter(self._rows("get_session", session_id, SessionRow, statement, session_id)), None)

    def list_children(self, parent_session_id: str) -> list[SessionRow]:
        """Return the direct children of a session, oldest first. Reads only their rows."""
        statement = f"{_SELECT_SESSION} FROM sessions WHERE parent_session_id = ? ORDER BY created_at, rowid"
        return self._rows("list_children", parent_session_id, SessionRow, statement, parent_session_id)

    def list_descendants(self, session_id: str) -> list[Descendant]:
        """Return every session below another, at any depth.

        A session comes before those below it, siblings come oldest first, and in a cycle each session comes once. Reads
        an index entry and a row for each.
        """
        return self._rows(
            "list_descendants", session_id, Descendant, _SELECT_DESCENDANTS, session_id, session_id, session_id
        )

    def list_sessions(self, *, after: int | None = None, limit: int = 100) -> Page:
        """Return a page of all sessions, newest first. Reads `limit` rows.

        `after` is the `next` of the page before. Raises ValueError if `limit` is less than 1.
        """
        return self._page("list_sessions", "rowid < ?", after, limit)

    def list_roots(self, *, after: int | None = None, limit: int = 100) -> Page:
        """Return a page of the sessions without a parent, newest first. Reads `limit` rows by the index on parents.

        Detached sessions whose parent was closed are among them. `after` is the `next` of the page before. Raises
        ValueError if `limit` is less than 1.
        """
        return self._page("list_roots", "parent_session_id IS NULL AND rowid < ?", after, limit)

    def _page(self, method: str, condition: str, after: int | None, limit: int) -> Page:
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        # The rowid is the last column, so that those before it are the columns of a SessionRow.
        statement = f"{_SELECT_SESSION}, rowid FROM sessions WHERE {condition} ORDER BY rowid DESC LIMIT ?"
        values = (HIGHEST if after is None else after, min(limit, HIGHEST - 1) + 1)
        rows = self._read(method, "", lambda cursor: cursor.execute(statement, values).fetchall())
        page = Page(SessionRow(*row[:-1]) for row in rows[:limit])
        # One row more than the page was read, to know whether another page follows.
        page.next = rows[limit - 1][-1] if len(rows) > limit else None
        return page

    def preview(self, session_id: str) -> str:
        """Return one line of at most 120 characters for a list, "" if there is none.

        It is the first user message with text, or else the first such assistant message. Reads at most the first 50
        messages, and 4 KiB of each.
        """
        return self._read(
            "preview",
            session_id,
            lambda cursor: sessions.preview_of(cursor.connection, LAYOUT, Owner("session_id = ?", session_id)),
        )

    def counts(self, session_id: str) -> Counts:
        """Return how many rows a session has; all 0 if it does not exist. Reads an index entry for each, but no row."""
        statement = """SELECT count(*), ifnull(sum(state = 'active'), 0), ifnull(sum(state = 'compacted_out'), 0),
            (SELECT count(*) FROM compactions WHERE session_id = ?) FROM messages WHERE session_id = ?"""
        return self._rows("counts", session_id, Counts, statement, session_id, session_id)[0]

    # -- messages

    def _messages(self, method: str, session_id: str, rest: str, *values: object) -> list[MessageRow]:
        """Return messages of a session; `rest` is the end of the statement, after the condition on the session."""
        make_row = partial(MessageRow, session_id)
        return self._rows(method, session_id, make_row, f"{_SELECT_MESSAGES} {rest}", session_id, *values)

    def load_active_messages(self, session_id: str) -> list[MessageRow]:
        """Return the messages in the model's context, by seq. Reads the active rows."""
        return self._messages(
            "load_active_messages", session_id, "AND state = ? ORDER BY seq", MessageState.ACTIVE.value
        )

    def load_all_messages(self, session_id: str) -> list[MessageRow]:
        """Return every message, by seq. Reads all rows; `messages` reads a part."""
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
        """Return the messages from `from_seq` to `to_seq`, both included, by seq. Reads only the rows it returns.

        It returns at most `limit` messages: the first ones, or the last ones if `newest`. Raises ValueError if `limit`
        is negative.
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
        """Return a message, None if it does not exist. One look-up."""
        return next(iter(self._messages("get_message", session_id, "AND seq = ?", seq)), None)

    # -- compactions, state and usage

    def list_compactions(self, session_id: str) -> list[CompactionRow]:
        """Return the compactions of a session, oldest first. Reads only their rows."""
        statement = """SELECT session_id, compact_seq, note_seq, from_seq, to_seq, before_tokens, after_tokens,
            round_index, created_at FROM compactions WHERE session_id = ? ORDER BY compact_seq"""
        return self._rows("list_compactions", session_id, CompactionRow, statement, session_id)

    def get_state(self, session_id: str) -> SessionStateRow | None:
        """Return the bookkeeping of a session, None if it has none. One look-up."""

        def make_row(
            id_: str, next_seq: int, round_index: int, last_compact_seq: int, pending: bytes
        ) -> SessionStateRow:
            return SessionStateRow(id_, next_seq, round_index, last_compact_seq, decode_json(pending))

        statement = """SELECT session_id, next_seq, round_index, last_compact_seq,
            CAST(ifnull(pending_json, '') AS BLOB) FROM session_state WHERE session_id = ?"""
        return next(iter(self._rows("get_state", session_id, make_row, statement, session_id)), None)

    def usage(self, session_id: str) -> list[UsageRow]:
        """Return the recorded rounds, by index. Their sum is not a total, since upstream records only some rounds."""
        statement = """SELECT session_id, round_index, prompt_tokens, completion_tokens, total_tokens, model, created_at
            FROM usage_rounds WHERE session_id = ? ORDER BY round_index"""
        return self._rows("usage", session_id, UsageRow, statement, session_id)
