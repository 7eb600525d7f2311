"""Process start to first frame: the browser on an archive against an empty Textual app, each on a terminal of its own.

A run is a new process on a pseudo terminal of 120x40 cells that answers, as terminals do, that it knows synchronized
output. The clock starts before the fork and stops when the bytes of the first frame have arrived.

- empty app: `App().run()`. Its first frame is a blank screen, known by the move to the screen's last line.
- ours: `sessionscope ARCHIVE`, started as its installed script does, known by the first word of the newest message (or
  the session's title, without messages). A frame before it that holds no data does not count.

So ours imports the store, opens and reads the file, lays out all panes and paints them in the time in which the empty
app does nothing. Runs alternate; a first one of each only fills the caches of bytecode and pages; medians are compared.
CPU is the whole process's up to that frame. `all panes` lasts until the inspector shows the end of that message.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from .data import NEWEST, WHOLE
from .table import Line

COLUMNS, ROWS, PATIENCE_S, TARGET = 120, 40, 30, 1.3
ROOT = Path(__file__).resolve().parents[2]
EMPTY = ("-c", "from textual.app import App; App().run()")
MAIN = ("-c", "import sys; from sessionscope.tui.__main__ import main; sys.exit(main())")
_LAST_LINE, _ASKS, _ANSWER = f"\x1b[{ROWS};1H", b"\x1b[?2026$p", b"\x1b[?2026;2$y"


def environment(home: Path) -> dict[str, str]:
    """What a measured process sees: nobody's config, no setting of Textual, and bytecode kept from run to run."""
    foreign = ("TEXTUAL", "XDG_", "PYTHON", "NO_COLOR", "COLORTERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"TERM": "xterm-256color", "HOME": str(home), "PYTHONPATH": str(ROOT / ".package")}


def until(argv: Sequence[str], mark: str, home: Path) -> tuple[float, float]:
    """Runs Python on a new terminal until it wrote `mark`, then kills it; milliseconds of wall clock and of CPU."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if not pid:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, *argv], environment(home))
    written = b""
    try:
        while mark.encode() not in written:
            if not select.select([terminal], [], [], PATIENCE_S)[0]:
                raise TimeoutError(f"no {mark!r} in {written!r}")
            data = os.read(terminal, 1 << 20)
            written += data
            if _ASKS in data:
                os.write(terminal, _ANSWER)
        wall = time.perf_counter() - began
    except OSError as error:
        raise RuntimeError(f"{argv} ended early: {written.decode(errors='replace')}") from error
    finally:
        os.kill(pid, signal.SIGKILL)
        cpu = os.wait4(pid, 0)[2]
        os.close(terminal)
    return wall * 1e3, (cpu.ru_utime + cpu.ru_stime) * 1e3


def run(archives: dict[str, Path], rounds: int, home: Path) -> Iterator[Line]:
    """Lines for each archive. All but the first have messages."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for name, path in archives.items():
            ours = (*MAIN, str(path))
            runs = {("", "empty"): (EMPTY, _LAST_LINE), (name, "first"): (ours, NEWEST), (name, "all"): (ours, WHOLE)}
            for key, (argv, mark) in runs.items():
                if number and (key[1] != "all" or name != next(iter(archives))):
                    times.setdefault(key, []).append(until(argv, mark, home))
                elif key[1] != "all":
                    until(argv, mark, home)
    wall, cpu = map(median, zip(*times.pop(("", "empty")), strict=True))
    yield Line("empty Textual app", f"{wall:.0f} ms, CPU {cpu:.0f} ms", 1)
    for (name, what), some in times.items():
        ours_wall, ours_cpu = map(median, zip(*some, strict=True))
        if what == "first":
            yield Line(f"sessionscope, {name}", f"{ours_wall:.0f} ms", ours_wall / wall, TARGET)
            yield Line("  its CPU", f"{ours_cpu:.0f} ms", ours_cpu / cpu)
        else:
            yield Line("  all panes", f"{ours_wall:.0f} ms", ours_wall / wall)
