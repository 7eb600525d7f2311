"""What is wrong at a place, whatever is there: what the archives' own doctors find, and words where nothing opens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from .model.errors import Damaged, NotAnArchive, UnknownSession
from .model.findings import Finding, Severity
from .model.plans import Progress, silent
from .model.rows import Ref, Spot
from .protocols import Archive, Cancel, never
from .recovery.image import Image
from .recovery.pages import MAGIC, read_header
from .registry import Zone, find_place, machine_zone, open_archive

DAMAGED = "damaged-pages"


def diagnose(
    place: str | os.PathLike[str],
    session: str | None = None,
    zone: Zone = machine_zone,
    progress: Progress = silent,
    cancel: Cancel = never,
) -> Iterator[Finding]:
    """What is wrong at a place that `open_archive` takes, in one session by its id or ref or in all. It only reads.

    A database that does not open is told of by findings too. Raises NotAnArchive where nothing of the kind is there,
    or it may not be read, Busy where it is locked, UnknownSession where no session or several answer to the name; and
    Cancelled while it walks.
    """
    path, prefix = find_place(place)
    try:
        archives = open_archive(place, zone)
    except (NotAnArchive, Damaged) as error:
        told = [] if isinstance(error, NotAnArchive) and prefix and _opens(path) else list(_of_file(path, error))
        if not told:
            raise
        return iter(told)
    try:
        chosen = _chosen(archives, session) if session is not None else [(archive, None) for archive in archives]
    except BaseException:
        _close(archives)
        raise
    return _walk(path, archives, chosen, progress, cancel)


def _opens(path: Path) -> bool:
    """Whether the fault is the prefix that was asked for, not the file."""
    try:
        _close(open_archive(path))
    except (NotAnArchive, Damaged):
        return False
    return True


def _chosen(archives: Sequence[Archive], name: str) -> list[tuple[Archive, Ref | None]]:
    """The archive that has the session. Where damage hides whether one has it, that archive is looked at as a whole."""
    found: list[tuple[Archive, Ref | None]] = []
    damaged: list[tuple[Archive, Ref | None]] = []
    failures: list[UnknownSession] = []
    for archive in archives:
        try:
            found.append((archive, archive.reader().resolve(name)))
        except UnknownSession as error:
            failures.append(error)
        except Damaged:
            damaged.append((archive, None))
    if len(found) > 1:
        refs = ", ".join(str(ref) for _, ref in found)
        raise UnknownSession(f"{name!r} names more than one session; say which: {refs}.")
    if not found and not damaged:
        # The longest one has candidates to offer.
        raise max(failures, key=lambda error: len(str(error)))
    return found or damaged


def _walk(
    path: Path,
    archives: Sequence[Archive],
    chosen: Sequence[tuple[Archive, Ref | None]],
    progress: Progress,
    cancel: Cancel,
) -> Iterator[Finding]:
    seen: set[str] = set()
    try:
        for finding in _beside(path, archives):
            seen.add(finding.code)
            yield finding
        for archive, ref in chosen:
            try:
                for finding in archive.reader().findings(ref, progress, cancel):
                    seen.add(finding.code)
                    yield finding
            except Damaged as error:
                # Two layouts are in one file, and so is its damage.
                if DAMAGED not in seen:
                    seen.add(DAMAGED)
                    yield _damaged(path, str(error))
    finally:
        _close(archives)


def _close(archives: Sequence[Archive]) -> None:
    for archive in archives:
        archive.close()


def _beside(path: Path, archives: Sequence[Archive]) -> Iterator[Finding]:
    """What a file says of itself although it opens."""
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
    """Whether the end of the file is missing, as long as nobody writes it: a writer's own may come a moment later."""
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
    """The pages of a file, None where there is no file that can be read."""
    try:
        return Image(os.path.realpath(path)) if path.is_file() and os.access(path, os.R_OK) else None
    except (OSError, ValueError):
        return None


def _of_file(path: Path, error: Exception) -> Iterator[Finding]:
    """Findings about a file that does not open, none where it is not there, may not be read, or is something else."""
    image = _image(path)
    if image is None:
        return
    with closing(image):
        place = Spot(file=str(path))
        if not image.bytes:
            yield _empty(place, image)
        elif image.header and "no power-loop sessions" in str(error):
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
