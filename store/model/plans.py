"""Everything that changes an archive, as data: the action that is wanted, the plan of it, and what was done. Pure.

A plan names what it was made from and is refused for anything else; a receipt holds the action that takes it back.
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
"""Told what is being done, how much of it is done, and of how much; 0 where that is not known."""


def silent(what: str, done: int, total: int) -> None:
    """The progress of work that nobody watches."""


class Repair(Struct, frozen=True):
    """Putting right what the doctor finds, in one session or in all.

    `only` names codes, all without any; `choose` are (code, choice); `place` is that of just one finding.
    """

    ref: Ref | None = None
    only: tuple[str, ...] = ()
    choose: tuple[tuple[str, str], ...] = ()
    place: Spot | None = None


class Settle(Struct, frozen=True):
    """Answering the calls and the turn that a crash left open, so that the agent can go on."""

    ref: Ref
    reason: str = ""


class Restore(Struct, frozen=True):
    """Putting back what a bundle keeps; `bundle` is the path of its folder."""

    bundle: str


class Close(Struct, frozen=True):
    """Deleting sessions, and what goes with them, into the trash. Without `cascade` their children become roots.

    `anyway` is a person's word that what speaks against it does not matter.
    """

    refs: tuple[Ref, ...]
    cascade: bool = True
    anyway: bool = False


class SetArchived(Struct, frozen=True):
    """Marking a session as archived, or as active again."""

    ref: Ref
    archived: bool = True


class Compact(Struct, frozen=True):
    """Folding the seqs from `first` to `last` into a note; without a range, all but the newest `keep` exchanges."""

    ref: Ref
    first: int | None
    last: int | None
    note: str
    keep: int = KEPT_EXCHANGES


class Uncompact(Struct, frozen=True):
    """Taking a compaction back, by its number in the audit."""

    ref: Ref
    number: int


class CompactionPlan(Struct, frozen=True):
    """A compaction that is planned: the context, what of it leaves and stays, and the note that stands for it.

    `present` is the note whose place it takes where an agent keeps but one; `recorded` are the tokens that the agent
    recorded of its last call, its prompt and tools included, None where it did not, or has compacted since.
    """

    context: Context
    cut: Cut
    note: str
    present: str = ""
    recorded: int | None = None
    number: int | None = None
    """The number that the compaction gets, None where that is known only when it is written."""

    def as_seen_in(self, other: CompactionPlan) -> bool:
        """Whether who saw the other knows what this one does: to which context, what leaves, whose place it takes."""
        return (self.context, self.cut, self.present) == (other.context, other.cut, other.present)

    def takes_same_as(self, other: CompactionPlan) -> bool:
        """Whether the same messages leave and the same summary is replaced, whatever came behind them since."""
        return (self.cut.leaves, self.present) == (other.cut.leaves, other.present)

    @property
    def before_tokens(self) -> int:
        """Tokens of the context now, estimated."""
        return self.cut.before

    @property
    def after_tokens(self) -> int:
        """Tokens of the context with the note in it, estimated."""
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
    """Return what an archive must be capable of for an action."""
    return _NEEDED[type(action)]


class Fate(StrEnum):
    """What becomes of a session."""

    DELETED = "deleted"
    DETACHED = "detached"
    """It stays with all below it and loses its parent, as one that was started detached does."""
    ROOT = "root"
    """It stays and becomes a root, since somebody wants just its parent gone."""


class Member(Struct, frozen=True, gc=False):
    """A session of a plan. `depth` is counted from the session that was asked for, `messages` is how many it has.

    `why` is the reason of its fate, and `against` what speaks against that, a sentence each.
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
    """What an action would do. `rows` counts messages, lines or records that change; `changes` are the first of them.

    `offline` is a sentence that says why no agent may be running meanwhile; it is empty if one may. `basis` is what the
    plan was made from, and `work` what the archive needs to carry it out; both are its own.
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
    """The sessions that are closed or given back, parents before their children."""
    compaction: CompactionPlan | None = None
    """What a compaction would do to the context."""

    @property
    def deleted(self) -> list[Member]:
        """The sessions that go."""
        return [member for member in self.members if member.fate is Fate.DELETED]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.rows


class Receipt(Struct, frozen=True):
    """What was done, in a sentence, and how it is undone, if it can be. `bundle` is where it was kept aside."""

    said: str
    rows: int
    undo: Action | None = None
    bundle: str | None = None
    notes: tuple[str, ...] = ()
