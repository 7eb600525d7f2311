"""The doctor for any place: findings of the archives there, or of a file that does not open as one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .model import wording
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
    """Yield the findings for a place that `open_archive` takes: for one session by its id or ref, or for all.

    Nothing is written. A file that does not open is described by findings too. Raises NotAnArchive if no archive is
    there or it may not be read, Busy if it is locked, UnknownSession if no session or more than one has that name, and
    Cancelled.
    """
    located: Located | None = None
    try:
        located = locate(place)
        archives = open_located(located, zone)
    except (NotAnArchive, Damaged) as error:
        findings = list(_unopened(place, located, error))
        if not findings:
            raise
        return iter(findings)
    try:
        chosen = _chosen(archives, session) if session is not None else [(archive, None) for archive in archives]
    except BaseException:
        _close(archives)
        raise
    return _all_findings(located, archives, chosen, progress, cancel)


def _unopened(
    place: str | os.PathLike[str], located: Located | None, error: NotAnArchive | Damaged
) -> Iterator[Finding]:
    """Yield what the format of a file that does not open finds in it.

    If no format recognised it, ask all.
    """
    path, layout = (located.path, located.layout) if located is not None else find_path(place)
    if isinstance(error, NotAnArchive) and layout and _opens(path):
        return
    for known in [located.format] if located is not None and located.format is not None else formats():
        yield from known.examine(path, (), error)


def _opens(path: Path) -> bool:
    """Return whether an archive opens at a path, so that only the prefix that was asked for is wrong."""
    try:
        _close(open_archive(path))
    except (NotAnArchive, Damaged):
        return False
    return True


def _chosen(archives: Sequence[Archive], name: str) -> list[tuple[Archive, Ref | None]]:
    """Return the archive that has the session, with its ref.

    An archive whose damage may hide the session is returned without a ref, to be examined as a whole.
    """
    matches: list[tuple[Archive, Ref | None]] = []
    damaged: list[tuple[Archive, Ref | None]] = []
    failures: list[UnknownSession] = []
    for archive in archives:
        try:
            matches.append((archive, archive.reader().resolve(name)))
        except UnknownSession as error:
            failures.append(error)
        except Damaged:
            damaged.append((archive, None))
    if len(matches) > 1:
        raise UnknownSession(wording.name_is_ambiguous(name, (ref for _, ref in matches)))
    if not matches and not damaged:
        # The longest message is the one that suggests candidates.
        raise max(failures, key=lambda error: len(str(error)))
    return matches or damaged


def _all_findings(
    located: Located,
    archives: Sequence[Archive],
    chosen: Sequence[tuple[Archive, Ref | None]],
    progress: Progress,
    cancel: Cancel,
) -> Iterator[Finding]:
    """Yield the findings of a file as a whole, then those of the chosen archives and sessions. Close all archives."""
    seen: set[str] = set()
    try:
        for finding in located.format.examine(located.path, archives, None) if located.format is not None else ():
            seen.add(finding.code)
            yield finding
        for archive, ref in chosen:
            try:
                for finding in archive.reader().findings(ref, progress, cancel):
                    seen.add(finding.code)
                    yield finding
            except Damaged as error:
                # Damage is a matter of the file, which both layouts share, so it is reported once.
                salvage = isinstance(error, DamagedPages)
                code = DAMAGED_PAGES if salvage else UNREADABLE
                if code not in seen:
                    seen.add(code)
                    yield Finding(code, Severity.ERROR, Spot(file=str(located.path)), str(error), salvage=salvage)
    finally:
        _close(archives)


def _close(archives: Sequence[Archive]) -> None:
    for archive in archives:
        archive.close()
