"""What nanobot sends its model: as the real 0.2.0 does, and whatever one row holds."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.nanobot.history import estimate_message_tokens, find_legal_message_start, history

from .conversations import ANSWERS, CASES, answer, case, digest, real

OURS = (history, find_legal_message_start, estimate_message_tokens)


def test_conversations_as_the_real_release_sends_them() -> None:
    known = json.loads(ANSWERS.read_text())
    assert len(set(known)) > CASES // 2
    assert [digest(answer(case(seed), *OURS)) for seed in range(CASES)] == known


def test_conversations_as_the_installed_release_sends_them() -> None:
    """The same, and as many more, where the package is installed."""
    pytest.importorskip("nanobot.session.manager")
    try:
        if version("nanobot-ai") != "0.2.0":
            pytest.skip("another release of nanobot is installed")
    except PackageNotFoundError:
        pytest.skip("nanobot is there, but not installed")
    theirs = real()
    for seed in range(CASES * 10):
        assert answer(case(seed), *OURS) == answer(case(seed), *theirs), seed


def test_a_window_begins_with_a_turn() -> None:
    talk: list[dict[str, Any]] = [
        {"role": "assistant", "content": "late"}, {"role": "assistant", "content": "news", "_channel_delivery": True},
        {"role": "user", "content": "which?"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "c"}]},
        {"role": "tool", "content": "found", "tool_call_id": "c"}, {"role": "assistant", "content": "these"},
    ]
    assert [one["content"] for one in history(talk)] == ["news", "which?", "", "found", "these"]
    assert [one["content"] for one in history(talk, 2)] == ["these"]
    assert [one["content"] for one in history(talk, max_tokens=1)] == ["which?", "", "found", "these"]


odd = st.sampled_from([None, 5, "x", [], {}, [None], [{"type": "text", "text": 5}], {"role": "user"}, True, -1.5, [[]]])
malformed = st.dictionaries(st.sampled_from([
    "role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "thinking_blocks", "timestamp",
    "media", "_command", "_channel_delivery"]), odd | st.sampled_from(["user", "assistant", "tool"]), max_size=6)


@given(st.lists(malformed, max_size=6), st.integers(-1, 5), st.integers(-1, 40), st.booleans())
def test_no_row_breaks_the_window(rows: list[dict[str, Any]], limit: int, tokens: int, times: bool) -> None:
    sent = history(rows, limit, max_tokens=tokens, include_timestamps=times)
    assert all({"role", "content"} <= entry.keys() for entry in sent)
    assert len(sent) <= len(rows)


@given(malformed)
def test_one_malformed_row_hides_no_other(row: dict[str, Any]) -> None:
    """But for a result without its call, which ends what came before it, and a turn that it seems to begin."""
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    contents = [entry["content"] for entry in history([*talk, row, {"role": "user", "content": "d"}])]
    assert contents[-1] == "d"
    if row.get("role") != "tool" or not row.get("tool_call_id"):
        assert contents[:3] == ["a", "b", "c"]
