"""The sample with what a crash, an import and a hand may do to a database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from .harness import demo

IMPORTER, RETRY, WATCH, NOTES = (
    "sess_cf2b03a821635c4d3e880c68", "sess_cf5ca73c2f583caf24eb4dd7", "sess_41cd06ebac7d6b4c72fa383f",
    "sess_2f3721bb6ded468f7126c8ea")


def sick(folder: Path) -> Path:
    """A database with some defects of each severity."""
    path = demo(folder)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("UPDATE session_state SET next_seq = 63 WHERE session_id = ?", (IMPORTER,))
        conn.execute("UPDATE messages SET state = 'compacted_out' WHERE session_id = ? AND seq <= 4", (RETRY,))
        conn.execute("UPDATE sessions SET spawn_depth = 9 WHERE session_id = ?", (WATCH,))
        conn.execute("UPDATE sessions SET config_json = '{\"max_rounds\": ' WHERE session_id = ?", (NOTES,))
    return path
