"""The compactions of a nanobot session: its one note, and the log of all summaries.

nanobot compacts a prefix: rows up to an offset are consolidated, and the newest summary stands for all of them. Every
summary that was ever written is in `memory/history.jsonl` of the workspace. Since 0.3.0 it says of which session.
"""

from __future__ import annotations

from sessionscope.store.io.jsonlines import scan
from sessionscope.store.model.errors import StoreError, UnknownSession
from sessionscope.store.model.outline import Run
from sessionscope.store.model.rows import Archived, Audit, Certainty, Compaction
from sessionscope.store.nanobot.format.clock import Clock
from sessionscope.store.nanobot.format.compaction_log import (
    LoggedCompaction,
    newest,
    read_compaction_log,
    seal,
    summary_text,
)
from sessionscope.store.nanobot.format.discovery import Log
from sessionscope.store.nanobot.format.file import read
from sessionscope.store.nanobot.format.file_head import Metadata

from .context import Offset
from .record import plain

BYTES, ENTRIES, TEXT_CHARS, HEAD_CHARS = 1 << 20, 200, 32_000, 200
"""How many bytes of the end of the log are read, how many of its entries are kept, and how many characters of each
text and each head.
"""

OVERWRITTEN = "an agent wrote over it: its messages are in the context again"


def audit_of(metadata: Metadata | None, offset: Offset, key: str, log: Log | None, clock: Clock) -> Audit:
    """Return the compactions, and the entries of the log that are or may be of this session."""
    entries = _entries(log, key, clock) if log is not None else []
    summary = metadata.summary if metadata is not None else None
    # The newest summary is in both places. If they agree, the log tells when it was written.
    own = next((entry for entry in reversed(entries) if summary is not None and entry.text == summary), None)
    return Audit(
        _compactions(metadata, offset, own, clock),
        archived=tuple(entry for entry in entries if entry is not own),
        source=log.shown if log is not None else "",
    )


def _compactions(metadata: Metadata | None, offset: Offset, own: Archived | None, clock: Clock) -> list[Compaction]:
    """Return nanobot's own compaction, those that were made by hand, and what nanobot compacted after them."""
    compaction_log = read_compaction_log(metadata.values) if metadata is not None else []
    summary = metadata.summary if metadata is not None else None
    # Each compaction by hand keeps the note that it replaced. The newest note is in the metadata itself.
    notes = [*(summary_text(compaction.summary) for compaction in compaction_log), summary]
    before = min(compaction_log[0].before if compaction_log else offset.value, offset.value)
    found = [_own_compaction(1, 0, before, notes[0], own, offset.anomaly)] if before or notes[0] else []
    for at, compaction in enumerate(compaction_log, 1):
        note = next((text for text in notes[at:] if text and seal(text) == compaction.note), None)
        found.append(_by_hand(compaction, offset.value, note, clock))
    standing = newest(compaction_log)
    reached = standing.after if standing is not None else before
    if compaction_log and offset.value > reached:
        found.append(
            _own_compaction(compaction_log[-1].number + 1, reached, offset.value, summary, own, offset.anomaly)
        )
    return found


def _own_compaction(
    number: int, before: int, after: int, summary: str | None, own: Archived | None, anomaly: str
) -> Compaction:
    said = [anomaly] if anomaly else []
    if summary is None:
        said.append("no summary is stored for these rows")
    # An idle session is cut to its end. Then the rows are gone from the file, and only the summary tells of them.
    runs: tuple[Run, ...] = ((before + 1, after),) if after > before else ()
    return Compaction(
        number=number,
        from_seq=before + 1 if runs else None,
        to_seq=after if runs else None,
        rows=after - before if runs else None,
        set_runs=runs,
        set_is=Certainty.RECORDED if runs else Certainty.UNKNOWN,
        note_seq=None,
        note_head=summary[:HEAD_CHARS] if summary is not None else None,
        before_tokens=None,
        after_tokens=None,
        tokens_are=Certainty.UNKNOWN,
        round_index=None,
        created_at=own.created_at if own is not None and own.text == summary else None,
        anomalies=tuple(said),
        note=summary,
    )


def _by_hand(compaction: LoggedCompaction, offset: int, note: str | None, clock: Clock) -> Compaction:
    gone = compaction.undone is None and compaction.after > offset
    return Compaction(
        number=compaction.number,
        from_seq=compaction.before + 1,
        to_seq=compaction.after,
        rows=compaction.after - compaction.before,
        set_runs=((compaction.before + 1, compaction.after),),
        set_is=Certainty.RECORDED,
        note_seq=None,
        note_head=note[:HEAD_CHARS] if note is not None else None,
        before_tokens=compaction.tokens[0],
        after_tokens=compaction.tokens[1],
        tokens_are=Certainty.ESTIMATED,
        round_index=None,
        created_at=clock.ms(compaction.at),
        undone=compaction.undone is not None or gone,
        anomalies=(OVERWRITTEN,) * gone,
        note=note,
    )


def _entries(log: Log, key: str, clock: Clock) -> list[Archived]:
    """Return the newest entries of the log that do not belong to another session, oldest first."""
    try:
        data, cut = read(log.path, lambda file: (file.read(file.size - BYTES, file.size), file.size > BYTES))
    except UnknownSession:
        return []
    except StoreError as error:
        return [Archived(None, "", None, False, (str(error),))]
    if cut:
        data = data[data.find(b"\n") + 1 :]
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
        found.append(
            Archived(
                number if type(number) is int else None,
                plain(text)[:TEXT_CHARS],
                created_at,
                owner == key,
                (*map(str, span.troubles), *(["its time is no date"] if created_at is None else [])),
            )
        )
    return found[-ENTRIES:]
