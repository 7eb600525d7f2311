"""Which messages may leave the model's context together, and what that would do. Pure.

A range is folded whole: a call and all of its results stay on one side of the cut. What every loop keeps, a leading
system message and recalled memories, is never folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from .errors import Misused
from .outline import runs_of

EXCHANGES, CHARS_A_TOKEN, OVERHEAD, MEMORY = 4, 4, 4, "memory_"
"""Exchanges that a proposal keeps, as power-loop's own compactor does; and how tokens are estimated."""


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

    def after(self, note: str) -> int:
        """Tokens of the context with a note in the place of what leaves, estimated."""
        return sum(row.tokens for row in self.stays) + tokens_of(len(note))

    @property
    def notes(self) -> list[int]:
        """The earlier notes that leave with the rest."""
        return [row.seq for row in self.leaves if row.note]


def tokens_of(chars: int) -> int:
    """An estimate for a message of so many characters."""
    return max(OVERHEAD, chars // CHARS_A_TOKEN + OVERHEAD)


def cut(rows: Sequence[Candidate], first: int, last: int, highest: int) -> Cut:
    """What folding the seqs from `first` to `last` would take of a context, widened to whole calls.

    `highest` is the newest seq of the session. Raises Misused for a range that holds nothing that may leave.
    """
    if first > last:
        raise Misused(f"{first} to {last} is no range: it ends before it begins.")
    if first > highest:
        raise Misused(f"there is no message {first}; the newest is {highest}.")
    if last > highest:
        raise Misused(f"there is no message {last} yet; the newest is {highest}.")
    asked = {row.seq for row in rows if first <= row.seq <= last and not row.kept}
    if not asked:
        kept = any(first <= row.seq <= last for row in rows)
        raise Misused(f"{first} to {last}: " + ("only what is always kept is in there." if kept else
                                                "none of it is in the context any more."))
    groups = {row.group for row in rows if row.seq in asked}
    leaves = tuple(row for row in rows if not row.kept and (row.seq in asked or row.group in groups))
    return Cut(leaves, tuple(row for row in rows if row not in set(leaves)), tuple(_widened(leaves, asked)))


def _widened(leaves: Iterable[Candidate], asked: set[int]) -> Iterable[str]:
    """Why more leaves than was asked for."""
    by_group: dict[int, list[Candidate]] = {}
    for row in leaves:
        by_group.setdefault(row.group, []).append(row)
    for group in by_group.values():
        added = [row.seq for row in group if row.seq not in asked]
        if added:
            there = next(row for row in group if row.seq in asked)
            what = "calls a tool that" if there.role != "tool" else "is the result of a call in"
            verb = " answers" if there.role != "tool" else ""
            yield f"widened by {', '.join(map(str, added))}: message {there.seq} {what} {added[0]}{verb}"


def propose(rows: Sequence[Candidate], exchanges: int = EXCHANGES) -> tuple[int, int] | None:
    """The range that leaves the newest exchanges, each beginning with a user's message; None where nothing is older."""
    users = [at for at, row in enumerate(rows) if row.role == "user"]
    if exchanges < 1 or len(users) <= exchanges:
        return None
    older = [row.seq for row in rows[:users[-exchanges]] if not row.kept]
    return (min(older), max(older)) if older else None
