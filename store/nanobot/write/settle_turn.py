"""The end of a turn that a crash left unfinished, as nanobot writes it at its next turn, so that the agent can go on.

Source: nanobot 0.2.0, `agent/loop.py`: the messages of the checkpoint are appended, unless the session ends with them
already. A pending call gets an error as its result, and a user who waits for an answer gets an error as the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from sessionscope.store.model.errors import Refused
from sessionscope.store.model.findings import Change, cut
from sessionscope.store.nanobot.doctor.checks import Subject, check_file
from sessionscope.store.nanobot.format.file_head import metadata_of
from sessionscope.store.nanobot.read.byte_spans import Sort
from sessionscope.store.nanobot.read.context import offset_of
from sessionscope.store.nanobot.read.message_scan import MessageScan, ScannedMessage, dumps, pair, row_of

from .fixes import FixedFile

Message = dict[str, Any]
INTERRUPTED = "Error: Task interrupted before this tool finished."
"""The result that nanobot gives to a pending call."""
UNANSWERED = "Error: Task interrupted before a response was generated."
"""The answer that nanobot gives to a user who waits for one."""
_COMPARED_MEMBERS = (
    "role",
    "content",
    "tool_call_id",
    "name",
    "tool_calls",
    "reasoning_content",
    "thinking_blocks",
)
"""The members by which nanobot compares a message of the checkpoint with one of the session."""
_OPEN_TURN_MEMBERS = ("runtime_checkpoint", "pending_user_turn")
"""The members of the metadata that mark an open turn."""


class _TurnEnd(Struct):
    """The messages that end a turn."""

    restored: list[Message]
    """The messages of the checkpoint that the session lacks. They follow the last message of the file."""
    results: dict[int, list[Message]]
    """The results of calls that have none, by the index of the message that they follow.

    The index counts the messages of the file and then the restored ones.
    """
    answer: Message | None
    """The answer to a user who waits for one. It is the last message."""

    @property
    def result_count(self) -> int:
        return sum(map(len, self.results.values()))

    def sentences(self) -> list[str]:
        """Return a sentence for each kind of message that is added."""
        sentences = []
        if self.restored:
            sentences.append(f"{len(self.restored)} messages of the checkpoint are put back.")
        if count := self.result_count:
            sentences.append(f"{count} {'call is' if count == 1 else 'calls are'} answered as interrupted.")
        if self.answer is not None:
            sentences.append("The user is told that the turn was interrupted.")
        return sentences


def settle(
    subject: Subject,
    scanned: MessageScan,
    data: bytes,
    checkpoint: Mapping[str, Any] | None,
    reason: str,
    now: datetime,
) -> tuple[FixedFile, list[str]]:
    """Return the file with its turn ended, and sentences that say how. If no turn is open, the file is unchanged.

    `checkpoint` is that of a sidecar in force, which takes precedence over one in the metadata. `reason` replaces
    nanobot's error texts, unless it is empty. Raises Refused if the file is damaged.
    """
    if any(finding.fixable for finding in check_file(subject, scanned)):
        raise Refused(f"{subject.file}: it is damaged; repair it before its turn is settled.")
    stored = scanned.values.get("metadata")
    metadata: dict[str, Any] = stored if isinstance(stored, dict) else {}
    if checkpoint is None:
        checkpoint = metadata.get("runtime_checkpoint")
    turn_end = _turn_end(subject, scanned, data, metadata, checkpoint, reason, now.isoformat())
    sentences = turn_end.sentences()
    if not sentences:
        if not any(name in metadata for name in _OPEN_TURN_MEMBERS):
            return FixedFile(data, (), ()), []
        sentences = ["Its turn is marked as ended."]
    return _settled_file(subject, scanned, data, turn_end, now.isoformat()), sentences


# -- the messages that end the turn


def _turn_end(
    subject: Subject,
    scanned: MessageScan,
    data: bytes,
    metadata: Mapping[str, Any],
    checkpoint: Any,
    reason: str,
    timestamp: str,
) -> _TurnEnd:
    restored: list[Message] = []
    if isinstance(checkpoint, Mapping):
        restored = _missing_messages(scanned, data, _checkpoint_messages(checkpoint, reason, timestamp), timestamp)
    rows = [item.row for item in scanned.rows if item.row is not None] + [row_of(message) for message in restored]
    results = _results(subject, scanned, rows, reason, timestamp)
    answer = None
    if metadata.get("pending_user_turn") is True and not results and rows and rows[-1].role == "user":
        answer = {"role": "assistant", "content": reason or UNANSWERED, "timestamp": timestamp}
    return _TurnEnd(restored, results, answer)


def _checkpoint_messages(checkpoint: Mapping[str, Any], reason: str, timestamp: str) -> list[Message]:
    """Return the messages of a checkpoint: the assistant's, the results so far, and errors for the pending calls."""
    messages: list[Message] = []
    assistant_message = checkpoint.get("assistant_message")
    if isinstance(assistant_message, Mapping) and assistant_message.get("role"):
        messages.append(dict(assistant_message))
    results = checkpoint.get("completed_tool_results")
    for result in results if isinstance(results, list) else ():
        if isinstance(result, Mapping) and result.get("role"):
            messages.append(dict(result))
    pending_calls = checkpoint.get("pending_tool_calls")
    for call in pending_calls if isinstance(pending_calls, list) else ():
        if isinstance(call, Mapping) and call.get("id"):
            function = call.get("function")
            stored_name = function.get("name") if isinstance(function, Mapping) else call.get("name")
            name = stored_name if isinstance(stored_name, str) else "tool"
            messages.append(_error_result(str(call["id"]), name, reason, timestamp))
    return messages


