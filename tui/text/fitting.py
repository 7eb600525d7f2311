"""Text on one line and in a number of terminal cells. Hostile text is made harmless here."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

from .visible import visible

Span = tuple[str, str]
"""A text and the name of its style."""


def one_line(text: str) -> str:
    """Return text as a single visible line: white space joined, control characters shown."""
    return visible(" ".join(text.split()))


def fit(text: str, width: int) -> str:
    """Return text in exactly `width` cells, cut with an ellipsis or padded."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)


def between(left: list[Span], right: list[Span], width: int) -> list[Span]:
    """Return the left spans, cut or padded to the room that the right ones leave."""
    used = sum(cell_len(text) for text, _ in right)
    if width < used + 10:
        right, used = [], 0
    spans: list[Span] = []
    room = width - used
    for index, (text, style) in enumerate(left):
        cells = cell_len(text)
        if index == len(left) - 1 or cells > room:
            spans.append((fit(text, room), style))
            room = 0
            break
        spans.append((text, style))
        room -= cells
    return [*spans, (" " * room, ""), *right]


def fit_each(spans: list[Span], width: int) -> list[Span]:
    """Return spans, each in exactly `width` cells."""
    return [(fit(text, width), style) for text, style in spans]
