"""Process start to first frame: the browser on an archive against an empty Textual app, on a pseudo terminal.

What is timed. Each run is a new process on a terminal of 120x40 cells that answers, as today's terminals do, that it
knows synchronized output. The clock starts before the fork and stops when the bytes of the first frame have arrived:

- empty app: `App().run()`, nothing in it. Its first frame is a blank screen, known by the move to the screen's last line.
- ours: `sessionscope ARCHIVE`, found by the newest message's first word (in an archive without messages: the session's
  title). An earlier frame without data, if there is one, does not count.

So ours has to import the store, open the file, read it, lay out all panes and paint them in the time for which the
empty app does nothing: the ratio says how much dearer that is. Runs alternate (empty, ours, empty, ours ...), one of each
before that only fills the caches of bytecode and pages, and medians are compared. CPU is that of the whole process until it is
killed at its first frame. `all panes` goes on until the inspector shows the end of the newest message, which the browser
leaves for 0.1 s after the first frame on purpose; it only informs.
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
_LAST_LINE, _ASKS, _ANSWER = f"\x1b[{ROWS};1H".encode(), b"\x1b[?2026$p", b"\x1b[?2026;2$y"
Times = tuple[float, float]
"""Milliseconds of wall clock and of CPU."""


def until(argv: Sequence[str], mark: bytes, home: Path) -> Times:
    """Starts Python with these arguments on a terminal of its own, and kills it once it has written `mark`."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if not pid:
        _become(argv, home)
    written, cpu = b"", None
    try:
        while mark not in written:
            if not select.select([terminal], [], [], PATIENCE_S)[0]:
                raise TimeoutError(f"{argv} wrote no {mark!r}, but {written[-300:]!r}")
            data = os.read(terminal, 1 << 20)
            if _ASKS in data:
                os.write(terminal, _ANSWER)
            written += data
        wall = time.perf_counter() - began
    except OSError as error:
        raise RuntimeError(f"{argv} ended early: {written[-2_000:].decode(errors='replace')}") from error
    finally:
        os.kill(pid, signal.SIGKILL)
        cpu = os.wait4(pid, 0)[2]
        os.close(terminal)
    return wall * 1e3, (cpu.ru_utime + cpu.ru_stime) * 1e3


def _become(argv: Sequence[str], home: Path) -> None:
    """Turns the forked child into the process that is timed, with nobody's config and no setting of Textual."""
    keep = {name: value for name, value in os.environ.items()
            if not name.startswith(("TEXTUAL", "XDG_", "PYTHON")) and name not in ("NO_COLOR", "COLORTERM")}
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    os.chdir(ROOT)
    os.execve(sys.executable, [sys.executable, *argv], keep | {"TERM": "xterm-256color", "HOME": str(home)})


def run(archives: dict[str, Path], rounds: int, home: Path) -> Iterator[Line]:
    """A line for the empty app, and some for each archive."""
    empty: list[Times] = []
    first: dict[str, list[Times]] = {name: [] for name in archives}
    filled: dict[str, list[float]] = {name: [] for name in archives}
    for number in range(rounds + 1):
        for name, path in archives.items():
            blank = until(EMPTY, _LAST_LINE, home)
            ours = until(("-m", "tui", str(path)), NEWEST.encode(), home)
            whole = until(("-m", "tui", str(path)), WHOLE.encode(), home)[0] if number % 4 == 1 and "no" not in name else 0
            if number:
                empty.append(blank)
                first[name].append(ours)
                filled[name] += [whole] if whole else []
    wall, cpu = (median(times) for times in zip(*empty, strict=True))
    yield Line("empty Textual app", f"{wall:.0f} ms")
    for name, times in first.items():
        ours_wall, ours_cpu = (median(some) for some in zip(*times, strict=True))
        yield Line(f"sessionscope, {name}", f"{ours_wall:.0f} ms", ours_wall / wall, TARGET)
        yield Line("  CPU", f"{ours_cpu:.0f} / {cpu:.0f} ms", ours_cpu / cpu)
        if filled[name]:
            yield Line("  all panes", f"{median(filled[name]):.0f} ms", median(filled[name]) / wall)
