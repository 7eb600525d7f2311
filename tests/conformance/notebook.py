"""A third format, as a plug-in: a folder of plain JSON files, one a session, only read.

    {"title": "…", "parent": "other", "kind": "draft", "messages": [{"role": "user", "content": "…", "at": 1000}, …]}

A message may have `out` (compacted), `calls` ([id, name, arguments]) and `answers` (the id of a call).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sessionscope.store import (
    Archive,
    ArchiveInfo,
    Format,
    Message,
    NotAnArchive,
    ReadOnlyArchive,
    ReadOnlyReader,
    Ref,
    SessionSummary,
    Stamp,
    State,
    ToolCall,
    UnknownSession,
    Zone,
    message_of,
    session_of,
)

ENDING = ".note.json"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(ENDING))


class NotebookReader(ReadOnlyReader):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all_sessions(self) -> Sequence[SessionSummary]:
        return [self._session(key, path) for key, path in enumerate(_files(self._folder), 1)]

    def _session(self, key: int, path: Path) -> SessionSummary:
        ref, value = Ref("", path.name.removesuffix(ENDING), path.name), _load(path)
        messages, kind = self.all_messages(ref), value.get("kind", "root")
        return session_of(ref, key, messages, parent_id=value.get("parent"), kind=kind, title=value.get("title"))

    def all_messages(self, ref: Ref) -> Sequence[Message]:
        path = self._folder / f"{ref.id}{ENDING}"
        if path not in _files(self._folder):
            raise UnknownSession(f"session {ref.id!r} no longer exists.")
        found, seq = [], 0
        for at, one in enumerate(_load(path).get("messages", [])):
            row = f"{at}/{len(str(one))}"
            if not isinstance(one, dict):
                found.append(
                    message_of(
                        row,
                        None,
                        "?",
                        str(one),
                        state=State.DAMAGED,
                        raw={"stored": str(one)},
                        damage=("is no object",),
                    )
                )
                continue
            seq += 1
            calls = tuple(ToolCall(id_, name, arguments, True) for id_, name, arguments in one.get("calls", ()))
            found.append(
                message_of(
                    row,
                    seq,
                    one["role"],
                    one.get("content"),
                    state=State.COMPACTED if one.get("out") else State.ACTIVE,
                    tool_calls=calls,
                    tool_call_id=one.get("answers"),
                    created_at=one.get("at"),
                    raw={"stored": json.dumps(one)},
                )
            )
        return found


class NotebookArchive(ReadOnlyArchive):
    def __init__(self, folder: Path) -> None:
        super().__init__(ArchiveInfo(str(folder), folder.name, "notebook 1", "notebook sessions", "", root=str(folder)))
        self._folder = folder

    def reader(self) -> NotebookReader:
        return NotebookReader(self._folder)

    def stamp(self) -> Stamp:
        return tuple((path.name, os.stat(path).st_mtime_ns) for path in _files(self._folder))


def _load(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_bytes())
    return value if isinstance(value, dict) else {}


def _detect(path: Path, _head: bytes) -> Path | None:
    return path if path.is_dir() and _files(path) else None


def _open(path: Path, layout: str | None, _zone: Zone) -> Sequence[Archive]:
    if layout:
        raise NotAnArchive(f"{path}: a notebook has one layout; leave out #{layout}.")
    return [NotebookArchive(path)]


NOTEBOOK = Format("notebooks", _detect, _open)
