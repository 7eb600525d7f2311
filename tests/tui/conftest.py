"""What every test of the browser stands on: one clock, one time zone, no colour settings, tests that are coroutines."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot

from tui import clock, config

from .harness import NOW, SMALL, Hands, demo, opened, settle


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same moment, zone, home and colours on every machine."""
    monkeypatch.setattr(clock, "now_ms", lambda: NOW)
    for name in ("NO_COLOR", "COLORTERM", "TEXTUAL_THEME", "TEXTUAL_COLOR_SYSTEM", "PAGER"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def demo_db(tmp_path: Path) -> Path:
    """A fresh sample."""
    return demo(tmp_path)


Keys = Sequence[str]
Snap = Callable[..., bool]


@pytest.fixture
def snap(snap_compare: Callable[..., bool]) -> Snap:
    """Compares a settled screen with its snapshot. Unlike the fixture it wraps, it does not pass over a crash."""

    def compare(
        *places: Path | str, keys: Keys = (), size: tuple[int, int] = SMALL, settings: config.Config | None = None,
        first: Callable[[Hands], Any] | None = None,
    ) -> bool:
        from tui.app import Sessionscope

        app: App[None] = Sessionscope(opened(*places), settings)
        app.animation_level = "none"

        async def before(pilot: Pilot[None]) -> None:
            await settle(pilot)
            hands = Hands(pilot)
            for key in keys:
                await hands.press(key)
            if first is not None:
                await first(hands)

        same = snap_compare(app, terminal_size=size, run_before=before)
        gc.unfreeze()
        assert app._exception is None, app._exception
        return same

    return compare
