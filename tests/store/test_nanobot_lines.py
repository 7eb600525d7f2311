"""The line index against nanobot's own way of loading a file, on files that were damaged in every way."""

from __future__ import annotations

import io
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sessionscope.store import Busy
from sessionscope.store.io.jsonlines import scan
from sessionscope.store.nanobot.format import line_scan as index
from sessionscope.store.nanobot.format.file import opening
from sessionscope.store.nanobot.format.line_scan import outline_rows
from sessionscope.store.nanobot.format.lines import FileOutline
from sessionscope.store.nanobot.read.record import decode

from .workspaces import NAME, counted, lines, talk


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that lines, objects and damage lie across the borders of what is read at once."""
    monkeypatch.setattr(index, "CHUNK", 64)


def outline(path: Path, before: FileOutline | None = None) -> FileOutline:
    with opening(str(path)) as file:
        return outline_rows(file, lambda: False, before)


def loaded(data: bytes) -> list[dict[str, Any]] | None:
    """The messages that 0.3.5 loads of a file, None where it gives it up: its rules, line by line."""
    found = []
    try:
        for line in io.TextIOWrapper(io.BytesIO(data), "utf-8"):
            if text := line.strip():
                try:
                    value = json.loads(text)
                except json.JSONDecodeError:
                    continue
                if isinstance(value, dict) and value.get("_type") not in ("metadata", "provider_state"):
                    found.append(value)
    except (UnicodeDecodeError, ValueError, RecursionError):
        return None
    return found


def check(path: Path, data: bytes) -> FileOutline:
    """The rows with seqs are just what nanobot loads, and rows lie end to end up to the end."""
    path.write_bytes(data)
    found = outline(path)
    spans = [found.span(row) for row in range(len(found.starts))]
    assert all(stop == start for (_, stop), (start, _) in pairwise(spans))
    assert all(start < stop for start, stop in spans)
    assert not spans or spans[-1][1] == len(data)
    values = [
        decode(data[slice(*found.span(found.row_of(seq)))], True, None).value for seq in range(1, found.messages + 1)
    ]
    theirs = loaded(data)
    if theirs is None:
        assert found.lost or b"\xff\xfe" in data[:2] + data[:1], data
    else:
        assert [json.dumps(value) for value in values] == [json.dumps(value) for value in theirs]
    assert len(found.unloaded_lines) == len(found.rows_without_seq)
    for row, unloaded in zip(found.rows_without_seq, found.unloaded_lines, strict=True):
        before = data[: found.starts[row]]
        assert unloaded.line == 1 + len(before.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[1:]), unloaded
        assert found.unloaded(row) == unloaded
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b" \n\n",
        b"{}",
        b"{}\n",
        b"{}\r{}\r\n{}",
        b"\r\n{}\n",
        b"x",
        b"{",
        b"[]\n{}\n",
        b"{}{}\n{}\n",
        b"\0\0\n{}\n",
        b"\xef\xbb\xbf{}\n{}\n",
        "\u3000{}\x1c\n".encode(),
        b'{"a": "\r"}\n{}\n',
        b'{"_type": "metadata"}\n{"_type": "metadata"}\n',
        b'{"_type": "provider_state"}\n{}\n{"_type": "provider_state"}\n{}\n',
        b'{\n"a": 1\n}\n{}\n',
        b'{"s": "\\ud800"}\n',
        b'{"a": NaN}\n',
        b'{"a": "' + b"x" * 500 + b'"}\n{}\n',
        b'{"a": "' + b"x" * 500 + b"\n{}\n",
    ],
)
def test_by_example(tmp_path: Path, data: bytes) -> None:
    check(tmp_path / "a.jsonl", data)


whole = st.dictionaries(
    st.sampled_from(["role", "content", "_type", "x"]),
    st.sampled_from(["user", "metadata", "é😀", "a" * 70, "{}", 1, None, [{"k": "}"}]]),
    max_size=3,
)
broken = st.sampled_from(
    [
        b"",
        b" ",
        b"x",
        b"{",
        b'{"a": 1',
        b'{"a": "',
        b"123",
        b"[1]",
        b"\0\0",
        b"{}{}",
        b"{} x",
        b"\xc3\xa9",
        b'{"a":\t"\t"}',
        b"{\n\n}",
        b"\xff",
        b"7" * 60,
        b'{"a": ' + b"7" * 4400 + b"}",
    ]
)


@given(
    st.lists(whole.map(lambda value: json.dumps(value, ensure_ascii=False).encode()) | broken, max_size=9),
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n"]),
    st.booleans(),
)
def test_any_lines(tmp_path: Path, parts: list[bytes], end: bytes, closed: bool) -> None:
    check(tmp_path / "a.jsonl", end.join(parts) + (end if closed and parts else b""))


@given(st.data())
def test_damage_at_random(tmp_path: Path, data: st.DataObject) -> None:
    """Cut, flipped, inserted, zeroed: rows that nanobot still loads are found, and nothing else."""
    text = lines(talk(data.draw(st.integers(0, 6)), text="é {}"), metadata={"title": "t"})
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = min(len(text), start + data.draw(st.integers(0, 40)))
        middle = data.draw(st.sampled_from(["cut", "flip", "insert", "zero"]))
        text = (
            text[:start]
            + {
                "cut": b"",
                "flip": bytes(byte ^ 0x15 for byte in text[start:stop]),
                "zero": b"\0" * (stop - start),
                "insert": text[start:stop] * 2,
            }[middle]
            + text[stop:]
        )
    check(tmp_path / "a.jsonl", text)


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 200))
def test_what_is_appended_is_found_as_if_all_was_read(tmp_path: Path, kinds: list[int], cut: int) -> None:
    parts = [lines(talk(4)), *((b'{"role": "user"}\n', b"x\n", b'{"role": "us', b"\n")[kind] for kind in kinds)]
    data, path = b"".join(parts), tmp_path / "a.jsonl"
    path.write_bytes(data[: max(len(parts[0]), len(data) - cut)])
    before = outline(path)
    with path.open("ab") as file:
        file.write(data[before.end :])
    grown, anew = outline(path, before), outline(path)
    assert (grown.certain, anew.certain) == (False, True)
    assert replace(grown, certain=True) == anew


BAD_LINES = [
    b'{"a": NaN}\n',
    b'{"s": "\\ud83d"}\n',
    b'{"a": 1,\n',
    b"x\n",
    b'{"a": "\xff"}\n',
    b"{}{}\n",
    b"\0\n",
    b"[1]\n",
]


@pytest.mark.parametrize("line", BAD_LINES)
@pytest.mark.parametrize("every", [1, 2, 3])
def test_odd_lines_cost_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, every: int
) -> None:
    """However many there are, each byte is read, and looked at closely, about once."""
    monkeypatch.undo()
    data = b"".join(line if not at % every else b'{"role": "user"}\n' for at in range(8_000))
    path, looked_at = tmp_path / "a.jsonl", 0
    path.write_bytes(data)
    scan = index.scan

    def counting(part: bytes) -> Any:
        nonlocal looked_at
        looked_at += len(part)
        return scan(part)

    monkeypatch.setattr(index, "scan", counting)
    with counted(monkeypatch) as work:
        found = outline(path)
    assert looked_at <= len(data)
    assert work.bytes <= 2 * len(data) + 100_000
    assert found.end == len(data)


@pytest.mark.parametrize("damage", [b"", b"x\n"])
def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, damage: bytes) -> None:
    """As the first releases save: truncated, then written."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(talk(200)) + damage)
    with opening(str(path)) as file:
        os.truncate(path, 900)
        with pytest.raises(Busy, match="cut short"):
            outline_rows(file, lambda: False)


