"""The steps of which a session of the sample is made: one for each thing that happens in it. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Script(Struct, frozen=True):
    """A session and its steps.

    `parent` names a session that the sample does not hold, for sessions that lost theirs. `spec` is the name under
    which a subagent was started. `ended` is how many minutes before now the newest row of a root and its subagents is.
    """

    key: str
    steps: tuple[Step, ...] = ()
    title: str | None = None
    name: str | None = None
    prompt: str | None = None
    archived: bool = False
    ended: float = 0.0
    spec: str | None = None
    depth: int = 0
    lifecycle: str = "ephemeral"
    parent: str | None = None


class UserStep(Struct, frozen=True):
    """The user writes, `after` so many minutes."""

    text: str
    after: float = 0.5


class SayStep(Struct, frozen=True):
    """The assistant answers without tools, which ends a send."""

    text: str


class CallStep(Struct, frozen=True):
    """The assistant calls tools. Its text may be empty."""

    text: str
    tools: tuple[Tool | Spawn, ...]


class Tool(Struct, frozen=True):
    """A tool call and its result, `took` so many seconds. A result of None never came."""

    name: str
    arguments: dict[str, Any]
    result: str | None
    took: float = 0.0


class Spawn(Struct, frozen=True):
    """A subagent is started and runs to its end. `recorded` says whether the call's id is stored with the child."""

    child: Script
    task: str
    result: str
    recorded: bool = False


class CompactStep(Struct, frozen=True):
    """The rows `first` to `last` are compacted into a note. Figures are in tokens."""

    first: int
    last: int
    before: int
    after: int
    note: str


Step = UserStep | SayStep | CallStep | CompactStep
