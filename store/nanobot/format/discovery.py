"""From a path to the folders of session files that it means, in the layout of every release. Moves and makes nothing.

Until 0.3.4 sessions are in `sessions` of the workspace, in the first releases in `~/.nanobot/sessions` for all
workspaces. Since 0.3.5 they are there in a folder for each workspace, named by an id that the workspace stores.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from sessionscope.store.io.bundle import place_of
from sessionscope.store.model.errors import NotAnArchive, StoreError

from .file import read
from .file_head import read_file_head
from .names import ENDING, FileName, file_name

SESSIONS, LEGACY, CONFLICTS, HOME, WORKSPACE = "sessions", "legacy", ".migration-conflicts", ".nanobot", "workspace"
_ID, _LOOK, _MARKER_BYTES = re.compile(r"[0-9a-f]{32}"), 16_384, 4_096


class Log(Struct, frozen=True):
    """The log in which a workspace keeps its summaries. `shown` is the path as people know it."""

    path: str
    shown: str


class Folder(Struct, frozen=True):
    """A folder of session files.

    `layout` tells it from others that the same path means; `only` is a single file that was named.
    """

    path: str
    layout: str
    name: str
    log: Log | None = None
    only: str | None = None

    def files(self) -> Iterator[os.DirEntry[str]]:
        """Yield the files that may be sessions, in no order. Raises OSError."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                # Nearly all of thousands are plain names, for which this is enough.
                wanted = (
                    name == self.only
                    if self.only is not None
                    else (name.endswith(ENDING) or file_name(name) is not None)
                )
                if wanted and _holds(entry.is_file):
                    yield entry

    def name_of(self, file: str) -> FileName:
        """Return what a file of the folder is by its name. A single file that was named may be called anything."""
        return file_name(file) or FileName(os.path.splitext(file)[0], False)


def _holds(question: Callable[[], bool]) -> bool:
    """Return what an entry of a folder says of itself, False for a link that leads in a cycle."""
    try:
        return question()
    except OSError:
        return False


def is_session_file(path: Path, content: bool = False) -> bool:
    """Return whether a file is named like a session's, or begins like one. With `content` the name does not count."""
    if not content and file_name(path.name) is not None:
        return True
    try:
        data = read(str(path), lambda file: file.read(0, _LOOK))
    except StoreError:
        return False
    return (content or bool(data.strip())) and read_file_head(
        FileName(path.name, False), data, len(data) < _LOOK, preview=False
    ).session


def folders(path: Path) -> list[Folder]:
    """Return the folders of sessions that a path means: one itself, a workspace, nanobot's home, or a single file.

    Raises NotAnArchive if there is none.
    """
    if path.is_file():
        return [Folder(str(path.parent), "", path.name, _log(Path(os.path.abspath(path.parent))), path.name)]
    found: dict[str, Folder] = {}
    for folder in _below(path):
        found.setdefault(os.path.realpath(folder.path), folder)
    if not found:
        raise NotAnArchive(f"{path}: is a folder that holds no nanobot session files.")
    return list(found.values())


def any_folder(path: Path) -> bool:
    """Return whether a folder means any folder of sessions."""
    return next(_below(path), None) is not None


def _below(path: Path) -> Iterator[Folder]:
    full = Path(os.path.abspath(path))
    # An empty one may belong to a workspace in which nothing was said yet, or whose sessions were all closed.
    if _any(path) or place_of(full).is_dir() or (full.name == SESSIONS and not os.listdir(path)):
        name = f"{full.parent.name}/{full.name}" if full.name == SESSIONS else full.name
        yield Folder(str(path), "", name, _log(full))
    if full.name == HOME:
        yield from _workspace(path / WORKSPACE)
        yield from _workspaces(path / SESSIONS)
    elif (path / SESSIONS).is_dir() or _workspace_id(path) is not None:
        yield from _workspace(path)
    else:
        yield from _workspaces(path)


def _workspace(path: Path) -> Iterator[Folder]:
    """Yield the sessions of one workspace: its own folder, its folder in nanobot's home, and what the first releases
    left.
    """
    full, own, id_ = Path(os.path.abspath(path)), path / SESSIONS, _workspace_id(path)
    home = path.parent if full.parent.name == HOME else Path.home() / HOME
    away = home / SESSIONS / id_ if id_ is not None else None
    if own.is_dir() and (away is None or _any(own)):
        yield Folder(str(own), "", f"{full.name}/{SESSIONS}", _log_in(path))
    if away is not None and away.is_dir():
        yield Folder(str(away), away.name, f"{full.name} {away.name[:8]}", _log_in(path))
    if full.parent.name == HOME and _any(home / SESSIONS):
        yield Folder(str(home / SESSIONS), LEGACY, f"{HOME}/{SESSIONS}")


def _workspaces(path: Path) -> Iterator[Folder]:
    """Yield the folders of workspaces in nanobot's home, and what its migrations could not assign."""
    if not path.is_dir():
        return
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if _holds(entry.is_dir))
    for name in names:
        folder = path / name
        if _ID.fullmatch(name) and _any(folder):
            yield Folder(str(folder), name, _workspace_name(folder), _log_of(path, name))
        elif name == CONFLICTS and _any(folder):
            yield Folder(str(folder), CONFLICTS, CONFLICTS)


def _any(path: Path) -> bool:
    """Return whether a folder has a file that is a session's, or might be one that was emptied."""
    try:
        return any(is_session_file(Path(entry.path), content=True) for entry in Folder(str(path), "", "").files())
    except OSError:
        return False


def _workspace_id(workspace: Path) -> str | None:
    """Return the id under which a workspace's sessions are in nanobot's home, if it looks like one."""
    return _line(workspace / HOME / "workspace-id", _ID)


def _workspace_name(folder: Path) -> str:
    """Return what to call a workspace: the last part of the path that its folder records.

    The path is shown, never followed.
    """
    noted = _line(folder / ".workspace", re.compile(r"[^\n]+"))
    name = re.split(r"[/\\]", noted.rstrip("/\\"))[-1] if noted else ""
    return f"{name} {folder.name[:8]}".lstrip()


def _line(path: Path, pattern: re.Pattern[str]) -> str | None:
    try:
        text = read(str(path), lambda file: file.read(0, _MARKER_BYTES)).decode("utf-8", "replace").strip()
    except StoreError:
        return None
    return text if pattern.fullmatch(text) else None


def _log(sessions: Path) -> Log | None:
    """Return the log of summaries of the workspace that a sessions folder belongs to."""
    if _ID.fullmatch(sessions.name):
        return _log_of(sessions.parent, sessions.name)
    return _log_in(sessions.parent) if sessions.name == SESSIONS else None


def _log_of(sessions: Path, id_: str) -> Log | None:
    """Return the log of the usual workspace, if that has this id."""
    workspace = sessions.parent / WORKSPACE
    return _log_in(workspace) if _workspace_id(workspace) == id_ else None


def _log_in(workspace: Path) -> Log:
    return Log(str(workspace / "memory" / "history.jsonl"), "memory/history.jsonl")
