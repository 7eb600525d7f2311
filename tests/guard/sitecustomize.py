"""Refuses to import `store` and `tui` by these names, in every Python process of a test run.

The folders at the top of the checkout are `sessionscope.store` and `sessionscope.tui`. Imported as `store` and `tui`
as well, they would be second copies: what a test patches in the one would not happen in the other. Python imports this
module at its start, as the folder is on PYTHONPATH (see tests/conftest.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

GUARDED = {"store", "tui"}


class Guard(MetaPathFinder):
    """A finder that raises ImportError for the guarded names, and finds nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in GUARDED:
            raise ImportError(f"Tests import {fullname} as sessionscope.{fullname}.", name=fullname)
        return None


sys.meta_path.insert(0, Guard())
