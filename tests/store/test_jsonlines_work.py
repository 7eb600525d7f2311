"""The work on a file grows with the file, whatever its bytes: counted, not timed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sessionscope.store.io import jsonlines, jsontokens, line_analysis
from sessionscope.store.io.jsonlines import scan
from sessionscope.store.io.spans import Fidelity

SIZE = 6000


def hostile(size: int, unit: bytes, before: bytes = b"") -> bytes:
    """A file of a beginning repeated, and behind it one whole line as long as all of that."""
    return before + unit * (size // len(unit)) + b'\n{"role": "' + b"u" * size + b'"}\n'


UNITS = [
    # Many of them on one line.
    b"{",
    b"[",
    b'{"',
    b'"',
    b'""',
    b"\\",
    b'\\"',
    b'{"a":',
    b'{"a": "',
    b'{"a": [',
    b'{"a": {}, "b": {',
    b'{"k"',
    b'{"k":1,',
    b"{,",
    b"{ ",
    b"{         ",
    b'{"a": "\\u',
    b'{"a": "\\q',
    b'{"a": 1}',
    b'{"a": {"b": [1, 2]}}{"a":',
    b'{"k": 1}x',
    b'{"a": 1},',
    b'[{"a": 1}, ',
    b"{}",
    b"{}x",
    b"null ",
    b'"k": 1, ',
    b'{", ": 1',
    b'{":": ',
    b'x{"k": "y',
    b'{"a": "caf{"',
    b'"{"a": 1',
    b"]",
    b"[[], ",
    b'{"a": [[',
    b"[] ]",
    # Many lines, whatever ends and indents them.
    b"\n",
    b'"\n',
    b"\xff\n",
    b'{"\n',
    b'{"a": 1,\n',
    b'{"a": "\n',
    b'{"a": "x\r\n',
    b'{"a": [\n',
    b'{"a":\n',
    b'{"a": [\r',
    b'{"a":\r',
    b' {"a": [\n',
    b' {"a":\n',
    b' {"a": [\n {"b": 1},\n',
    b'{"a": [\n {"b": 1},\n',
    b'{"a": "\n {"b": 1}\n',
    b' {"a":[\n{"b": 1}\n',
    b'"k": 1,\n',
    b'{"a": 1, "b":\n ',
    b'{\n"a": 1\n}',
    b'{\n "a": 1\n}x',
    b'{\n "a": 1,\n~\n',
    b' {\n "a": [\n',
    b'{"a": NaN}\n',
    '\u3000{"a": 1}\r'.encode(),
    # Zeros, marks, and what is hard to decode.
    b"\0{",
    b"\0\n",
    b'{"a": "\0',
    b'{"a":\0"',
    b'{"a": "\0\n',
    b'{"a": "x\0y", "b": [',
    b'{"a": {"b": "\0", "c": ',
    b"\xef\xbb\xbf",
    b'{"a": "\\ud800"}',
    b'{"a": "\\q"}',
    '{"a": "😀'.encode(),
    b'{"n": ' + b"7" * 4400 + b"}",
    b'{"a": "\t"}\r',
]
BEFORE = [b"", b'{"x": [', b'{"x": "']


class Counted:
    """A pattern that counts what it looks at, or a bit more."""

    work = 0

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        self.pattern = pattern

    def match(self, data: bytes, at: int = 0, stop: int | None = None) -> re.Match[Any] | None:
        found = self.pattern.match(data, at, len(data) if stop is None else stop)
        Counted.work += 1 + (found.end() - at if found else 0)
        return found

    def search(self, data: bytes, at: int = 0, stop: int | None = None) -> re.Match[Any] | None:
        stop = len(data) if stop is None else stop
        found = self.pattern.search(data, at, stop)
        Counted.work += 1 + (found.end() if found else max(stop, at)) - at
        return found

    def finditer(self, data: bytes, at: int, stop: int) -> list[re.Match[Any]]:
        # Who stops early pays for all, or the test would not see what a change of mind costs.
        Counted.work += 1 + max(stop - at, 0)
        return list(self.pattern.finditer(data, at, stop))

    def sub(self, new: Any, data: str) -> str:
        Counted.work += 1 + len(data)
        return self.pattern.sub(new, data)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts whatever is matched, walked back over or decoded."""
    for module in (jsonlines, jsontokens, line_analysis):
        for name, value in list(vars(module).items()):
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(module, name, Counted(value))

    def count(module: Any, name: str) -> None:
        function = getattr(module, name)

        def counting(data: bytes, *more: Any) -> Any:
            found = function(data, *more)
            Counted.work += 1 + (more[0] - found if name == "before" else len(data))
            return found

        monkeypatch.setattr(module, name, counting)

    count(jsontokens, "read")
    count(jsontokens, "before")
    count(jsontokens, "is_utf8")
    count(jsonlines, "_decode")
    count(line_analysis, "_decode")


def work(data: bytes) -> int:
    Counted.work = 0
    found = list(scan(data))
    assert [span.start for span in found] + [len(data)] == [0, *(span.stop for span in found)]
    return Counted.work


@pytest.mark.parametrize("before", BEFORE[::4])
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: repr(unit[:20])[2:-1])
@pytest.mark.usefixtures("counted")
def test_twice_the_file_is_twice_the_work(unit: bytes, before: bytes) -> None:
    once, twice = (work(hostile(size, unit, before)) for size in (SIZE, 2 * SIZE))
    assert twice <= 2.2 * once
    assert twice <= 60 * 2 * SIZE


@pytest.mark.parametrize("unit", UNITS[::4], ids=lambda unit: repr(unit[:20])[2:-1])
@pytest.mark.usefixtures("counted")
def test_in_utf_16_too(unit: bytes) -> None:
    unit = unit.decode("utf-8", "replace").encode()
    once, twice = (work(("\ufeff" + hostile(size, unit).decode()).encode("utf-16-le")) for size in (SIZE, 2 * SIZE))
    assert twice <= 2.2 * once


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(b"\n")], ids=lambda unit: repr(unit)[2:-1])
def test_the_last_line_is_found_behind_all_of_it(unit: bytes) -> None:
    """However much was left open before it, and although the look ahead has come to its end."""
    found = list(scan(hostile(SIZE, unit)))
    assert (found[-1].value, found[-1].fidelity) == ({"role": "u" * SIZE}, Fidelity.EXACT)
