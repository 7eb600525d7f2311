"""The line codec: every byte in one span, every intact object a record, whatever the bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionscope.store.io.jsonlines import records, scan
from sessionscope.store.io.spans import Fidelity, Span, SpanKind, Trouble

from .helpers import DATA

A = {"role": "user", "content": 'é [名] {x} "q"'}
B = {"role": "assistant", "content": "", "tool_calls": [{"id": "c"}]}
a, b = (json.dumps(value, ensure_ascii=False).encode() for value in (A, B))
CUT = b'{"role": "user", "n": 12, "content": "caf'
R, D, BLANK = SpanKind.RECORD, SpanKind.DAMAGE, SpanKind.BLANK
EXACT, LOSSY, PARTIAL = Fidelity
Said = tuple[SpanKind, Fidelity, tuple[Trouble, ...]]
FINE: Said = (R, EXACT, ())


def spans(data: bytes) -> list[Span]:
    """What a file consists of, having checked that it is all there, in order, and on the lines that it says."""
    found = list(scan(data))
    assert b"".join(data[span.start : span.stop] for span in found) == data
    at, line = 0, 1
    wide = any(Trouble.UTF16 in span.troubles for span in found)
    for span in found:
        assert span.start == at
        assert span.line == line or wide
        assert span.stop > at
        assert (span.value is not None) == (span.kind is R)
        assert span.kind is R or span.fidelity is EXACT
        line += data.count(b"\n", at, span.stop)
        at = span.stop
    assert records(data) == [span.value for span in found if span.value is not None]
    return found


def said(data: bytes) -> list[Said]:
    return [(span.kind, span.fidelity, span.troubles) for span in spans(data)]


def values(data: bytes) -> list[dict[str, Any] | None]:
    return [span.value for span in spans(data) if span.kind is R]


def test_intact_lines() -> None:
    assert said(a + b"\n" + b + b"\n") == [FINE, FINE]
    assert values(a + b"\r\n\n \t\n" + b) == [A, B]
    assert said(a + b"\r\n\n \t\n" + b) == [FINE, (BLANK, EXACT, ()), (BLANK, EXACT, ()), FINE]
    assert said(b"") == []
    assert said(b"\n") == [(BLANK, EXACT, ())]


@pytest.mark.parametrize(
    "line",
    [
        b'{"n": NaN}',
        b'{"n": -Infinity}',
        b'{"n": 1e400}',
        '\u3000{"n": 1}\x1c'.encode(),
        b'{"a": 1, "a": 2}',
        b'{"n": 123456789012345678901234567890}',
        '{"s": "\u2028\x85\x7f"}'.encode(),
    ],
)
def test_what_the_standard_json_reads_is_no_damage(line: bytes) -> None:
    """As nanobot does: after stripping whatever counts as white space."""
    (span,) = spans(line + b"\n")
    assert (span.kind, span.fidelity, span.troubles) == FINE
    assert repr(span.value) == repr(json.loads(line.decode().strip()))


@pytest.mark.parametrize(
    ("line", "value", "fidelity", "trouble"),
    [
        (b'{"s": "\\ud83d"}', {"s": "\ud83d"}, EXACT, Trouble.SURROGATE),
        (b'{"s": "a\xffb"}', {"s": "a\ufffdb"}, LOSSY, Trouble.BAD_UTF8),
        (b'{"s": "a\tb"}', {"s": "a\tb"}, EXACT, Trouble.CONTROL),
        (b'{"s": "a\nb"}', {"s": "a\nb"}, EXACT, Trouble.CONTROL),
        (b'{"n": ' + b"7" * 5000 + b"}", {"n": "7" * 5000}, LOSSY, Trouble.HUGE_NUMBER),
        (b'{"s": "\t", "n": ' + b"7" * 5000 + b"}", {"s": "\t", "n": "7" * 5000}, LOSSY, Trouble.HUGE_NUMBER),
        (b'{\n "s": 1\n}', {"s": 1}, EXACT, Trouble.SPREAD),
        (b'{"s": "a\0\0b"}', {"s": "a\0\0b"}, LOSSY, Trouble.NUL),
        (b'{"role": "user", "content": "caf', {"role": "user"}, PARTIAL, Trouble.TRUNCATED),
        (b'{"role": "user", "content": "caf\xc3', {"role": "user"}, PARTIAL, Trouble.TRUNCATED),
        (b'{"role": "user", "content": "caf"', {"role": "user", "content": "caf"}, PARTIAL, Trouble.TRUNCATED),
        (b'{"role": "user", "n": 12', {"role": "user"}, PARTIAL, Trouble.TRUNCATED),
        (b'{"role": "user", "calls": [{"id": "c"}, {"id": "d"', {"role": "user"}, PARTIAL, Trouble.TRUNCATED),
        (b'{"role": "user", "n": ' + b"[" * 100_000, {"role": "user"}, PARTIAL, Trouble.NESTED),
    ],
)
def test_an_object_that_is_not_as_it_should_be(
    line: bytes, value: dict[str, Any], fidelity: Fidelity, trouble: Trouble
) -> None:
    """And its neighbours are as they were."""
    for data in (line, a + b"\n" + line, a + b"\n" + line + b"\n" + b + b"\n"):
        found = spans(data)
        (anomalies,) = (span for span in found if span.troubles)
        assert (anomalies.value, anomalies.fidelity) == (value, fidelity)
        assert trouble in anomalies.troubles
        assert [span.value for span in found if span is not anomalies] == [A, B][: len(found) - 1]


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        (b"123\n", [(D, EXACT, (Trouble.NOT_AN_OBJECT,))]),
        (b"[]\nnull\n", [(D, EXACT, (Trouble.NOT_AN_OBJECT,))] * 2),
        (b"just words\n", [(D, EXACT, (Trouble.GARBAGE,))]),
        (a + b"\n" + b"\0" * 99, [FINE, (D, EXACT, (Trouble.NUL,))]),
        (b"\0" * 9 + a + b"\n", [(D, EXACT, (Trouble.NUL,)), FINE]),
        (b"\xef\xbb\xbf" + a + b"\n", [(D, EXACT, (Trouble.BOM,)), FINE]),
        (a + b + b"\n", [(R, EXACT, (Trouble.GLUED,))] * 2),
        (a + b"\r" + b + b"\n", [FINE, FINE]),
        (CUT + a + b"\n", [(R, PARTIAL, (Trouble.TORN,)), FINE]),
        (b'{"ro' + a + b"\n", [(D, EXACT, (Trouble.TORN,)), FINE]),
        (b"xyz " + a + b"\n", [(D, EXACT, (Trouble.GARBAGE,)), FINE]),
        (a + b" xyz\n", [FINE, (D, EXACT, (Trouble.GARBAGE,))]),
        (CUT + b"\n" + CUT + b"\n" + a, [(R, PARTIAL, (Trouble.TRUNCATED,))] * 2 + [FINE]),
        (CUT + b"\0\0\0\n" + a, [(R, PARTIAL, (Trouble.TRUNCATED,)), (D, EXACT, (Trouble.NUL,)), FINE]),
    ],
)
def test_lines_that_are_no_object(data: bytes, kinds: list[Said]) -> None:
    assert said(data) == kinds


def test_objects_over_many_lines() -> None:
    """As an editor lays them out, and cut off at the end."""
    data = b"\n".join(json.dumps(value, indent=2).encode() for value in (A, B, {}, {"metadata": {}, "x": [{}, 1]}))
    assert values(data) == [A, B, {}, {"metadata": {}, "x": [{}, 1]}]
    assert [span.line for span in spans(data)] == [1, 5, 14, 15]
    cut = json.dumps(A, indent=2).encode() + b"\n" + json.dumps(B, indent=2).encode()[:-20]
    assert [span.fidelity for span in spans(cut)] == [EXACT, PARTIAL]
    assert values(cut) == [A, {"role": "assistant", "content": ""}]


def test_a_whole_line_is_its_own_whatever_was_left_open_before_it() -> None:
    whole = b"\n".join([a, b'{"role": "assistant", "content":', a, b])
    assert values(whole) == [A, {"role": "assistant"}, A, B]
    for at in range(1, len(b)):
        assert values(b[:at] + b"\n" + a + b"\n")[-1] == A


def test_two_bytes_of_a_mark_make_no_utf_16() -> None:
    for head in (b"\xff\xfe", b"\xfe\xff", b"\xff\xff"):
        assert values(head + (a + b"\n") * 9) == [A] * 9


def test_two_writers_at_once() -> None:
    """One wrote into the middle of the other's line."""
    found = spans(a[:20] + b + b"\n" + a[20:] + b"\n" + b)
    assert [span.value for span in found if span.fidelity is EXACT and span.kind is R] == [B, B]
    assert [span.kind for span in found if span.value != B] == [R, D]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"a": {"b": 1}, "c": ', {"a": {"b": 1}}),
        (b'{"a": {"b": 1}, "c": [{"d": 2}, {"e"', {"a": {"b": 1}}),
        (b'{"a": {"b": 1}, "c": {"d": 2}', {"a": {"b": 1}, "c": {"d": 2}}),
        (b'{"a": {"b": 1}, "c": nul', {"a": {"b": 1}}),
        (b'{"a": {"b": 1}, "c": 1, "c": 2, "d', {"a": {"b": 1}, "c": 2}),
        (b'{"n": 1, "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b', "c": 1, "d', {"n": 1}),
        (b'{"a": [[[1], []], [[[]]]], "b": [[]], "c', {"a": [[[1], []], [[[]]]], "b": [[]]}),
        (b'{"n": ' + b"7" * 5000 + b', "s": "\t\\q\xff", "d', {"n": "7" * 5000, "s": "\t\\q\ufffd"}),
    ],
)
def test_nothing_in_an_object_that_breaks_off_is_a_record(line: bytes, value: dict[str, Any]) -> None:
    for data in (line, line + b"\n" + a, line + b"\r\n" + a, line + b"\0\0" + a):
        first, *rest = spans(data)
        assert (first.value, first.fidelity) == (value, PARTIAL)
        assert [span.value for span in rest if span.kind is R] == [A] * (len(data) > len(line))


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"xyz ",
        b"}",
        b'"',
        b"{",
        b"{}",
        b'{"ro',
        b'{"role": "user", "content": "caf',
        b'{"x\\',
        b'{"x": "caf\\',
        b'{"x": "\\u12',
        b'{"x": "\xc3',
        b'{"x": 1, ',
        b'{"x": 1',
        b'{"x"',
        b'{"x": [1',
        b'{"x": tr',
        b'{"x": "{',
        b'{"x": {"y": [{"z": "',
        b'{"x": "say {"} ',
        b'{"x": ~ "caf',
        b"\0\0",
        b"\xef\xbb\xbf",
        CUT + CUT,
        a + CUT,
        a + b" xyz ",
        a + b", ",
    ],
)
@pytest.mark.parametrize("behind", [b"", b"xyz", b'af", "x": 1}', b"}", b'": "x"}', b"\0", b"\xff", b'{"x', a])
def test_a_whole_object_on_a_line_of_anything(before: bytes, behind: bytes) -> None:
    """Between garbage, behind one that is torn, or written into the middle of another."""
    found = [span for span in spans(before + b + behind + b"\n") if span.value == B]
    assert [span.fidelity for span in found] == [EXACT]


