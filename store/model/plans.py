"""Changes of an archive as data: the action that is wanted, its plan, and the receipt of what was done. Pure.

A plan records the state it was made from and is refused for any other. A receipt holds the action that undoes it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from msgspec import Struct

from .archive_info import Capability
from .context import KEPT_EXCHANGES, Context, Cut
from .findings import Change, Finding
from .rows import Ref, Spot

Progress = Callable[[str, int, int], object]
"""Called with what is being done, how much of it is done, and how much there is; 0 if that is not known."""


def silent(what: str, done: int, total: int) -> None:
    """Ignore progress."""


class Repair(Struct, frozen=True):
    """Repair findings of the doctor, in one session or in all.

    `only` names codes; without any, all are included. `choose` are (code, choice). `spot` selects one finding.
    """

    ref: Ref | None = None
    only: tuple[str, ...] = ()
    choose: tuple[tuple[str, str], ...] = ()
    spot: Spot | None = None


class Settle(Struct, frozen=True):
    """Finish the turn that a crash left open: answer its calls, so that the agent can go on."""

    ref: Ref
    reason: str = ""


class Restore(Struct, frozen=True):
    """Restore what a bundle keeps. `bundle` is the path of its folder."""

    bundle: str


class Close(Struct, frozen=True):
    """Move sessions, and what is closed with them, to the trash.

    Without `cascade` their children become roots. `anyway` is the user's confirmation despite what speaks against it.
    """

    refs: tuple[Ref, ...]
    cascade: bool = True
    anyway: bool = False


class SetArchived(Struct, frozen=True):
    """Mark a session as archived, or as active again."""

    ref: Ref
    archived: bool = True


class Compact(Struct, frozen=True):
    """Compact the seqs from `first` to `last` into a note.

    Without a range, compact all but the newest `keep` exchanges.
    """

    ref: Ref
    first: int | None
    last: int | None
    note: str
    keep: int = KEPT_EXCHANGES


class Uncompact(Struct, frozen=True):
    """Undo a compaction, by its number among the compactions of the session."""

    ref: Ref
    number: int


class CompactionPlan(Struct, frozen=True):
    """A planned compaction: the context, what of it is compacted, and the note that replaces that.

    `present` is the note that is replaced, if an agent keeps only one. `recorded` are the tokens that the agent
    recorded of its last call, including prompt and tools; None if it recorded none, or has compacted since.
    """

    context: Context
    cut: Cut
    note: str
    present: str = ""
    recorded: int | None = None
    number: int | None = None
    """The number that the compaction gets, None if it is known only when it is written."""

    def as_seen_in(self, other: CompactionPlan) -> bool:
        """Return whether this plan does exactly what `other` showed: same context, messages and replaced note."""
        return (self.context, self.cut, self.present) == (other.context, other.cut, other.present)

    def takes_same_as(self, other: CompactionPlan) -> bool:
        """Return whether the same messages are compacted and the same note is replaced, whatever was appended since."""
        return (self.cut.leaves, self.present) == (other.cut.leaves, other.present)

    @property
    def before_tokens(self) -> int:
        """The tokens of the context now, estimated."""
        return self.cut.before

    @property
    def after_tokens(self) -> int:
        """The tokens of the context with the note, estimated."""
        return self.cut.after(self.note)


Action = Repair | Settle | Restore | Close | SetArchived | Compact | Uncompact
_NEEDED: dict[type[Action], Capability] = {
    Repair: Capability.REPAIR,
    Settle: Capability.SETTLE,
    Restore: Capability.RESTORE,
    Close: Capability.CLOSE,
    SetArchived: Capability.ARCHIVE,
    Compact: Capability.COMPACT,
    Uncompact: Capability.COMPACT,
}


def needed(action: Action) -> Capability:
    """Return the capability that an archive must have for an action."""
    return _NEEDED[type(action)]


class Fate(StrEnum):
    """What happens to a session."""

    DELETED = "deleted"
    DETACHED = "detached"
    """It stays with all below it and loses its parent, since it was started detached."""
    ROOT = "root"
    """It stays and becomes a root, since only its parent is to be deleted."""


class Member(Struct, frozen=True, gc=False):
    """A session of a plan. `depth` is counted from the session that was asked for, `messages` is how many it has.

    `why` is the reason for its fate. `against` says what speaks against that, one sentence each.
    """

    ref: Ref
    fate: Fate
    why: str
    depth: int = 0
    lifecycle: str = ""
    kind: str = ""
    title: str | None = None
    preview: str = ""
    messages: int = 0
    against: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
    """What an action would do.

    `rows` counts the messages, lines or records that change; `changes` are the first of them. `offline` says why no
    agent may be running meanwhile, as a sentence; it is empty if one may. `basis` is the state that the plan was made
    from and `work` what the archive needs to apply it; both belong to the archive.
    """

    action: Action
    rows: int
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    findings: tuple[Finding, ...] = ()
    offline: str = ""
    basis: str = ""
    work: Any = None
    members: tuple[Member, ...] = ()
    """The sessions that are closed or restored, parents before their children."""
    compaction: CompactionPlan | None = None
    """What a compaction would do to the context."""

    @property
    def deleted(self) -> list[Member]:
        """The sessions that are deleted."""
        return [member for member in self.members if member.fate is Fate.DELETED]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.rows


class Receipt(Struct, frozen=True):
    """What was done, in a sentence, and the action that undoes it, if there is one.

    `bundle` is the path of the backup.
    """

    said: str
    rows: int
    undo: Action | None = None
    bundle: str | None = None
    notes: tuple[str, ...] = ()
