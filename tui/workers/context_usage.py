"""The use of the model's context: by role, by message (largest first), and over rounds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from sessionscope.store import Audit, Candidate, Usage

NOTE_ROLE = "note"
OTHER = "other"
PARTS = " ▏▎▍▌▋▊▉"
"""The end of a bar, by eighths of a cell."""
SPARKS = "▁▂▃▄▅▆▇█"
"""The heights of a sparkline, by eighths."""
_ROLES = ("system", NOTE_ROLE, "user", "assistant", "tool")


class ContextUsage(Struct, frozen=True):
    """The messages that the model is sent, the biggest first, with compactions and usage."""

    rows: tuple[Candidate, ...]
    audit: Audit | None = None
    usage: Usage | None = None
    growth: Sequence[int] = ()
    """The estimated tokens of the context at each call of the model."""

    @property
    def tokens(self) -> int:
        """The estimated tokens of all messages."""
        return sum(row.tokens for row in self.rows)

    @property
    def by_role(self) -> list[tuple[str, int, int]]:
        """Role, messages and tokens of each role that occurs, in the order in which a conversation has them."""
        tokens_by_role: dict[str, list[int]] = {role: [] for role in (*_ROLES, OTHER)}
        for row in self.rows:
            tokens_by_role[NOTE_ROLE if row.note else row.role if row.role in _ROLES else OTHER].append(row.tokens)
        return [(role, len(some), sum(some)) for role, some in tokens_by_role.items() if some]

    @property
    def sent(self) -> list[int]:
        """The recorded tokens that were sent in each round, the oldest first."""
        rounds = sorted(self.usage.rounds if self.usage is not None else [], key=lambda found: found.created_at or 0)
        return [found.prompt_tokens for found in rounds if found.prompt_tokens is not None]


def context_usage_of(
    rows: Sequence[Candidate], audit: Audit | None = None, usage: Usage | None = None, growth: Sequence[int] = ()
) -> ContextUsage:
    """Return the context usage of messages. What is not known may be left out."""
    return ContextUsage(tuple(sorted(rows, key=lambda row: (-row.tokens, row.seq))), audit, usage, growth)


def bar(part: int, whole: int, cells: int) -> str:
    """Return a part of a whole as a bar, to an eighth of a cell.

    It is never empty for something.
    """
    eighths = max(round(8 * cells * part / whole), part > 0) if whole else 0
    return ("█" * (eighths // 8) + PARTS[eighths % 8]).rstrip()


def share(part: int, whole: int) -> str:
    """Return a part of a whole in percent."""
    return f"{round(100 * part / whole)}%" if whole else ""


def sparkline(values: Sequence[int], cells: int) -> str:
    """Return values as a line of blocks from 0 to the greatest.

    With more values than cells, each cell shows its greatest.
    """
    if not values:
        return ""
    cells = min(cells, len(values))
    edges = [at * len(values) // cells for at in range(cells + 1)]
    tops = [max(values[first:last]) for first, last in pairwise(edges)]
    most = max(tops)
    return "".join(SPARKS[min(7, 8 * max(0, top) // most) if most > 0 else 0] for top in tops)
