"""nanobot's preview rule, against answers of nanobot 0.2.0 itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionscope.store import Ref, View
from sessionscope.store.rules.preview import preview, text_of

from .helpers import DATA, build, fill, only, rows

# [content, what `_text_preview` of nanobot 0.2.0 makes of it]; see tests/data/README.md.
CASES: list[tuple[Any, str]] = [tuple(case) for case in json.loads((DATA / "previews.json").read_text())]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def test_as_nanobot_makes_them() -> None:
    assert len(CASES) > 150
    assert [preview(content) for content, _ in CASES] == [expected for _, expected in CASES]


@given(TEXT)
def test_one_line_of_at_most_120_characters(text: str) -> None:
    line = preview(text)
    assert len(line) <= 120
    assert line == " ".join(line.split())
    if "[" not in text and "(" not in text:
        words = " ".join(text.split())
        assert line == (words if len(words) <= 120 else words[:119].rstrip() + "…")


@given(st.lists(TEXT, max_size=4))
def test_blocks_count_as_their_texts_with_a_space_between(texts: list[str]) -> None:
    blocks: list[Any] = [{"type": "text", "text": text} for text in texts]
    assert text_of(blocks) == " ".join(texts)
    noise: list[Any] = [{"type": "image_url", "image_url": {"url": "x"}}, None, 5, {"type": "text", "text": None}]
    assert preview(blocks + noise) == preview(" ".join(texts))


def show(tmp_path: Path, *messages: dict[str, Any]) -> str:
    path = build(tmp_path / "one.db")
    fill(path, "s", [{"seq": seq} | message for seq, message in enumerate(messages, 1)])
    reader = only(path).reader()
    (summary,) = reader.summaries([reader.key(Ref("", "s")) or 0])
    assert reader.previews([summary.key]) == {summary.key: summary.preview}
    return summary.preview


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "assistant", "content": "hi"}, {"content": " \n"}, {"content": "the  question"}], "the question"),
        ([{"role": "assistant", "content": ""}, {"role": "assistant", "content": "only an answer"}], "only an answer"),
        ([{"role": "system", "content": "prompt"}, {"role": "tool", "content": "result"}], ""),
        ([{"content": "[image: /a.png]"}, {"content": "what is it?"}], "what is it?"),
        ([{"content": f"[image: /{'long/' * 60}a.png]\nwhat is it?"}], "what is it?"),
        ([{"content": "x" * 5_000}], "x" * 119 + "…"),
        ([{"content": "é" * 4_095}], "é" * 119 + "…"),
        ([], ""),
    ],
)
def test_a_session_shows_its_first_user_message(messages: list[dict[str, Any]], expected: str, tmp_path: Path) -> None:
    assert show(tmp_path, *messages) == expected


def test_a_preview_looks_at_the_first_fifty_messages(tmp_path: Path) -> None:
    silent = [{"role": "assistant", "content": ""}] * 49
    assert show(tmp_path, *silent, {"content": "at last"}) == "at last"


def test_a_preview_past_the_first_fifty_messages_is_not_looked_for(tmp_path: Path) -> None:
    assert show(tmp_path, *[{"role": "assistant", "content": ""}] * 50, {"content": "too late"}) == ""


def test_samples_show_what_was_asked(sample: Callable[[str], Path]) -> None:
    reader = only(sample("v0.2.0")).reader()
    session_table = reader.session_table()
    shown = {summary.ref.id: summary.preview for summary in reader.summaries(session_table.keys)}
    assert list(shown.values())[:2] == ["Why does test_upload fail every second night? 你好 🚀", "write docs"]
    assert shown["sess_empty00000000000000000"] == ""
    assert rows(reader, Ref("", "sess_empty00000000000000000"), View.ALL) == []
