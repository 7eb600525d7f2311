"""Scripts of the sample sessions: the steps that happen in each. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Script(Struct, frozen=True):
    """A session and its steps."""

    key: str
    """The text that the session's id is made from."""
    steps: tuple[Step, ...] = ()
    title: str | None = None
    name: str | None = None
    prompt: str | None = None
    archived: bool = False
    ended: float = 0.0
    """How many minutes before now the newest row of a root and its subagents was written."""
    spec: str | None = None
    """The name under which a subagent was started; None for a root."""
    depth: int = 0
    lifecycle: str = "ephemeral"
    parent: str | None = None
    """The key of a parent that the sample does not contain, for a session that has lost it."""


class UserStep(Struct, frozen=True):
    """The user writes a message, `after` so many minutes."""

    text: str
    after: float = 0.5


class SayStep(Struct, frozen=True):
    """The assistant answers without tool calls, which ends the send."""

    text: str


class CallStep(Struct, frozen=True):
    """The assistant calls tools. Its text may be empty."""

    text: str
    tools: tuple[Tool | Spawn, ...]


class Tool(Struct, frozen=True):
    """A tool call and its result."""

    name: str
    arguments: dict[str, Any]
    result: str | None
    """None if the result is missing."""
    took: float = 0.0
    """How many seconds the call took."""


class Spawn(Struct, frozen=True):
    """A tool call that runs a subagent to its end."""

    child: Script
    task: str
    result: str
    recorded: bool = False
    """Whether the child stores the id of the call."""


class CompactStep(Struct, frozen=True):
    """A compaction of the messages `first` to `last` into a note. Sizes are in tokens."""

    first: int
    last: int
    before: int
    after: int
    note: str


Step = UserStep | SayStep | CallStep | CompactStep
