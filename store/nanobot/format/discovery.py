"""Discovery of the folders of session files that a path stands for, in every release's layout. Nothing is changed.

The first releases keep the sessions of all workspaces in `~/.nanobot/sessions`. Later ones, up to 0.3.4, keep them in
`sessions` of the workspace. Since 0.3.5 each workspace has a folder in `~/.nanobot/sessions`, whose name is an id that
is stored in the workspace.
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

SESSIONS = "sessions"
"""The name of a folder of session files, in a workspace or in nanobot's home."""
LEGACY = "legacy"
"""The layout of the sessions that the first releases left in nanobot's home."""
CONFLICTS = ".migration-conflicts"
"""The name and the layout of the folder in which nanobot's migrations leave the files that they could not move."""
HOME = ".nanobot"
"""The name of nanobot's folder, in the user's home and in a workspace."""
WORKSPACE = "workspace"
"""The name of the default workspace in nanobot's home."""
_WORKSPACE_ID = re.compile(r"[0-9a-f]{32}")
_HEAD_BYTES = 16_384
"""How many bytes are read of a file to recognise a session."""
_MARKER_BYTES = 4_096
"""How many bytes are read of a file that holds one line."""


class Log(Struct, frozen=True):
    """The log of summaries of a workspace."""

    path: str
    shown: str
    """The path as users know it."""


class Folder(Struct, frozen=True):
    """A folder of session files."""

    path: str
    layout: str
    """Distinguishes it from other folders that the same path stands for."""
    name: str
    """What it is called on the screen."""
    log: Log | None = None
    only: str | None = None
    """The name of the one file in it that was opened, or None for all."""

    def files(self) -> Iterator[os.DirEntry[str]]:
        """Yield the files that may be sessions, in no order. Raises OSError."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                name = entry.name
                if self.only is not None:
                    may_be_session = name == self.only
                else:
                    # The first check is faster, and true of nearly all files.
                    may_be_session = name.endswith(ENDING) or file_name(name) is not None
                if may_be_session and _is_true(entry.is_file):
                    yield entry

    def name_of(self, file: str) -> FileName:
        """Return the parsed name of a file of the folder. A file that was opened by itself may have any name."""
        return file_name(file) or FileName(os.path.splitext(file)[0], False)


def _is_true(check: Callable[[], bool]) -> bool:
    """Return the result of a check of a folder's entry, False if it fails, as for a circular link."""
    try:
        return check()
    except OSError:
        return False


def is_session_file(path: Path, content: bool = False) -> bool:
    """Return whether a file has the name of a session's file or begins like one.

    With `content`, the name does not count, and an empty file counts as a session's.
    """
    if not content and file_name(path.name) is not None:
        return True
    try:
        data = read(str(path), lambda file: file.read(0, _HEAD_BYTES))
    except StoreError:
        return False
    if not content and not data.strip():
        return False
    return read_file_head(FileName(path.name, False), data, len(data) < _HEAD_BYTES, preview=False).session


def folders(path: Path) -> list[Folder]:
    """Return the folders of sessions that a path stands for.

    The path is that of such a folder, of a workspace, of nanobot's home, or of a single session's file. Raises
    NotAnArchive if there are none.
    """
    if path.is_file():
        return [Folder(str(path.parent), "", path.name, _log(Path(os.path.abspath(path.parent))), path.name)]
    folders_by_path: dict[str, Folder] = {}
    for folder in _folders_in(path):
        folders_by_path.setdefault(os.path.realpath(folder.path), folder)
    if not folders_by_path:
        raise NotAnArchive(f"{path}: is a folder that holds no nanobot session files.")
    return list(folders_by_path.values())


def any_folder(path: Path) -> bool:
    """Return whether a folder stands for any folder of sessions."""
    return next(_folders_in(path), None) is not None


def _folders_in(path: Path) -> Iterator[Folder]:
    full = Path(os.path.abspath(path))
    # A folder without sessions may be that of a new workspace, or all its sessions may be in the trash.
    if _has_sessions(path) or place_of(full).is_dir() or (full.name == SESSIONS and not os.listdir(path)):
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
    """Yield the folders of a workspace: its own, its folder in nanobot's home, and that of the first releases."""
    full = Path(os.path.abspath(path))
    is_default = full.parent.name == HOME
    home = path.parent if is_default else Path.home() / HOME
    id_ = _workspace_id(path)
    folder_in_home = home / SESSIONS / id_ if id_ is not None else None
    own_folder = path / SESSIONS
    if own_folder.is_dir() and (folder_in_home is None or _has_sessions(own_folder)):
        yield Folder(str(own_folder), "", f"{full.name}/{SESSIONS}", _log_in(path))
    if folder_in_home is not None and folder_in_home.is_dir():
        id_ = folder_in_home.name
        yield Folder(str(folder_in_home), id_, f"{full.name} {id_[:8]}", _log_in(path))
    if is_default and _has_sessions(home / SESSIONS):
        yield Folder(str(home / SESSIONS), LEGACY, f"{HOME}/{SESSIONS}")


def _workspaces(path: Path) -> Iterator[Folder]:
    """Yield the folders of workspaces in nanobot's home, and that of its migration conflicts."""
    if not path.is_dir():
        return
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if _is_true(entry.is_dir))
    for name in names:
        folder = path / name
        if _WORKSPACE_ID.fullmatch(name) and _has_sessions(folder):
            yield Folder(str(folder), name, _workspace_name(folder), _log_of(path, name))
        elif name == CONFLICTS and _has_sessions(folder):
            yield Folder(str(folder), CONFLICTS, CONFLICTS)


def _has_sessions(path: Path) -> bool:
    """Return whether a folder holds the file of a session, or an empty file that may have been one."""
    try:
        return any(is_session_file(Path(entry.path), content=True) for entry in Folder(str(path), "", "").files())
    except OSError:
        return False


def _workspace_id(workspace: Path) -> str | None:
    """Return the id of a workspace, which names its folder in nanobot's home, or None if it stores no valid one."""
    return _read_line(workspace / HOME / "workspace-id", _WORKSPACE_ID)


def _workspace_name(folder: Path) -> str:
    """Return a name for the workspace of a folder in nanobot's home.

    It is the last part of the path that the folder stores, and the beginning of its id. The path is not followed.
    """
    stored_path = _read_line(folder / ".workspace", re.compile(r"[^\n]+"))
    name = re.split(r"[/\\]", stored_path.rstrip("/\\"))[-1] if stored_path else ""
    return f"{name} {folder.name[:8]}".lstrip()


def _read_line(path: Path, pattern: re.Pattern[str]) -> str | None:
    """Return the text of a short file, or None if it cannot be read or does not match."""
    try:
        text = read(str(path), lambda file: file.read(0, _MARKER_BYTES)).decode("utf-8", "replace").strip()
    except StoreError:
        return None
    return text if pattern.fullmatch(text) else None


def _log(sessions: Path) -> Log | None:
    """Return the log of summaries of the workspace to which a sessions folder belongs, or None if that is not known."""
    if _WORKSPACE_ID.fullmatch(sessions.name):
        return _log_of(sessions.parent, sessions.name)
    return _log_in(sessions.parent) if sessions.name == SESSIONS else None


def _log_of(sessions: Path, id_: str) -> Log | None:
    """Return the log of the default workspace, if that has this id."""
    workspace = sessions.parent / WORKSPACE
    return _log_in(workspace) if _workspace_id(workspace) == id_ else None


def _log_in(workspace: Path) -> Log:
    return Log(str(workspace / "memory" / "history.jsonl"), "memory/history.jsonl")
