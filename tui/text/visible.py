"""Makes visible what a terminal would interpret or hide, so that session text can only be shown."""

from __future__ import annotations

import re

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_CONTROL = (
    "\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\ufe00-\ufe0f\U000e0100-\U000e01ef\U000e0000-\U000e007f"
)
_IN_LINE = re.compile(f"[\0-\x1f{_CONTROL}]")
_IN_TEXT = re.compile(f"[\0-\x08\x0b-\x1f{_CONTROL}]")
_SELECTORS = ("\ufe00", "\ufe0f"), ("\U000e0100", "\U000e01ef")
_EMOJI = ("\u00a9", "\u00ae"), ("\u2190", "\u2bff"), ("\U0001f000", "\U0001faff")
_CURSIVE = ("\u0600", "\u109f"), ("\u1780", "\u18af")
_TAGS = (("\U000e0030", "\U000e007f"),)
_FLAG = "\U0001f3f4[\U000e0030-\U000e007a]{2,6}\U000e007f"
_FLAG_CHARS = 8
"""How many characters a flag has at most."""


def visible(text: str, newlines: bool = False) -> str:
    """Return `text` with every control character, bidi control, hidden joiner and lone surrogate shown in print.

    With `newlines`, line feeds stay and tabs are expanded to four columns. Without, the result is one line.
    """
    if not newlines:
        return text if text.isascii() and text.isprintable() else _IN_LINE.sub(_show, text)
    if not (text.isascii() and text.replace("\n", "").isprintable()):
        text = _IN_TEXT.sub(_show, text)
    return text.expandtabs(4) if "\t" in text else text


def _show(found: re.Match[str]) -> str:
    char, code = found[0], ord(found[0])
    if code in _PICTURES:
        return _PICTURES[code]
    if _belongs(char, found.string, found.start()):
        return char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _belongs(char: str, text: str, at: int) -> bool:
    """Return whether a character that could hide something has an honest use at its place."""
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if _in(char, _SELECTORS):
        # The first one picks a glyph. More of them in a row carry hidden text.
        return bool(before) and not _in(before, _SELECTORS)
    if char == "\u200d" and _in(after, _EMOJI):
        return _in(before, _EMOJI) or before == "\ufe0f"
    if char in "\u200c\u200d":
        return _in(before, _CURSIVE) and _in(after, _CURSIVE)
    if _in(char, _TAGS):
        # Only in the flags of England, Scotland and Wales.
        around = re.compile(_FLAG).finditer(text, max(0, at - _FLAG_CHARS), at + _FLAG_CHARS)
        return any(flag.start() < at < flag.end() for flag in around)
    return False


def _in(char: str, ranges: tuple[tuple[str, str], ...]) -> bool:
    return any(first <= char <= last for first, last in ranges)
