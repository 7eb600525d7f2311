"""Compactions of a nanobot session by hand, and their undo. Pure.

nanobot compacts a prefix: all messages before an offset are consolidated, and one summary replaces them. So a
compaction moves the offset to the end of a turn and stores its note as the summary. A log of our own in the metadata,
which nanobot carries along, keeps the offset and the summary from before. With it an undo is exact, or is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sessionscope.store.model import wording
from sessionscope.store.model.errors import Misused, Refused
from sessionscope.store.model.findings import Change
from sessionscope.store.model.plans import Compact, CompactionPlan, Uncompact
from sessionscope.store.nanobot.doctor.checks import Subject, check_file, is_date, open_turn_reason
from sessionscope.store.nanobot.format.compaction_log import (
    COMPACTION_LOG,
    OFFSETS,
    SUMMARY,
    LoggedCompaction,
    appended,
    marked,
    newest,
    next_number,
    read_compaction_log,
    seal,
    summary_text,
)
from sessionscope.store.nanobot.format.file_head import metadata_of
from sessionscope.store.nanobot.read.byte_spans import Sort
from sessionscope.store.nanobot.read.context import context_of, offset_of
from sessionscope.store.nanobot.read.message_scan import MessageScan, dumps
from sessionscope.store.rules.compaction_planning import check_note, cut_or_proposal

from .fixes import FixedFile

SHOWN_MESSAGES = 200
"""How many of the compacted messages a plan lists as changes."""


def plan_compaction(
    subject: Subject, scanned: MessageScan, data: bytes, action: Compact, has_checkpoint: bool, now: datetime
) -> tuple[FixedFile, CompactionPlan, list[str]]:
    """Return the file with a prefix compacted, what that does to the context, and sentences that say so.

    `has_checkpoint` says that a sidecar in force holds an unfinished turn. Raises Misused for a note or a range that
    cannot be, and Refused if the file is damaged or a turn is open.
    """
    check_note(action.note)
    offset = _offset_if_writable(subject, scanned, has_checkpoint)
    context = context_of(scanned, data, offset)
    cut = cut_or_proposal(context, action.first, action.last, action.keep)
    end = cut.span[1]
    metadata = _metadata(scanned)
    old_summary = metadata.get(SUMMARY)
    compaction = LoggedCompaction(
        number=next_number(read_compaction_log(metadata), offset, summary_text(old_summary)),
        before=offset,
        after=end,
        first=_message_digest(scanned, data, offset),
        last=_message_digest(scanned, data, end - 1),
        note=seal(action.note),
        tokens=(cut.before, cut.after(action.note)),
        at=now.isoformat(),
        summary=old_summary,
        offsets={name: scanned.values[name] for name in OFFSETS if name in scanned.values},
    )
    updated_at = scanned.values.get("updated_at")
    last_active = updated_at if is_date(updated_at) else now.isoformat()
    metadata[COMPACTION_LOG] = appended(metadata, compaction)
    metadata[SUMMARY] = {"text": action.note, "last_active": last_active}
    # A file without any offset gets the one that every release reads.
    new_offsets = dict.fromkeys(compaction.offsets or ["last_consolidated"], end)
    values = {**scanned.values, "metadata": metadata, **new_offsets}
    changes = [
        Change(subject.spot(scanned.rows[row.seq - 1]), row.role, row.head, None) for row in cut.leaves[:SHOWN_MESSAGES]
    ]
    changes.append(Change(subject.spot(), "the summary", summary_text(old_summary), action.note))
    sentences = cut.said(action.note)
    if old_summary is not None:
        sentences.append("The note takes the place of the summary that stands there now; undo brings that back.")
    fixed_file = FixedFile(_with_metadata_line(subject, scanned, data, values), (), tuple(changes))
    present_note = summary_text(old_summary) or ""
    return fixed_file, CompactionPlan(context, cut, action.note, present_note, number=compaction.number), sentences


def plan_undo(
    subject: Subject, scanned: MessageScan, data: bytes, action: Uncompact, has_checkpoint: bool, now: datetime
) -> tuple[FixedFile, int, list[str]]:
    """Return the file with a compaction undone, how many messages that restores, and sentences that say so.

    Raises Misused if there is no such compaction, and Refused if the file is damaged, a turn is open, or the session is
    no longer as the compaction left it.
    """
    offset = _offset_if_writable(subject, scanned, has_checkpoint)
    metadata = _metadata(scanned)
    compaction = _newest_logged(read_compaction_log(metadata), action.number)
    if offset != compaction.after or not _is_as_left(scanned, data, metadata, compaction):
        raise Refused(
            f"compaction {action.number} cannot be taken back: its messages, its summary or the offset are "
            "not those that it left; an agent has saved the session since."
        )
    note = summary_text(metadata[SUMMARY])
    metadata[COMPACTION_LOG] = marked(metadata, compaction, now.isoformat())
    if compaction.summary is None:
        metadata.pop(SUMMARY, None)
    else:
        metadata[SUMMARY] = compaction.summary
    # The compaction may have added an offset that the file did not have.
    kept = {name: value for name, value in scanned.values.items() if name not in OFFSETS or name in compaction.offsets}
    values = {**kept, "metadata": metadata, **compaction.offsets}
    messages = compaction.after - compaction.before
    change = Change(subject.spot(), "the summary", note, summary_text(compaction.summary))
    sentence = f"{messages:,} messages come back into the context, and what stood before them stands again."
    return FixedFile(_with_metadata_line(subject, scanned, data, values), (), (change,)), messages, [sentence]


def _newest_logged(compaction_log: list[LoggedCompaction], number: int) -> LoggedCompaction:
    """Return a compaction of the log.

    Raises Misused if there is none of this number or it is undone, and Refused if a newer one has to be undone first.
    """
    compaction = next((logged for logged in compaction_log if logged.number == number), None)
    if compaction is None:
        numbers = ", ".join(str(logged.number) for logged in compaction_log if logged.undone is None)
        raise Misused(f"there is no compaction {number} that was made here; there is {numbers or 'none'}.")
    if compaction.undone is not None:
        raise Misused(wording.already_undone(number))
    last = newest(compaction_log)
    if last is not None and last is not compaction:
        raise Refused(f"compaction {number} cannot be taken back before compaction {last.number}.")
    return compaction


def _offset_if_writable(subject: Subject, scanned: MessageScan, has_checkpoint: bool) -> int:
    """Return how many messages are consolidated. Raises Refused if the file is damaged or a turn is open."""
    if any(finding.fixable for finding in check_file(subject, scanned)) or scanned.head is None:
        raise _damaged(subject)
    if has_checkpoint or open_turn_reason(scanned):
        raise Refused(f"{subject.file}: a turn is open; settle it first.")
    return offset_of(metadata_of(scanned.values), len(scanned.rows), subject.later).value


def _damaged(subject: Subject) -> Refused:
    return Refused(f"{subject.file}: it is damaged; repair it first.")


def _metadata(scanned: MessageScan) -> dict[str, Any]:
    """Return a copy of the session's metadata."""
    stored = scanned.values.get("metadata")
    return dict(stored) if isinstance(stored, dict) else {}


