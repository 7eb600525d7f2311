"""Short ways to build nanobot's session files, in the shape of each release, and to see what reading them costs."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sessionscope.store import Archive, Reader, Ref, TimelineRow, View, open_archive

from .helpers import DATA

SAMPLES, DAMAGED = DATA / "nanobot", sorted(path.parent for path in (DATA / "nanobot-damaged").glob("*/EXPECTED.json"))
KEY, NAME = "telegram:42", "telegram_42.jsonl"
Row = dict[str, Any]


def talk(count: int, start: int = 0, text: str = "message {}") -> list[Row]:
    """So many messages, by turns a user's and the agent's, each at its own second."""
    return [
        {
            "role": ("user", "assistant")[at % 2],
            "content": text.format(at),
            "timestamp": f"2026-05-16T{at // 3600 % 24:02}:{at // 60 % 60:02}:{at % 60:02}.{at % 1_000_000:06}",
        }
        for at in range(start, start + count)
    ]


def lines(messages: Sequence[Row], key: str | None = KEY, **metadata: Any) -> bytes:
    """A file as 0.2.0 writes it; values for the metadata line replace those that it would have."""
    head = {
        "_type": "metadata",
        "key": key,
        "created_at": "2026-05-16T09:00:00.000001",
        "updated_at": "2026-05-16T10:00:00.000002",
        "metadata": {},
        "last_consolidated": 0,
    } | metadata
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in (head, *messages))


def write(folder: Path, messages: Sequence[Row], name: str = NAME, key: str | None = KEY, **metadata: Any) -> Path:
    """A session in a folder, which is made where it is missing; replaced as nanobot does, if it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    beside = folder / f".{name}.new"
    beside.write_bytes(lines(messages, key, **metadata))
    os.replace(beside, path)
    return path


def encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def workspace(folder: Path, sample: str = "loop-v0.2.0") -> Path:
    """A workspace of 0.2.0 with a sample's sessions and its log of summaries."""
    sessions = folder / "sessions"
    shutil.copytree(SAMPLES / sample, sessions)
    log = sessions / "memory_history.jsonl"
    if log.exists():
        (folder / "memory").mkdir()
        log.rename(folder / "memory" / "history.jsonl")
    return folder


def damaged(name: str, folder: Path) -> Path:
    """A copy of a damaged sample, without what is expected of it."""
    shutil.copytree(DATA / "nanobot-damaged" / name, folder, ignore=shutil.ignore_patterns("EXPECTED.json"))
    for path in folder.iterdir():
        long_ago(path)
    return folder


def long_ago(path: Path) -> Path:
    """The file, last written when no save can be under way any more."""
    os.utime(path, ns=(0, 1_760_000_000 * 10**9))
    return path


def found(archive: Archive) -> dict[str, Ref]:
    """The sessions of a folder by the names of their files."""
    reader = archive.reader()
    return {summary.ref.file or "": summary.ref for summary in reader.summaries(reader.session_table().keys)}


def the_session(path: Path) -> tuple[Reader, Ref]:
    """The one session at a place."""
    (archive,) = open_archive(path)
    (ref,) = found(archive).values()
    return archive.reader(), ref


def rows(reader: Reader, ref: Ref, view: View = View.ALL) -> list[TimelineRow]:
    """Every line of a view."""
    found = reader.timeline(ref, view, reader.outline(ref))
    return found.window(0, found.length.value)


class Work:
    """What was read of files: how often and how many bytes."""

    def __init__(self) -> None:
        self.expanded = self.bytes = 0


@contextmanager
def counted(monkeypatch: Any) -> Iterator[Work]:
    """Counts what is read of files in a with block."""
    work = Work()
    read, opening = os.read, os.open

    def counting(fd: int, size: int) -> bytes:
        data = read(fd, size)
        work.bytes += len(data)
        return data

    def open_(*args: Any, **more: Any) -> int:
        work.expanded += 1
        return opening(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", counting)
        patch.setattr(os, "open", open_)
        yield work
