"""How fast it is, as one table: `python -m tests.benchmarks [--quick] [SECTION ...]` from the checkout's root.

Ratios compare what ran alternately in this very run, so they hold on any machine; milliseconds do not. Needs Linux for
cold reads, a POSIX system otherwise. The exit status is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import keys, manager, nanobot, reads, startup, store
from .data import build, build_folder
from .table import show

SECTIONS = ("startup", "keys", "reads", "store", "nanobot", "manager")


def main() -> int:
    """Builds the archives, measures and prints. `store`, `nanobot` and `manager` build their own."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description="How fast sessionscope is.")
    parser.add_argument("sections", metavar="SECTION", nargs="*", help=f"any of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and fewer rounds")
    args = parser.parse_args()
    part, rounds, wanted = (10, 3, args.sections) if args.quick else (1, 12, args.sections)
    if unknown := set(wanted).difference(SECTIONS):
        parser.error(f"there is no section {' or '.join(sorted(unknown))}")
    many, large = 100_000 // part, 1_000_000 // part
    with tempfile.TemporaryDirectory(prefix="sessionscope-benchmarks-") as temp:
        home = Path(temp)
        sections = {
            "store": ("SessionStore: ours / power-loop's, then / the limit", store.run(home, part, rounds)),
            "nanobot": ("Sessions of nanobot: ours / nanobot's, then / the limit", nanobot.run(home, part, rounds)),
            "manager": ("SessionManager: ours / nanobot's, then / the limit", manager.run(home / "m", part, rounds)),
        }
        if not wanted or set(wanted) - sections.keys():
            long = {rows: build(home / f"{rows}.db", 1, rows) for rows in (0, 1_000, many, large)}
            crowd = build(home / "crowd.db", many, 10, prompt=6_000)
            archives = {f"{rows} messages": long[rows] for rows in (0, 1_000, large)} | {f"{many} sessions": crowd}
            archives |= {
                f"nanobot, {count} of {rows}": build_folder(home / f"nanobot-{count}", count, rows)
                for count, rows in ((1, many), (many // 10, 20))
            }
            sizes = {rows: long[rows] for rows in (1_000, many, large)}
            sections = {
                "startup": ("Process start to first frame", startup.run(archives, rounds, home)),
                "keys": ("A key in the timeline, until idle", keys.run(sizes, rounds)),
                "reads": ("Reads and headless verbs", reads.run(home, long[large], crowd, part)),
            } | sections
        met = [show(*section) for name, section in sections.items() if name in wanted or not wanted]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
