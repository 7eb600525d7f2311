"""The row types that the store returns: plain data, without behaviour beyond their own text.

Times are epoch milliseconds in UTC, sizes are bytes, token figures are tokens. A value that the archive does not hold
is None. `damage` lists, in words, what is wrong with the values of that very row.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class State(StrEnum):
    """The state of a message. Any other string is a state of an unknown release, kept as it is."""

    ACTIVE = "active"
    COMPACTED = "compacted_out"
    DROPPED = "dropped"
    HOLE = "hole"
    DAMAGED = "damaged"


class View(StrEnum):
    """Which messages of a session a timeline shows, and in which order."""

    ALL = "all"
    ACTIVE = "active"
    COMPACTED = "compacted"
    CONTEXT = "context"


class Limits(Struct, frozen=True):
    """How much the context view may hold. For messages, None is the release's own limit; 0 is no limit at all."""

    messages: int | None = None
    tokens: int = 0


class Certainty(StrEnum):
    """How a figure, a link or a set of rows is known."""

    RECORDED = "recorded"
    ESTIMATED = "estimated"
    INFERRED = "inferred"
    UNKNOWN = "unknown"


class Place(StrEnum):
    """The place of a session in the tree."""

    ROOT = "root"
    CHILD = "child"
    SURVIVOR = "survivor"
    """A subagent that outlived its parent and no longer has a link to it."""
    ORPHAN = "orphan"
    """A session whose parent is named but is not in the archive."""
    CYCLE = "cycle"
    """The session at which a parent cycle is cut."""


class Count(Struct, frozen=True):
    """A number of rows. `exact` is False if it is only what the bookkeeping of the archive suggests."""

    value: int
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.value}" if self.exact else f"~{self.value}"


class Ref(Struct, frozen=True, order=True, gc=False):
    """The name of one session inside one archive.

    `layout` is a database's table prefix, or tells one folder from another. `file` is the session's own file.
    """

    layout: str
    id: str
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.layout}:{self.id}" + (f"@{self.file}" if self.file is not None else "")


class Spot(Struct, frozen=True):
    """A place in an archive. What does not apply, or is not known, is None.

    `row` is the identity of a message and `seq` its seq. `line` counts from 1. `start` and `stop` are bytes of `file`.
    """

    session: Ref | None = None
    row: str | None = None
    seq: int | None = None
    file: str | None = None
    line: int | None = None
    start: int | None = None
    stop: int | None = None


class SessionSummary(Struct, frozen=True):
    """A session as lists and trees show it. `key` orders sessions by creation within the archive."""

    ref: Ref
    key: int
    parent_id: str | None
    kind: str
    lifecycle: str
    status: str
    title: str | None
    preview: str
    message_count: Count
    active_count: Count
    compaction_count: int
    created_at: int | None
    updated_at: int | None
    group: str | None = None
    damage: tuple[str, ...] = ()


class ToolCall(Struct, frozen=True):
    """A tool call as the assistant made it. `arguments` is the decoded value if it parses, else the text."""

    id: str | None
    name: str | None
    arguments: Any
    parsed: bool


class NoteSpan(Struct, frozen=True):
    """What a compaction note says of itself: the span that it compacted, and its place in the logical order."""

    from_seq: int | None
    to_seq: int | None
    ord: int | None


class TimelineRow(Struct, frozen=True):
    """One row of a timeline: everything but the bodies.

    `row` is the message's identity, None for a hole. `size` is the bytes of content and tool calls together. `head` is
    at most the first 200 characters of the content. `hole` is the first and last missing seq of a run of pruned rows.
    """

    row: str | None
    seq: int | None
    state: str
    role: str = ""
    name: str | None = None
    round_index: int | None = None
    tools: tuple[str, ...] = ()
    calls: bool = False
    tool_call_id: str | None = None
    size: int = 0
    head: str = ""
    created_at: int | None = None
    note: NoteSpan | None = None
    hole: tuple[int, int] | None = None
    damage: tuple[str, ...] = ()
    label: str = ""
    """What kind of a message it is beyond its role, in a word, if the archive says so."""
    line: int | None = None
    """The line of its file that is damaged, from 1, if it is a file of lines."""


