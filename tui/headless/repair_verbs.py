"""The verbs that find and repair damage: doctor, repair, settle, restore. Without a screen."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sessionscope.store import (
    Action,
    Archive,
    Cancelled,
    Close,
    CompactionPlan,
    Finding,
    Misused,
    Refused,
    Repair,
    Restore,
    Settle,
    Severity,
    StoreError,
    Uncompact,
    Zone,
    actions_for,
    diagnose,
    needed,
    open_archive,
    read_manifest,
)

from . import plain, reading, written
from .arguments import PROGRAM, Parser, UsageError, add_writing, session_parser
from .interrupts import INTERRUPTS
from .outcome import Interrupted

# -- parsers


def _doctor_parser(prog: str) -> Parser:
    return session_parser(prog, "Say what is wrong with an archive or a session of it. Nothing is changed.", True)


def _repair_parser(prog: str) -> Parser:
    parser = session_parser(prog, "Put right what the doctor finds, after keeping all of it as it was.", True)
    parser.add_argument(
        "--only", metavar="CODE", action="append", default=[], help="just what has this code; repeatable"
    )
    parser.add_argument(
        "--choose",
        metavar="CODE=CHOICE",
        action="append",
        default=[],
        type=_choice,
        help="what to do where a person must decide, as the doctor lists it; repeatable",
    )
    parser.add_argument(
        "--salvage", metavar="NEW.db", help="of a database with damaged pages: save what can be read into a new one"
    )
    add_writing(parser)
    return parser


def _choice(text: str) -> tuple[str, str]:
    code, equals, name = text.partition("=")
    if not (code and equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not CODE=CHOICE")
    return code, name


def _settle_parser(prog: str) -> Parser:
    parser = session_parser(prog, "Answer the tool calls that a crash left unanswered, so that the agent can go on.")
    parser.add_argument("--reason", metavar="TEXT", default="", help="what the answers say")
    add_writing(parser)
    return parser


def _restore_parser(prog: str) -> Parser:
    parser = Parser(prog, "Put back what was kept aside before something was changed.")
    parser.add_argument("bundle", metavar="BUNDLE", help="the folder that a repair named")
    parser.add_argument("--into", metavar="ARCHIVE", help="where to, if not where it came from")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    add_writing(parser)
    return parser


# -- verbs


def _doctor(args: argparse.Namespace, zone: Zone) -> int:
    findings = diagnose(args.archive, args.session, zone=zone, progress=written.progress())
    status, many = 0, 0
    with written.findings(args.json) as out:
        for finding in findings:
            out.add(finding)
            many += 1
            status = max(status, int(severe((finding,))))
        out.end(many)
    return status


def _repair(args: argparse.Namespace, zone: Zone) -> int:
    if args.salvage is not None:
        return _salvage(args)
    if args.session is not None:
        target = reading.find_session(args.archive, args.session, zone)
        archive, ref = target.archive, target.ref
    else:
        archive, ref = _the_archive(args.archive, zone), None
    done = carry_out(archive, Repair(ref, tuple(args.only), tuple(args.choose)), args)
    try:
        left = tuple(archive.reader().findings(ref, cancel=INTERRUPTS.pending))
    except (StoreError, OSError) as error:
        # What was done is reported all the same.
        written.plan(done, (), args.json)
        with suppress(OSError):
            print(f"{PROGRAM}: The check after it failed: {plain.one_line(str(error))}", file=sys.stderr)
        return 1
    written.plan(done, left, args.json)
    return int(severe(left))


def _salvage(args: argparse.Namespace) -> int:
    from sessionscope.store import salvage

    if args.session is not None or args.only or args.choose or args.dry_run:
        raise UsageError("--salvage saves a whole database; it goes with no SESSION, --only, --choose or --dry-run.")
    saved = salvage(args.archive, args.salvage, progress=written.progress())
    written.salvaged(saved, args.json)
    return int(not saved.whole)


def _settle(args: argparse.Namespace, zone: Zone) -> int:
    target = reading.find_session(args.archive, args.session, zone)
    written.plan(carry_out(target.archive, Settle(target.ref, args.reason), args), (), args.json)
    return 0


def _restore(args: argparse.Namespace, zone: Zone) -> int:
    manifest = read_manifest(Path(args.bundle))
    action = Restore(os.path.abspath(args.bundle))
    failures: list[StoreError] = []
    for archive in open_archive(args.into or manifest.source, zone):
        try:
            done = carry_out(archive, action, args)
        except Misused as error:
            # Another archive at the same place may be the one that it came from.
            failures.append(error)
            continue
        written.plan(done, (), args.json)
        return 0
    raise failures[0]


def carry_out(
    archive: Archive, action: Action, args: argparse.Namespace, seen: CompactionPlan | None = None
) -> written.Done:
    """Return the plan of an action and, unless it is a dry run or there is nothing to do, its receipt.

    Signals are held back from here on until the result is printed. Raises Refused if a compaction would not do exactly
    what was `seen` of it, Interrupted if a signal came before anything was changed.
    """
    actions, progress = actions_for(archive, needed(action)), written.progress()
    plan = actions.plan(action, progress)
    if seen is not None and (plan.compaction is None or not plan.compaction.takes_same_as(seen)):
        raise Refused("the messages that leave have changed meanwhile; nothing was done.")
    if args.dry_run or plan.empty:
        return written.Done(plan)
    if plan.offline and not args.offline:
        where = archive.info.location
        raise Misused(f"{where}: {plan.offline} Make sure that none is running, then confirm with --offline.")
    if isinstance(action, Close) and plan.warnings and not action.anyway:
        raise Refused(f"{'; '.join(plan.warnings[:3])}. Close it --anyway, or settle it first.")
    INTERRUPTS.hold()
    try:
        receipt = actions.apply(plan, progress, INTERRUPTS.pending, offline=args.offline)
    except Cancelled:
        if INTERRUPTS.received is None:
            raise
        raise Interrupted(INTERRUPTS.received) from None
    return written.Done(plan, receipt, undo_command(archive, receipt.undo, bool(plan.offline)))


def undo_command(archive: Archive, undo: Action | None, offline: bool) -> str | None:
    """Return the command line that undoes what was done, None if there is none."""
    place = f"{archive.info.location}#{archive.info.layout}" if archive.info.layout else archive.info.location
    words: list[str]
    if isinstance(undo, Restore):
        words = ["restore", undo.bundle]
    elif isinstance(undo, Uncompact):
        words = ["uncompact", place, str(undo.ref), str(undo.number)]
    elif isinstance(undo, Close):
        words = ["close", place, *map(str, undo.refs), "--anyway"]
    else:
        return None
    return shlex.join([PROGRAM, *words, *(["--offline"] if offline else [])])


def _the_archive(place: str, zone: Zone) -> Archive:
    """Return the one archive at a place that has sessions. Raises UsageError if several have."""
    archives = open_archive(place, zone)
    filled = [archive for archive in archives if len(archive.reader().session_table())] or archives
    if len(filled) > 1:
        path = filled[0].info.location if place.endswith("#") else place
        names = ", ".join(f"{path}#{archive.info.layout}" for archive in filled)
        raise UsageError(f"{place}: holds several archives; say which to repair: {names}.")
    return filled[0]


def severe(findings: Iterable[Finding]) -> bool:
    """Return whether any finding is at least a warning."""
    return any(finding.severity is not Severity.INFO for finding in findings)


PARSERS = {"doctor": _doctor_parser, "repair": _repair_parser, "settle": _settle_parser, "restore": _restore_parser}
VERBS = {"doctor": _doctor, "repair": _repair, "settle": _settle, "restore": _restore}
