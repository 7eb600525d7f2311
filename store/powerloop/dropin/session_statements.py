"""SQL of `SessionStore`, for the tables of power-loop 0.2.0."""

from __future__ import annotations

INSERT_SESSION = """INSERT INTO sessions (session_id, created_at, updated_at, system_prompt, model, config_json, status,
    kind, parent_session_id, spawn_tool_call_id, spawn_depth, lifecycle, metadata_json)
    VALUES (?, ?, ?, ?, ?, ?, 'active', ?, ?, ?, ?, ?, ?)"""
"""Inserts an active session."""

INSERT_MESSAGE = """INSERT INTO messages (session_id, seq, role, name, content, tool_calls_json, tool_call_id,
    round_index, state, meta_json, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'active', ?, ?)"""
"""Inserts an active message."""

INSERT_COMPACTION = """INSERT INTO compactions (session_id, compact_seq, note_seq, from_seq, to_seq, before_tokens,
    after_tokens, round_index, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
"""Inserts an audit row of a compaction."""

REPLACE_USAGE = """INSERT OR REPLACE INTO usage_rounds (session_id, round_index, prompt_tokens, completion_tokens,
    total_tokens, model, created_at) SELECT ?, ?, ?, ?, ?, ?, ?
    WHERE EXISTS (SELECT 1 FROM sessions WHERE session_id = ?)"""
"""Inserts or replaces the tokens of a round, if the session exists."""

NEXT_SEQ = """SELECT max(iif(typeof(next_seq) = 'integer', next_seq, 1),
        ifnull((SELECT max(seq) FROM messages WHERE session_id = ? AND typeof(seq) = 'integer'), 0) + 1)
    FROM session_state WHERE session_id = ?"""
"""Selects the seq of the next message.

The counter may be too low, if a writer died or commits message and counter separately. Then the messages decide.
"""

NEXT_COMPACTION_NUMBER = """SELECT max(iif(typeof(last_compact_seq) = 'integer', last_compact_seq, 0),
        ifnull((SELECT max(compact_seq) FROM compactions
            WHERE session_id = ? AND typeof(compact_seq) = 'integer'), 0)) + 1
    FROM session_state WHERE session_id = ?"""
"""Selects the number of the next compaction; a counter that is too low does not count, as in `NEXT_SEQ`."""

SET_NEXT_SEQ = "UPDATE session_state SET next_seq = ? WHERE session_id = ?"
"""Sets the counter of messages."""

SET_UPDATED_AT = "updated_at = max(?, iif(typeof(created_at) = 'integer', created_at, 0))"
"""An assignment for UPDATE. The clock may go back, but a session is never updated before it was created."""

TOUCH_SESSION = f"UPDATE sessions SET {SET_UPDATED_AT} WHERE session_id = ?"
"""Sets `updated_at` of a session."""

COMPACT_MESSAGES = """UPDATE OR ROLLBACK messages SET state = 'compacted_out'
    WHERE session_id = ? AND seq BETWEEN ? AND ? AND state IS NOT 'compacted_out'"""
"""Marks a range of messages as compacted.

No constraint can fail here. OR ROLLBACK spares SQLite the journal that it keeps in case one does.
"""

CREATE_CLOSING_SESSIONS = "CREATE TEMP TABLE IF NOT EXISTS closing_sessions (id TEXT PRIMARY KEY)"
"""Creates the table of the ids that `close_session` deletes."""

CLOSE_WITH_DESCENDANTS = """INSERT INTO temp.closing_sessions WITH RECURSIVE below(id) AS (VALUES (?) UNION
    SELECT session_id FROM below JOIN sessions ON parent_session_id = below.id WHERE lifecycle IS NOT 'detached')
    SELECT id FROM below WHERE id IS NOT NULL"""
"""Fills `closing_sessions` with a session and all below it, except for detached ones and those below them."""

CLOSE_ALONE = "INSERT INTO temp.closing_sessions VALUES (?)"
"""Fills `closing_sessions` with one session."""

UNLINK_CHILDREN = """UPDATE sessions SET parent_session_id = NULL
    WHERE parent_session_id IN temp.closing_sessions AND session_id NOT IN temp.closing_sessions"""
"""Removes the parent of each session that is kept while its parent is deleted."""

TABLES_WITH_SESSION_ROWS = ("messages", "compactions", "usage_rounds", "session_state", "sessions")
"""The tables that `close_session` deletes from; `sessions` is the last, whose row count it returns."""
