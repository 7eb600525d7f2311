"""What every test of the browser stands on: one clock, tests that are coroutines, snapshots that see a crash."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from sessionscope.tui import config
from sessionscope.tui.app import Sessionscope
from sessionscope.tui.browser.controllers import inspection, opening
from sessionscope.tui.text import clock

from ..store.workspaces import NAME, lines, talk
from .harness import NANOBOT_NOW, NOW, REST_S, SMALL, Hands, demo, opened, settle


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same moment on every machine, and no test waits for keys to rest longer than it must."""
    monkeypatch.setattr(clock, "now_ms", lambda: NOW)
    monkeypatch.setattr(opening, "REST_S", REST_S)
    monkeypatch.setattr(inspection, "REST_S", REST_S)
    # A process that runs hundreds of apps would keep them all, and pay for a full collection each time.
    monkeypatch.setattr(Sessionscope, "_freeze", staticmethod(lambda: None))


@pytest.fixture
def demo_db(tmp_path: Path) -> Path:
    """A fresh sample."""
    return demo(tmp_path)


@pytest.fixture
def bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A session of twelve messages, the first four of which are summed up already."""
    monkeypatch.setattr(clock, "now_ms", lambda: NANOBOT_NOW)
    folder = tmp_path / "sessions"
    folder.mkdir()
    summary = {"text": "what \x1b[31mwas before", "last_active": "2026-01-01T00:00:00"}
    (folder / NAME).write_bytes(lines(talk(12), last_consolidated=4, metadata={"_last_summary": summary}))
    return folder


Keys = Sequence[str]
Snap = Callable[..., bool]


@pytest.fixture
def snap(snap_compare: Callable[..., bool]) -> Snap:
    """Compares a settled screen with its snapshot. Unlike the fixture it wraps, it does not pass over a crash."""

    def compare(
        *places: Path | str,
        keys: Keys = (),
        size: tuple[int, int] = SMALL,
        settings: config.Config | None = None,
        first: Callable[[Hands], Any] | None = None,
    ) -> bool:
        app = Sessionscope(opened(*places), settings)
        app.animation_level = "none"
        # How long a notice stays depends on the machine.
        app._disable_notifications = True

        async def before(pilot: Pilot[None]) -> None:
            await settle(pilot)
            hands = Hands(pilot)
            for key in keys:
                await hands.press(key)
            if first is not None:
                await first(hands)

        same = snap_compare(app, terminal_size=size, run_before=before)
        assert app._exception is None, app._exception
        return same

    return compare
