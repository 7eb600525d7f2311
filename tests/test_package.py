"""What is installed: one import package with every file of `store/` and `tui/`, also from a ZIP download."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = {".package/sessionscope/store": "../../store", ".package/sessionscope/tui": "../../tui"}
FILES = (".package", "store", "tui", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore")


def run(*command: object, cwd: Path, path: Path | None = None) -> str:
    """Run a Python program in a folder, with `path` to import from. Return what it prints; fail where it fails."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"PYTHONPATH": str(path)} if path else {}
    words = [sys.executable, "-P", *map(str, command)]
    done = subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(checkout: Path, target: Path, kind: str = "wheel") -> Path:
    """Build a wheel or an sdist of a checkout in this environment. Return its path."""
    run("-m", "hatchling", "build", "-t", kind, "-d", target, cwd=checkout)
    (built,) = target.iterdir()
    return built


def sources() -> set[str]:
    """Return the files of `store/` and `tui/` that belong to the project: those that git knows, where there is git."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z", "store", "tui"], cwd=ROOT, capture_output=True, check=True)
        return set(listed.stdout.decode().strip("\0").split("\0"))
    found = (path for folder in ("store", "tui") for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


def installed_files(wheel: Path) -> set[str]:
    """Return what a wheel puts into site-packages, without its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout as a ZIP download has it on a system without links: each link is a text file."""
    folder = tmp_path_factory.mktemp("download")
    for name in FILES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    for link, target in LINKS.items():
        (folder / link).unlink()
        (folder / link).write_text(target)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(checkout, tmp_path_factory.mktemp("wheel"))


def expected_files() -> set[str]:
    return {"sessionscope/__init__.py", *(f"sessionscope/{name}" for name in sources())}


def test_the_links_of_the_checkout_lead_to_its_folders() -> None:
    for link, target in LINKS.items():
        assert os.readlink(ROOT / link) == target


def test_a_wheel_of_the_checkout_holds_every_file_of_the_project_and_no_other(tmp_path: Path) -> None:
    assert installed_files(build(ROOT, tmp_path)) == expected_files()


def test_a_wheel_of_a_zip_download_is_the_same(wheel: Path) -> None:
    assert installed_files(wheel) == expected_files()


def test_a_wheel_of_the_sdist_is_the_same(checkout: Path, tmp_path: Path) -> None:
    """The sdist is made of a copy without tests and screenshots, which only makes it smaller."""
    sdist = build(checkout, tmp_path / "sdist", "sdist")
    shutil.unpack_archive(sdist, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert installed_files(build(unpacked, tmp_path / "wheel")) == expected_files()


def test_only_sessionscope_is_importable_of_what_is_installed(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site-packages"
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path)
    assert {path.name for path in target.iterdir() if not path.name.endswith(".dist-info")} == {"bin", "sessionscope"}
    code = f"""
import importlib.util
import sessionscope.store, sessionscope.tui.cli
assert sessionscope.store.__file__.startswith({str(target)!r}), sessionscope.store.__file__
assert importlib.util.find_spec("store") is None
assert importlib.util.find_spec("tui") is None
"""
    run("-c", code, cwd=tmp_path, path=target)
    assert "Fix the flaky importer" in run("-m", "sessionscope.tui", "demo", cwd=tmp_path, path=target)
    script = (target / "bin" / "sessionscope").read_text()
    assert "from sessionscope.tui.__main__ import main" in script
