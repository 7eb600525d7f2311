"""From what the doctor found to the edits that are wanted, and whether two plans are the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from ..plans import Repair
from ..repair import Finding, wanted
from .ailments import Ailment
from .edits import Edit


class Work(Struct, frozen=True):
    """What a plan is to do: edits, and whether all indexes are built anew first.

    `scope` are the storage keys of the sessions it is about, `between` whether it is about what binds them too.
    """

    edits: tuple[Edit, ...]
    reindex: bool = False
    scope: tuple[int, ...] = ()
    between: bool = False


def taken(found: Sequence[Ailment], action: Repair) -> list[tuple[Ailment, str]]:
    """The ailments that a repair is about, each with the choice taken."""
    by_finding: dict[Finding, list[Ailment]] = {}
    for ail in found:
        by_finding.setdefault(ail.finding, []).append(ail)
    return [(by_finding[finding].pop(0), name) for finding, name in wanted(
        [ail.finding for ail in found], action.only, dict(action.choose), action.place)]


def edits_of(taken: Sequence[tuple[Ailment, str]]) -> list[Edit]:
    return [edit for ail, name in taken for edit in ail.edits.get(name, ())]


def reasons(taken: Sequence[tuple[Ailment, str]]) -> Iterator[str]:
    """What is done and how often, one sentence for each."""
    counts: dict[str, int] = {}
    for ail, name in taken:
        said = ail.finding.fix if not name else next(one.about for one in ail.finding.choices if one.name == name)
        text = f"{ail.finding.code}: {said}"
        counts[text] = counts.get(text, 0) + 1
    for text, many in counts.items():
        yield text if many == 1 else f"{text} ({many:,} times)"


def name(edit: Edit) -> tuple[Any, ...]:
    return edit.table, edit.rowid, repr(edit.values)


def timeless(some: Sequence[Edit]) -> list[tuple[Any, ...]]:
    """Edits but for the time at which they were planned."""
    return [(edit.table, edit.rowid, repr({name: value for name, value in (edit.values or {}).items()
                                           if name != "updated_at"})) for edit in some]


