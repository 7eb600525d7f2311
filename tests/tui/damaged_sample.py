"""The sample with what a crash, an import and a hand may do to a database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from sessionscope.store import Bundled, bundles
from sessionscope.tui.screens import trash

from .harness import NOW, demo

IMPORTER, RETRY, WATCH, NOTES = (
    "sess_cf2b03a821635c4d3e880c68",
    "sess_cf5ca73c2f583caf24eb4dd7",
    "sess_41cd06ebac7d6b4c72fa383f",
    "sess_2f3721bb6ded468f7126c8ea",
)


def damaged_sample(folder: Path) -> Path:
    """A database with some defects of each severity."""
    path = demo(folder)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("UPDATE session_state SET next_seq = 63 WHERE session_id = ?", (IMPORTER,))
        conn.execute("UPDATE messages SET state = 'compacted_out' WHERE session_id = ? AND seq <= 4", (RETRY,))
        conn.execute("UPDATE sessions SET spawn_depth = 9 WHERE session_id = ?", (WATCH,))
        conn.execute("UPDATE sessions SET config_json = '{\"max_rounds\": ' WHERE session_id = ?", (NOTES,))
    return path


def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the trash tell of each closing the same wherever and whenever it happened."""

    def told(root: str, kind: str | None = "trash") -> list[Bundled]:
        return [
            replace(
                one,
                kept_at=NOW - 3_600_000,
                size=81_234,
                path=f"/home/you/demo.db.sessionscope/{one.kind}/20251009T085320-5e55c09e",
            )
            for one in bundles(root, kind)
        ]

    monkeypatch.setattr(trash, "bundles", told)