class Message(Struct, frozen=True):
    """A whole message, except for a content longer than was asked for.

    `content` is the text of bytes `start` to `stop` of `size`. `parts` are the decoded blocks of a multimodal content
    that was read in full. `raw` maps each column to its stored value as text, bounded like the content.
    """

    row: str
    seq: int | None
    state: str
    role: str
    name: str | None
    content: str | None
    start: int
    stop: int
    size: int
    parts: list[Any] | None
    tool_calls: tuple[ToolCall, ...]
    tool_call_id: str | None
    round_index: int | None
    send_index: int | None
    meta: Any
    created_at: int | None
    raw: dict[str, str | None]
    note: NoteSpan | None = None
    damage: tuple[str, ...] = ()
    label: str = ""
    """What kind of a message it is beyond its role, in a word, if the archive says so."""
    line: int | None = None
    """The line of its file, from 1, if that is known."""


class Compaction(Struct, frozen=True):
    """One compaction. `rows` is how many rows it really compacted, None if that cannot be known.

    `set_runs` are the runs of seqs of these rows or, if they are not known, of all rows that it may have compacted.
    """

    number: int
    from_seq: int | None
    to_seq: int | None
    rows: int | None
    set_runs: tuple[tuple[int, int], ...]
    set_is: Certainty
    note_seq: int | None
    note_head: str | None
    before_tokens: int | None
    after_tokens: int | None
    tokens_are: Certainty
    round_index: int | None
    created_at: int | None
    undone: bool = False
    anomalies: tuple[str, ...] = ()
    note: str | None = None
    """The whole note, if it is not a row of its own."""
    note_row: str | None = None
    """The identity of the note's row, if it is one."""


class Archived(Struct, frozen=True):
    """A summary that the agent wrote into a log next to its sessions.

    `of_this_session` says whether that is certain.
    """

    number: int | None
    text: str
    created_at: int | None
    of_this_session: bool
    damage: tuple[str, ...] = ()


class Audit(Struct, frozen=True):
    """All compactions of a session, oldest first, and the seqs that are compacted although no compaction explains them.

    `archived` are summaries kept next to the sessions, oldest first, and `source` is where. It is None for an archive
    whose agent keeps none.
    """

    compactions: list[Compaction]
    unexplained: tuple[tuple[int, int], ...] = ()
    archived: tuple[Archived, ...] | None = None
    source: str = ""


class UsageRound(Struct, frozen=True):
    """What one model call cost, as the agent recorded it."""

    send_index: int | None
    round_index: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    model: str | None
    created_at: int | None


class Usage(Struct, frozen=True):
    """Usage by round, the totals of these rounds, and in words how much of the session they cover."""

    rounds: list[UsageRound]
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None
    coverage: str


class SessionDetail(Struct, frozen=True):
    """A session with everything that is not a message. JSON columns are decoded if they parse, else text."""

    summary: SessionSummary
    prompt: str | None
    prompt_size: int
    model: str | None
    config: Any
    metadata: Any
    spawn_tool_call_id: str | None
    stored_depth: int | None
    next_seq: int | None
    round_index: int | None
    last_compact_seq: int | None
    pending: Any
    unanswered: tuple[tuple[int, str], ...]
    """The calls without a result among the newest rows, as (seq of the assistant row, name or id of the call)."""
    extras: tuple[tuple[str, str], ...] = ()
    """What later releases store next to the session, as (what it is in words, its value)."""
    damage: tuple[str, ...] = ()


class Link(Struct, frozen=True):
    """Where a message or session leads to: a message, a session, or both, and how that is known.

    `row` is the identity of the message and `seq` its seq, both None if the link leads to the session as a whole.
    """

    ref: Ref
    row: str | None
    seq: int | None
    certainty: Certainty
    about: str
