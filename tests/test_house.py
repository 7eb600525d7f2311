"""The rules of the house: style, types, who may know whom, how long a module may be, what an import costs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import public_names

ROOT = Path(__file__).parents[1]
LINES = 400
FORMATS = re.compile("nanobot|power-?loop|claude|codex", re.IGNORECASE)
OPTION = re.compile(r"(?<![\w-])--[a-z]")
MODULES = sorted(path.relative_to(ROOT) for folder in ("store", "tui") for path in (ROOT / folder).rglob("*.py"))


def run(*command: str | Path) -> None:
    """Runs a tool on the checkout. Fails with what it says."""
    environment = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def script(name: str) -> Path:
    """A console script of this environment."""
    return Path(sysconfig.get_path("scripts")) / name


def test_style() -> None:
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_format() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache", ".")


def test_types(tmp_path: Path) -> None:
    run(sys.executable, "-m", "mypy", "--cache-dir", tmp_path)


def test_import_layers() -> None:
    run(script("lint-imports"), "--no-cache")


def test_every_folder_has_a_contract_that_names_each_of_its_modules() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    exhaustive = {name for contract in contracts if contract.get("exhaustive") for name in contract["containers"]}
    assert {"sessionscope", *(".".join(("sessionscope", *module.parent.parts)) for module in MODULES)} == exhaustive


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_too_long_to_read(module: Path) -> None:
    assert len((ROOT / module).read_text().splitlines()) <= LINES


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_says_in_its_first_line_what_lives_there(module: Path) -> None:
    text = (ROOT / module).read_text()
    assert not text or text.startswith(('"""', "'''"))


def texts(module: Path) -> Iterator[tuple[str, bool]]:
    """Every text of a module but its docstrings, and whether it is a help text."""
    tree = ast.parse((ROOT / module).read_text())
    helps: set[int] = set()
    for node in ast.walk(tree):
        assigned = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("HELP", "VERBS")
        if assigned or (isinstance(node, ast.keyword) and node.arg == "help"):
            helps |= {id(part) for part in ast.walk(node)}
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and not isinstance(node, ast.Expr):
                yield child.value, id(child) in helps


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_the_store_names_no_option_and_the_screen_no_format(module: Path) -> None:
    found = list(texts(module))
    if module.parts[0] == "tui":
        named = [text for text, is_help in found if not is_help and FORMATS.search(text)]
    else:
        named = [text for text, _ in found if OPTION.search(text) and "demo" not in module.parts]
    assert not named


def test_the_store_pulls_in_no_screen() -> None:
    """Neither by itself nor by any of its names."""
    code = """
import sys
from sessionscope import store
early = set(sys.modules)
for name in store.__all__:
    getattr(store, name)
screens = [name for name in sys.modules if name.split(".")[0] in ("textual", "rich") or ".tui" in name]
assert not screens, screens
assert "sqlite3" not in early, "the names of the store are to be resolved lazily"
assert set(store.__all__) <= set(dir(store))
"""
    run(sys.executable, "-c", code)


def test_every_public_name_is_there_and_no_other() -> None:
    code = """
from sessionscope import store
from sessionscope.store import *
assert all(name in globals() for name in store.__all__)
try:
    store.nothing_of_the_kind
except AttributeError:
    pass
else:
    raise SystemExit("a name that is not there")
"""
    run(sys.executable, "-c", code)


def test_type_checkers_are_told_the_same_public_names() -> None:
    assert public_names.STUB.read_text() == public_names.stub()


def test_the_top_folders_are_importable_by_no_other_name() -> None:
    """Neither here nor in a process that a test starts, even from the root of the checkout."""
    for name in ("store", "tui"):
        with pytest.raises(ImportError, match=f"sessionscope.{name}"):
            __import__(name)
        code = f"""
import sessionscope.{name}
try:
    import {name}
except ImportError as error:
    assert "sessionscope.{name}" in str(error)
else:
    raise SystemExit("{name} was imported")
"""
        run(sys.executable, "-c", code)
