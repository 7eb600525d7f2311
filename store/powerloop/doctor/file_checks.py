"""Checks of a database file as a whole, whether or not it opens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from sessionscope.store.model.errors import StoreError
from sessionscope.store.model.findings import Finding, Severity
from sessionscope.store.model.rows import Spot
from sessionscope.store.powerloop.format.layout import NoSessions
from sessionscope.store.protocols import Archive
from sessionscope.store.recovery.image import Image
from sessionscope.store.recovery.pages import MAGIC, read_header

DAMAGED = "damaged-pages"
"""The code of the finding about a file whose pages SQLite cannot read."""
HEADER_BYTES = 100
"""The size of a database's header, in bytes."""


def examine(path: Path, archives: Sequence[Archive], error: StoreError | None) -> Iterator[Finding]:
    """Return findings about a file that opened as `archives`, or that did not open because of `error`. Only reads."""
    return _check_opened(path, archives) if error is None else _check_unopened(path, error)


def _check_opened(path: Path, archives: Sequence[Archive]) -> Iterator[Finding]:
    """Check a file that opened for a journal to recover and for a missing end."""
    for copy_reason in {archive.aside for archive in archives}:
        if copy_reason and "journal" in copy_reason:
            yield Finding(
                "hot-journal",
                Severity.INFO,
                Spot(),
                "A writer died in the middle of a transaction: its "
                "journal awaits recovery by the next writer, and a private copy is read meanwhile.",
            )
    truncated = _missing_end(path, archives[0])
    if truncated is not None:
        yield truncated


def _missing_end(path: Path, archive: Archive) -> Finding | None:
    """Return a finding if the file is shorter than its header says.

    None if a process may be writing it: the end that is missing may be written a moment later.
    """
    before = archive.stamp()
    try:
        if any(os.path.exists(f"{path}{suffix}") for suffix in ("-wal", "-journal")):
            return None
        with path.open("rb") as file:
            header = read_header(file.read(HEADER_BYTES))
            size = file.seek(0, os.SEEK_END)
    except OSError:
        return None
    if header is None:
        return None
    missing_pages = header.pages - size // header.page_size
    if missing_pages <= 0 or archive.stamp() != before:
        return None
    return _truncated(path, missing_pages, header.pages)


def _image(path: Path) -> Image | None:
    """Return the pages of a file, None if there is no file that can be read."""
    try:
        return Image(os.path.realpath(path)) if path.is_file() and os.access(path, os.R_OK) else None
    except (OSError, ValueError):
        return None


def _check_unopened(path: Path, error: StoreError) -> Iterator[Finding]:
    """Check a file that did not open. Yields nothing if it does not exist, cannot be read, or is not a database."""
    image = _image(path)
    if image is None:
        return
    with closing(image):
        spot = Spot(file=str(path))
        if not image.bytes:
            yield _empty(spot, image)
        elif image.header and isinstance(error, NoSessions):
            yield Finding(
                "no-sessions",
                Severity.WARNING,
                spot,
                "It is a SQLite database that opens, but it has no "
                "tables of sessions of any release that is known here.",
            )
        elif image.page_size is None:
            # A file that begins with anything else but zeros was probably never a database.
            beginning = image.beginning
            if beginning.startswith(MAGIC) or not beginning.strip(b"\0"):
                yield Finding(
                    "not-a-database",
                    Severity.ERROR,
                    spot,
                    "Its header is no database's any more, and no "
                    "page behind it looks like one: only a copy of it could bring it back.",
                )
        elif image.header is None:
            yield Finding(
                "not-a-database",
                Severity.ERROR,
                spot,
                "Its header is overwritten, but there are pages of a database behind it.",
                salvage=True,
            )
        elif image.missing or image.torn:
            yield _truncated(path, image.missing or 1, max(image.count, image.header.pages))
        else:
            yield _damaged(path, str(error))


def _empty(spot: Spot, image: Image) -> Finding:
    if image.layer:
        return Finding(
            "empty-file",
            Severity.ERROR,
            spot,
            "It is empty, but its -wal holds pages, which the next writer would throw away.",
            salvage=True,
        )
    return Finding(
        "empty-file",
        Severity.ERROR,
        spot,
        "It is empty: either nothing was ever written, or all of it "
        "was cut off, and only a copy of it could bring it back.",
    )


def _truncated(path: Path, missing: int, pages: int) -> Finding:
    return Finding(
        "truncated-file",
        Severity.ERROR,
        Spot(file=str(path)),
        f"It ends too early: {missing} of {pages} pages {'is' if missing == 1 else 'are'} missing in whole or in part.",
        salvage=True,
    )


def _damaged(path: Path, reason: str) -> Finding:
    return Finding(DAMAGED, Severity.ERROR, Spot(file=str(path)), f"{reason.rstrip('.')}.", salvage=True)
