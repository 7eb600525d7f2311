"""Interrupts during a write: they stop it before anything is changed, or wait until it is done and reported."""

from __future__ import annotations

import signal
from contextlib import suppress
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Holds back the signals that would end the process, from `hold` to `release`.

    A second Ctrl-C ends it all the same.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def hold(self) -> None:
        """Hold signals back from now on. Those that the process ignores stay ignored."""
        # Not every system has these signals, and only the main thread may handle them.
        for name in _NAMES:
            with suppress(AttributeError, ValueError):
                number = getattr(signal, name)
                if number not in self._previous and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._receive)

    def release(self) -> None:
        """Let signals do again what they did before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        self.received = None

    @property
    def holding(self) -> bool:
        """Whether something may have been changed since the last `hold`."""
        return bool(self._previous)

    def pending(self) -> bool:
        """Return whether a signal has come since `hold`. Then what has not changed anything yet should stop."""
        return self.received is not None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


INTERRUPTS = Interrupts()
"""The interrupts of this process."""
