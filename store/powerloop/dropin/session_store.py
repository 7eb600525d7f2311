"""`SessionStore`: a drop-in for `power_loop.runtime.session_store` 0.2.0 that keeps its promises.

It has every public name of that module, so an agent changes one import. Each method that writes is one transaction: if
a crash, a full disk or a second writer interrupts it, nothing is written. Source: power-loop 0.2.0,
`runtime/session_store.py`.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sessionscope.store.io.clock import now_ms
from sessionscope.store.powerloop.format.layout import NOTE_NAME
from sessionscope.store.powerloop.format.schema import TABLES

from . import session_statements as sql
from .database import MEMORY, connect
from .session_queries import SessionQueries
from .session_rows import (
    DEFAULT_DB_PATH,
    MAX_SPAWN_DEPTH,
    CompactionRow,
    Counts,
    Descendant,
    MessageRow,
    MessageState,
    NewMessage,
    Page,
    SessionKind,
    SessionRow,
    SessionStateRow,
    SessionStatus,
    SubagentLifecycle,
    UsageRow,
    encode,
    encode_strictly,
    message_values,
)

__all__ = [
    "DEFAULT_DB_PATH",
    "MAX_SPAWN_DEPTH",
    "SCHEMA_SQL",
    "CompactionRow",
    "Counts",
    "Descendant",
    "MessageRow",
    "MessageState",
    "NewMessage",
    "Page",
    "SessionKind",
    "SessionRow",
    "SessionStateRow",
    "SessionStatus",
    "SessionStore",
    "SubagentLifecycle",
    "UsageRow",
]

SCHEMA_SQL = TABLES
"""The statements that create the tables."""


class SessionStore(SessionQueries):
    """Sessions in an SQLite database, which several processes may use at once. Methods may be called from any thread.

    Times are in epoch milliseconds. If another process has locked the database, a method waits for the timeout that the
    store was opened with. Then it raises sqlite3.OperationalError, whose text names the wait. In a transaction that the
    caller began on the connection, the caller's own BEGIN does the waiting. Closing a session deletes it without a
    backup.
    """

    @classmethod
    def open(
        cls, path: str | Path = DEFAULT_DB_PATH, *, timeout: float = 5.0, durability: str = "NORMAL"
    ) -> SessionStore:
        """Open a database. It and its folder are created if they do not exist; ":memory:" keeps it in memory.

        `timeout` is how many seconds a lock is waited for. With the durability "NORMAL", a power failure may lose the
        last transactions, but never a part of one. With "FULL", each is on disk when its method returns.

        Raises `sessionscope.store.NotAnArchive`, which is also a sqlite3.DatabaseError, and changes nothing, if the
        file belongs to another program or has a layout that 0.2.0's statements do not fit. Raises
        sqlite3.OperationalError if it is locked or cannot be opened, OSError if its folder cannot be created,
        ValueError for any other `durability`.
        """
        database = str(path)
        if database != MEMORY:
            expanded = Path(database).expanduser()
            expanded.parent.mkdir(parents=True, exist_ok=True)
            database = str(expanded)
        return cls(connect(database, durability, timeout), database)

    def close(self) -> None:
        """Close the connection. Later calls of other methods raise sqlite3.ProgrammingError. Deletes no session."""
        with self._lock:
            self._conn.close()

    def __enter__(self) -> SessionStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run all calls in the block as one transaction. An exception that leaves the block undoes them all.

        Each call is also a transaction of its own within it: if one fails and its exception is caught, the others are
        kept. Blocks may be nested. Other threads wait until the block is left, and so do other processes that write.
        Other tasks of the same thread do not wait, so do not await anything in the block.
        """
        with self._transactions.block("transaction"):
            yield

    # -- sessions

    def create_session(
        self,
        *,
        system_prompt: str | None = None,
        model: str | None = None,
        config: dict[str, Any] | None = None,
        parent_session_id: str | None = None,
        spawn_tool_call_id: str | None = None,
        kind: SessionKind = SessionKind.ROOT,
        lifecycle: SubagentLifecycle = SubagentLifecycle.EPHEMERAL,
        metadata: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> str:
        """Create a session and return its id, which is generated if none is given.

        With a parent it is the session of a subagent. Raises ValueError if the parent does not exist or is already
        `MAX_SPAWN_DEPTH` levels deep, sqlite3.IntegrityError if the id exists.
        """
        new_id = session_id or f"sess_{secrets.token_hex(12)}"
        stored_config, stored_metadata = encode(config or {}), encode(metadata or {})
        stored_kind = kind if parent_session_id is None else SessionKind.SUBAGENT

        def work(cursor: sqlite3.Cursor) -> str:
            depth = 0
            if parent_session_id is not None:
                depth = self._depth(cursor, parent_session_id) + 1
                if depth > MAX_SPAWN_DEPTH:
                    raise ValueError(f"spawn depth {depth} exceeds max {MAX_SPAWN_DEPTH}")
            now = now_ms()
            cursor.execute(
                sql.INSERT_SESSION,
                (
                    new_id,
                    now,
                    now,
                    system_prompt,
                    model,
                    stored_config,
                    stored_kind.value,
                    parent_session_id,
                    spawn_tool_call_id,
                    depth,
                    lifecycle.value,
                    stored_metadata,
                ),
            )
            cursor.execute("INSERT INTO session_state (session_id) VALUES (?)", (new_id,))
            return new_id

        return self._transactions.run(work, "create_session", new_id)

    @staticmethod
    def _depth(cursor: sqlite3.Cursor, session_id: str) -> int:
        """Return how many levels below its root a session is. Raises ValueError if it does not exist."""
        row = cursor.execute(
            "SELECT iif(typeof(spawn_depth) = 'integer', spawn_depth, 0) FROM sessions WHERE session_id = ?",
            (session_id,),
        ).fetchone()
        if row is None:
            raise ValueError(f"parent session not found: {session_id}")
        return int(row[0])

    def archive_session(self, session_id: str) -> None:
        """Label a session as archived. It can still be used. Raises ValueError for an unknown session."""
        self._update("archive_session", session_id, "status = 'archived'")

    def reopen_session(self, session_id: str) -> None:
        """Label an archived session as active again. Raises ValueError for an unknown session."""
        self._update("reopen_session", session_id, "status = 'active'")

    def update_session_prompt(self, session_id: str, system_prompt: str | None) -> None:
        """Replace the stored prompt. Raises ValueError for an unknown session."""
        self._update("update_session_prompt", session_id, "system_prompt = ?", system_prompt)

    def _update(self, method: str, session_id: str, assignment: str, *values: object) -> None:
        """Update a session. `method` is for the text of an error. Raises ValueError for an unknown session."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(
                f"UPDATE sessions SET {assignment}, {sql.SET_UPDATED_AT} WHERE session_id = ?",
                (*values, now_ms(), session_id),
            )
            if not cursor.rowcount:
                raise _unknown_session(session_id)

        self._transactions.run(work, method, session_id)

    def close_session(self, session_id: str, *, cascade: bool = True) -> int:
        """Delete a session. Return how many sessions were deleted, 0 for an unknown session.

        With `cascade`, all sessions below it are deleted too, except for detached ones and those below them. Without
        it, all children are kept. A child that is kept while its parent is deleted loses its parent.
        """

        def work(cursor: sqlite3.Cursor) -> int:
            # Stored in a table, so that the sessions are searched once, not for each table that is deleted from.
            cursor.execute(sql.CREATE_CLOSING_SESSIONS)
            cursor.execute("DELETE FROM temp.closing_sessions")
            cursor.execute(sql.CLOSE_WITH_DESCENDANTS if cascade else sql.CLOSE_ALONE, (session_id,))
            cursor.execute(sql.UNLINK_CHILDREN)
            for table in sql.TABLES_WITH_SESSION_ROWS:
                cursor.execute(f"DELETE FROM {table} WHERE session_id IN temp.closing_sessions")
            return cursor.rowcount

        return self._transactions.run(work, "close_session", session_id)

    # -- messages

    def append_message(
        self,
        session_id: str,
        *,
        role: str,
        content: str | None = None,
        tool_calls: list[dict[str, Any]] | None = None,
        tool_call_id: str | None = None,
        name: str | None = None,
        round_index: int | None = None,
        meta: dict[str, Any] | None = None,
    ) -> int:
        """Append a message and return its seq. Raises ValueError for a session without a row in `session_state`."""
        row = message_values(
            role=role,
            content=content,
            tool_calls=tool_calls,
            tool_call_id=tool_call_id,
            name=name,
            round_index=round_index,
            meta=meta,
        )

        def work(cursor: sqlite3.Cursor) -> int:
            now, seq = now_ms(), self._take_seqs(cursor, session_id, 1)
            cursor.execute(sql.INSERT_MESSAGE, (session_id, seq, *row, now))
            cursor.execute(sql.TOUCH_SESSION, (now, session_id))
            return seq

        return self._transactions.run(work, "append_message", session_id)

    def append_messages(self, session_id: str, messages: Iterable[NewMessage]) -> list[int]:
        """Append messages, all or none, and return their seqs, which are consecutive.

        Takes about a tenth of the time of appending them one by one. Raises ValueError as `append_message` does, and
        TypeError for a message without a role or with a key that is not an argument of `append_message`.
        """
        rows = [message_values(**message) for message in messages]

        def work(cursor: sqlite3.Cursor) -> list[int]:
            now, first = now_ms(), self._take_seqs(cursor, session_id, len(rows))
            cursor.executemany(
                sql.INSERT_MESSAGE, ((session_id, seq, *row, now) for seq, row in enumerate(rows, first))
            )
            cursor.execute(sql.TOUCH_SESSION, (now, session_id))
            return list(range(first, first + len(rows)))

        return self._transactions.run(work, "append_messages", session_id)

    @staticmethod
    def _take_seqs(cursor: sqlite3.Cursor, session_id: str, count: int) -> int:
        """Reserve consecutive seqs and return the first. Raises ValueError for a session without bookkeeping."""
        # A SELECT and an UPDATE are faster than an UPDATE with RETURNING.
        row = cursor.execute(sql.NEXT_SEQ, (session_id, session_id)).fetchone()
        if row is None:
            raise _unknown_session(session_id)
        seq: int = row[0]
        cursor.execute(sql.SET_NEXT_SEQ, (seq + count, session_id))
        return seq

    def record_compaction(
        self,
        session_id: str,
        *,
        from_seq: int,
        to_seq: int,
        note_content: str,
        before_tokens: int | None,
        after_tokens: int | None,
        round_index: int | None,
        note_meta: dict[str, Any] | None = None,
    ) -> tuple[int, int]:
        """Compact the messages from `from_seq` to `to_seq`, both included, and append a note that replaces them.

        Return the number of the compaction and the seq of the note. For a range without messages only the note and the
        audit row are added, which power-loop's own loop relies on.

        Raises ValueError for a session without a row in `session_state` and for a NaN in the note's meta, TypeError for
        bounds that are not integers and for meta that cannot be encoded as JSON. Nothing is written then.
        """
        first, last = _check_seq("from_seq", from_seq), _check_seq("to_seq", to_seq)
        meta = encode_strictly(
            dict(note_meta or {})
            | {
                "compacted_at_round": round_index,
                "from_seq": first,
                "to_seq": last,
                "original_tokens": before_tokens,
                "summary_tokens": after_tokens,
            }
        )

        def work(cursor: sqlite3.Cursor) -> tuple[int, int]:
            now, note_seq = now_ms(), self._take_seqs(cursor, session_id, 1)
            number: int = cursor.execute(sql.NEXT_COMPACTION_NUMBER, (session_id, session_id)).fetchone()[0]
            cursor.execute("UPDATE session_state SET last_compact_seq = ? WHERE session_id = ?", (number, session_id))
            cursor.execute(sql.COMPACT_MESSAGES, (session_id, first, last))
            cursor.execute(
                sql.INSERT_MESSAGE,
                (session_id, note_seq, "system", NOTE_NAME, note_content, None, None, round_index, meta, now),
            )
            cursor.execute(
                sql.INSERT_COMPACTION,
                (session_id, number, note_seq, first, last, before_tokens, after_tokens, round_index, now),
            )
            cursor.execute(sql.TOUCH_SESSION, (now, session_id))
            return number, note_seq

        return self._transactions.run(work, "record_compaction", session_id)

    # -- state and usage

    def set_round_index(self, session_id: str, round_index: int) -> None:
        """Store the round that a session is in. Does nothing for an unknown session."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute("UPDATE session_state SET round_index = ? WHERE session_id = ?", (round_index, session_id))

        self._transactions.run(work, "set_round_index", session_id)

    def set_pending(self, session_id: str, pending: dict[str, Any] | None) -> None:
        """Store the tool calls that have no result yet. None or {} clears them. Does nothing for an unknown session."""
        stored = encode(pending) if pending else None

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute("UPDATE session_state SET pending_json = ? WHERE session_id = ?", (stored, session_id))

        self._transactions.run(work, "set_pending", session_id)

    def record_usage(
        self,
        session_id: str,
        *,
        round_index: int,
        prompt_tokens: int | None,
        completion_tokens: int | None,
        total_tokens: int | None,
        model: str | None = None,
    ) -> None:
        """Store the tokens of a round, and replace an earlier record of it. Does nothing for an unknown session."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(
                sql.REPLACE_USAGE,
                (session_id, round_index, prompt_tokens, completion_tokens, total_tokens, model, now_ms(), session_id),
            )

        self._transactions.run(work, "record_usage", session_id)


def _check_seq(name: str, value: object) -> int:
    """Return the value of an argument. Raises TypeError if it is not an integer."""
    if not isinstance(value, int):
        raise TypeError(f"{name} is a seq, a whole number, not {value!r}")
    return value


def _unknown_session(session_id: str) -> ValueError:
    return ValueError(f"unknown session: {session_id}")
