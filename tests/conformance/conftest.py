"""The sample that a test is about, and the third format, which is registered while tests run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionscope.store import Archive, open_archive, register, registry

from .notebook import NOTEBOOK
from .samples import sample


@pytest.fixture(autouse=True)
def third_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_formats", list(registry.formats()))
    register(NOTEBOOK)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return sample(request.param, tmp_path)


@pytest.fixture
def archives(place: Path) -> Iterator[list[Archive]]:
    found = open_archive(place)
    yield found
    for archive in found:
        archive.close()
