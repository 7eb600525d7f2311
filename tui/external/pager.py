"""A whole message in the user's pager, without anything that a terminal would interpret."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import App

from sessionscope.store import PrivateFolder, Reader, Ref, StoreError
from sessionscope.tui.text.visible import visible

from .external_program import run_program

PIECE = 1_048_576


def pieces(reader: Reader, ref: Ref, row: str) -> Iterator[str]:
    """Yield a message's content, a megabyte at a time. Raises StoreError."""
    start = 0
    while True:
        message = reader.message(ref, row, start, start + PIECE)
        yield message.content or ""
        if message.stop >= message.size or message.stop <= start:
            return
        start = message.stop


def text_of(reader: Reader, ref: Ref, row: str) -> str:
    """Return a message's whole content, or its tool calls if it has no other. Raises StoreError."""
    text = "".join(pieces(reader, ref, row))
    if text:
        return text
    return reader.message(ref, row, 0, PIECE).raw.get("tool_calls_json") or ""


def show(app: App[object], reader: Reader, ref: Ref, row: str) -> None:
    """Open a message in $PAGER, or `less` if that is not set. Notify the user if that fails."""
    folder = PrivateFolder()
    try:
        path = folder.path / f"message-{row}.txt"
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for piece in pieces(reader, ref, row):
                file.write(visible(piece, newlines=True))
        run_program(app, "the pager", ("PAGER",), "less", path)
    except (StoreError, OSError) as error:
        app.notify(f"the pager could not be used: {visible(str(error))}", severity="error", markup=False)
    finally:
        folder.close()
