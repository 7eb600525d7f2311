"""Compacting the beginning of a nanobot session by hand, as its own consolidation does, and taking that back.

nanobot folds a prefix: rows up to an offset are consolidated, and one summary stands for all of them. So a fold moves
the offset to the end of a turn and puts its note in the place of the summary. What was there before stands in a member
of the metadata of our own, which nanobot carries along: by that a fold is taken back exactly, or refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

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
from sessionscope.store.rules.compaction_planning import check_note, wanted_cut

from .fixes import FixedFile

SHOWN = 200


def _ready(subject: Subject, scanned: MessageScan, waits: bool) -> int:
    """How many messages are consolidated. Raises Refused for a session that is damaged or in the midst of a turn."""
    if any(one.fixable for one in check_file(subject, scanned)) or scanned.head is None:
        raise Refused(f"{subject.file}: it is damaged; repair it first.")
    if waits or open_turn_reason(scanned):
        raise Refused(f"{subject.file}: a turn is open; settle it first.")
    return offset_of(metadata_of(scanned.values), len(scanned.rows), subject.later).value


def plan_compaction(
    subject: Subject, scanned: MessageScan, data: bytes, action: Compact, waits: bool, now: datetime
) -> tuple[FixedFile, CompactionPlan, list[str]]:
    """The file with a prefix folded, what that does to the context, and in words how. Raises Misused, Refused."""
    check_note(action.note)
    offset = _ready(subject, scanned, waits)
    context = context_of(scanned, data, offset)
    found = wanted_cut(context, action.first, action.last, action.keep)
    end = found.span[1]
    inner = _metadata(scanned)
    stamp = scanned.values.get("updated_at")
    compaction = LoggedCompaction(
        number=next_number(read_compaction_log(inner), offset, summary_text(inner.get(SUMMARY))),
        before=offset,
        after=end,
        first=_print(scanned, data, offset),
        last=_print(scanned, data, end - 1),
        note=seal(action.note),
        tokens=(found.before, found.after(action.note)),
        at=now.isoformat(),
        summary=inner.get(SUMMARY),
        offsets={name: scanned.values[name] for name in OFFSETS if name in scanned.values},
    )
    inner |= {
        COMPACTION_LOG: appended(inner, compaction),
        SUMMARY: {"text": action.note, "last_active": stamp if is_date(stamp) else now.isoformat()},
    }
    values = dict(scanned.values) | {"metadata": inner} | dict.fromkeys(compaction.offsets or OFFSETS[:1], end)
    said = found.said(action.note)
    if compaction.summary is not None:
        said.append("The note takes the place of the summary that stands there now; undo brings that back.")
    changes = [
        *(Change(subject.spot(scanned.rows[row.seq - 1]), row.role, row.head, None) for row in found.leaves[:SHOWN]),
        Change(subject.spot(), "the summary", summary_text(compaction.summary), action.note),
    ]
    fixed = FixedFile(_written(subject, scanned, data, values), (), tuple(changes))
    return (
        fixed,
        CompactionPlan(context, found, action.note, summary_text(compaction.summary) or "", number=compaction.number),
        said,
    )


def _metadata(scanned: MessageScan) -> dict[str, Any]:
    stored = scanned.values.get("metadata")
    return dict(stored) if isinstance(stored, dict) else {}


def _print(scanned: MessageScan, data: bytes, at: int) -> str:
    """Tells one message from another, however its line is written: nanobot writes all of them anew."""
    item = scanned.rows[at]
    line = data[item.start : item.stop].strip()
    try:
        return seal(json.dumps(json.loads(line), sort_keys=True))
    except (ValueError, RecursionError):
        return seal(line.decode("utf-8", "surrogateescape"))


def plan_undo(
    subject: Subject, scanned: MessageScan, data: bytes, action: Uncompact, waits: bool, now: datetime
) -> tuple[FixedFile, int, list[str]]:
    """The file with a fold taken back, how many rows that is, and in words what. Raises Misused, Refused."""
    offset = _ready(subject, scanned, waits)
    inner = _metadata(scanned)
    compaction_log = read_compaction_log(inner)
    found = next((one for one in compaction_log if one.number == action.number), None)
    if found is None:
        made = ", ".join(str(one.number) for one in compaction_log if one.undone is None)
        raise Misused(f"there is no compaction {action.number} that was made here; there is {made or 'none'}.")
    if found.undone is not None:
        raise Misused(f"compaction {action.number} was taken back already.")
    last = newest(compaction_log)
    if last is not None and last is not found:
        raise Refused(f"compaction {action.number} cannot be taken back before compaction {last.number}.")
    if offset != found.after or not _stands(scanned, data, inner, found):
        raise Refused(
            f"compaction {action.number} cannot be taken back: its messages, its summary or the offset are "
            "not those that it left; an agent has saved the session since."
        )
    note = inner[SUMMARY]
    inner[COMPACTION_LOG] = marked(inner, found, now.isoformat())
    if found.summary is None:
        inner.pop(SUMMARY, None)
    else:
        inner[SUMMARY] = found.summary
    values = {name: value for name, value in scanned.values.items() if name not in OFFSETS or name in found.offsets}
    many = found.after - found.before
    change = Change(subject.spot(), "the summary", summary_text(note), summary_text(found.summary))
    said = f"{many:,} messages come back into the context, and what stood before them stands again."
    written = _written(subject, scanned, data, values | {"metadata": inner} | found.offsets)
    return FixedFile(written, (), (change,)), many, [said]


def _stands(scanned: MessageScan, data: bytes, metadata: Mapping[str, Any], compaction: LoggedCompaction) -> bool:
    """Whether the messages of a fold and its note are still what it left."""
    note = summary_text(metadata.get(SUMMARY))
    return (
        compaction.after <= len(scanned.rows)
        and note is not None
        and seal(note) == compaction.note
        and _print(scanned, data, compaction.before) == compaction.first
        and _print(scanned, data, compaction.after - 1) == compaction.last
    )


def _written(subject: Subject, scanned: MessageScan, data: bytes, values: Mapping[str, Any]) -> bytes:
    """The file with another metadata line, all else as it is."""
    head = scanned.head
    if head is None or head.sort is not Sort.METADATA:
        raise Refused(f"{subject.file}: it is damaged; repair it first.")
    return data[: head.start] + dumps(values) + data[head.stop :]
