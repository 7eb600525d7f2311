"""Damaged session files: as many messages as the real release loads, and in the context just what it sends."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from sessionscope.store import View, open_archive

from .damages import ANSWERS, FILES, KEY, NAMES, Answer, digest, file, real
from .workspaces import found

KNOWN: dict[str, list[str]] = json.loads(ANSWERS.read_text())


def ours(folder: Path, release: str, data: bytes) -> Answer:
    """The same of what the browser would show."""
    folder.mkdir(exist_ok=True)
    path = folder / NAMES[release]
    path.write_bytes(data)
    (archive,) = open_archive(path)
    reader, (ref,) = archive.reader(), found(archive).values()
    context = reader.timeline(ref, View.CONTEXT, reader.outline(ref))
    messages = reader.summaries([reader.key(ref) or 0], exact=True)[0].message_count.value
    if context.about.startswith("nanobot loads nothing") or not messages:
        return [0, None]
    if context.about.startswith(("no turn works", "last_consolidated")):
        return [messages, None]
    return [messages, [dict(context._sent[row.seq]) for row in context.window(0, messages)]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("release", NAMES)
def test_as_the_real_release_loads_and_sends(tmp_path: Path, release: str) -> None:
    answers = [digest(ours(tmp_path / "sessions", release, file(seed, release != "0.2.0"))) for seed in range(FILES)]
    assert len(set(KNOWN[release])) > FILES // 2
    assert [seed for seed in range(FILES) if answers[seed] != KNOWN[release][seed]] == []


def test_as_the_installed_release_loads_and_sends(tmp_path: Path) -> None:
    """The same, and as many more, where a package is installed."""
    pytest.importorskip("nanobot.session.manager")
    try:
        if version("nanobot-ai") not in NAMES:
            pytest.skip("another release of nanobot is installed")
    except PackageNotFoundError:
        pytest.skip("nanobot is there, but not installed")
    release, ask = real(tmp_path)
    for seed in range(FILES * 5):
        data = file(seed, release != "0.2.0")
        assert ours(tmp_path / "ours", release, data) == ask(data), (seed, data)
    assert KEY
