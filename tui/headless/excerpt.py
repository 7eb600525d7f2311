"""The messages that a compaction removes from the context, as text for a summarizer."""

from __future__ import annotations

from collections.abc import Iterator

from sessionscope.store import Cut, Message, Reader, Ref, View

from . import reading


def excerpt(reader: Reader, ref: Ref, cut: Cut) -> Iterator[str]:
    """Yield the messages that are compacted as the model is sent them: in that order, each with its seq and role.

    Raises StoreError.
    """
    order = {row.seq: index for index, row in enumerate(cut.leaves)}
    timeline = reader.timeline(ref, View.ALL, reader.outline(ref))
    rows = sorted(
        (row for row in reading.rows(timeline, View.ALL, *cut.span) if row.seq in order),
        key=lambda row: order[row.seq or 0],
    )
    for row, pieces in reading.messages(reader, ref, iter(rows)):
        said = f", {row.name}" if row.name else ""
        yield f"#{row.seq} {row.role}{said}\n"
        for index, piece in enumerate(pieces):
            yield piece.content or ""
            if index == 0:
                yield from _calls(piece)
        yield "\n\n"


def _calls(message: Message) -> Iterator[str]:
    for call in message.tool_calls:
        yield f"\n-> {call.name}({call.arguments})"
