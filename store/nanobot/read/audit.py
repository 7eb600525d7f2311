"""Compactions of a nanobot session: its single note, the log of manual compactions, and the log of summaries.

nanobot compacts a prefix: the messages up to an offset are consolidated, and the latest summary replaces all of them.
Every summary that was ever written is in `memory/history.jsonl` of the workspace. Since 0.3.0 it has the session's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessionscope.store.io.jsonlines import scan
from sessionscope.store.io.spans import Span
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

LOG_BYTES = 1 << 20
"""How many bytes are read of the log of summaries, from its end."""
MAX_ENTRIES = 200
"""How many entries of that log are kept, the newest."""
TEXT_CHARS = 32_000
"""How many characters of an entry are kept."""
HEAD_CHARS = 200
"""How many characters of a note are its head."""
OVERWRITTEN = "an agent wrote over it: its messages are in the context again"


def audit_of(metadata: Metadata | None, offset: Offset, key: str, log: Log | None, clock: Clock) -> Audit:
    """Return the compactions of a session, and the entries of the log of summaries that are or may be its own."""
    entries = _log_entries(log, key, clock) if log is not None else []
    summary = metadata.summary if metadata is not None else None
    # The latest summary is in the metadata and in the log. Only the log has its time.
    summary_entry = next((entry for entry in reversed(entries) if summary is not None and entry.text == summary), None)
    return Audit(
        _compactions(metadata, offset, summary_entry, clock),
        archived=tuple(entry for entry in entries if entry is not summary_entry),
        source=log.shown if log is not None else "",
    )


def _compactions(
    metadata: Metadata | None, offset: Offset, summary_entry: Archived | None, clock: Clock
) -> list[Compaction]:
    """Return nanobot's compaction before all manual ones, the manual ones, and nanobot's after them."""
    compaction_log = read_compaction_log(metadata.values) if metadata is not None else []
    summary = metadata.summary if metadata is not None else None
    # Each manual compaction keeps the summary that it replaced. The latest summary is in the metadata.
    summaries = [*(summary_text(logged.summary) for logged in compaction_log), summary]
    compactions = []
    first_end = min(compaction_log[0].before, offset.value) if compaction_log else offset.value
    if first_end or summaries[0]:
        compactions.append(_own_compaction(1, 0, first_end, summaries[0], summary_entry, offset.anomaly))
    for index, logged in enumerate(compaction_log, 1):
        note = next((text for text in summaries[index:] if text and seal(text) == logged.note), None)
        compactions.append(_manual_compaction(logged, offset.value, note, clock))
    if compaction_log:
        in_force = newest(compaction_log)
        manual_end = in_force.after if in_force is not None else first_end
        if offset.value > manual_end:
            number = compaction_log[-1].number + 1
            compactions.append(
                _own_compaction(number, manual_end, offset.value, summary, summary_entry, offset.anomaly)
            )
    return compactions


def _own_compaction(
    number: int, before: int, after: int, summary: str | None, summary_entry: Archived | None, anomaly: str
) -> Compaction:
    """Return a compaction by nanobot of the messages after number `before`, up to and including number `after`."""
    anomalies = [anomaly] if anomaly else []
    if summary is None:
        anomalies.append("no summary is stored for these rows")
    created_at = None
    if summary_entry is not None and summary_entry.text == summary:
        created_at = summary_entry.created_at
    # nanobot may remove the messages of an idle session from the file. Then only the summary is left of them.
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
        created_at=created_at,
        anomalies=tuple(anomalies),
        note=summary,
    )


def _manual_compaction(logged: LoggedCompaction, offset: int, note: str | None, clock: Clock) -> Compaction:
    """Return a compaction from the log. It is overwritten if the offset is before its end again."""
    overwritten = logged.undone is None and logged.after > offset
    return Compaction(
        number=logged.number,
        from_seq=logged.before + 1,
        to_seq=logged.after,
        rows=logged.after - logged.before,
        set_runs=((logged.before + 1, logged.after),),
        set_is=Certainty.RECORDED,
        note_seq=None,
        note_head=note[:HEAD_CHARS] if note is not None else None,
        before_tokens=logged.tokens[0],
        after_tokens=logged.tokens[1],
        tokens_are=Certainty.ESTIMATED,
        round_index=None,
        created_at=clock.ms(logged.at),
        undone=logged.undone is not None or overwritten,
        anomalies=(OVERWRITTEN,) if overwritten else (),
        note=note,
    )


def _log_entries(log: Log, key: str, clock: Clock) -> list[Archived]:
    """Return the newest entries of the log of summaries that do not belong to another session, oldest first."""
    try:
        data, cut = read(log.path, lambda file: (file.read(file.size - LOG_BYTES, file.size), file.size > LOG_BYTES))
    except UnknownSession:
        return []
    except StoreError as error:
        return [Archived(None, "", None, False, (str(error),))]
    if cut:
        # The first line is not whole.
        data = data[data.find(b"\n") + 1 :]
    entries = []
    for span in scan(data):
        entry = span.value
        if entry is None or "content" not in entry or "role" in entry:
            continue
        owner = entry.get("session_key")
        if isinstance(owner, str) and owner and owner != key:
            continue
        entries.append(_archived(entry, span, owner == key, clock))
    return entries[-MAX_ENTRIES:]


def _archived(entry: Mapping[str, Any], span: Span, is_own: bool, clock: Clock) -> Archived:
    number = entry.get("cursor")
    created_at = clock.ms(entry.get("timestamp"))
    damage = [str(trouble) for trouble in span.troubles]
    if created_at is None:
        damage.append("its time is no date")
    return Archived(
        number if type(number) is int else None,
        plain(entry.get("content"))[:TEXT_CHARS],
        created_at,
        is_own,
        tuple(damage),
    )
