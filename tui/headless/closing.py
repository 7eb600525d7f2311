"""The verbs that close sessions and manage the trash: close, archive, reopen, trash. Without a screen."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sessionscope.store import (
    Archive,
    Bundled,
    Capability,
    Close,
    Misused,
    SetArchived,
    Zone,
    bundles,
    empty_trash,
    export_bundle,
    open_archive,
    read_manifest,
)

from . import plain, reading, records, written
from .arguments import Parser, UsageError, add_writing, session_parser
from .interrupts import INTERRUPTS
from .outcome import NotPrinted
from .repair_verbs import carry_out

DAY_MS = 86_400_000
"""Milliseconds of a day."""
KINDS = ("trash", "backups", "quarantine", "conflicts", "all")
"""The kinds of bundle that a command line can name."""


# -- parsers


def _close_parser(prog: str) -> Parser:
    parser = Parser(prog, "Close sessions: they go to the trash with the subagents that go with them.")
    parser.add_argument("archive", metavar="ARCHIVE", help="a path, or PATH#PREFIX for one of several in a file")
    parser.add_argument("sessions", metavar="SESSION", nargs="+", help="an id, or the ref that ls shows")
    parser.add_argument("--no-cascade", action="store_true", help="their children stay, as roots")
    parser.add_argument("--anyway", action="store_true", help="whatever speaks against it, such as an open turn")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_writing(parser)
    return parser


def _archive_parser(prog: str) -> Parser:
    parser = session_parser(prog, "Mark a session as archived; nothing else changes.")
    add_writing(parser)
    return parser


def _reopen_parser(prog: str) -> Parser:
    parser = session_parser(prog, "Mark an archived session as active again.")
    add_writing(parser)
    return parser


def _trash_parser(prog: str) -> Parser:
    parser = Parser(prog, "What was kept aside of an archive: closed sessions, and what repairs changed.")
    parser.add_argument("what", choices=("list", "show", "export", "empty"), help="what to do with it")
    parser.add_argument("archive", metavar="ARCHIVE", help="the archive that it was taken from")
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="a folder that list names, for show and export")
    parser.add_argument("--kind", choices=KINDS, default="trash", help="closed sessions, or something else (trash)")
    parser.add_argument("--older-than", metavar="DAYS", type=_days, help="what empty deletes for good; 0 is all")
    parser.add_argument("--dry-run", action="store_true", help="say what empty would delete")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days


# -- closing


def _close(args: argparse.Namespace, zone: Zone) -> int:
    targets = [reading.find_session(args.archive, name, zone) for name in args.sessions]
    archive = targets[0].archive
    if any(target.archive.info.layout != archive.info.layout for target in targets):
        raise UsageError("these sessions are in several layouts; close those of each by themselves.")
    action = Close(tuple(dict.fromkeys(target.ref for target in targets)), not args.no_cascade, args.anyway)
    written.plan(carry_out(archive, action, args), (), args.json)
    return 0


def _set_archived(args: argparse.Namespace, zone: Zone, archived: bool) -> int:
    target = reading.find_session(args.archive, args.session, zone)
    written.plan(carry_out(target.archive, SetArchived(target.ref, archived), args), (), args.json)
    return 0


# -- the trash


def _trash(args: argparse.Namespace, zone: Zone) -> int:
    if (args.bundle is not None) != (args.what in ("show", "export")):
        raise UsageError(f"trash {args.what} takes {'a' if args.bundle is None else 'no'} BUNDLE.")
    if (args.older_than is not None) != (args.what == "empty"):
        raise UsageError("--older-than goes with trash empty, and trash empty with --older-than.")
    roots = _roots(args.archive, zone)
    kind = None if args.kind == "all" else args.kind
    if args.what == "list":
        _list([one for root in roots for one in bundles(root, kind)], args.json)
    elif args.what == "empty":
        _empty(roots, kind, args)
    else:
        folder = _bundle(roots, args.bundle)
        if args.what == "show":
            _show(folder, args.json)
        else:
            for line in export_bundle(folder):
                sys.stdout.write(line + "\n")
    return 0


def _roots(place: str, zone: Zone) -> list[str]:
    """Return the archives that bundles are of: those at a place, or what was one before all of it was closed."""
    archives: list[Archive] = open_archive(place, zone)
    for archive in archives:
        if why := archive.info.lacks(Capability.RESTORE):
            raise Misused(f"{archive.info.location}: {why}")
    return list(dict.fromkeys(archive.info.root for archive in archives))


def _bundle(roots: Sequence[str], name: str) -> Path:
    for root in roots:
        for bundle in bundles(root, None):
            if name in (bundle.path, os.path.basename(bundle.path)) or os.path.abspath(name) == bundle.path:
                return Path(bundle.path)
    raise Misused(f"{name}: is nothing that was kept of this archive; trash list --kind all shows what was.")


def _list(listed: Sequence[Bundled], as_json: bool) -> None:
    if as_json:
        print(records.dumps({"bundles": [_record(bundle) for bundle in listed]}))
        return
    if not listed:
        print("nothing is kept")
    for bundle in listed:
        print("\n".join(_lines(bundle)))


def _lines(bundle: Bundled) -> list[str]:
    count = len(bundle.sessions)
    many = f"  {count} {'session' if count == 1 else 'sessions'}" if count else ""
    lines = [
        f"{_when(bundle.kept_at)}  {bundle.kind}  {plain.one_line(bundle.what)}{many}  {bundle.size:,} bytes",
        f"    {plain.one_line(bundle.path)}",
    ]
    return [*lines, f"    {plain.one_line(bundle.why)}"] if bundle.why else lines


def _when(ms: int | None) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if ms is not None else "at some time"


def _record(bundle: Bundled) -> dict[str, Any]:
    return {
        "path": bundle.path,
        "kind": bundle.kind,
        "what": bundle.what,
        "why": bundle.why,
        "kept_at": records.moment(bundle.kept_at),
        "size": bundle.size,
        "sessions": [_session(each) for each in bundle.sessions],
        "complete": bundle.complete,
    }


def _session(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": entry.get("id"),
        "title": entry.get("title"),
        "preview": entry.get("preview"),
        "kind": entry.get("kind") or None,
        "lifecycle": entry.get("lifecycle") or None,
        "depth": entry.get("depth"),
        "message_count": entry.get("messages"),
    }


def _show(folder: Path, as_json: bool) -> None:
    bundle = next(candidate for candidate in bundles(_root_of(folder), None) if candidate.path == str(folder))
    if as_json:
        print(records.dumps({"bundle": _record(bundle)}))
        return
    print("\n".join(_lines(bundle)))
    for candidate in bundle.sessions:
        depth = candidate.get("depth")
        indent = "  " * min(depth if isinstance(depth, int) else 0, 20)
        print(
            f"  {indent}{plain.one_line(str(candidate.get('title') or candidate.get('preview') or '(empty)'))[:80]}  "
            f"{plain.one_line(str(candidate.get('id')))}  {candidate.get('messages')}"
        )
    for name in read_manifest(folder).files if bundle.complete and not bundle.sessions else ():
        print(f"  {plain.one_line(name)}")


def _root_of(folder: Path) -> str:
    return str(folder.parent.parent).removesuffix(".sessionscope")


def _empty(roots: Sequence[str], kind: str | None, args: argparse.Namespace) -> None:
    before = int(time.time() * 1000 - args.older_than * DAY_MS) if args.older_than else None
    undated = [
        bundle for root in roots for bundle in bundles(root, kind) if bundle.kept_at is None and before is not None
    ]
    if not args.dry_run:
        INTERRUPTS.hold()
    gone = [bundle for root in roots for bundle in empty_trash(root, before, kind, args.dry_run)]
    try:
        _print_emptied(gone, undated, args)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        if args.dry_run or not gone:
            raise
        raise NotPrinted(error, None) from error


def _print_emptied(gone: Sequence[Bundled], undated: Sequence[Bundled], args: argparse.Namespace) -> None:
    if args.json:
        print(records.dumps({"bundles": [_record(bundle) for bundle in gone], "applied": not args.dry_run}))
        return
    for bundle in gone:
        print("\n".join(_lines(bundle)[:2]))
    word = "would be deleted" if args.dry_run else "deleted for good"
    print(f"{len(gone)} {word}" if gone else "nothing is that old")
    if undated:
        print(f"{len(undated)} without a readable date kept; --older-than 0 deletes everything")


PARSERS = {"close": _close_parser, "archive": _archive_parser, "reopen": _reopen_parser, "trash": _trash_parser}
VERBS: dict[str, Callable[[argparse.Namespace, Zone], int]] = {
    "close": _close,
    "archive": lambda args, zone: _set_archived(args, zone, True),
    "reopen": lambda args, zone: _set_archived(args, zone, False),
    "trash": _trash,
}
