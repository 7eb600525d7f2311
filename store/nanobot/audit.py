"""What became of the rows that left the model's context: nanobot's one note, and its log of all summaries.

nanobot folds a prefix: rows up to an offset are consolidated, and the newest summary stands for all of them. Every
summary that was ever written is in `memory/history.jsonl` of the workspace; since 0.3.0 it says of which session.
"""

from __future__ import annotations

from msgspec import Struct

from ..errors import StoreError, UnknownSession
from ..jsonlines import scan
from ..outline import Run
from ..rows import Archived, Audit, Certainty, Compaction
from .clock import Clock
from .context import Offset
from .file import read
from .head import Metadata
from .record import plain

BYTES, ENTRIES, TEXT_CHARS, HEAD_CHARS = 1 << 20, 200, 32_000, 200
"""How much of the end of the log is read, and how many entries of it and characters of each are kept."""


class Log(Struct, frozen=True):
    """Where a workspace keeps its summaries. `shown` is the path as people know it."""

    path: str
    shown: str


def audit_of(metadata: Metadata | None, offset: Offset, key: str, log: Log | None, clock: Clock) -> Audit:
    """The fold in force, and the entries of the log that are this session's or may be."""
    entries = _entries(log, key, clock) if log is not None else []
    summary = metadata.summary if metadata is not None else None
    # The latest summary stands in both places; where they agree, the log tells when it was written.
    own = next((entry for entry in reversed(entries) if summary is not None and entry.text == summary), None)
    folds = [_fold(offset, summary, own)] if offset.value or summary else []
    return Audit(folds, archived=tuple(entry for entry in entries if entry is not own),
                 source=log.shown if log is not None else "")


def _fold(offset: Offset, summary: str | None, own: Archived | None) -> Compaction:
    odd = [offset.odd] if offset.odd else []
    if summary is None:
        odd.append("no summary is stored for these rows")
    # An idle session is cut to its end: then the rows are gone from the file, and only the summary tells of them.
    runs: tuple[Run, ...] = ((1, offset.value),) if offset.value else ()
    return Compaction(
        number=1, from_seq=1 if runs else None, to_seq=offset.value or None, rows=offset.value or None, fold_runs=runs,
        fold_is=Certainty.RECORDED if runs else Certainty.UNKNOWN, note_seq=None,
        note_head=summary[:HEAD_CHARS] if summary is not None else None,
        before_tokens=None, after_tokens=None, tokens_are=Certainty.UNKNOWN, round_index=None,
        created_at=own.created_at if own is not None else None, odd=tuple(odd), note=summary,
    )


def _entries(log: Log, key: str, clock: Clock) -> list[Archived]:
    """The newest entries of the log that do not belong to another session, oldest first."""
    try:
        data, cut = read(log.path, lambda file: (file.read(file.size - BYTES, file.size), file.size > BYTES))
    except UnknownSession:
        return []
    except StoreError as error:
        return [Archived(None, "", None, False, (str(error),))]
    if cut:
        data = data[data.find(b"\n") + 1:]
    found: list[Archived] = []
    for span in scan(data):
        entry = span.value
        if entry is None or "content" not in entry or "role" in entry:
            continue
        owner = entry.get("session_key")
        if isinstance(owner, str) and owner and owner != key:
            continue
        number, text, stamp = entry.get("cursor"), entry.get("content"), entry.get("timestamp")
        created_at = clock.ms(stamp)
        found.append(Archived(
            number if type(number) is int else None, plain(text)[:TEXT_CHARS],
            created_at, owner == key,
            (*map(str, span.troubles), *(["its time is no date"] if created_at is None else [])),
        ))
    return found[-ENTRIES:]
