"""The comparer sees each difference, and passes over just those that a commit declares."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .compare_commits import HELP, ROOT, Declared, Outputs, difference, outputs, samples

SAMPLE = "power-loop-v0.2.0.db"
SAID, SAYS = "no compactions", "None were found"


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which one sentence is another."""
    folder = tmp_path_factory.mktemp("changed")
    for name in (".package", "store", "tui"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "tui" / "cli.py"
    text = module.read_text()
    assert text.count(SAID) == 1
    module.write_text(text.replace(SAID, SAYS))
    return folder


@pytest.fixture(scope="module")
def both(changed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outputs, Outputs]:
    """What the checkout and its changed copy print about one sample."""
    folder = tmp_path_factory.mktemp("work")
    before, after = (outputs(checkout, SAMPLE, samples([])[SAMPLE], folder) for checkout in (ROOT, changed))
    return before, after


def test_a_change_of_one_sentence_is_seen_where_it_is_printed_and_nowhere_else(both: tuple[Outputs, Outputs]) -> None:
    before, after = both
    assert before.keys() == after.keys()
    differ = {command for command in before if before[command] != after[command]}
    assert differ == {command for command in before if SAID in before[command].out}
    assert {command.split()[0] for command in differ} == {"compactions"}
    command = min(differ)
    assert f"-{SAID}" in difference(command, before[command], after[command])


def test_what_is_declared_is_passed_over(both: tuple[Outputs, Outputs]) -> None:
    before, after = both
    (command, *_) = sorted(command for command in before if before[command] != after[command])
    one, other = before[command], after[command]
    assert not Declared((), ()).covers(command, one, other)
    assert Declared((), ((SAID, SAYS),)).covers(command, one, other)
    assert Declared(("compactions *",), ()).covers(command, one, other)
    assert not Declared(("ls *",), ((SAYS, SAID),)).covers(command, one, other)


def test_every_verb_is_run_and_every_write_undone(both: tuple[Outputs, Outputs]) -> None:
    commands = [command.split()[0] for command in both[0]]
    verbs = ("ls", "show", "compactions", "compact", "uncompact", "doctor", "repair", "settle", "close", "archive")
    assert {*verbs, "reopen", "trash", "restore"} <= set(commands)
    assert any("--dry-run" not in command and command.startswith("restore") for command in both[0])
    assert "(looking)" not in both[0]


def test_helps_are_compared(tmp_path: Path) -> None:
    found = outputs(ROOT, HELP, None, tmp_path / "work")
    assert found["restore --help"].out.startswith("usage: sessionscope restore")
    assert found["ls nowhere.db"].status == 2
