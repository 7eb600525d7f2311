"""The log of compactions made by hand, in a nanobot session's metadata: each with what it replaced. Pure.

nanobot stores an offset and one summary, and keeps metadata members that it does not know. The log is such a member. It
only grows, numbers the compactions, and holds what an undo restores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

COMPACTION_LOG, SUMMARY = "_sessionscope_folds", "_last_summary"
OFFSETS = ("last_consolidated", "last_archived")


class LoggedCompaction(Struct, frozen=True, omit_defaults=True):
    """A compaction of the messages after `before` up to `after`.

    `first` and `last` are digests of the ends of that range. `summary` and `offsets` are the values that it replaced.
    `note` is the digest of its note. `at` is when it was made and `undone` when it was undone, both as nanobot writes
    times.
    """

    number: int
    before: int
    after: int
    first: str
    last: str
    note: str
    tokens: tuple[int, int]
    at: str
    summary: Any = None
    offsets: dict[str, Any] = {}
    undone: str | None = None


def read_compaction_log(metadata: Mapping[str, Any]) -> list[LoggedCompaction]:
    """Return the compactions, oldest first. Entries that are no compactions are skipped."""
    return list(_compactions(metadata.get(COMPACTION_LOG)))


def _compactions(stored: Any) -> Iterator[LoggedCompaction]:
    newest = 0
    for one in stored if isinstance(stored, list) else ():
        try:
            compaction = msgspec.convert(one, LoggedCompaction)
        except msgspec.ValidationError:
            continue
        if compaction.number > newest and 0 <= compaction.before < compaction.after:
            newest = compaction.number
            yield compaction


def appended(metadata: Mapping[str, Any], compaction: LoggedCompaction) -> list[Any]:
    """Return the log with a compaction added. Everything else in it stays as it is."""
    stored = metadata.get(COMPACTION_LOG)
    return [*(stored if isinstance(stored, list) else ()), msgspec.to_builtins(compaction)]


def marked(metadata: Mapping[str, Any], compaction: LoggedCompaction, at: str) -> list[Any]:
    """Return the log with a compaction marked as undone."""
    return [
        one | {"undone": at} if isinstance(one, dict) and one.get("number") == compaction.number else one
        for one in metadata[COMPACTION_LOG]
    ]


def next_number(compaction_log: list[LoggedCompaction], offset: int, summary: str | None) -> int:
    """Return the number of the next compaction. One that nanobot made before the first of them counts as 1."""
    if compaction_log:
        return compaction_log[-1].number + 1
    return 2 if offset or summary else 1


def newest(compaction_log: list[LoggedCompaction]) -> LoggedCompaction | None:
    """Return the newest compaction that was not undone."""
    return next((compaction for compaction in reversed(compaction_log) if compaction.undone is None), None)


def in_force(metadata: Mapping[str, Any], offset: int) -> int:
    """Return how many compactions are in force: those by hand that still reach into what is compacted, and nanobot's
    own.
    """
    compaction_log, summary = read_compaction_log(metadata), metadata.get(SUMMARY)
    if not compaction_log:
        return int(offset > 0 or summary_text(summary) is not None)
    standing = [
        compaction.after for compaction in compaction_log if compaction.undone is None and compaction.after <= offset
    ]
    first = compaction_log[0]
    own = min(first.before, offset) > 0 or summary_text(first.summary) is not None
    return own + len(standing) + (offset > max([first.before, *standing]))


def summary_text(summary: Any) -> str | None:
    """Return the text of a summary as nanobot stores it, None if there is none."""
    text = summary.get("text") if isinstance(summary, Mapping) else summary
    return text if isinstance(text, str) and text else None


def seal(note: str) -> str:
    """Return a digest of a note."""
    return blake2b(note.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
