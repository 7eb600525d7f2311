"""The SQL of `SessionStore`, for the tables of power-loop 0.2.0."""

from __future__ import annotations

INSERT = """INSERT INTO messages (session_id, seq, role, name, content, tool_calls_json, tool_call_id, round_index,
    state, meta_json, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'active', ?, ?)"""
# A writer that died, or that commits seq and message apart, leaves counters behind the rows. Then the rows count.
NEXT_SEQ = """SELECT max(iif(typeof(next_seq) = 'integer', next_seq, 1),
        ifnull((SELECT max(seq) FROM messages WHERE session_id = ? AND typeof(seq) = 'integer'), 0) + 1)
    FROM session_state WHERE session_id = ?"""
NEXT_NUMBER = """SELECT max(iif(typeof(last_compact_seq) = 'integer', last_compact_seq, 0),
        ifnull((SELECT max(compact_seq) FROM compactions
            WHERE session_id = ? AND typeof(compact_seq) = 'integer'), 0)) + 1
    FROM session_state WHERE session_id = ?"""
SET_NEXT_SEQ = "UPDATE session_state SET next_seq = ? WHERE session_id = ?"
# The clock may go back, but a session is not changed before it is created.
TOUCHED = "updated_at = max(?, iif(typeof(created_at) = 'integer', created_at, 0))"
TOUCH = f"UPDATE sessions SET {TOUCHED} WHERE session_id = ?"
# No constraint can fail here. Without OR ROLLBACK, SQLite keeps a journal of the statement in case one does.
COMPACT_ROWS = """UPDATE OR ROLLBACK messages SET state = 'compacted_out'
    WHERE session_id = ? AND seq BETWEEN ? AND ? AND state IS NOT 'compacted_out'"""
CLOSING = "CREATE TEMP TABLE IF NOT EXISTS closing_sessions (id TEXT PRIMARY KEY)"
WITH_ALL_BELOW = """INSERT INTO temp.closing_sessions WITH RECURSIVE below(id) AS (VALUES (?) UNION
    SELECT session_id FROM below JOIN sessions ON parent_session_id = below.id WHERE lifecycle IS NOT 'detached')
    SELECT id FROM below WHERE id IS NOT NULL"""
ORPHAN = """UPDATE sessions SET parent_session_id = NULL
    WHERE parent_session_id IN temp.closing_sessions AND session_id NOT IN temp.closing_sessions"""
ALONE = "INSERT INTO temp.closing_sessions VALUES (?)"
TABLES_WITH_ROWS = ("messages", "compactions", "usage_rounds", "session_state", "sessions")
