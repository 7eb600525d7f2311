"""Names in the code are terms that an engineer would search for; the private vocabulary of old does not come back."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for folder in ("store", "tui") for path in (ROOT / folder).rglob("*.py"))

NEVER = re.compile(
    "(?:folds?|folded|folding|ailments?|patients?|exams?|survey|charts?|family|families|pairings?|remains|reviving|"
    "mending|settling|census|shelf|shelves|library|libraries|study|care|travel|healing|ink|leaving|lending|weighing|"
    "weigh|gauge|trails?|walk|walked|walking|announce|targets|places|strays?|odds?|told|hindered|sure)"
)
"""Words that no name may have in it."""
ALONE = frozenset({"opened", "head", "live", "made", "stage", "kept_note", "fold_sheet"})
"""Words that are no name by themselves: more words may say what is meant, as in `file_head`."""
ALLOWED = {
    "scrub_subagent_announce_body": "nanobot's own name for a function of the message that a subagent announces",
    "usual_places": "a public name of the store: `Format.usual_places` and `store.usual_places`",
    "_usual_places": "gives a format its `usual_places`",
    "no_places": "gives a format its `usual_places`",
    "head": "a beginning: of a message's text, or the metadata line that `read_file_head` returns",
    "_head": "the beginning of a message's text",
}
"""Names that have such a word in them, each with the reason."""


def words_of(name: str) -> list[str]:
    """The words of a name in snake or camel case, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def defined(module: Path) -> Iterator[tuple[str, str]]:
    """The names that a module defines, with where: itself, classes, functions, and attributes of classes and `self`."""
    yield module.stem, str(module.relative_to(ROOT))
    for node in ast.walk(ast.parse(module.read_text())):
        place = f"{module.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, place
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, place
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, place


def is_private_word(name: str) -> bool:
    return any(map(NEVER.fullmatch, words_of(name))) or "_".join(words_of(name)) in ALONE


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_of_the_private_vocabulary(module: Path) -> None:
    assert [(name, place) for name, place in defined(module) if is_private_word(name) and name not in ALLOWED] == []


def test_each_allowed_name_exists() -> None:
    names = {name for module in MODULES for name, _ in defined(module)}
    assert ALLOWED.keys() <= names
    assert all(map(is_private_word, ALLOWED))


def test_the_check_sees_such_names() -> None:
    for name in ("FoldSheet", "_folded", "AFold", "walk_tree", "sure", "opened", "is_hindered"):
        assert is_private_word(name)
    for name in ("measured", "boardwalks", "opened_archive", "file_head", "unfolded_count", "inks_"):
        assert not is_private_word(name)


def test_each_class_has_a_name_of_its_own() -> None:
    modules = defaultdict(list)
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ClassDef):
                modules[node.name].append(str(module.relative_to(ROOT)))
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_constant_has_a_line_of_its_own(module: Path) -> None:
    for node in ast.parse(module.read_text()).body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            names = [part.id for part in ast.walk(target) if isinstance(part, ast.Name)]
            assert len(names) <= 1 or not all(name.lstrip("_").isupper() for name in names), names
