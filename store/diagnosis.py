"""What is wrong at a place, whatever is there: what the archives' own doctors find, and words where nothing opens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .model.errors import Damaged, DamagedPages, NotAnArchive, UnknownSession
from .model.findings import UNREADABLE, Finding, Severity
from .model.plans import Progress, silent
from .model.rows import Ref, Spot
from .protocols import Archive, Cancel, Zone, machine_zone, never
from .registry import Located, find_path, formats, locate, open_archive, open_located

DAMAGED_PAGES = "damaged-pages"


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
    found: Located | None = None
    try:
        found = locate(place)
        archives = open_located(found, zone)
    except (NotAnArchive, Damaged) as error:
        findings = list(_unopened(place, found, error))
        if not findings:
            raise
        return iter(findings)
    try:
        chosen = _chosen(archives, session) if session is not None else [(archive, None) for archive in archives]
    except BaseException:
        _close(archives)
        raise
    return _walk(found, archives, chosen, progress, cancel)


def _unopened(place: str | os.PathLike[str], found: Located | None, error: NotAnArchive | Damaged) -> Iterator[Finding]:
    """Ask the format of a file that does not open what is wrong with it, or all formats if none recognised it."""
    path, layout = (found.path, found.layout) if found is not None else find_path(place)
    if isinstance(error, NotAnArchive) and layout and _opens(path):
        return
    for known in [found.format] if found is not None and found.format is not None else formats():
        yield from known.examine(path, (), error)


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
    place: Located,
    archives: Sequence[Archive],
    chosen: Sequence[tuple[Archive, Ref | None]],
    progress: Progress,
    cancel: Cancel,
) -> Iterator[Finding]:
    seen: set[str] = set()
    try:
        for finding in place.format.examine(place.path, archives, None) if place.format is not None else ():
            seen.add(finding.code)
            yield finding
        for archive, ref in chosen:
            try:
                for finding in archive.reader().findings(ref, progress, cancel):
                    seen.add(finding.code)
                    yield finding
            except Damaged as error:
                # Two layouts are in one file, and so is its damage.
                salvage = isinstance(error, DamagedPages)
                code = DAMAGED_PAGES if salvage else UNREADABLE
                if code not in seen:
                    seen.add(code)
                    yield Finding(code, Severity.ERROR, Spot(file=str(place.path)), str(error), salvage=salvage)
    finally:
        _close(archives)


def _close(archives: Sequence[Archive]) -> None:
    for archive in archives:
        archive.close()
