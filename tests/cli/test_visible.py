"""Text that a terminal would obey, or that would hide, becomes text that can be read."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionscope.tui.text.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "␛[31mred␛]0;title␇"),
        ("a\rb\x00c\x7f", "a␍b␀c␡"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("a\nb\tc", "a␊b␉c"),
        ("invoice_\u202efdp.exe\u2066\u2069", "invoice_\\u202efdp.exe\\u2066\\u2069"),
        ("pass\u200bword\ufeff", "pass\\u200bword\\ufeff"),
        ("a\u200db", "a\\u200db"),
        ("\ud800", "\\ud800"),
        ("line\u2028end", "line\\u2028end"),
        ("hi\U000e0041\U000e0042", "hi\\U000e0041\\U000e0042"),
        ("x\ufe0f\ufe0e\U000e0100", "x\ufe0f\\ufe0e\\U000e0100"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "plain, naïve, 日本語, עברית",
        "👩‍💻 👨‍👩‍👧‍👦 ❤️‍🔥 🏳️‍🌈 👋🏽",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇯🇵",
        "می‌خواهم",
        "क्‍ष",
        "é e\u0301",
        "葛\U000e0100城",
    ],
)
def test_honest_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_newlines_stay_and_tabs_are_expanded_where_lines_are_wanted() -> None:
    assert visible("def f():\n\treturn 1\r\n\x1b[0m", newlines=True) == "def f():\n    return 1␍\n␛[0m"


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_ever_left(text: str) -> None:
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in visible(text))
    assert not any(
        unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        for line in visible(text, newlines=True).split("\n")
        for char in line
    )
