"""What a session is beyond its messages: its file, channel, goal, unfinished turn, and calls without a result."""

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

NEWEST, SIDECAR_BYTES, TEXT_CHARS = 200, 1 << 25, 2_000
"""How many of the newest rows are searched for calls without a result, how many bytes of a sidecar are read, and how
many characters of a text are kept.
"""
Fact = tuple[str, str]
_SHOWN = {"title", "_last_summary", "goal_state", "thread_goal", "runtime_checkpoint", "pending_user_turn"}


class Sidecar(Struct, frozen=True):
    """The checkpoint file next to a session: what it holds, and why nanobot does not use it, empty if it does."""

    name: str
    values: Mapping[str, Any]
    stale: str


def unanswered(file: OpenFile, outline: FileOutline) -> tuple[tuple[int, str], ...]:
    """Return (seq, name or id) of the calls without a result among the newest rows."""
    waiting: dict[str, tuple[int, str]] = {}
    for seq in range(max(1, outline.messages - NEWEST + 1), outline.messages + 1):
        value = value_of(file, outline, seq)
        for call in tool_calls(value.get("tool_calls") or None, Damages()) if value.get("role") == "assistant" else ():
            waiting[call.id or ""] = seq, call.name or call.id or "?"
        if value.get("role") == "tool":
            waiting.pop(str(value.get("tool_call_id") or ""), None)
    return tuple(sorted(waiting.values()))


def sidecar(folder: str, head: FileHead, metadata: Metadata | None, messages: int, mtime_ns: int) -> Sidecar | None:
    """Return the checkpoint next to a session's file, None if there is none.

    Source: nanobot 0.3.5, `session/manager.py`: it is used if it is not older than the file and was made for this very
    state of it.
    """
    name = f"{head.name.stem}{CHECKPOINT}"
    try:
        with opening(os.path.join(folder, name)) as file:
            data, newer = file.read(0, SIDECAR_BYTES), file.stat.mtime_ns >= mtime_ns
            if file.size > SIDECAR_BYTES:
                return Sidecar(name, {}, "it is too long to be read here")
    except StoreError:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return Sidecar(name, {}, "it is no JSON object")
    checks = (
        (newer, "the session was saved after it"),
        (found.get("version") == 1, "its version is not 1"),
        (found.get("session_key") == head.key, "it names another session"),
        (metadata is not None and found.get("base_updated_at") == metadata.updated_at, "the session was changed since"),
        (found.get("base_message_count") == messages, "the session has other messages now"),
        (isinstance(found.get("checkpoint"), dict), "it holds no checkpoint"),
    )
    return Sidecar(name, found, next((why for good, why in checks if not good), ""))


def provider_state(file: OpenFile, outline: FileOutline) -> Any:
    """Return what nanobot's provider stores in the file, None if it stores nothing."""
    if outline.provider is None:
        return None
    start, stop = outline.provider
    return decode(file.read(start, min(stop, start + MESSAGE_BYTES)), True, None).value.get("state")


def damage(outline: FileOutline, head: FileHead, metadata: Metadata | None, offset: Offset) -> tuple[str, ...]:
    """Return what is wrong with a session as a whole, and what nanobot makes of it."""
    why, many = lost(outline, head.later), len(outline.rows_without_seq)
    return tuple(
        filter(
            None,
            (
                f"nanobot loads nothing of this file: {why}" if why else "",
                f"{many} lines or parts of lines that nanobot does not load"
                if many > 1
                else "a line or a part of one that nanobot does not load"
                if many
                else "",
                f"{len(outline.metadata)} metadata lines: the first is listed, the last counts"
                if len(outline.metadata) > 1
                else "",
                "nanobot does not load the metadata line" if head.metadata is not None and not outline.metadata else "",
                *(metadata.damage if metadata is not None else ()),
                offset.anomaly,
            ),
        )
    )


def facts(
    head: FileHead, metadata: Metadata | None, beside: Sidecar | None, provider: Any, size: int
) -> tuple[Fact, ...]:
    """Return what else there is to know, as (what it is, its value), the most useful first."""
    values = metadata.values if metadata is not None else {}
    return tuple(
        (label, text[:TEXT_CHARS])
        for label, text in (
            *_goals(values),
            *_turn(values, beside),
            *_summary(metadata),
            *_channel(head, values),
            *_provider(provider),
            *_file(head, size),
        )
    )


def _goals(values: Mapping[str, Any]) -> Iterator[Fact]:
    for key, origin in (("goal_state", ""), ("thread_goal", " (legacy)")):
        goal = values.get(key)
        if isinstance(goal, str):
            goal = _parsed(goal)
        if not isinstance(goal, Mapping):
            continue
        words = [
            f"{plain(goal.get('status') or 'unknown')}{origin}: "
            f"{plain(goal.get('objective') or goal.get('ui_summary') or '')}"
        ]
        words += [
            f"{what} {plain(goal[name])}"
            for name, what in (("started_at", "since"), ("completed_at", "until"), ("recap", "recap:"))
            if goal.get(name)
        ]
        yield "goal", " · ".join(words)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"objective": text}


def _turn(values: Mapping[str, Any], beside: Sidecar | None) -> Iterator[Fact]:
    if values.get("pending_user_turn"):
        yield "open turn", "a user's turn is marked as not yet answered"
    if isinstance(values.get("runtime_checkpoint"), Mapping):
        yield "open turn", _checkpoint(values["runtime_checkpoint"])
    if beside is not None:
        held = beside.values.get("checkpoint")
        words = _checkpoint(held) if isinstance(held, Mapping) else "nothing"
        yield "checkpoint", f"{beside.name}: {words}" + (f"; not used: {beside.stale}" if beside.stale else "")


def _checkpoint(found: Mapping[str, Any]) -> str:
    words = [
        f"{what}{plain(found[key])}"
        for key, what in (("phase", ""), ("iteration", "iteration "), ("model", "model "))
        if found.get(key) is not None
    ]
    for key, what in (("completed_tool_results", "answered"), ("pending_tool_calls", "waiting")):
        calls = found.get(key)
        if isinstance(calls, list) and calls:
            names = [call.name or call.id or "?" for call in tool_calls(calls, Damages())]
            words.append(
                f"{len(calls)} {what}: {', '.join(names)}" if key.startswith("pending") else f"{len(calls)} {what}"
            )
    return " · ".join(words) or "empty"


def _summary(metadata: Metadata | None) -> Iterator[Fact]:
    if metadata is not None and metadata.summary is not None:
        yield "summary of what is consolidated", metadata.summary


def _channel(head: FileHead, values: Mapping[str, Any]) -> Iterator[Fact]:
    if head.channel is not None:
        yield "channel", f"{head.channel} · chat {head.key.partition(':')[2]}"
    if isinstance(values.get("last_channel"), str):
        yield "channel", f"last spoken to on {values['last_channel']}"


def _provider(state: Any) -> Iterator[Fact]:
    if isinstance(state, Mapping):
        yield (
            "provider state",
            " · ".join(
                plain(state[key]) for key in ("kind", "provider", "model", "version") if state.get(key) is not None
            ),
        )


def _file(head: FileHead, size: int) -> Iterator[Fact]:
    named = {Naming.LOSSY: "named as until 0.2", Naming.BASE64: "named as since 0.3"}[head.naming]
    yield "file", f"{size:,} bytes, {named}" + (", left by a save that was cut off" if head.name.temporary else "")


def other(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that is not shown elsewhere."""
    return {key: value for key, value in values.items() if key not in _SHOWN}