@pytest.mark.parametrize("before", [b", ", b": ", b"[", b", {", b'\\", '])
def test_a_line_in_a_string_of_another_that_could_be_its_value(before: bytes) -> None:
    """It is none as long as what comes behind does not go on like that."""
    assert B in values(b'{"x": "caf' + before + b + b' and so on", "y": 1}\n')


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # The value of what is torn is no record.
        (b'xyz"a": {"b": 1}}\n', []),
        (b'xyz[{"b": 1}, {"c": 1}]\n', []),
        (b'{"calls. [{"b": {"c": 1}}]}\n', []),
        (b'{"a": 1, ~ "c": [{"b": {"c": 1}}, {"d": 1}]}\n', [{"a": 1}]),
        (b'{"a": {"b": 1} ~, "c": 1}\n', []),
        # Nor is an empty object.
        (b"xyz {} xyz\n", []),
        (b"{}\n", [{}]),
        # Where no value can stand it is an object of its own, and between whole ones as well.
        (b'{"a": 1, {"b": 1}\n', [{"a": 1}, {"b": 1}]),
        (b'{"a": 1}, {"b": 1}, {"c": 1},\n', [{"a": 1}, {"b": 1}, {"c": 1}]),
        # What is torn more than once gives each of its parts.
        (CUT + CUT + a, [{"role": "user", "n": 12}] * 2 + [A]),
        (b'{"a": 1, "b": "x{"c": 1, "d": "y{"e": 1}y"}x"}', [{"a": 1}, {"c": 1}, {"e": 1}]),
    ],
)
def test_what_is_a_record_of_a_line(data: bytes, expected: list[dict[str, Any]]) -> None:
    assert values(data) == expected


