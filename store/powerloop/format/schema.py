"""The five tables of a power-loop 0.2.0 database, which every later release still has.

Source: power-loop 0.2.0, `runtime/session_store.py`, as found in the files it writes.
"""

from __future__ import annotations

import re

TABLES = """
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    system_prompt TEXT,
    model TEXT,
    config_json TEXT,
    status TEXT NOT NULL DEFAULT 'active',
    kind TEXT NOT NULL DEFAULT 'root',
    parent_session_id TEXT,
    spawn_tool_call_id TEXT,
    spawn_depth INTEGER NOT NULL DEFAULT 0,
    lifecycle TEXT NOT NULL DEFAULT 'ephemeral',
    metadata_json TEXT
);
CREATE INDEX IF NOT EXISTS idx_sessions_parent ON sessions(parent_session_id);
CREATE TABLE IF NOT EXISTS messages (
    session_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    role TEXT NOT NULL,
    name TEXT,
    content TEXT,
    tool_calls_json TEXT,
    tool_call_id TEXT,
    round_index INTEGER,
    state TEXT NOT NULL DEFAULT 'active',
    meta_json TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (session_id, seq)
);
CREATE INDEX IF NOT EXISTS idx_messages_session_state ON messages(session_id, state, seq);
CREATE TABLE IF NOT EXISTS compactions (
    session_id TEXT NOT NULL,
    compact_seq INTEGER NOT NULL,
    note_seq INTEGER NOT NULL,
    from_seq INTEGER NOT NULL,
    to_seq INTEGER NOT NULL,
    before_tokens INTEGER,
    after_tokens INTEGER,
    round_index INTEGER,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (session_id, compact_seq)
);
CREATE TABLE IF NOT EXISTS usage_rounds (
    session_id TEXT NOT NULL,
    round_index INTEGER NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    total_tokens INTEGER,
    model TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (session_id, round_index)
);
CREATE TABLE IF NOT EXISTS session_state (
    session_id TEXT PRIMARY KEY,
    next_seq INTEGER NOT NULL DEFAULT 1,
    round_index INTEGER NOT NULL DEFAULT 0,
    last_compact_seq INTEGER NOT NULL DEFAULT 0,
    pending_json TEXT
);
"""

STATEMENTS = tuple(statement.strip() for statement in TABLES.split(";") if statement.strip())
"""One statement for each table and index. They run one by one: `executescript` would commit the open transaction."""

COLUMNS = {
    name: frozenset(re.findall(r"^    ([a-z_]+) ", body, re.MULTILINE))
    for name, body in re.findall(r"^CREATE TABLE IF NOT EXISTS (\w+) \((.*?)^\);", TABLES, re.MULTILINE | re.DOTALL)
}
"""The columns of each table, by its name."""
INDEXES = frozenset(re.findall(r"^CREATE INDEX IF NOT EXISTS (\w+)", TABLES, re.MULTILINE))
"""The names of the indexes."""