def _missing_messages(scanned: MessageScan, data: bytes, messages: Sequence[Message], timestamp: str) -> list[Message]:
    """Return the messages of a checkpoint without the first ones that the session ends with already.

    A message without a time gets `timestamp`.
    """
    count = min(len(messages), len(scanned.rows))
    newest_rows = scanned.rows[len(scanned.rows) - count :]
    stored = [_compared(json.loads(data[item.start : item.stop].decode().strip())) for item in newest_rows]
    expected = [_compared(message) for message in messages]
    overlap = next((size for size in range(count, 0, -1) if stored[-size:] == expected[:size]), 0)
    return [message | {"timestamp": message.get("timestamp", timestamp)} for message in messages[overlap:]]


def _compared(message: Mapping[str, Any]) -> list[Any]:
    """Return what makes two messages the same to nanobot. An error as the result of a call counts like any result."""
    return [message.get(name) for name in _COMPARED_MEMBERS]


def _results(
    subject: Subject, scanned: MessageScan, rows: Sequence[ScannedMessage], reason: str, timestamp: str
) -> dict[int, list[Message]]:
    """Return an error result for each call without a result, by the index of the row that it follows.

    A result follows the results that the message of its call has already. Consolidated calls are left as they are.
    """
    metadata = metadata_of(scanned.values) if scanned.head is not None else None
    offset = offset_of(metadata, len(scanned.rows), subject.later).value
    unanswered, _ = pair(rows)
    results: dict[int, list[Message]] = {}
    for call in unanswered:
        if call.at < offset:
            continue
        index = call.at
        while index + 1 < len(rows) and rows[index + 1].role == "tool":
            index += 1
        results.setdefault(index, []).append(_error_result(call.id, call.name, reason, timestamp))
    return results


def _error_result(call_id: str, name: str, reason: str, timestamp: str) -> Message:
    return {
        "role": "tool",
        "tool_call_id": call_id,
        "name": name,
        "content": reason or INTERRUPTED,
        "timestamp": timestamp,
    }


# -- the file


def _settled_file(subject: Subject, scanned: MessageScan, data: bytes, turn_end: _TurnEnd, timestamp: str) -> FixedFile:
    """Return the file with a turn's end written, and its metadata line without the marks of an open turn."""
    changes: list[Change] = []
    lines: list[bytes] = []

    def add_messages(messages: Sequence[Message]) -> None:
        for message in messages:
            line = dumps(message)
            changes.append(Change(subject.spot(), "a message", None, _text(line)))
            lines.append(line)

    index = -1
    for item in scanned.items:
        line = data[item.start : item.stop]
        if item is scanned.head:
            new_line = dumps(_settled_values(scanned.values, timestamp))
            changes.append(Change(subject.spot(item), "the metadata line", _text(line), _text(new_line)))
            line = new_line
        lines.append(line if line.endswith((b"\n", b"\r")) else line + b"\n")
        if item.sort is Sort.MESSAGE:
            index += 1
            add_messages(turn_end.results.get(index, ()))
    for message in turn_end.restored:
        index += 1
        add_messages([message])
        add_messages(turn_end.results.get(index, ()))
    if turn_end.answer is not None:
        add_messages([turn_end.answer])
    return FixedFile(b"".join(lines), (), tuple(changes))


def _text(line: bytes) -> str:
    return cut(line.decode("utf-8", "replace").rstrip())


def _settled_values(values: Mapping[str, Any], timestamp: str) -> dict[str, Any]:
    """Return the members of the metadata line without the marks of an open turn."""
    metadata = values.get("metadata")
    if isinstance(metadata, dict):
        metadata = {name: value for name, value in metadata.items() if name not in _OPEN_TURN_MEMBERS}
    return {**values, "updated_at": timestamp, "metadata": metadata}