def test_an_escape_that_json_does_not_know_stays() -> None:
    (span,) = spans(b'{"a": "\\x41\\u12\\\\ \\n", "b": 1}\n')
    assert (span.value, span.fidelity) == ({"a": "\\x41\\u12\\ \n", "b": 1}, LOSSY)
    assert span.troubles == (Trouble.ESCAPE,)


def test_an_object_over_many_lines_that_is_torn() -> None:
    """It keeps its leading fields, nothing within it is a record, and what comes behind it is as it was."""
    whole = json.dumps({"a": 1, "b": [{"c": 1}, {"d": {}}], "e": {"f": 2}, "g": 3}, indent=2).encode()
    for at in range(1, len(whole)):
        torn = whole[:at] + b"~" + whole[at:] + b"\n"
        found = [span for span in spans(torn + whole + b"\n" + a + b"\n") if span.kind is R]
        assert [(span.value, span.fidelity) for span in found[-2:]] == [(json.loads(whole), EXACT), (A, EXACT)]
        assert [span.start for span in found[:-2]] in ([], [0])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "first", ['{"x": 1}', '{ "x": 1}', ' \n\t{\n  "x": 1\n}', '{"名": 1, "x": 2}', '{"x": "名名名"}']
)
def test_utf_16_without_a_mark(encoding: str, first: str) -> None:
    """Known by its zeros, whether laid out on one line or on many."""
    data = f"{first}\n{a.decode()}\n{json.dumps(B, indent=2)}\n"
    found = [span for span in spans(data.encode(encoding)) if span.kind is not BLANK]
    assert [(span.value, span.fidelity) for span in found] == [(json.loads(first), EXACT), (A, EXACT), (B, EXACT)]
    assert all(Trouble.UTF16 in span.troubles for span in found)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", [True, False])
