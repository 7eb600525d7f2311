"""What no store in Python can beat: a scan in C, and bytes that are written and synced by hand. In milliseconds."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sessionscope.store import SessionStore

TOOL = "sqlite3"
_SYNC = getattr(os, "fdatasync", os.fsync)


def scan(path: Path, statement: str) -> float:
    """How long SQLite's command line tool takes to start and to print the rows to nowhere."""
    began = time.perf_counter()
    subprocess.run([TOOL, "-readonly", path, statement], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1e3


def by_hand(folder: Path, size: int, calls: int) -> float:
    """How long it takes to append as many bytes as often to a file, and to sync each time."""
    data = os.urandom(size)
    with TemporaryDirectory(dir=folder) as temp, open(Path(temp) / "bytes", "wb", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(calls):
            file.write(data)
            _SYNC(file.fileno())
        return (time.perf_counter() - began) * 1e3


def wal_growth(store: SessionStore, session_id: str, text: str, calls: int) -> int:
    """How many bytes an append adds to the WAL, once a table has its first pages. Leaves the store without automatic
    checkpoints, after which the WAL would be written from its beginning again.
    """
    store._conn.execute("PRAGMA wal_autocheckpoint=0")
    sizes = []
    for at in range(2 * calls):
        store.append_message(session_id, role="user", content=text, round_index=at)
        sizes.append(os.path.getsize(f"{store.path}-wal"))
    return (sizes[-1] - sizes[calls - 1]) // calls
