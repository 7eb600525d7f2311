"""Files of objects that are damaged at random: whatever was not touched comes back, in order, unchanged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sessionscope.store.io.jsonlines import records, scan
from sessionscope.store.io.spans import Fidelity, Span, SpanKind

Object = dict[str, Any]
words = st.text(st.sampled_from('{}[]:,"\\ \n\tabé名😀\u2028\0'), max_size=9) | st.text(max_size=6)
# A first key that goes on like JSON behind its quote can make a torn string in front of it look sound.
names = words.filter(lambda name: name.strip(" ")[:1] not in (",", ":", "]", "}"))
inner = st.recursive(
    words | st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(words, some, max_size=3),
    max_leaves=6,
)
objects = st.builds(
    lambda name, value, more: {name: value} | more, names, inner, st.dictionaries(words, inner, max_size=3)
)
styles = st.sampled_from([{}, {"ensure_ascii": False}, {"ensure_ascii": False, "separators": (",", ":")}])
written = st.builds(lambda value, style: json.dumps(value, **style).encode(), objects, styles)
DEBRIS = [*(b"%c" % byte for byte in b'{}[]:,"\\ x1\0\xff\xc3\r\n'), b'{"', b'"}', b'": ', b'{"a": ', b"\xef\xbb\xbf"]
debris = st.lists(st.sampled_from(DEBRIS), max_size=5)


def checked(data: bytes) -> list[Span]:
    """The spans of a file, having checked that they are all of it."""
    found = list(scan(data))
    assert [span.start for span in found] + [len(data)] == [0, *(span.stop for span in found)]
    assert records(data) == [span.value for span in found if span.value is not None]
    return found


def exact(data: bytes) -> list[Object | None]:
    return [span.value for span in checked(data) if span.kind is SpanKind.RECORD and span.fidelity is Fidelity.EXACT]


def in_order(wanted: Iterable[bytes], found: Iterable[Object | None]) -> bool:
    """Whether all that is wanted is found, in this order, whatever stands between."""
    left = iter(found)
    return all(any(value == json.loads(line) for value in left) for line in wanted)


def last_byte(data: bytes) -> bytes:
    return data.rstrip(b" \t\r\n")[-1:]


def asks_for_a_value(begun: bytes) -> bool:
    """Whether an object would be a value where an intact one is cut off."""
    bare = re.sub(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', b"0", begun)
    if b'"' in bare:
        return False
    flat = bare
    while (less := re.sub(rb"\[[^][{}]*\]|\{[^][{}]*\}", b"0", flat)) != flat:
        flat = less
    return last_byte(bare) in (b":", b"[") or (last_byte(bare) == b"," and flat.rfind(b"[") > flat.rfind(b"{"))


@given(st.lists(written, min_size=2, max_size=5), st.data())
def test_a_line_in_the_middle_of_another(lines: list[bytes], data: st.DataObject) -> None:
    """With its newline or without. Where a value is due it is one; else it is a record."""
    at = data.draw(st.integers(0, len(lines) - 2))
    outer, whole = lines[at], lines[at + 1]
    cut = data.draw(st.integers(1, len(outer) - 1))
    newline = data.draw(st.sampled_from([b"", b"\n", b"\r\n"]))
    begun, rest = outer[:cut], outer[cut:]
    # Behind a comma and before one it is a value as well, should the quote of the string around it have been lost.
    like_a_value = last_byte(begun) in (b":", b",", b"[") and rest.lstrip()[:1] in (b"]", b"}", b",")
    lost = asks_for_a_value(begun) or (begun.count(b'"') and like_a_value)
    file = b"\n".join([*lines[:at], begun + whole + newline + rest, *lines[at + 2 :]]) + b"\n"
    assert in_order([*lines[:at], *([] if lost else [whole]), *lines[at + 2 :]], exact(file))


@given(st.lists(written, min_size=1, max_size=7), st.data())
def test_what_was_not_touched_comes_back(lines: list[bytes], data: st.DataObject) -> None:
    """Lines cut, flipped, added to, zeroed, broken in two, glued together and written into one another."""
    file, whole = b"", []

    def untouched(line: bytes) -> None:
        # Where it does not begin a line, what comes before must not ask for a value.
        if file[-1:] in (b"", b"\n", b"\r") or last_byte(file) not in (b":", b",", b"["):
            whole.append(line)

    for line in lines:
        kind = data.draw(st.sampled_from(["whole", "whole", "cut", "flip", "insert", "zero", "newline", "interleave"]))
        start = data.draw(st.integers(0, len(line)))
        stop = data.draw(st.integers(start, min(len(line), start + 6)))
        if kind == "whole":
            untouched(line)
            file += line
        elif kind == "interleave":
            file += line[:start]
            middle = data.draw(written)
            untouched(middle)
            file += middle + data.draw(st.sampled_from([b"", b"\n"])) + line[start:]
        else:
            middle = {
                "cut": b"",
                "flip": bytes(byte ^ 0x55 for byte in line[start:stop]),
                "zero": b"\0" * (stop - start),
                "insert": b"".join(data.draw(debris)),
                "newline": b"\n" + line[start:stop],
            }[kind]
            file += line[:start] + middle + line[stop:]
        file += data.draw(st.sampled_from([b"\n", b"\n", b"\n", b"", b"\r\n"]))
    assert in_order(whole, exact(file))