def test_utf_16(encoding: str, mark: bool) -> None:
    data = (("\ufeff" * mark) + f"{a.decode()}\n\n{b.decode()}\n{CUT.decode()}").encode(encoding)
    found = [span for span in spans(data) if span.kind is not BLANK]
    assert [span.value for span in found if span.kind is R] == [A, B, {"role": "user", "n": 12}]
    assert all(Trouble.UTF16 in span.troubles for span in found)
    assert values(data + b"x") == [A, B, {"role": "user", "n": 12}]


@pytest.mark.parametrize("path", sorted((DATA / "nanobot").rglob("*.jsonl")), ids=lambda path: path.stem[:20])
def test_an_undamaged_sample(path: Path) -> None:
    data = path.read_bytes()
    assert all(found == FINE for found in said(data))
    assert values(data) == [json.loads(line) for line in data.decode().split("\n") if line]


DAMAGED = sorted((DATA / "nanobot-damaged").glob("*/EXPECTED.json"))


@pytest.mark.parametrize("path", DAMAGED, ids=lambda path: path.parent.name)
def test_a_damaged_sample(path: Path) -> None:
    """Each message comes back as well as it can: exact, lossy or partial, by the digests of the undamaged ones."""
    expected = json.loads(path.read_text())
    (source,) = list(path.parent.glob("my_bot_42.jsonl.tmp")) or list(path.parent.glob("my_bot_42.jsonl"))
    messages = [span for span in spans(source.read_bytes()) if span.value and "_type" not in span.value]
    wanted = expected["recoverable"]["messages"]
    assert [span.fidelity for span in messages] == [message["fidelity"] for message in wanted]
    for span, message in zip(messages, wanted, strict=True):
        text = json.dumps(span.value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        assert (digest == message.get("digest", message.get("original_digest"))) == (span.fidelity is EXACT)
        assert span.value is not None
        assert span.value["role"] == message["role"]


HOSTILE = [
    b"{" * 20_000,
    b'{"a":' * 8_000,
    b'{"' * 20_000,
    b'{"a": "' * 8_000,
    b'{"a": {}, "b": {' * 2_000,
    b"\\" * 20_000,
    b'{"a": 1,\n' * 2_000,
    b'{"a": "\n' * 2_000,
    b'{"a": [\n' * 2_000,
    b'{"a":\n' * 2_000,
    b"\0{" * 8_000,
    b'{"a": "\\u' * 3_000,
    b'{"k": 1}x' * 2_000,
    b"\xff\n" * 8_000,
    b"\xef\xbb\xbf" * 8_000,
    b'"k": 1,\n' * 2_000,
]


@pytest.mark.parametrize("at", range(len(HOSTILE)))
def test_a_hostile_file_ends(at: int) -> None:
    """Nothing is tried without end."""
    data = HOSTILE[at] + b"\n" + a + b"\n"
    found = spans(data)
    assert found[-1].stop == len(data)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), plain, min_size=1, max_size=5)


