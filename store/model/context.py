"""What the model is sent of a session, and what a compaction removes from it. Pure."""

from __future__ import annotations

from msgspec import Struct

from .outline import runs_of

KEPT_EXCHANGES = 4
"""How many exchanges a proposal keeps, as power-loop's own compactor does."""
CHARS_A_TOKEN = 4
"""Characters for each token, for estimates."""
OVERHEAD = 4
"""Tokens that a message costs beyond its text."""


def tokens_of(chars: int) -> int:
    """Return the estimated tokens of a message of so many characters."""
    return max(OVERHEAD, chars // CHARS_A_TOKEN + OVERHEAD)


class Candidate(Struct, frozen=True, gc=False):
    """A message that the model is sent.

    Messages of one `group` are a call and its results. A `kept` one is never compacted. `position` orders the messages
    as the model is sent them.
    """

    seq: int
    position: int
    role: str
    group: int
    tokens: int
    note: bool = False
    kept: bool = False
    head: str = ""


class Cut(Struct, frozen=True):
    """What a compaction removes and what stays, in the order of the context.

    `reasons` say why it differs from what was asked.
    """

    leaves: tuple[Candidate, ...]
    stays: tuple[Candidate, ...]
    reasons: tuple[str, ...]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The seqs that are compacted."""
        return runs_of(sorted(row.seq for row in self.leaves))

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last seq that is compacted."""
        runs = self.runs
        return runs[0][0], runs[-1][1]

    @property
    def before(self) -> int:
        """The tokens of the context now, estimated."""
        return sum(row.tokens for row in (*self.leaves, *self.stays))

    @property
    def staying(self) -> int:
        """The tokens of what stays, estimated."""
        return sum(row.tokens for row in self.stays)

    def after(self, note: str) -> int:
        """Return the estimated tokens of the context with a note instead of what is compacted."""
        return self.staying + tokens_of(len(note))

    @property
    def notes(self) -> list[int]:
        """The earlier notes that are compacted with the rest."""
        return [row.seq for row in self.leaves if row.note]

    def said(self, note: str) -> list[str]:
        """Return what the compaction does, in sentences.

        They say how much it compacts and saves, why it was widened, and which notes it includes.
        """
        first, last = self.span
        sentences = [
            f"{len(self.leaves):,} messages, {first} to {last}, leave the context; {len(self.stays):,} stay: "
            f"about {self.before:,} tokens become {self.after(note):,}."
        ]
        sentences += [f"{reason[0].upper()}{reason[1:]}." for reason in self.reasons]
        if self.notes:
            sentences.append(f"The notes of earlier compactions leave with them: {', '.join(map(str, self.notes))}.")
        return sentences


class Context(Struct, frozen=True):
    """What the model is sent of a session, in that order. `highest` is the newest seq of the session.

    An agent that compacts a `prefix` keeps one note for everything that came first, and compacts whole turns.
    `note_last` says that a new note comes after all others, rather than at the place of what it replaces.
    """

    rows: tuple[Candidate, ...]
    highest: int
    prefix: bool = False
    note_last: bool = False
