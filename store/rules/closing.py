"""What closing a session deletes, which sessions stay and lose their parent, and why. Pure.

Source: power-loop 0.2.0, `close_session`: children are closed with their parent unless they are detached. A detached
one stays, with all below it, as a root. Here parent cycles and trees of any depth can be closed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from sessionscope.store.model.plans import Fate

DETACHED = "detached"


class Step(Struct, frozen=True, gc=False):
    """What happens to one session, by its position."""

    at: int
    fate: Fate
    why: str
    depth: int


def close(
    parents: Sequence[int], lifecycle: Callable[[int], str], asked: Iterable[int], cascade: bool = True
) -> list[Step]:
    """Return what happens to which session, parents before their children, each session once.

    `parents` are positions, -1 for none, and may contain cycles. Without `cascade` only the sessions that were asked
    for are deleted, and every direct child becomes a root.
    """
    children: dict[int, list[int]] = {}
    for index, parent in enumerate(parents):
        if parent >= 0:
            children.setdefault(parent, []).append(index)
    asked_once = list(dict.fromkeys(asked))
    goes = set(asked_once)
    steps: dict[int, Step] = {}
    for first in asked_once:
        stack = [Step(first, Fate.DELETED, "asked for", 0)]
        while stack:
            step = stack.pop()
            if step.at in steps:
                continue
            steps[step.at] = step
            if step.fate is not Fate.DELETED:
                continue
            for child in reversed(children.get(step.at, ())):
                # A session that was asked for is deleted in any case, but is listed at its place in the tree.
                fate, why = (Fate.DELETED, "asked for") if child in goes else _fate(lifecycle(child), cascade)
                stack.append(Step(child, fate, why, step.depth + 1))
    return list(steps.values())


def _fate(lifecycle: str, cascade: bool) -> tuple[Fate, str]:
    if not cascade:
        return Fate.ROOT, "stays, as a root"
    if lifecycle == DETACHED:
        return Fate.DETACHED, "stays with all below it, as a root"
    return Fate.DELETED, "goes with its parent"
