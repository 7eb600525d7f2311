"""The log of manual compactions in a nanobot session's metadata. Pure.

nanobot stores an offset and one summary, and preserves members of the metadata that it does not know. The log is such a
member. It only grows, numbers the compactions, and holds the values that an undo restores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

COMPACTION_LOG = "_sessionscope_folds"
"""The member of the metadata that holds the log, a list."""
SUMMARY = "_last_summary"
"""The member of the metadata that holds nanobot's summary."""
OFFSETS = ("last_consolidated", "last_archived")
"""The members of the metadata line that may hold the number of consolidated messages."""


class LoggedCompaction(Struct, frozen=True, omit_defaults=True):
    """A manual compaction of the messages after number `before`, up to and including number `after`."""

    number: int
    before: int
    after: int
    first: str
    """A digest of the first message of the range."""
    last: str
    """A digest of the last message of the range."""
    note: str
    """The digest of the note that the compaction stored."""
    tokens: tuple[int, int]
    """Estimated tokens of the context before and after it."""
    at: str
    """When it was made, as nanobot writes times."""
    summary: Any = None
    """The summary that it replaced, as stored."""
    offsets: dict[str, Any] = {}
    """The offsets that it replaced, as stored."""
    undone: str | None = None
    """When it was undone, as nanobot writes times."""


def read_compaction_log(metadata: Mapping[str, Any]) -> list[LoggedCompaction]:
    """Return the logged compactions, oldest first. Invalid entries are skipped."""
    return list(_compactions(metadata.get(COMPACTION_LOG)))


def _compactions(stored: Any) -> Iterator[LoggedCompaction]:
    highest_number = 0
    for entry in stored if isinstance(stored, list) else ():
        try:
            compaction = msgspec.convert(entry, LoggedCompaction)
        except msgspec.ValidationError:
            continue
        if compaction.number > highest_number and 0 <= compaction.before < compaction.after:
            highest_number = compaction.number
            yield compaction


def appended(metadata: Mapping[str, Any], compaction: LoggedCompaction) -> list[Any]:
    """Return the stored log with a compaction appended. Earlier entries are left as they are."""
    stored = metadata.get(COMPACTION_LOG)
    return [*(stored if isinstance(stored, list) else ()), msgspec.to_builtins(compaction)]


def marked(metadata: Mapping[str, Any], compaction: LoggedCompaction, at: str) -> list[Any]:
    """Return the stored log with a compaction marked as undone at time `at`."""
    return [
        entry | {"undone": at} if isinstance(entry, dict) and entry.get("number") == compaction.number else entry
        for entry in metadata[COMPACTION_LOG]
    ]


def next_number(compaction_log: list[LoggedCompaction], offset: int, summary: str | None) -> int:
    """Return the number of the next compaction. One that nanobot made before the first logged one counts as 1."""
    if compaction_log:
        return compaction_log[-1].number + 1
    return 2 if offset or summary else 1


def newest(compaction_log: list[LoggedCompaction]) -> LoggedCompaction | None:
    """Return the newest compaction that was not undone, or None."""
    return next((compaction for compaction in reversed(compaction_log) if compaction.undone is None), None)


def in_force(metadata: Mapping[str, Any], offset: int) -> int:
    """Return the number of compactions in force.

    These are the logged ones that were not undone and end at or before the offset, one of nanobot's before all of
    them, and one of nanobot's after all of them.
    """
    compaction_log = read_compaction_log(metadata)
    if not compaction_log:
        return int(offset > 0 or summary_text(metadata.get(SUMMARY)) is not None)
    oldest = compaction_log[0]
    logged_ends = [
        compaction.after for compaction in compaction_log if compaction.undone is None and compaction.after <= offset
    ]
    has_earlier = min(oldest.before, offset) > 0 or summary_text(oldest.summary) is not None
    has_later = offset > max([oldest.before, *logged_ends])
    return int(has_earlier) + len(logged_ends) + int(has_later)


def summary_text(summary: Any) -> str | None:
    """Return the text of a summary as nanobot stores it, or None if it has none."""
    text = summary.get("text") if isinstance(summary, Mapping) else summary
    return text if isinstance(text, str) and text else None


def seal(note: str) -> str:
    """Return the digest by which a note is recognised."""
    return blake2b(note.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
