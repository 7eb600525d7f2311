"""Facts about a session besides its messages: file, channel, goals, unfinished turn, tool calls without a result."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from sessionscope.store.model.errors import StoreError
from sessionscope.store.nanobot.format.file import OpenFile, opening
from sessionscope.store.nanobot.format.file_head import FileHead, Metadata
from sessionscope.store.nanobot.format.lines import FileOutline
from sessionscope.store.nanobot.format.names import CHECKPOINT, Naming
from sessionscope.store.rules.values import Damages, tool_calls

from .context import Offset, lost
from .links import value_of
from .record import MESSAGE_BYTES, decode, plain

MAX_NEWEST_MESSAGES = 200
"""How many of the newest messages are searched for tool calls without a result."""
SIDECAR_BYTES = 1 << 25
"""A longer sidecar is not read."""
TEXT_CHARS = 2_000
"""How many characters of a fact are kept."""
Fact = tuple[str, str]
"""A label and a text."""
_SHOWN_AS_FACTS = {
    "title",
    "_last_summary",
    "goal_state",
    "thread_goal",
    "runtime_checkpoint",
    "pending_user_turn",
}
"""The metadata that is shown as the title or as a fact."""


class Sidecar(Struct, frozen=True):
    """The checkpoint file of a session."""

    name: str
    values: Mapping[str, Any]
    stale: str
    """Why nanobot does not use it, in words, or "" if it does."""


def unanswered(file: OpenFile, outline: FileOutline) -> tuple[tuple[int, str], ...]:
    """Return the tool calls without a result among the newest messages, as (seq, name or id)."""
    waiting: dict[str, tuple[int, str]] = {}
    for seq in range(max(1, outline.messages - MAX_NEWEST_MESSAGES + 1), outline.messages + 1):
        value = value_of(file, outline, seq)
        if value.get("role") == "assistant":
            for call in tool_calls(value.get("tool_calls") or None, Damages()):
                waiting[call.id or ""] = seq, call.name or call.id or "?"
        elif value.get("role") == "tool":
            waiting.pop(str(value.get("tool_call_id") or ""), None)
    return tuple(sorted(waiting.values()))


def sidecar(folder: str, head: FileHead, metadata: Metadata | None, messages: int, mtime_ns: int) -> Sidecar | None:
    """Return the sidecar of a session, given the number of its messages and its file's mtime, or None without one.

    Source: nanobot 0.3.5, `session/manager.py`: it is used if it is not older than the file and was made for exactly
    this state of the session.
    """
    name = f"{head.name.stem}{CHECKPOINT}"
    try:
        with opening(os.path.join(folder, name)) as file:
            data, is_newer = file.read(0, SIDECAR_BYTES), file.stat.mtime_ns >= mtime_ns
            if file.size > SIDECAR_BYTES:
                return Sidecar(name, {}, "it is too long to be read here")
    except StoreError:
        return None
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        return Sidecar(name, {}, "it is no JSON object")
    stale = _stale_reason(values, head, metadata, messages) if is_newer else "the session was saved after it"
    return Sidecar(name, values, stale)


def _stale_reason(values: Mapping[str, Any], head: FileHead, metadata: Metadata | None, messages: int) -> str:
    """Return why nanobot does not use a sidecar that is newer than its session's file, or "" if it does."""
    if values.get("version") != 1:
        return "its version is not 1"
    if values.get("session_key") != head.key:
        return "it names another session"
    if metadata is None or values.get("base_updated_at") != metadata.updated_at:
        return "the session was changed since"
    if values.get("base_message_count") != messages:
        return "the session has other messages now"
    if not isinstance(values.get("checkpoint"), dict):
        return "it holds no checkpoint"
    return ""


def provider_state(file: OpenFile, outline: FileOutline) -> Any:
    """Return the state of nanobot's provider that the file holds, or None if it holds none."""
    if outline.provider is None:
        return None
    start, stop = outline.provider
    return decode(file.read(start, min(stop, start + MESSAGE_BYTES))).value.get("state")


def damage(outline: FileOutline, head: FileHead, metadata: Metadata | None, offset: Offset) -> tuple[str, ...]:
    """Return what is wrong with a session as a whole, in words."""
    phrases = []
    if why := lost(outline, head.later):
        phrases.append(f"nanobot loads nothing of this file: {why}")
    unloaded = len(outline.rows_without_seq)
    if unloaded > 1:
        phrases.append(f"{unloaded} lines or parts of lines that nanobot does not load")
    elif unloaded:
        phrases.append("a line or a part of one that nanobot does not load")
    if len(outline.metadata) > 1:
        phrases.append(f"{len(outline.metadata)} metadata lines: the first is listed, the last counts")
    if head.metadata is not None and not outline.metadata:
        phrases.append("nanobot does not load the metadata line")
    if metadata is not None:
        phrases += metadata.damage
    if offset.anomaly:
        phrases.append(offset.anomaly)
    return tuple(phrases)


