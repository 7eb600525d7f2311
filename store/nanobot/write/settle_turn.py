"""Ends a turn that a crash left open, as nanobot does at its next turn, so that the agent can go on.

Source: nanobot 0.2.0, `agent/loop.py`: the messages of the checkpoint are added unless the session has them already; a
call that still waits gets an error as its result, and so does a user who waits for an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sessionscope.store.model.errors import Refused
from sessionscope.store.model.findings import Change, cut
from sessionscope.store.nanobot.doctor.checks import Subject, check_file
from sessionscope.store.nanobot.format.file_head import metadata_of
from sessionscope.store.nanobot.read.byte_spans import Sort
from sessionscope.store.nanobot.read.context import offset_of
from sessionscope.store.nanobot.read.message_scan import MessageScan, dumps, pair, row_of

from .fixes import FixedFile

INTERRUPTED = "Error: Task interrupted before this tool finished."
UNANSWERED = "Error: Task interrupted before a response was generated."
_SAME = ("role", "content", "tool_call_id", "name", "tool_calls", "reasoning_content", "thinking_blocks")
_OPEN = ("runtime_checkpoint", "pending_user_turn")


def settle(
    subject: Subject,
    scanned: MessageScan,
    data: bytes,
    checkpoint: Mapping[str, Any] | None,
    reason: str,
    now: datetime,
) -> tuple[FixedFile, list[str]]:
    """Return the file with its turn ended, and in words how; the same bytes if nothing is open.

    `checkpoint` is that of a sidecar in force, which takes precedence over one in the metadata. Raises Refused for a
    damaged file.
    """
    if any(one.fixable for one in check_file(subject, scanned)):
        raise Refused(f"{subject.file}: it is damaged; repair it before its turn is settled.")
    values, stamp = scanned.values, now.isoformat()
    stored = values.get("metadata")
    inner: dict[str, Any] = dict(stored) if isinstance(stored, dict) else {}
    found = checkpoint if checkpoint is not None else inner.get("runtime_checkpoint")
    restored = _restored(scanned, data, found, reason, stamp) if isinstance(found, Mapping) else []
    rows = [item.row for item in scanned.rows if item.row is not None] + [row_of(row) for row in restored]
    metadata = metadata_of(values) if scanned.head is not None else None
    offset = offset_of(metadata, len(scanned.rows), subject.later).value
    answers: dict[int, list[dict[str, Any]]] = {}
    for call in pair(rows)[0]:
        if call.at >= offset:
            at = call.at
            while at + 1 < len(rows) and rows[at + 1].role == "tool":
                at += 1
            answers.setdefault(at, []).append(_answer(call.id, call.name, reason, stamp))
    ends = [row.role for row in rows]
    waits = inner.get("pending_user_turn") is True and not answers and bool(ends) and ends[-1] == "user"
    closing = [{"role": "assistant", "content": reason or UNANSWERED, "timestamp": stamp}] if waits else []
    said = _said(restored, sum(map(len, answers.values())), bool(closing))
    if not said and not any(name in inner for name in _OPEN):
        return FixedFile(data, (), ()), []
    return _written(subject, scanned, data, restored, answers, closing, stamp), said or ["Its turn is marked as ended."]


def _said(restored: Sequence[Any], answered: int, closed: bool) -> list[str]:
    return [
        text
        for text, there in (
            (f"{len(restored)} messages of the checkpoint are put back.", restored),
            (f"{answered} {'call is' if answered == 1 else 'calls are'} answered as interrupted.", answered),
            ("The user is told that the turn was interrupted.", closed),
        )
        if there
    ]


def _answer(id_: str, name: str, reason: str, stamp: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "name": name, "content": reason or INTERRUPTED, "timestamp": stamp}


def _restored(
    scanned: MessageScan, data: bytes, found: Mapping[str, Any], reason: str, stamp: str
) -> list[dict[str, Any]]:
    """Return the messages of a checkpoint that the session does not end with already."""
    held: list[dict[str, Any]] = []
    message = found.get("assistant_message")
    held += [dict(message)] if isinstance(message, Mapping) and message.get("role") else []
    results = found.get("completed_tool_results")
    held += (
        [dict(one) for one in results if isinstance(one, Mapping) and one.get("role")]
        if isinstance(results, list)
        else []
    )
    for one in found.get("pending_tool_calls") or () if isinstance(found.get("pending_tool_calls"), list) else ():
        if isinstance(one, Mapping) and one.get("id"):
            function = one.get("function")
            name = function.get("name") if isinstance(function, Mapping) else one.get("name")
            held.append(_answer(str(one["id"]), name if isinstance(name, str) else "tool", reason, stamp))
    newest = [
        _alike(json.loads(data[item.start : item.stop].decode().strip()))
        for item in scanned.rows[len(scanned.rows) - min(len(held), len(scanned.rows)) :]
    ]
    wanted = [_alike(one) for one in held]
    shared = next((size for size in range(min(len(newest), len(wanted)), 0, -1) if newest[-size:] == wanted[:size]), 0)
    return [one | {"timestamp": one.get("timestamp", stamp)} for one in held[shared:]]


def _alike(row: Mapping[str, Any]) -> list[Any]:
    """Return what makes two messages the same to nanobot. The error for a call counts as that call's answer."""
    return [row.get(name) for name in _SAME]


def _written(
    subject: Subject,
    scanned: MessageScan,
    data: bytes,
    restored: Sequence[dict[str, Any]],
    answers: Mapping[int, Sequence[dict[str, Any]]],
    closing: Sequence[dict[str, Any]],
    stamp: str,
) -> FixedFile:
    changes: list[Change] = []

    def new(row: dict[str, Any]) -> bytes:
        line = dumps(row)
        changes.append(Change(subject.spot(), "a message", None, cut(line.decode("utf-8", "replace").rstrip())))
        return line

    lines: list[bytes] = []
    at = -1
    for item in scanned.items:
        line = data[item.start : item.stop]
        if item is scanned.head:
            line = dumps(_ended(scanned.values, stamp))
            changes.append(
                Change(
                    subject.spot(item),
                    "the metadata line",
                    cut(data[item.start : item.stop].decode("utf-8", "replace").rstrip()),
                    cut(line.decode("utf-8", "replace").rstrip()),
                )
            )
        lines.append(line if line.endswith((b"\n", b"\r")) else line + b"\n")
        if item.sort is Sort.MESSAGE:
            at += 1
            lines += [new(row) for row in answers.get(at, ())]
    for row in restored:
        at += 1
        lines.append(new(row))
        lines += [new(one) for one in answers.get(at, ())]
    lines += [new(row) for row in closing]
    return FixedFile(b"".join(lines), (), tuple(changes))


def _ended(values: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    """Return the metadata of a session whose turn has ended."""
    stored = values.get("metadata")
    inner = {name: value for name, value in stored.items() if name not in _OPEN} if isinstance(stored, dict) else stored
    return {**values, "updated_at": stamp, "metadata": inner}
