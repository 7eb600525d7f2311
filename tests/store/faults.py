"""Faults that tests inject: a function of the code under test that fails wherever it is called."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest.mock import patch


class Fault:
    """Raises an OSError at each call, and counts the calls."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.fired = 0

    def __call__(self, *_: object, **__: object) -> NoReturn:
        self.fired += 1
        raise OSError(self.code, os.strerror(self.code))


@contextmanager
def failing(owner: Any, name: str, code: int = errno.ENOSPC, fired: bool = True) -> Iterator[Fault]:
    """Make a function of a module or a class raise an OSError with this number, by default that of a full disk.

    Fails where nothing called it, as then the test would show nothing; or, where it must not be `fired`, if something
    did. A built-in name may be given for a module.
    """
    fault = Fault(code)
    with patch.object(owner, name, fault, create=True):
        yield fault
    assert bool(fault.fired) == fired, f"{owner.__name__}.{name} was called {fault.fired} times"