def facts(
    head: FileHead, metadata: Metadata | None, beside: Sidecar | None, provider: Any, size: int
) -> tuple[Fact, ...]:
    """Return the other facts about a session, the most important first.

    `beside` is its sidecar, `provider` the provider state, `size` the bytes of its file.
    """
    values = metadata.values if metadata is not None else {}
    return tuple(
        (label, text[:TEXT_CHARS])
        for label, text in (
            *_goal_facts(values),
            *_turn_facts(values, beside),
            *_summary_facts(metadata),
            *_channel_facts(head, values),
            *_provider_facts(provider),
            _file_fact(head, size),
        )
    )


def _goal_facts(values: Mapping[str, Any]) -> Iterator[Fact]:
    for key, origin in (("goal_state", ""), ("thread_goal", " (legacy)")):
        goal = values.get(key)
        if isinstance(goal, str):
            goal = _parsed_goal(goal)
        if not isinstance(goal, Mapping):
            continue
        status = plain(goal.get("status") or "unknown")
        objective = plain(goal.get("objective") or goal.get("ui_summary") or "")
        phrases = [f"{status}{origin}: {objective}"]
        for name, word in (("started_at", "since"), ("completed_at", "until"), ("recap", "recap:")):
            if goal.get(name):
                phrases.append(f"{word} {plain(goal[name])}")
        yield "goal", " · ".join(phrases)


def _parsed_goal(text: str) -> Any:
    """Return the value of a goal that is stored as JSON text. Any other text is the objective."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"objective": text}


def _turn_facts(values: Mapping[str, Any], beside: Sidecar | None) -> Iterator[Fact]:
    if values.get("pending_user_turn"):
        yield "open turn", "a user's turn is marked as not yet answered"
    if isinstance(values.get("runtime_checkpoint"), Mapping):
        yield "open turn", _checkpoint_text(values["runtime_checkpoint"])
    if beside is not None:
        checkpoint = beside.values.get("checkpoint")
        text = _checkpoint_text(checkpoint) if isinstance(checkpoint, Mapping) else "nothing"
        unused = f"; not used: {beside.stale}" if beside.stale else ""
        yield "checkpoint", f"{beside.name}: {text}{unused}"


def _checkpoint_text(checkpoint: Mapping[str, Any]) -> str:
    phrases = []
    for key, prefix in (("phase", ""), ("iteration", "iteration "), ("model", "model ")):
        if checkpoint.get(key) is not None:
            phrases.append(f"{prefix}{plain(checkpoint[key])}")
    results = checkpoint.get("completed_tool_results")
    if isinstance(results, list) and results:
        phrases.append(f"{len(results)} answered")
    calls = checkpoint.get("pending_tool_calls")
    if isinstance(calls, list) and calls:
        names = [call.name or call.id or "?" for call in tool_calls(calls, Damages())]
        phrases.append(f"{len(calls)} waiting: {', '.join(names)}")
    return " · ".join(phrases) or "empty"


def _summary_facts(metadata: Metadata | None) -> Iterator[Fact]:
    if metadata is not None and metadata.summary is not None:
        yield "summary of what is consolidated", metadata.summary


def _channel_facts(head: FileHead, values: Mapping[str, Any]) -> Iterator[Fact]:
    if head.channel is not None:
        yield "channel", f"{head.channel} · chat {head.key.partition(':')[2]}"
    if isinstance(values.get("last_channel"), str):
        yield "channel", f"last spoken to on {values['last_channel']}"


def _provider_facts(state: Any) -> Iterator[Fact]:
    if isinstance(state, Mapping):
        names = ("kind", "provider", "model", "version")
        yield "provider state", " · ".join(plain(state[name]) for name in names if state.get(name) is not None)


def _file_fact(head: FileHead, size: int) -> Fact:
    naming = {Naming.LOSSY: "named as until 0.2", Naming.BASE64: "named as since 0.3"}[head.naming]
    leftover = ", left by a save that was cut off" if head.name.temporary else ""
    return "file", f"{size:,} bytes, {naming}{leftover}"


def other(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that is not shown elsewhere."""
    return {key: value for key, value in values.items() if key not in _SHOWN_AS_FACTS}
