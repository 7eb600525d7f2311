"""`SessionStore`: a drop-in for `power_loop.runtime.session_store` 0.2.0 that keeps its promises.

Every public name of that module is here, so an agent changes one import. Each method that writes is one transaction: if
a crash, a full disk or a second writer interrupts it, nothing was written. Source: power-loop 0.2.0,
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
from .session_statements import (
    ALONE,
    CLOSING,
    COMPACT_ROWS,
    INSERT,
    NEXT_NUMBER,
    NEXT_SEQ,
    ORPHAN,
    SET_NEXT_SEQ,
    TABLES_WITH_ROWS,
    TOUCH,
    TOUCHED,
    WITH_ALL_BELOW,
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


class SessionStore(SessionQueries):
    """Sessions in a SQLite database, for one agent or many processes. Methods may be called from any thread.

    Times are epoch milliseconds. A method that finds the database locked by another process waits up to the timeout of
    the store, then raises sqlite3.OperationalError, whose text names the wait. In a transaction that the caller began
    on the connection, the caller's own BEGIN waits instead. Closing is final: a closed session is deleted and not
    backed up.
    """

    @classmethod
    def open(
        cls, path: str | Path = DEFAULT_DB_PATH, *, timeout: float = 5.0, durability: str = "NORMAL"
    ) -> SessionStore:
        """Open a database. Make it and its folder if they do not exist; ":memory:" keeps it in memory.

        `timeout` is how many seconds to wait for a lock. With `durability` "NORMAL" a power failure may lose the last
        transactions, never a part of one; with "FULL" each is on disk when its method returns. Raises
        `sessionscope.store.NotAnArchive`, which is a sqlite3.DatabaseError too, and changes nothing, if the file
        belongs to another program or its tables do not fit the statements of 0.2.0; sqlite3.OperationalError if it is
        locked or cannot be opened; OSError if its folder cannot be made; ValueError for another `durability`.
        """
        where = str(path)
        if where != MEMORY:
            place = Path(where).expanduser()
            place.parent.mkdir(parents=True, exist_ok=True)
            where = str(place)
        return cls(connect(where, durability, timeout), where)

    def close(self) -> None:
        """Close the connection. Later calls raise sqlite3.ProgrammingError. Idempotent. Deletes no session."""
        with self._lock:
            self._conn.close()

    def __enter__(self) -> SessionStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make one transaction of all calls in the block; an exception that leaves the block undoes them all.

        Each call in it is still whole by itself, so one that fails may be caught and the rest kept. Blocks may be
        nested. Other threads, and other processes that write, wait until the block is left. Other tasks of the same
        thread do not, so nothing should be awaited in it.
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
        """Create a session and return its id, a new one unless it is given. One with a parent is a subagent.

        Raises ValueError if the parent does not exist or is `MAX_SPAWN_DEPTH` deep already, and sqlite3.IntegrityError
        if the id is taken.
        """
        id_ = session_id or f"sess_{secrets.token_hex(12)}"
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
                """INSERT INTO sessions (session_id, created_at, updated_at, system_prompt, model, config_json, status,
                kind, parent_session_id, spawn_tool_call_id, spawn_depth, lifecycle, metadata_json)
                VALUES (?, ?, ?, ?, ?, ?, 'active', ?, ?, ?, ?, ?, ?)""",
                (
                    id_,
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
            cursor.execute("INSERT INTO session_state (session_id) VALUES (?)", (id_,))
            return id_

        return self._transactions.run(work, "create_session", id_)

    @staticmethod
    def _depth(cursor: sqlite3.Cursor, session_id: str) -> int:
        row = cursor.execute(
            "SELECT iif(typeof(spawn_depth) = 'integer', spawn_depth, 0) FROM sessions WHERE session_id = ?",
            (session_id,),
        ).fetchone()
        if row is None:
            raise ValueError(f"parent session not found: {session_id}")
        return int(row[0])

    def archive_session(self, session_id: str) -> None:
        """Label a session as archived. That prevents nobody from using it. Raises ValueError for an unknown one."""
        self._update("archive_session", session_id, "status = 'archived'")

    def reopen_session(self, session_id: str) -> None:
        """Undo `archive_session`. Raises ValueError for an unknown session. One look-up."""
        self._update("reopen_session", session_id, "status = 'active'")

    def update_session_prompt(self, session_id: str, system_prompt: str | None) -> None:
        """Replace the stored prompt. Raises ValueError for an unknown session."""
        self._update("update_session_prompt", session_id, "system_prompt = ?", system_prompt)

    def _update(self, what: str, session_id: str, change: str, *values: object) -> None:
        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(
                f"UPDATE sessions SET {change}, {TOUCHED} WHERE session_id = ?", (*values, now_ms(), session_id)
            )
            if not cursor.rowcount:
                raise _unknown(session_id)

        self._transactions.run(work, what, session_id)

    def close_session(self, session_id: str, *, cascade: bool = True) -> int:
        """Delete a session, and return how many sessions were deleted.

        With `cascade` its subagents are deleted too, at any depth, except for detached ones: these stay with all below
        them and lose their parent. Without it, every child stays and loses its parent. For an unknown session it
        returns 0.
        """

        def work(cursor: sqlite3.Cursor) -> int:
            # Computed once and kept: each of the tables would compute it again.
            cursor.execute(CLOSING)
            cursor.execute("DELETE FROM temp.closing_sessions")
            cursor.execute(WITH_ALL_BELOW if cascade else ALONE, (session_id,))
            cursor.execute(ORPHAN)
            for table in TABLES_WITH_ROWS:
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
        """Append a message, and return its seq. Raises ValueError for a session without bookkeeping."""
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
            cursor.execute(INSERT, (session_id, seq, *row, now))
            cursor.execute(TOUCH, (now, session_id))
            return seq

        return self._transactions.run(work, "append_message", session_id)

    def append_messages(self, session_id: str, messages: Iterable[NewMessage]) -> list[int]:
        """Append messages, all or none, and return their seqs, which have no gap.

        Costs about a tenth of appending them one by one. Raises ValueError as `append_message` does, TypeError for a
        message without a role or with an unknown key.
        """
        rows = [message_values(**message) for message in messages]

        def work(cursor: sqlite3.Cursor) -> list[int]:
            now, first = now_ms(), self._take_seqs(cursor, session_id, len(rows))
            cursor.executemany(INSERT, ((session_id, seq, *row, now) for seq, row in enumerate(rows, first)))
            cursor.execute(TOUCH, (now, session_id))
            return list(range(first, first + len(rows)))

        return self._transactions.run(work, "append_messages", session_id)

    @staticmethod
    def _take_seqs(cursor: sqlite3.Cursor, session_id: str, count: int) -> int:
        # A SELECT and an UPDATE are faster than RETURNING.
        row = cursor.execute(NEXT_SEQ, (session_id, session_id)).fetchone()
        if row is None:
            raise _unknown(session_id)
        seq: int = row[0]
        cursor.execute(SET_NEXT_SEQ, (seq + count, session_id))
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
        """Compact the rows `from_seq` to `to_seq`, both included, into a note. Return the audit's number and the note's
        seq.

        A range without rows adds only the note and the audit, as power-loop's own loop needs it. Before anything is
        written, it raises ValueError for a session without bookkeeping or meta with a NaN, and TypeError for bounds
        that are not integers or meta that is not JSON.
        """
        first, last = _bound("from_seq", from_seq), _bound("to_seq", to_seq)
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
            number: int = cursor.execute(NEXT_NUMBER, (session_id, session_id)).fetchone()[0]
            cursor.execute("UPDATE session_state SET last_compact_seq = ? WHERE session_id = ?", (number, session_id))
            cursor.execute(COMPACT_ROWS, (session_id, first, last))
            cursor.execute(
                INSERT, (session_id, note_seq, "system", NOTE_NAME, note_content, None, None, round_index, meta, now)
            )
            cursor.execute(
                """INSERT INTO compactions (session_id, compact_seq, note_seq, from_seq, to_seq, before_tokens,
                after_tokens, round_index, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                (session_id, number, note_seq, first, last, before_tokens, after_tokens, round_index, now),
            )
            cursor.execute(TOUCH, (now, session_id))
            return number, note_seq

        return self._transactions.run(work, "record_compaction", session_id)

    # -- state and usage

    def set_round_index(self, session_id: str, round_index: int) -> None:
        """Record which round a session is in. Does nothing for an unknown one."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute("UPDATE session_state SET round_index = ? WHERE session_id = ?", (round_index, session_id))

        self._transactions.run(work, "set_round_index", session_id)

    def set_pending(self, session_id: str, pending: dict[str, Any] | None) -> None:
        """Record the calls that wait for their results; None or {} clears them. Does nothing for an unknown session."""
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
        """Record the tokens of a round, instead of an earlier record. Does nothing for an unknown session."""

        def work(cursor: sqlite3.Cursor) -> None:
            cursor.execute(
                """INSERT OR REPLACE INTO usage_rounds (session_id, round_index, prompt_tokens, completion_tokens,
                total_tokens, model, created_at) SELECT ?, ?, ?, ?, ?, ?, ?
                WHERE EXISTS (SELECT 1 FROM sessions WHERE session_id = ?)""",
                (session_id, round_index, prompt_tokens, completion_tokens, total_tokens, model, now_ms(), session_id),
            )

        self._transactions.run(work, "record_usage", session_id)


def _bound(name: str, value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name} is a seq, a whole number, not {value!r}")
    return value


def _unknown(session_id: str) -> ValueError:
    return ValueError(f"unknown session: {session_id}")