def test_lines_within_a_laid_out_object_are_what_nanobot_takes_them_for(tmp_path: Path) -> None:
    laid_out = json.dumps({"role": "user", "content": "x", "media": ["/a.png", "/b.png"]}, indent=1).encode()
    found = check(tmp_path / "a.jsonl", b'{"role": "user"}\n' + laid_out + b"\n{}\n")
    assert found.messages == 2
    assert found.lost == ((index.NO_OBJECT, 7),)
    (unloaded,) = found.unloaded_lines
    assert unloaded.line == 2


def test_an_empty_type_is_a_type(tmp_path: Path) -> None:
    found = check(tmp_path / "a.jsonl", b'{"x": 1}\n{"_type": "", "x": 2}\n{"_type": null}\n{"_type": []}\n')
    assert found.messages == 4


def test_a_damaged_line_longer_than_any_that_a_writer_means_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_into: list[int] = []
    monkeypatch.setattr(index, "scan", lambda data: looked_into.append(len(data)) or scan(data))
    monkeypatch.setattr(index, "REGION_BYTES", 1_000)
    whole = lines(talk(2)).split(b"\n")
    data = b"\n".join([*whole[:2], b'{"role": "user"} {' + b"[" * 5_000, whole[2], b'{"role": "user"} {"a', b""])
    found = check(tmp_path / NAME, data)
    assert looked_into == [21]
    assert [(unloaded.line, unloaded.why) for unloaded in found.unloaded_lines[:1]] == [(3, (index.UNLOADED,))]
