"""What a key in the timeline costs: the real browser, on a driver that takes every frame as terminal bytes and counts.

CPU is the event loop's own (`thread_time`) from the key until nothing is left to do; `then` is the inspector's, which
follows once the keys rest. A key that nothing is bound to shows what Textual and the waiting cost by themselves. Before
a key that scrolls the timeline forgets its pages, so that it reads what it shows; each jump goes to another place.
Statements are those that SQLite runs while rows are read, without the transaction around them.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from statistics import median
from threading import get_ident
from typing import Any, NamedTuple
from unittest.mock import patch

from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Key
from textual.pilot import Pilot

from sessionscope.store import open_archive
from sessionscope.store.io import sqlitefile
from sessionscope.store.powerloop.read.messages import MessageTimeline
from sessionscope.tui.app import Sessionscope
from sessionscope.tui.widgets.timeline import TimelinePane

from .table import Line

SIZE, REST_S, SLICE_S, SLICES, PLACES = (120, 40), 0.15, 0.01, 3, 97
FRAME_MS, PAGES, STATEMENTS, PAINTED = 16, 2, 2, 1_000
KEYS = {
    "enter": "jump to a seq",
    "down": "down, not scrolling",
    "pagedown": "page down",
    "end": "end",
    "home": "home",
    "2": "active rows",
    "f11": "a key without a binding",
}
_MOVE = re.compile(r"(\x1b\[(\d+);(\d+)H)")
_connect, _window = sqlitefile._connect, MessageTimeline.window


class Cost(NamedTuple):
    """CPU in milliseconds at once and afterwards, pages of rows and statements for them, bytes into the timeline."""

    now: float
    then: float
    pages: int
    statements: int
    painted: int


class Meter(HeadlessDriver):
    """A terminal that is nowhere. Counts what the event loop's thread reads and writes."""

    pages, statements, written, rows_are_read, thread = 0, 0, "", False, get_ident()
    is_headless = False

    def write(self, data: str) -> None:
        Meter.written += data

    def flush(self) -> None:
        """Nothing is buffered."""


@contextmanager
def _watched(uri: str) -> Iterator[Connection]:
    def count(statement: str) -> None:
        Meter.statements += Meter.rows_are_read and not statement.startswith(("BEGIN", "COMMIT", "PRAGMA"))

    with _connect(uri) as conn:
        conn.set_trace_callback(count if get_ident() == Meter.thread else None)
        yield conn


def _read(lines: MessageTimeline, start: int, stop: int) -> Any:
    Meter.pages, Meter.rows_are_read = Meter.pages + 1, True
    rows = _window(lines, start, stop)
    Meter.rows_are_read = False
    return rows


async def _press(app: Sessionscope, key: str) -> Cost:
    """Sends a key as a terminal's driver does, and waits until nothing is left to do."""
    Meter.pages, Meter.statements, Meter.written = 0, 0, ""
    began = time.thread_time()
    app.post_message(Key(key, {"enter": "\r"}.get(key, key if len(key) == 1 else None)))
    await _quiet()
    done, pieces, region = time.thread_time(), _MOVE.split(Meter.written), app.screen.query_one(TimelinePane).region
    painted = sum(
        len((move + text).encode())
        for move, y, x, text in zip(*(pieces[at::4] for at in range(1, 5)), strict=True)
        if region.contains(int(x) - 1, int(y) - 1)
    )
    counted = Meter.pages, Meter.statements, painted
    await asyncio.sleep(REST_S)
    await _quiet()
    return Cost((done - began) * 1e3, (time.thread_time() - done) * 1e3, *counted)


async def _quiet() -> None:
    """Returns once the event loop has had nothing to do for longer than Textual waits before a frame."""
    idle = 0
    while idle < SLICES:
        began = time.thread_time()
        await asyncio.sleep(SLICE_S)
        idle = idle + 1 if time.thread_time() - began < SLICE_S / 20 else 0


def measure(path: Path, rows: int, rounds: int) -> dict[str, list[Cost]]:
    """What each key costs, several times, in one session with that many rows."""
    costs: dict[str, list[Cost]] = {key: [] for key in KEYS}
    [archive] = open_archive(path)
    app = Sessionscope([archive])
    app.driver_class = Meter

    async def play(pilot: Pilot[Any]) -> None:
        await pilot.pause(REST_S)
        await app.workers.wait_for_complete()
        await pilot.press("enter")
        for number in range(rounds):
            seq = 1 + (number * 61 + 17) % PLACES * rows // (PLACES + 1)
            await pilot.press("1", "colon", *str(seq))
            for key, some in costs.items():
                if key in ("pagedown", "end", "home"):
                    app.screen.query_one(TimelinePane)._pages.clear()
                await pilot.pause(REST_S)
                some.append(await _press(app, key))
        app.exit()

    with patch.object(sqlitefile, "_connect", _watched), patch.object(MessageTimeline, "window", _read):
        asyncio.run(app.run_async(size=SIZE, auto_pilot=play))
    if app.return_code:
        raise RuntimeError(f"the browser ended with {app.return_code}")
    return costs


def run(archives: dict[int, Path], rounds: int) -> Iterator[Line]:
    """Lines for each archive, by its number of rows; the first is what the others are compared with."""
    first: dict[str, float] = {}
    for rows, path in archives.items():
        costs = measure(path, rows, rounds)
        now = {key: median(cost.now for cost in some) for key, some in costs.items()}
        first = first or now
        for key, some in costs.items():
            rest = f"worst {max(cost.now for cost in some):.1f}, then {median(cost.then for cost in some):.1f} ms"
            yield Line(f"{rows} rows: {KEYS[key]}", f"{now[key] / first[key]:.2f}x, {rest}", now[key], FRAME_MS, " ms")
        every = [cost for some in costs.values() for cost in some]
        yield Line("  pages of rows, at most", "", max(cost.pages for cost in every), PAGES, "")
        yield Line("  statements for them, at most", "", max(cost.statements for cost in every), STATEMENTS, "")
        yield Line("  bytes in the timeline for down", "", max(cost.painted for cost in costs["down"]), PAINTED, "")
