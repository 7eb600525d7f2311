"""What every test stands on: one time zone, a home that is thrown away, no colour settings, hypothesis without chance.

It happens while this file is imported, because Textual reads its settings when it is imported.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
PATHS = (TESTS.parent / ".package", TESTS / "guard")
"""Where `sessionscope` is imported from, and what keeps its folders from being imported by other names."""
SAMPLES = TESTS / "data" / "power-loop"


def _hermetic() -> None:
    sys.dont_write_bytecode = True
    for name in list(os.environ):
        # The folder of the snapshot report is the way from a worker of pytest-xdist to whoever reports.
        if name.startswith(("TEXTUAL", "XDG_", "HYPOTHESIS")) and name != "TEXTUAL_SNAPSHOT_TEMPDIR":
            del os.environ[name]
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS", "LINES", "PAGER", "SESSIONSCOPE_CONFIG"):
        os.environ.pop(name, None)
    # The processes of one test run share a home, which goes with the first of them.
    home = os.environ.get("TESTS_HOME") or tempfile.mkdtemp(prefix="sessionscope-tests-")
    if "TESTS_HOME" not in os.environ:
        atexit.register(shutil.rmtree, home, ignore_errors=True)
    folders = {"CONFIG": ".config", "CACHE": ".cache", "DATA": ".local/share", "STATE": ".local/state"}
    os.environ.update({f"XDG_{name}_HOME": f"{home}/{folder}" for name, folder in folders.items()})
    os.environ.update(
        TESTS_HOME=home,
        HOME=home,
        TZ="UTC",
        TERM="xterm-256color",
        TEXTUAL_ANIMATIONS="none",
        PYTHONDONTWRITEBYTECODE="1",
        HYPOTHESIS_STORAGE_DIRECTORY=f"{home}/hypothesis",
    )
    time.tzset()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell lets what it runs in the background ignore interrupts, and processes that a test starts inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A checkout is tested as it is, installed or not. Processes that a test starts get both folders as well.
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, PATHS))
    sys.path[:0] = [str(folder) for folder in PATHS if str(folder) not in sys.path]
    if not any(type(finder).__name__ == "Guard" for finder in sys.meta_path):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")


_hermetic()
settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("same")

Sample = Callable[[str], Path]


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """Copies a sample database, named without its ending, to a folder of its own and gives its path."""

    def copy(name: str) -> Path:
        folder = tmp_path / "sample"
        folder.mkdir(exist_ok=True)
        return Path(shutil.copyfile(SAMPLES / f"{name}.db", folder / f"{name}.db"))

    return copy
