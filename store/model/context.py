"""What the model sees of a session, and what a compaction takes out of it. Pure."""

from __future__ import annotations

from msgspec import Struct

from .outline import runs_of

KEPT_EXCHANGES = 4
"""Exchanges that a proposal keeps, as power-loop's own compactor does."""
CHARS_A_TOKEN = 4
"""How tokens are estimated from characters."""
OVERHEAD = 4
"""Tokens that a message costs beside its text."""


def tokens_of(chars: int) -> int:
    """An estimate for a message of so many characters."""
    return max(OVERHEAD, chars // CHARS_A_TOKEN + OVERHEAD)


class Candidate(Struct, frozen=True, gc=False):
    """A message that the model sees. Those of one `group` are a call and its results; `kept` never leaves.

    `place` is where it stands in the order in which the model sees it.
    """

    seq: int
    place: int
    role: str
    group: int
    tokens: int
    note: bool = False
    kept: bool = False
    head: str = ""


class Cut(Struct, frozen=True):
    """What leaves and what stays, in the order of the context; `reasons` say why it is not just what was asked for."""

    leaves: tuple[Candidate, ...]
    stays: tuple[Candidate, ...]
    reasons: tuple[str, ...]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The seqs that leave."""
        return runs_of(sorted(row.seq for row in self.leaves))

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last of them."""
        runs = self.runs
        return runs[0][0], runs[-1][1]

    @property
    def before(self) -> int:
        """Tokens of the context now, estimated."""
        return sum(row.tokens for row in (*self.leaves, *self.stays))

    @property
    def staying(self) -> int:
        """Tokens of what stays, estimated."""
        return sum(row.tokens for row in self.stays)

    def after(self, note: str) -> int:
        """Tokens of the context with a note in the place of what leaves, estimated."""
        return self.staying + tokens_of(len(note))

    @property
    def notes(self) -> list[int]:
        """The earlier notes that leave with the rest."""
        return [row.seq for row in self.leaves if row.note]

    def said(self, note: str) -> list[str]:
        """What it does, in sentences: how much leaves and is saved, why it was widened, which notes leave."""
        first, last = self.span
        found = [
            f"{len(self.leaves):,} messages, {first} to {last}, leave the context; {len(self.stays):,} stay: "
            f"about {self.before:,} tokens become {self.after(note):,}."
        ]
        found += [f"{reason[0].upper()}{reason[1:]}." for reason in self.reasons]
        if self.notes:
            found.append(f"The notes of earlier compactions leave with them: {', '.join(map(str, self.notes))}.")
        return found


class Context(Struct, frozen=True):
    """What the model sees of a session, in its order; `highest` is the newest seq of the session.

    An agent that folds a `prefix` keeps one note for all that came first, and folds whole turns. `note_last` says that
    a new note stands behind all others, not where that stood which it was made of.
    """

    rows: tuple[Candidate, ...]
    highest: int
    prefix: bool = False
    note_last: bool = False
