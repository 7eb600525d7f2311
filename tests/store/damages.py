"""Session files that were damaged in every way, and what the real nanobot loads and sends of them.

    python tests/store/damages.py      records the answers of the release that the interpreter has, 0.2.0 or 0.3.5

The same seed gives the same file on every Python: only `Random.random` promises its sequence.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

try:
    from .conversations import case
except ImportError:  # Run as a script.
    from conversations import case

ANSWERS = Path(__file__).parents[1] / "data" / "nanobot-damage.json"
FILES, KEPT, KEY = 400, 12, "telegram:42"
NAMES = {"0.2.0": "telegram_42.jsonl", "0.3.5": f"{base64.urlsafe_b64encode(KEY.encode()).decode().rstrip('=')}.jsonl"}
_BLANKS = (b"", b"  ", b"\x0b", "\u3000".encode(), b"\x1c", b"\xc2\xa0", b"\xc2\x85")
_ENDS = (b"\r", b" ", "\u3000".encode(), b"\x1c", b"\x0c", b",", b"\0", b" x")
_LINES = (
    b"null",
    b"1",
    b"[]",
    b'"x"',
    b"garbage",
    b"{}",
    b'{"role": "user", "content": "esc \\x"}',
    b'{"role": "user",, "content": "c"}',
    b'{"role": "user", "role": "assistant", "content": "twice", "_type": ""}',
    b'{"role": "user", "content": "\\ud800"}',
    b'{"role": "user", "content": "n", "v": NaN}',
    b'{"role": "user", "content": "n", "v": 01}',
    b'{"role": "user", "content": "n", "v": 1e999}',
    b'{"role": "user", "content": "\t"}',
    b'{"_type": "metadata", "metadata": {}}',
    b'{"_type": "other"}',
    b'{"role": "user", "content": "big", "n": ' + b"9" * 4300 + b"}",
    b'{"role": "user", "content": "bigger", "n": ' + b"9" * 4301 + b"}",
)
_BYTES = (b"\xff", b"\xc3", b"\r", b"\n", b"\0", b"\\q", b"\x01", b'"', b"{", b"}", b",")


def file(seed: int, later: bool) -> bytes:
    """A session of a generated conversation, its lines damaged in up to three places."""
    random = Random(seed)

    def pick(*values: Any) -> Any:
        return values[int(random.random() * len(values))]

    messages = case(seed)[0] * pick(1, 1, 1, 20)
    offset = pick(0, 0, 0, 1, 2, len(messages), pick(-1, -3, 999, True, None, "2", 1.5))
    head = {
        "_type": "metadata",
        "key": KEY,
        "created_at": "2026-05-16T09:00:00",
        "updated_at": pick("2026-05-16", "x", 5),
        "metadata": pick({}, {}, {}, None, []),
        "last_consolidated": offset,
    }
    if later:
        head["last_archived"] = pick(offset, offset, None, "x", 3)
    lines = [json.dumps(row, ensure_ascii=bool(pick(0, 1))).encode() for row in (head, *messages)]
    for _ in range(pick(0, 1, 1, 2, 3)):
        at = pick(*range(len(lines)))
        line, place = lines[at], pick(*range(len(lines[at]) + 1))
        how = pick("cut", "glue", "blank", "end", "line", "byte", "mark", "laid out", "lost", "twice")
        lines[at : at + 1 + (how == "glue")] = {
            "cut": [line[:place]],
            "glue": [b"".join(lines[at : at + 2])],
            "blank": [pick(*_BLANKS), line],
            "end": [line + pick(*_ENDS)],
            "line": [pick(*_LINES), line],
            "mark": [b"\xef\xbb\xbf" + line],
            "byte": [line[:place] + pick(*_BYTES) + line[place:]],
            "lost": [],
            "twice": [line, line],
            "laid out": [_laid_out(line)],
        }[how]
        lines = lines or [b""]
    end = pick(b"\n", b"\n", b"\n", b"\r\n", b"\r")
    return bytes(end.join(lines) + pick(end, end, b""))


def _laid_out(line: bytes) -> bytes:
    try:
        return json.dumps(json.loads(line), indent=1).encode()
    except (ValueError, RecursionError):
        return line


Answer = list[Any]
"""How many messages are loaded, and what the model is sent: None where the release raises, or has nothing to send."""


def digest(answer: Answer) -> str:
    return hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()[:KEPT]


def real(folder: Path) -> tuple[str, Callable[[bytes], Answer]]:
    """The release that is installed, and what it makes of a file. Raises ImportError where it is missing."""
    from loguru import logger
    from nanobot.session import manager

    logger.remove()
    release = version("nanobot-ai")
    if release == "0.2.0":
        store = manager.SessionManager(folder)
        load: Callable[[str], Any] = store._load
    else:
        store = manager.JsonlSessionStore(folder / "ws", sessions_root=folder / "root")
        load = store.load

    def ask(data: bytes) -> Answer:
        (store.sessions_dir / NAMES[release]).write_bytes(data)
        try:
            session = load(KEY)
        except RecursionError:
            session = None
        if session is None or not session.messages:
            return [0, None]
        try:
            return [len(session.messages), session.get_history()]
        except (KeyError, TypeError):
            return [len(session.messages), None]

    return release, ask


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temp:
        name, question = real(Path(temp))
        known = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
        known[name] = [digest(question(file(seed, name != "0.2.0"))) for seed in range(FILES)]
        ANSWERS.write_text(json.dumps(dict(sorted(known.items())), indent=0) + "\n")
    sys.exit(0)
