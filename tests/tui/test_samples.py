"""Every sample database in every pane: nothing crashes, and the rows are those that the real package loads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import State, View
from sessionscope.tui.text.describe import MODES
from sessionscope.tui.text.visible import visible

from .harness import LARGE, MEDIUM, SAMPLES, SMALL, Hands, browsing

ORACLE: dict[str, dict[str, dict[str, Any]]] = json.loads((SAMPLES.parent / "oracle.json").read_text("utf-8"))
EACH_MODE = 2
"""Rows of a session that are looked at in every mode."""
NAMES = sorted(path.stem for path in SAMPLES.glob("*.db"))
LOOKED_AT = [name for name in NAMES if name not in ("v0.18.0", "v8.0.0-prefix-empty", "folds-0.18.0-ambiguous")]
"""Those whose every row is looked at: the others are laid out like one of them."""
Sample = Callable[[str], Path]


def expected(name: str, prefix: str) -> dict[str, Any]:
    """What the release that wrote a layout says of its sessions: of several releases in a name, the first is older."""
    releases = re.findall(r"\d+\.\d+\.\d+", name)
    answers = ORACLE[f"{name}#{prefix}"]
    return answers[releases[-1 if prefix else 0]]


def squeezed(text: str) -> str:
    """Text without what wrapping may change."""
    return "".join(text.split())


@pytest.mark.parametrize("name", NAMES)
async def test_sessions(name: str, sample: Sample) -> None:
    async with browsing(sample(name), size=LARGE) as hands:
        catalog = hands.browser.catalog
        for opened_archive in catalog.opened_archives:
            ids = set(opened_archive.session_table.ids)
            known = expected(name, opened_archive.archive.info.layout)
            assert known.keys() <= ids
            for id_, truth in known.items():
                at = opened_archive.session_table.ids.index(id_)
                children = {
                    opened_archive.session_table.ids[child] for child in opened_archive.session_table.children(at)
                }
                assert children == set(truth["children"])
        hands.tree.expanded |= {
            opened_archive.node(at)
            for opened_archive in catalog.opened_archives
            for at in range(len(opened_archive.session_table))
        }
        hands.browser.panes.show_sessions()
        await hands.settle()
        total = sum(len(opened_archive.session_table) for opened_archive in catalog.opened_archives)
        assert hands.previews.count == total
        assert hands.tree.count == total + (len(catalog.opened_archives) if len(catalog.opened_archives) > 1 else 0)
        tree, previews = "\n".join(hands.pane("sessions")), "\n".join(hands.pane("previews"))
        for title in {
            title
            for opened_archive in catalog.opened_archives
            for title in opened_archive.session_table.titles.values()
        }:
            assert title in tree
            assert title in previews


@pytest.mark.parametrize("name", LOOKED_AT)
async def test_rows_in_every_view(name: str, sample: Sample) -> None:
    async with browsing(sample(name), size=MEDIUM) as hands:
        for opened_archive in hands.browser.catalog.opened_archives:
            known = expected(name, opened_archive.archive.info.layout)
            for at, id_ in enumerate(opened_archive.session_table.ids):
                hands.controllers.opening.open_and_focus(opened_archive.node(at))
                await hands.settle()
                assert hands.session == id_
                if id_ in known:
                    await _compare_views(hands, known[id_])
                await _look_at_every_row(hands)
                await _look_at_the_session(hands, id_)


async def _compare_views(hands: Hands, truth: dict[str, Any]) -> None:
    states: dict[int, str] = dict(truth["states"])
    views: dict[View, list[int]] = {
        View.ALL: sorted(states),
        View.ACTIVE: sorted(seq for seq, state in states.items() if state == State.ACTIVE),
        View.COMPACTED: sorted(seq for seq, state in states.items() if state == State.COMPACTED),
        View.CONTEXT: truth["context"],
    }
    for key, (view, seqs) in enumerate(views.items(), 1):
        await hands.press(str(key))
        assert hands.view is view
        assert [seq for seq in hands.seqs if seq is not None] == seqs
        assert not seqs or any(str(hands.seq) in line for line in hands.pane("timeline"))
    assert len(truth["compactions"]) == len(hands.audit.audit.compactions)
    await hands.press("1")


async def _look_at_every_row(hands: Hands) -> None:
    current_session = hands.browser.current_session
    assert current_session is not None
    for index in range(hands.timeline.count):
        hands.timeline.cursor = index
        row = hands.timeline.current
        # Of a long session the rows take turns: to lay them all out in every mode takes minutes.
        for mode in MODES if index < EACH_MODE else [MODES[index % len(MODES)]]:
            hands.controllers.inspection.mode, hands.controllers.inspection.subject = mode, "message"
            hands.controllers.inspection.show()
            shown = squeezed(hands.inspector.plain)
            assert shown
            if row is None or row.row is None:
                continue
            message = current_session.opened_archive.reader.message(current_session.ref, row.row)
            if mode == "raw":
                assert "asstored" in shown
            elif mode == "text" and message.content and message.parts is None:
                assert squeezed(visible(message.content, newlines=True)) in shown
    await hands.settle()
    hands.controllers.inspection.mode = MODES[0]


async def _look_at_the_session(hands: Hands, id_: str) -> None:
    for number, compaction in enumerate(reversed(hands.audit.audit.compactions)):
        hands.audit.cursor = number
        hands.controllers.inspection.subject = "compaction"
        hands.controllers.inspection.show()
        assert f"span{compaction.from_seq}to{compaction.to_seq}" in squeezed(hands.inspector.plain)
        assert f"◆{compaction.number}" in "\n".join(hands.pane("audit"))
    hands.controllers.inspection.subject = "session"
    hands.controllers.inspection.show()
    assert squeezed(visible(id_)) in squeezed(hands.inspector.plain)
    assert "systemprompt" in squeezed(hands.inspector.plain)


@pytest.mark.parametrize("name", NAMES[::2])
async def test_by_keys_on_a_small_screen(name: str, sample: Sample) -> None:
    async with browsing(sample(name), size=SMALL) as hands:
        await hands.press("E", "enter", "2", "3", "4", "m", "a", "enter", "i", "p", "enter", "o", "O", "b")
        assert hands.browser.current_session is not None
