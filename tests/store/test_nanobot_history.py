"""What nanobot sends its model: as the real 0.2.0 and 0.3.5 do, and whatever one row holds."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionscope.store.nanobot.format.history import (
    consolidated,
    estimate_message_tokens,
    find_legal_message_start,
    history,
    later_message_tokens,
    sent,
)

from .conversations import CASES, EARLY, LATE, Case, answer, case, digest, functions, installed, later_case, recorded

RELEASES = {
    EARLY: (case, (history, find_legal_message_start, estimate_message_tokens)),
    LATE: (later_case, (partial(history, later=True), find_legal_message_start, later_message_tokens)),
}


@pytest.mark.parametrize("release", RELEASES)
def test_conversations_as_the_real_release_sends_them(release: str) -> None:
    made, ours = RELEASES[release]
    known = recorded(release)["history"]
    assert len(set(known)) > CASES // 2
    assert [digest(answer(made(seed), *ours)) for seed in range(CASES)] == known


@pytest.mark.parametrize("release", RELEASES)
def test_conversations_as_the_installed_release_sends_them(release: str) -> None:
    """The same, and as many more, where the package is installed."""
    made, ours = RELEASES[release]
    theirs = functions(installed(release))
    for seed in range(CASES * 10):
        assert answer(made(seed), *ours) == answer(made(seed), *theirs), seed


@pytest.mark.parametrize("later", [False, True])
def test_each_entry_comes_with_the_row_that_it_was_made_of(later: bool) -> None:
    for seed in range(CASES):
        asked: Case = later_case(seed) if later else case(seed)
        messages, _, arguments = asked
        pairs = sent(messages, **arguments, later=later)
        assert [entry for _, entry in pairs] == history(messages, **arguments, later=later)
        indexes = [at for at, _ in pairs]
        assert indexes == sorted(set(indexes))
        for at, entry in pairs:
            assert entry["role"] == messages[at]["role"]
            assert {key: messages[at][key] for key in entry.keys() - {"role", "content"}} == {
                key: entry[key] for key in entry.keys() - {"role", "content"}
            }


def test_later_releases_send_all_rows_and_name_what_was_attached() -> None:
    app, context = [{"name": " Git ", "entry_point": "g"}], {"version": 1, "suffix": "context"}
    talk: list[dict[str, Any]] = [{"role": "user", "content": f"{at}", "timestamp": "2026"} for at in range(200)]
    assert [at for at, _ in sent(talk, 0, later=True, include_timestamps=True)] == list(range(200))
    assert len(sent(talk, 0)) == 120
    attached = "[CLI App Attachment: @git; tool=run_cli_app; entry_point=g; skill=skills/cli-app-git/SKILL.md]"
    asked = {"role": "user", "content": "q", "cli_apps": app, "media": ["/a", ""]}
    assert history([asked], later=True)[0]["content"] == f"q\n[image: /a]\n{attached}"
    assert history([asked | {"_runtime_context": context}], later=True)[0]["content"] == "q\n[image: /a]"
    assert history([asked])[0]["content"] == "q\n[image: /a]"
    pathless = {"role": "user", "content": "q", "media": [5, ""]}
    assert [history([pathless], later=later)[0]["content"] for later in (False, True)] == ["q\n", "q"]
    assert history([talk[0]], later=True, include_timestamps=True)[0]["content"] == "0"
    assert later_message_tokens({"content": "\ud800名"}) == 10


@pytest.mark.parametrize(
    ("offset", "counts"),
    [(0, 0), (2, 2), (5, 5), (6, 0), (-1, 0), (True, 0), (2.0, 0), ("2", 0), (None, 0), ([2], 0), (10**30, 0)],
)
def test_an_offset_that_cannot_be_counts_as_none(offset: Any, counts: int) -> None:
    assert consolidated(offset, 5) == counts


def test_a_window_begins_with_a_turn() -> None:
    talk: list[dict[str, Any]] = [
        {"role": "assistant", "content": "late"},
        {"role": "assistant", "content": "news", "_channel_delivery": True},
        {"role": "user", "content": "which?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c"}]},
        {"role": "tool", "content": "found", "tool_call_id": "c"},
        {"role": "assistant", "content": "these"},
    ]
    assert [one["content"] for one in history(talk)] == ["news", "which?", "", "found", "these"]
    assert [one["content"] for one in history(talk, 2)] == ["these"]
    assert [one["content"] for one in history(talk, max_tokens=1)] == ["which?", "", "found", "these"]


anomalies = st.sampled_from(
    [None, 5, "x", [], {}, [None], [{"type": "text", "text": 5}], {"role": "user"}, True, -1.5, [[]]]
)
malformed = st.dictionaries(
    st.sampled_from(
        [
            "role",
            "content",
            "tool_calls",
            "tool_call_id",
            "name",
            "reasoning_content",
            "thinking_blocks",
            "timestamp",
            "media",
            "cli_apps",
            "_runtime_context",
            "_command",
            "_channel_delivery",
        ]
    ),
    anomalies | st.sampled_from(["user", "assistant", "tool"]),
    max_size=6,
)


@given(
    st.lists(malformed | anomalies, max_size=6), st.integers(-1, 5), st.integers(-1, 40), st.booleans(), st.booleans()
)
def test_no_row_breaks_the_window(rows: list[Any], limit: int, tokens: int, times: bool, later: bool) -> None:
    entries = history(rows, limit, max_tokens=tokens, include_timestamps=times, later=later)
    assert all({"role", "content"} <= entry.keys() for entry in entries)
    assert len(entries) <= len(rows)


@given(malformed)
def test_one_malformed_row_hides_no_other(row: dict[str, Any]) -> None:
    """But for a result without its call, which ends what came before it, and a turn that it seems to begin."""
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    contents = [entry["content"] for entry in history([*talk, row, {"role": "user", "content": "d"}])]
    assert contents[-1] == "d"
    if row.get("role") != "tool" or not row.get("tool_call_id"):
        assert contents[:3] == ["a", "b", "c"]
