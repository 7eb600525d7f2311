"""Brief facts about each session file of a folder, and the parents that follow from them: of forks and of leftovers."""

from __future__ import annotations

import os

from msgspec import UNSET, Struct

from sessionscope.store.model.errors import StoreError, UnknownSession
from sessionscope.store.nanobot.format.clock import Clock
from sessionscope.store.nanobot.format.discovery import Folder
from sessionscope.store.nanobot.format.file import Stat, beginning, stat_or_none
from sessionscope.store.nanobot.format.file_head import (
    KEY_CHARS,
    HeadLine,
    Metadata,
    metadata_in,
    read_file_head,
    read_plain_head,
)
from sessionscope.store.nanobot.format.names import ENDING, channel_of, key_of

from .context import offset_of

FIRST_LINES_BYTES = 2_048
"""How many bytes are read of a file at first. Nearly always, they hold the metadata line and the first message."""
MAX_HEAD_BYTES = 1 << 20
"""At most about so many bytes are read of a file to find these lines."""


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


def read_brief(folder: Folder, clock: Clock, name: str, folder_fd: int | None) -> Brief | None:
    """Return the brief of a file, from its first lines. Return None if it no longer exists or is not a session's.

    `folder_fd` is the descriptor of the open folder, which makes it faster, or None.
    """
    try:
        path = name if folder_fd is not None else os.path.join(folder.path, name)
        data, stat = beginning(path, FIRST_LINES_BYTES, folder_fd)
        plain_head = read_plain_head(data)
        if plain_head is not None:
            return _plain_brief(folder, clock, name, stat, data, *plain_head)
        size = FIRST_LINES_BYTES
        while len(data) == size and data.count(b"\n") < 2 and size < MAX_HEAD_BYTES:
            size *= 8
            data, stat = beginning(os.path.join(folder.path, name), size)
    except UnknownSession:
        return None
    except StoreError:
        unreadable = stat_or_none(os.path.join(folder.path, name))
        return _brief(folder, clock, name, unreadable, b"", None, None) if unreadable is not None else None
    head = read_file_head(folder.name_of(name), data, len(data) < size, preview=False)
    if head.log and folder.only is None:
        return None
    return _brief(folder, clock, name, stat, data, head.metadata, head.first_timestamp)


def _brief(
    folder: Folder,
    clock: Clock,
    name: str,
    stat: Stat,
    data: bytes,
    metadata: Metadata | None,
    first_timestamp: str | None,
) -> Brief:
    file_name = folder.name_of(name)
    messages = estimated_messages(data, stat.size, metadata is not None)
    key = key_of(file_name.stem, metadata.key if metadata is not None else None)
    return Brief(
        stat=stat,
        id=key,
        channel=channel_of(key),
        title=metadata.title if metadata is not None else None,
        created_at=clock.ms(metadata.created_at) if metadata is not None else None,
        updated_at=clock.ms(metadata.updated_at) if metadata is not None else None,
        first_timestamp=first_timestamp,
        offset=offset_of(metadata, messages, metadata.later).value if metadata is not None else 0,
        messages=messages,
        temporary=file_name.temporary,
    )


def _plain_brief(
    folder: Folder,
    clock: Clock,
    name: str,
    stat: Stat,
    data: bytes,
    metadata_line: HeadLine,
    first_timestamp: str | None,
) -> Brief:
    """Return the same as `_brief`, faster, for a file that begins as nearly all do."""
    messages = estimated_messages(data, stat.size, True)
    offset, title = metadata_line.last_consolidated, metadata_line.metadata.get("title")
    if metadata_line.last_archived is not UNSET or type(offset) is not int or not 0 <= offset <= messages:
        return _brief(folder, clock, name, stat, data, metadata_in(metadata_line), first_timestamp)
    return Brief(
        stat,
        metadata_line.key,
        channel_of(metadata_line.key),
        title[:KEY_CHARS] if isinstance(title, str) and title.strip() else None,
        clock.ms(metadata_line.created_at),
        clock.ms(metadata_line.updated_at),
        first_timestamp,
        offset,
        messages,
        not name.endswith(ENDING) and folder.name_of(name).temporary,
    )


def estimated_messages(data: bytes, size: int, has_metadata: bool) -> int:
    """Return about how many messages a file of `size` bytes has, given its first bytes.

    If they are the whole file, its lines are counted. Otherwise its lines are assumed to be as long as those.
    """
    lines = data.count(b"\n")
    if len(data) < size:
        lines = lines * size // (data.rfind(b"\n") + 1) if lines else 1
    elif data and not data.endswith(b"\n"):
        lines += 1
    return max(0, lines - has_metadata)


# -- parents


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
