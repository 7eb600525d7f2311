"""The rules of the house: style, types, who may know whom, how long a module may be, what an import costs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = 400
MODULES = sorted(path.relative_to(ROOT) for folder in ("store", "tui") for path in (ROOT / folder).rglob("*.py"))


def run(*command: str | Path) -> None:
    """Runs a tool on the checkout. Fails with what it says."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def script(name: str) -> Path:
    """A console script of this environment."""
    return Path(sysconfig.get_path("scripts")) / name


def test_style() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_format() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", ".")


def test_every_module_is_in_what_is_installed() -> None:
    """An editable install finds every folder; a real one has only the packages that are named or found."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    for module in MODULES:
        assert (ROOT / module.parent / "__init__.py").exists(), module
        assert any(fnmatch(".".join(module.parent.parts), pattern) for pattern in found), module


def test_types(tmp_path: Path) -> None:
    run(sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, "store", "tui")


def test_who_may_know_whom() -> None:
    run(script("lint-imports"), "--no-cache")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_too_long_to_read(module: Path) -> None:
    assert len((ROOT / module).read_text().splitlines()) <= LINES


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_says_in_its_first_line_what_lives_there(module: Path) -> None:
    text = (ROOT / module).read_text()
    assert not text or text.startswith(('"""', "'''"))


def test_the_store_pulls_in_no_screen() -> None:
    """Neither by itself nor by any of its names."""
    run(
        sys.executable,
        "-c",
        (
            "import sys, store\n"
            "early = set(sys.modules)\n"
            "for name in store.__all__: getattr(store, name)\n"
            "screens = {'textual', 'rich', 'tui'}\n"
            "assert not screens & {name.split('.')[0] for name in sys.modules}, sorted(sys.modules)\n"
            "assert 'sqlite3' not in early, 'the names of the store are to be resolved lazily'\n"
            "assert set(store.__all__) <= set(dir(store))\n"
        ),
    )


def test_every_public_name_is_there_and_no_other() -> None:
    run(
        sys.executable,
        "-c",
        (
            "import store\n"
            "from store import *\n"
            "assert all(name in globals() for name in store.__all__)\n"
            "try: store.nothing_of_the_kind\n"
            "except AttributeError: pass\n"
            "else: raise SystemExit('a name that is not there')\n"
        ),
    )
