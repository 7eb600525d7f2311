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


def examine(path: Path, archives: Sequence[Archive], error: StoreError | None) -> Iterator[Finding]:
    """Yield what is wrong with a file although it opens, or why it does not. Reads only."""
    return _beside(path, archives) if error is None else _of_file(path, error)


def _beside(path: Path, archives: Sequence[Archive]) -> Iterator[Finding]:
    """Yield what is wrong with a file although it opens."""
    for aside in {archive.aside for archive in archives}:
        if aside and "journal" in aside:
            yield Finding(
                "hot-journal",
                Severity.INFO,
                Spot(),
                "A writer died in the middle of a transaction: its "
                "journal awaits recovery by the next writer, and a private copy is read meanwhile.",
            )
    if (found := _quiet_look(path, archives[0])) is not None:
        yield found


def _quiet_look(path: Path, archive: Archive) -> Finding | None:
    """Return a finding if the end of the file is missing.

    While a process writes the file, its end may come a moment later.
    """
    before = archive.stamp()
    try:
        if any(os.path.exists(f"{path}{suffix}") for suffix in ("-wal", "-journal")):
            return None
        with path.open("rb") as file:
            header, size = read_header(file.read(100)), file.seek(0, os.SEEK_END)
    except OSError:
        return None
    missing = header.pages - size // header.page_size if header else 0
    return _truncated(path, missing, header.pages) if header and missing > 0 and archive.stamp() == before else None


def _image(path: Path) -> Image | None:
    """Return the pages of a file, None if there is no readable file."""
    try:
        return Image(os.path.realpath(path)) if path.is_file() and os.access(path, os.R_OK) else None
    except (OSError, ValueError):
        return None


def _of_file(path: Path, error: StoreError) -> Iterator[Finding]:
    """Yield findings about a file that does not open; none if it does not exist, may not be read, or is something
    else.
    """
    image = _image(path)
    if image is None:
        return
    with closing(image):
        place = Spot(file=str(path))
        if not image.bytes:
            yield _empty(place, image)
        elif image.header and isinstance(error, NoSessions):
            yield Finding(
                "no-sessions",
                Severity.WARNING,
                place,
                "It is a SQLite database that opens, but it has no "
                "tables of sessions of any release that is known here.",
            )
        elif image.page_size is None:
            head = image.beginning
            if head.startswith(MAGIC) or not head.strip(b"\0"):
                yield Finding(
                    "not-a-database",
                    Severity.ERROR,
                    place,
                    "Its header is no database's any more, and no "
                    "page behind it looks like one: only a copy of it could bring it back.",
                )
        elif image.header is None:
            yield Finding(
                "not-a-database",
                Severity.ERROR,
                place,
                "Its header is overwritten, but there are pages of a database behind it.",
                salvage=True,
            )
        elif image.missing or image.torn:
            missing = image.missing or 1
            yield _truncated(path, missing, max(image.count, image.header.pages))
        else:
            yield _damaged(path, str(error))


def _empty(place: Spot, image: Image) -> Finding:
    if image.layer:
        return Finding(
            "empty-file",
            Severity.ERROR,
            place,
            "It is empty, but its -wal holds pages, which the next writer would throw away.",
            salvage=True,
        )
    return Finding(
        "empty-file",
        Severity.ERROR,
        place,
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


def _damaged(path: Path, why: str) -> Finding:
    return Finding(DAMAGED, Severity.ERROR, Spot(file=str(path)), f"{why.rstrip('.')}.", salvage=True)
