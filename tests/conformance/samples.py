"""Every sample of every format, and what an archive says of a session as plain values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from sessionscope.store import Archive, Reader, Ref, StoreError, TimelineRow, View

from .notebook import ENDING

DATA = Path(__file__).parents[1] / "data"
NOTEBOOK = "notebook"
FOLDERS = ("power-loop", "nanobot", "nanobot-damaged")
SAMPLES = [NOTEBOOK, *(f"{folder}/{path.name}" for folder in FOLDERS for path in sorted((DATA / folder).iterdir()))]
WRITABLE = [name for name in SAMPLES if name != NOTEBOOK]
_CALL = {"role": "assistant", "content": None, "calls": [["c1", "read_file", {"path": "a.py"}], ["c2", "ls", {}]]}
SESSIONS: dict[str, dict[str, Any]] = {
    "plan": {
        "title": "Plan the week",
        "messages": [
            {"role": "user", "content": "What did we say on Monday?", "at": 1_000, "out": True},
            {"role": "assistant", "content": "That the parser comes first.", "at": 2_000, "out": True},
            {"role": "user", "content": "Read a.py then. \U0001f642 é", "at": 3_000},
            _CALL | {"at": 4_000},
            {"role": "tool", "content": "x = 1\n" * 40, "answers": "c1", "at": 5_000},
            {"role": "tool", "content": "a.py", "answers": "c2", "at": 6_000},
            "torn",
            {"role": "assistant", "content": "It only has \x1b[31mx\x1b[0m [b]in[/b] it.", "at": 7_000},
        ],
    },
    "review": {
        "parent": "plan",
        "kind": "draft",
        "messages": [{"role": "user", "content": "Look at it.", "at": 4_500}],
    },
    "empty": {},
}


def sample(name: str, folder: Path) -> Path:
    """A fresh copy of a sample; the notebook is made."""
    path = folder / name.rpartition("/")[2]
    if name == NOTEBOOK:
        path.mkdir()
        for session, value in SESSIONS.items():
            (path / f"{session}{ENDING}").write_text(json.dumps(value))
        return path
    source = DATA / name
    if source.is_file():
        return Path(shutil.copy2(source, path))
    # What damaged samples are expected to be stands beside their files, and is no part of them.
    return Path(shutil.copytree(source, path, ignore=shutil.ignore_patterns("EXPECTED.json")))


def everything_below(folder: Path) -> dict[str, tuple[object, ...]]:
    """Each path with its mode, size and times, and the digest of what it holds."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        data = sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (status.st_mode, status.st_size if data else 0, status.st_mtime_ns, status.st_uid, data)
    return found


def data_below(folder: Path) -> dict[str, str]:
    """The digest of each file."""
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def sessions(archive: Archive) -> Iterator[tuple[Reader, Ref]]:
    """Each session that can be read, with a reader."""
    reader = archive.reader()
    for summary in reader.summaries(list(reader.session_table().keys)):
        yield reader, summary.ref


def rows(reader: Reader, ref: Ref, view: View = View.ALL) -> list[TimelineRow]:
    """Every row of a view, read as a whole."""
    timeline = reader.timeline(ref, view, reader.outline(ref))
    return timeline.window(0, timeline.length.value)


def told(archive: Archive) -> dict[str, Any]:
    """What an archive says of its sessions, by ref, as plain values: to compare it with what it says later."""
    found: dict[str, Any] = {}
    for reader, ref in sessions(archive):
        try:
            key = reader.key(ref)
            (summary,) = reader.summaries([key] if key is not None else [], exact=True)
            shown = {view: rows(reader, ref, view) for view in View}
            found[str(ref)] = {
                "summary": (summary.parent_id, summary.kind, summary.status, summary.title, summary.preview),
                "counts": (summary.message_count, summary.active_count),
                "views": {
                    view: [(row.seq, row.state, row.role, row.head) for row in some] for view, some in shown.items()
                },
                "messages": [reader.message(ref, row.row).content for row in shown[View.ALL] if row.row is not None],
            }
        except StoreError as error:
            found[str(ref)] = type(error).__name__
    return found
