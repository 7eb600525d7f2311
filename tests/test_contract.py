"""Public names do not change by accident: verbs, options, JSON keys, finding codes, what is on disk, config, keymap."""

from __future__ import annotations

import json

import pytest

from . import contract


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    collected: dict[str, object] = json.loads(json.dumps(contract.contract()))
    return collected


@pytest.mark.parametrize("part", json.loads(contract.CONTRACT.read_text()) if contract.CONTRACT.exists() else ())
def test_public_names_are_what_they_were(found: dict[str, object], part: str) -> None:
    """On purpose? Then write the new ones by `python -m tests.contract`, and tell users in the changelog."""
    assert found[part] == json.loads(contract.CONTRACT.read_text())[part]


def test_no_part_is_missing(found: dict[str, object]) -> None:
    assert list(found) == list(json.loads(contract.CONTRACT.read_text()))
