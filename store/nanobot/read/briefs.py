"""Brief facts about each session file of a folder, and the parents that follow from them: of forks and of leftovers."""

from __future__ import annotations

from msgspec import Struct

from sessionscope.store.nanobot.format.discovery import Folder
from sessionscope.store.nanobot.format.file import Stat
from sessionscope.store.nanobot.format.names import ENDING


class Brief(Struct, frozen=True, gc=False):
    """The facts about a file that the session table is made of. Times are in epoch milliseconds."""

    stat: Stat
    id: str
    channel: str | None
    title: str | None
    created_at: int | None
    updated_at: int | None
    first_timestamp: str | None
    """The timestamp of the first message, as stored."""
    offset: int
    """How many messages are consolidated."""
    messages: int
    """How many messages there are, estimated."""
    temporary: bool
    """Whether it is left by a save that was cut off."""


def forks(briefs: dict[str, Brief]) -> dict[str, str]:
    """Return, for each fork, the file from which it was forked.

    No release stores that a session is a fork. But both begin with the same message, and the fork was created later.
    """
    if len({brief.first_timestamp for brief in briefs.values()}) == len(briefs):
        return {}
    parents: dict[str, str] = {}
    for names in _files_by_first_message(briefs):
        (source_created_at, source), *others = sorted((briefs[name].created_at or 0, name) for name in names)
        for created_at, name in others:
            if created_at > source_created_at and briefs[name].id != briefs[source].id:
                parents[name] = source
    return parents


def _files_by_first_message(briefs: dict[str, Brief]) -> list[list[str]]:
    """Return the groups of two or more files that begin with the same message."""
    first_names: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for name, brief in briefs.items():
        timestamp = brief.first_timestamp
        # Two messages may have the same time if it has no microseconds.
        if timestamp is None or "." not in timestamp or brief.temporary or not brief.created_at:
            continue
        first_name = first_names.setdefault(timestamp, name)
        if first_name != name:
            groups.setdefault(timestamp, [first_name]).append(name)
    return list(groups.values())


def leftovers(briefs: dict[str, Brief], folder: Folder) -> dict[str, str]:
    """Return, for each file that a save left, the file that the save was to replace, if that exists."""
    parents: dict[str, str] = {}
    for name, brief in briefs.items():
        if brief.temporary:
            session_name = f"{folder.name_of(name).stem}{ENDING}"
            if session_name in briefs:
                parents[name] = session_name
    return parents
