"""A process that folds and unfolds one session again and again, while others do the same; prints what it did.

python -PB compact_worker.py ARCHIVE SESSION TIMES SEED        waits for a line on stdin before it begins
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TypeVar

from sessionscope.store import Busy, Compact, Misused, Ref, Refused, Uncompact, open_archive

T = TypeVar("T")


def patiently(read: Callable[[], T]) -> T:
    """What is read, as often as others keep changing it meanwhile."""
    while True:
        try:
            return read()
        except Busy:
            continue


def main(place: str, session: str, times: int, seed: int) -> None:
    random, ref = Random(seed), Ref("", session)
    (archive,) = open_archive(place)
    actions, reader = archive.actions, archive.reader()
    assert actions is not None
    print("ready", flush=True)
    sys.stdin.readline()
    done: list[list[object]] = []
    undos: list[Uncompact] = []
    for turn in range(times):
        try:
            if undos and random.random() < 0.4:
                actions.apply(patiently(partial(actions.plan, undos.pop())), offline=True)
                done.append(["unfold"])
                continue
            seqs = [row.seq for row in patiently(partial(reader.context, ref)).rows if not row.note]
            first = random.randrange(len(seqs))
            action = Compact(
                ref, seqs[first], seqs[min(len(seqs) - 1, first + random.randrange(4))], f"by {seed} in {turn}"
            )
            receipt = actions.apply(patiently(partial(actions.plan, action)), offline=True)
            assert isinstance(receipt.undo, Uncompact)
            undos.append(receipt.undo)
            done.append(["fold", action.note, receipt.rows])
        except (Refused, Busy) as error:
            done.append(["refused", str(error)])
        except (Misused, ValueError) as error:
            # All is folded, or what this one wants has left meanwhile.
            done.append(["nothing", str(error)])
    print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
