"""How fast it is, as one table: `python -m tests.benchmarks [--quick] [startup] [keys] [reads]` from the checkout's root.

Ratios compare two things that ran alternately in this very run, so they hold on any machine; milliseconds do not.
The exit status is 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import platform
import sqlite3
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from . import keys, reads, startup
from .data import build
from .table import show

SECTIONS = ("startup", "keys", "reads")


def main() -> int:
    """Builds the archives, measures, prints; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", metavar="SECTION", nargs="*", help=f"any of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and fewer rounds: to try it out")
    args = parser.parse_args()
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    wanted, part = args.sections or SECTIONS, 10 if args.quick else 1
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, Textual {version('textual')}", flush=True)
    met = []
    with tempfile.TemporaryDirectory(prefix="sessionscope-benchmarks-") as temp:
        folder = Path(temp)
        million, many = 1_000_000 // part, 100_000 // part
        none = build(folder / "none.db", 1, 0)
        thousand = build(folder / "thousand.db", 1, 1_000)
        large = build(folder / "large.db", 1, million)
        if {"startup", "reads"} & set(wanted):
            crowd = build(folder / "crowd.db", many, 10, prompt=6_000)
        if "startup" in wanted:
            archives = {"no message": none, "1000 messages": thousand, f"{million} messages": large,
                        f"{many} sessions": crowd}
            met.append(show("Process start to first frame, 120x40", startup.run(archives, 3 if args.quick else 12, folder)))
        if "keys" in wanted:
            sizes = {1_000: thousand, million // 10: build(folder / "tenth.db", 1, million // 10), million: large}
            met.append(show("A key in the timeline, until idle", keys.run(sizes, 4 if args.quick else 12)))
        if "reads" in wanted:
            met.append(show("Reads behind the screen", reads.run(folder, large, crowd, part)))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
