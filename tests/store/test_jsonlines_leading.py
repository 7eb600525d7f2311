"""The beginning of an object that is too long to be read whole, and pieces of its strings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionscope.store.io.jsonlines import Leading, leading
from sessionscope.store.io.jsontokens import unescape

words = st.text(st.sampled_from('{}[]:,"\\/ \n\tabé名😀\u2028\0\ud83d\ude00'), max_size=8) | st.text(max_size=6)
values = words | st.sampled_from([None, True, -12, 0.5, 2**70, [], {}, [{"a": "b"}, ["c"]], {"a": {"b": "}"}}])
fields = st.dictionaries(words, words | values, min_size=1, max_size=4)
LONGEST = len(rb"\ud83d\ude00")
HALF = re.compile("[\ud800-\udfff]")


def written_as(value: Any, ascii: bool) -> bytes:
    """JSON, where half a surrogate pair is an escape in any case."""
    text = json.dumps(value, ensure_ascii=ascii)
    return HALF.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def beginnings(members: dict[str, Any], ascii: bool, space: str) -> Iterator[tuple[bytes, Leading]]:
    """An object as far as something more of it is complete, and what is to be found in all that is shorter."""
    whole, complete = b"{", dict[str, Any]()
    for position, (key, value) in enumerate(members.items()):
        whole += (f",{space}" * bool(position)).encode() + written_as(key, ascii) + f":{space}".encode()
        if isinstance(value, str):
            whole, text = whole + b'"', ""
            yield whole, Leading(dict(complete), None, "", 0)
            at = len(whole)
            for char in value:
                whole += written_as(char, ascii)[1:-1]
                yield whole, Leading(dict(complete), key, text, at)
                text += char
            whole += b'"'
            yield whole, Leading(dict(complete), key, text, at)
        else:
            # A number may go on; it is complete with what follows it.
            whole += written_as(value, ascii)
            yield whole + b"," * (not isinstance(value, list | dict)), Leading(dict(complete), None, "", 0)
        complete[key] = value
    yield whole + b"}", Leading(complete, None, "", 0)
    yield whole + b"}~", Leading(complete, None, "", 0)


@given(fields, st.booleans(), st.sampled_from(["", " ", "\n  "]))
@example({"a": "\ud83d", "b": "\ud83dx"}, True, " ")
def test_every_cut(members: dict[str, Any], ascii: bool, space: str) -> None:
    """All that is complete is there, and of a string whatever characters are."""
    members = json.loads(json.dumps(members))
    steps = list(beginnings(members, ascii, space))
    whole = steps[-1][0][:-1]
    assert json.loads(whole) == members
    done = 1
    for begun, wanted in steps:
        for cut in range(done, len(begun)):
            found = leading(whole[:cut])
            assert (found.fields, found.key) == (wanted.fields, wanted.key)
            assert found.at == (cut if wanted.key is None else wanted.at)
            # The first half of a pair is left off until what follows cannot be the other.
            assert wanted.text == found.text or (HALF.fullmatch(wanted.text[-1]) and wanted.text[:-1] == found.text)
        done = len(begun)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Leading({}, None, "", 0)),
        (b"no object", Leading({}, None, "", 9)),
        (b"\xef\xbb\xbf {", Leading({}, None, "", 5)),
        (b'{"a": "x", "b": "y', Leading({"a": "x"}, "b", "y", 17)),
        (b'{"a": 1, "b": {"c": "y', Leading({"a": 1}, None, "", 22)),
        (b'{"a": 1, "b": ["y', Leading({"a": 1}, None, "", 17)),
        (b'{"a": 1, "b', Leading({"a": 1}, None, "", 11)),
        (b'{"a": 12', Leading({}, None, "", 8)),
        (b'{"a": 1, "b": "\xc3', Leading({"a": 1}, "b", "", 15)),
        (b'{"a": 1, "b": "\xff\\q\t', Leading({"a": 1}, "b", "\ufffd\\q\t", 15)),
        (b'{"a": 1, "b": "\\u00e', Leading({"a": 1}, "b", "", 15)),
        (b'{"a": 1, "b": "\\ud83d\\', Leading({"a": 1}, "b", "", 15)),
        (b'{"a": 1, "b": "\\ud83d\\n', Leading({"a": 1}, "b", "\ud83d\n", 15)),
        (b'{"a": 1, ~, "b": "y', Leading({"a": 1}, None, "", 19)),
        (b'{"a": 1, "\\u00e9": "', Leading({"a": 1}, "é", "", 20)),
        (b'{"a": 1, "n": ' + b"[" * 100_000 + b"]" * 100_000 + b', "b": "y', Leading({"a": 1}, "b", "y", 200_022)),
    ],
)
def test_what_it_begins_with(data: bytes, expected: Leading) -> None:
    assert leading(data) == expected


@given(st.text(max_size=40) | words, st.booleans(), st.integers(LONGEST, 20))
def test_a_string_in_pieces(text: str, ascii: bool, size: int) -> None:
    """Whatever their size, the pieces are the string."""
    text = json.loads(json.dumps(text))
    assert in_pieces(written_as(text, ascii)[1:] + b', "more": 1}', size) == (text, True)


def in_pieces(data: bytes, size: int) -> tuple[str, bool]:
    """What all of some bytes is, `size` of them at a time, and whether the quote was met."""
    at, whole, closed = 0, "", False
    while at < len(data) and not closed:
        text, used, closed = unescape(data[at : at + size])
        assert 0 <= used <= size
        if not used and not closed:
            break
        whole, at = whole + text, at + used
    return whole, closed


parts = st.sampled_from(
    [
        b"\\",
        b"\\u",
        b"\\ud83d",
        b"\\ude00",
        b"\\u00e9",
        b"\\n",
        b"\\q",
        b'\\"',
        b"\xf0\x9f\x98\x80",
        b"\xf0\x9f",
        b"\x80",
        b"\xff",
        b"\xc3",
        b"a",
        b"d8",
        b"u",
        b"\t",
        b"\n",
        b"\0",
    ]
)


@given(st.lists(parts, max_size=12).map(b"".join) | st.binary(max_size=30), st.integers(LONGEST, 24))
def test_any_piece(data: bytes, size: int) -> None:
    """It gets on unless all that is there is the beginning of something, and it is the same whatever the pieces."""
    text, used, closed = unescape(data)
    assert not closed or data[used : used + 1] == b'"'
    assert closed or len(data) - LONGEST < used <= len(data)
    assert in_pieces(data, size) == (text, closed)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'"', ("", 0, True)),
        (b"", ("", 0, False)),
        (b'a\\"b" c', ('a"b', 4, True)),
        (b"a\\", ("a", 1, False)),
        (b"a\\u12", ("a", 1, False)),
        (b'a\\u12" c', ("a\\u12", 5, True)),
        (b"\\ud83d\\ude0", ("", 0, False)),
        (b"\\ud83d\\ude00", ("😀", 12, False)),
        (b"\\ud83d\\u0041", ("\ud83dA", 12, False)),
        (b'\\ud83d"', ("\ud83d", 6, True)),
        (b"\\\\ud83d", ("\\ud83d", 7, False)),
        (b"\xf0\x9f\x98", ("", 0, False)),
        (b"a\xff\xf0\x9fb", ("a\ufffd\ufffdb", 5, False)),
        (b"a\xc3\\n", ("a\ufffd\n", 4, False)),
        (b'a\xc3"', ("a\ufffd", 2, True)),
        (b"\\q\\x41\tb\n", ("\\q\\x41\tb\n", 9, False)),
    ],
)
def test_what_stands_in_a_string(data: bytes, expected: tuple[str, int, bool]) -> None:
    assert unescape(data) == expected
