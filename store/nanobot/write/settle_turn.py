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
from sessionscope.store.nanobot.read.message_scan import MessageScan, ScannedMessage, dumps, pair, row_of

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
    if any(finding.fixable for finding in check_file(subject, scanned)):
        raise Refused(f"{subject.file}: it is damaged; repair it before its turn is settled.")
    stamp = now.isoformat()
    stored = scanned.values.get("metadata")
    metadata: dict[str, Any] = dict(stored) if isinstance(stored, dict) else {}
    held = checkpoint if checkpoint is not None else metadata.get("runtime_checkpoint")
    restored = _restored(scanned, data, held, reason, stamp) if isinstance(held, Mapping) else []
    rows = [item.row for item in scanned.rows if item.row is not None] + [row_of(row) for row in restored]
    results = _missing_results(rows, _consolidated(subject, scanned), reason, stamp)
    closing: list[dict[str, Any]] = []
    if metadata.get("pending_user_turn") is True and not results and rows and rows[-1].role == "user":
        closing = [{"role": "assistant", "content": reason or UNANSWERED, "timestamp": stamp}]
    said = _said(len(restored), sum(map(len, results.values())), bool(closing))
    if not said and not any(name in metadata for name in _OPEN):
        return FixedFile(data, (), ()), []
    return _written(subject, scanned, data, restored, results, closing, stamp), said or ["Its turn is marked as ended."]


def _consolidated(subject: Subject, scanned: MessageScan) -> int:
    """Return how many messages are consolidated."""
    metadata = metadata_of(scanned.values) if scanned.head is not None else None
    return offset_of(metadata, len(scanned.rows), subject.later).value


def _missing_results(
    rows: Sequence[ScannedMessage], consolidated: int, reason: str, stamp: str
) -> dict[int, list[dict[str, Any]]]:
    """Return results for the calls that have none, by the position of the row after which they belong."""
    results: dict[int, list[dict[str, Any]]] = {}
    for call in pair(rows)[0]:
        if call.at >= consolidated:
            last = call.at
            while last + 1 < len(rows) and rows[last + 1].role == "tool":
                last += 1
            results.setdefault(last, []).append(_error_result(call.id, call.name, reason, stamp))
    return results


def _said(restored: int, answered: int, closed: bool) -> list[str]:
    """Return in sentences what ending the turn does."""
    sentences: list[str] = []
    if restored:
        sentences.append(f"{restored} messages of the checkpoint are put back.")
    if answered:
        sentences.append(f"{answered} {'call is' if answered == 1 else 'calls are'} answered as interrupted.")
    if closed:
        sentences.append("The user is told that the turn was interrupted.")
    return sentences


def _error_result(call_id: str, name: str, reason: str, stamp: str) -> dict[str, Any]:
    """Return the result that nanobot gives a call that was interrupted."""
    content = reason or INTERRUPTED
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": content, "timestamp": stamp}


def _restored(
    scanned: MessageScan, data: bytes, checkpoint: Mapping[str, Any], reason: str, stamp: str
) -> list[dict[str, Any]]:
    """Return the messages of a checkpoint that the session does not end with already."""
    messages = _checkpoint_messages(checkpoint, reason, stamp)
    count = min(len(messages), len(scanned.rows))
    newest_rows = scanned.rows[len(scanned.rows) - count :]
    newest = [_alike(json.loads(data[item.start : item.stop].decode().strip())) for item in newest_rows]
    held = [_alike(message) for message in messages]
    shared = next((size for size in range(count, 0, -1) if newest[-size:] == held[:size]), 0)
    return [message | {"timestamp": message.get("timestamp", stamp)} for message in messages[shared:]]


def _checkpoint_messages(checkpoint: Mapping[str, Any], reason: str, stamp: str) -> list[dict[str, Any]]:
    """Return what a checkpoint holds: the assistant's message, the results so far, and errors for calls that wait."""
    messages = [
        dict(message)
        for message in (checkpoint.get("assistant_message"), *_items(checkpoint.get("completed_tool_results")))
        if isinstance(message, Mapping) and message.get("role")
    ]
    for call in _items(checkpoint.get("pending_tool_calls")):
        if isinstance(call, Mapping) and call.get("id"):
            function = call.get("function")
            name = function.get("name") if isinstance(function, Mapping) else call.get("name")
            messages.append(_error_result(str(call["id"]), name if isinstance(name, str) else "tool", reason, stamp))
    return messages


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _alike(row: Mapping[str, Any]) -> list[Any]:
    """Return what makes two messages the same to nanobot. The error for a call counts as that call's answer."""
    return [row.get(name) for name in _SAME]


def _written(
    subject: Subject,
    scanned: MessageScan,
    data: bytes,
    restored: Sequence[dict[str, Any]],
    results: Mapping[int, Sequence[dict[str, Any]]],
    closing: Sequence[dict[str, Any]],
    stamp: str,
) -> FixedFile:
    """Return the file with messages of the checkpoint, missing results and a closing message added."""
    changes: list[Change] = []
    lines: list[bytes] = []

    def add(row: dict[str, Any]) -> None:
        lines.append(dumps(row))
        changes.append(Change(subject.spot(), "a message", None, _shown(lines[-1])))

    position = -1
    for item in scanned.items:
        line = data[item.start : item.stop]
        if item is scanned.head:
            before, line = line, dumps(_ended(scanned.values, stamp))
            changes.append(Change(subject.spot(item), "the metadata line", _shown(before), _shown(line)))
        lines.append(line if line.endswith((b"\n", b"\r")) else line + b"\n")
        if item.sort is Sort.MESSAGE:
            position += 1
            for result in results.get(position, ()):
                add(result)
    for row in restored:
        position += 1
        add(row)
        for result in results.get(position, ()):
            add(result)
    for row in closing:
        add(row)
    return FixedFile(b"".join(lines), (), tuple(changes))


def _shown(line: bytes) -> str:
    return cut(line.decode("utf-8", "replace").rstrip())


def _ended(values: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    """Return the metadata of a session whose turn has ended."""
    stored = values.get("metadata")
    inner = {name: value for name, value in stored.items() if name not in _OPEN} if isinstance(stored, dict) else stored
    return {**values, "updated_at": stamp, "metadata": inner}
