"""What a listing keeps of each session file, and which files belong to others: forks, and leftovers of saves."""

from __future__ import annotations

from msgspec import Struct

from sessionscope.store.nanobot.format.discovery import Folder
from sessionscope.store.nanobot.format.file import Stat
from sessionscope.store.nanobot.format.names import ENDING


class Brief(Struct, frozen=True, gc=False):
    """What a session table keeps of a file. Times are epoch milliseconds; `first` is when its first message came."""

    stat: Stat
    id: str
    channel: str | None
    title: str | None
    created_at: int | None
    updated_at: int | None
    first: str | None
    offset: int
    messages: int
    temporary: bool


def forks(briefs: dict[str, Brief]) -> dict[str, str]:
    """Return the file that each fork came from. No release records it, but both begin with the very same message."""
    if len({brief.first for brief in briefs.values()}) == len(briefs):
        return {}
    begun: dict[str, str] = {}
    same: dict[str, list[str]] = {}
    for name, brief in briefs.items():
        # Two messages may share a time without microseconds.
        if brief.first is not None and "." in brief.first and not brief.temporary and brief.created_at:
            other = begun.setdefault(brief.first, name)
            if other != name:
                same.setdefault(other, [other]).append(name)
    found: dict[str, str] = {}
    for files in same.values():
        (made, source), *later = sorted((briefs[name].created_at or 0, name) for name in files)
        found.update(
            (name, source) for created_at, name in later if created_at > made and briefs[name].id != briefs[source].id
        )
    return found


def leftovers(briefs: dict[str, Brief], folder: Folder) -> dict[str, str]:
    """Return the file that each leftover was meant to replace, if that exists."""
    found: dict[str, str] = {}
    for name, brief in briefs.items():
        if brief.temporary and (whole := f"{folder.name_of(name).stem}{ENDING}") in briefs:
            found[name] = whole
    return found