def _message_digest(scanned: MessageScan, data: bytes, index: int) -> str:
    """Return a digest of a message. It does not depend on how its line is written, since nanobot rewrites all lines."""
    item = scanned.rows[index]
    line = data[item.start : item.stop].strip()
    try:
        return seal(json.dumps(json.loads(line), sort_keys=True))
    except (ValueError, RecursionError):
        return seal(line.decode("utf-8", "surrogateescape"))


def _is_as_left(scanned: MessageScan, data: bytes, metadata: Mapping[str, Any], compaction: LoggedCompaction) -> bool:
    """Return whether the messages of a compaction and its note are still as it left them."""
    note = summary_text(metadata.get(SUMMARY))
    return (
        compaction.after <= len(scanned.rows)
        and note is not None
        and seal(note) == compaction.note
        and _message_digest(scanned, data, compaction.before) == compaction.first
        and _message_digest(scanned, data, compaction.after - 1) == compaction.last
    )


def _with_metadata_line(subject: Subject, scanned: MessageScan, data: bytes, values: Mapping[str, Any]) -> bytes:
    """Return the file with another metadata line. Everything else stays byte for byte."""
    head = scanned.head
    if head is None or head.sort is not Sort.METADATA:
        raise _damaged(subject)
    return data[: head.start] + dumps(values) + data[head.stop :]