@given(st.lists(objects, max_size=6), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_whatever_was_written_is_read(written: list[dict[str, Any]], ascii: bool, newline: str) -> None:
    data = "".join(json.dumps(value, ensure_ascii=ascii) + newline for value in written).encode("utf-8", "replace")
    expected = [json.loads(line) for line in data.decode().split(newline) if line]
    assert values(data) == expected
    assert all(span.fidelity is EXACT and span.kind is R for span in spans(data))


@given(st.binary(max_size=200))
@example(b"\xff\xfe{\0")
@example(b'{\0"\0')
def test_any_bytes(data: bytes) -> None:
    spans(data)


fragments = st.sampled_from(
    [
        a,
        b,
        CUT,
        b"{",
        b"}",
        b'"',
        b"\n",
        b"\r",
        b"\0",
        b"\\",
        b",",
        b":",
        b"[",
        b"]",
        b" ",
        b"1",
        b"null",
        b"\xff",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"x",
        b'{"role": "us',
        b'"}',
        b"\\ud83d",
        b"{}",
    ]
)


@given(st.lists(fragments, max_size=14))
def test_any_fragments(parts: list[bytes]) -> None:
    spans(b"".join(parts))


@given(st.lists(objects, min_size=1, max_size=5), st.data())
def test_damage_stays_where_it_is(written: list[dict[str, Any]], data: st.DataObject) -> None:
    """Cut, flipped, inserted or overwritten bytes in one line leave every record of another line as it was."""
    lines = [json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") for value in written]
    whole = [json.loads(line) for line in lines]
    at = data.draw(st.integers(0, len(lines) - 1))
    line = lines[at]
    start = data.draw(st.integers(0, len(line)))
    stop = data.draw(st.integers(start, len(line)))
    kind = data.draw(st.sampled_from(["cut", "flip", "insert", "nul"]))
    middle = {
        "cut": b"",
        "flip": bytes(byte ^ 0x55 for byte in line[start:stop]),
        "nul": b"\0" * (stop - start),
        "insert": line[start:stop] + data.draw(st.binary(max_size=6)),
    }[kind]
    lines[at] = line[:start] + middle.replace(b"\n", b"~") + line[stop:]
    found = [value for value in values(b"\n".join(lines) + b"\n") if value is not None]
    for position, value in enumerate(whole):
        if position != at:
            assert value in found


@given(st.lists(objects, min_size=2, max_size=6), st.data())
def test_glued_lines_lose_nothing(written: list[dict[str, Any]], data: st.DataObject) -> None:
    lines = [json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") for value in written]
    text = b"".join(line + (b"" if data.draw(st.booleans()) else b"\n") for line in lines)
    assert values(text) == [json.loads(line) for line in lines]
