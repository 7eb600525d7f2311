"""The command line: its verbs, and what each does.

A headless verb imports neither textual nor rich. A verb imports by itself what only it needs: loading is most of what a
verb costs.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import tzinfo
from importlib import import_module
from pathlib import Path
from typing import Any

from sessionscope.store import Archive, Capability, Limits, StoreError, View, open_archive, usual_places

from .headless import reading
from .headless.arguments import PROGRAM, Parser, UsageError, Version, reading_parser, session_parser

DEMO_NAME = "demo.db"
VERBS = """\
verbs:
  sessionscope [--summarizer CMD] [ARCHIVE ...]
                                               browse; without arguments, the usual places
  sessionscope demo [--json]                   browse a sample; with --json, keep it and print its path
  sessionscope ls ARCHIVE [--json]             sessions as a tree: kind, status, counts, title
  sessionscope show ARCHIVE SESSION [--view all|active|compacted|context] [--from N] [--to M] [--json]
                                    [--max-messages N] [--max-tokens N]
  sessionscope compactions ARCHIVE SESSION [--json]
  sessionscope compact ARCHIVE SESSION [--from N --to M | --keep N] (--note TEXT | --note-file FILE | --summarizer CMD)
                                       [--dry-run] [--json]
  sessionscope uncompact ARCHIVE SESSION NUMBER [--dry-run] [--json]
                                               fold a range by hand, and back
  sessionscope doctor ARCHIVE [SESSION] [--json]      what is wrong, and what could be done about it
  sessionscope repair ARCHIVE [SESSION] [--only CODE ...] [--choose CODE=CHOICE ...] [--salvage NEW.db]
                                        [--dry-run] [--offline] [--json]
  sessionscope settle ARCHIVE SESSION [--reason TEXT] [--dry-run] [--offline] [--json]
                                               answer the tool calls that a crash left unanswered
  sessionscope close ARCHIVE SESSION ... [--no-cascade] [--anyway] [--dry-run] [--offline] [--json]
                                               into the trash, with the subagents that go with it
  sessionscope archive|reopen ARCHIVE SESSION [--dry-run] [--json]
  sessionscope trash list ARCHIVE [--kind KIND] [--json]
  sessionscope trash show|export ARCHIVE BUNDLE
  sessionscope trash empty ARCHIVE --older-than DAYS [--kind KIND] [--dry-run] [--json]
  sessionscope restore BUNDLE [--into ARCHIVE] [--dry-run] [--offline] [--json]
                                               put back what a repair changed or a closing deleted

ARCHIVE is a power-loop database, nanobot's workspace, sessions folder or one file of it, or PATH#PREFIX for one of
several layouts or folders at a path.
SESSION is an id, or the ref that ls shows. Where stdout is no terminal, browsing prints the session tree."""


def run(argv: Sequence[str]) -> int:
    """Run a command line and return the exit status.

    Raises UsageError, StoreError and OSError, each with one sentence, and SystemExit for --help.
    """
    if argv and argv[0] in _VERBS:
        parse, act = _VERBS[argv[0]]
        return act(parse(f"{PROGRAM} {argv[0]}").parse_args(argv[1:]))
    return _browse(_browse_parser().parse_args(argv))


# -- parsers


def _browse_parser() -> Parser:
    parser = Parser(PROGRAM, "A terminal browser for the sessions that AI agents leave on disk.", epilog=VERBS)
    parser.add_argument("archives", metavar="ARCHIVE", nargs="*", help="what to browse")
    parser.add_argument(
        "--summarizer",
        metavar="COMMAND",
        help="a command, run without a shell, that reads messages and prints the note of a compaction",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    return parser


def _demo_parser(prog: str) -> Parser:
    parser = Parser(prog, "Browse a sample that is made on the spot and deleted on exit.")
    parser.add_argument("--json", action="store_true", help="keep the sample and print its path")
    return parser


def _ls_parser(prog: str) -> Parser:
    return reading_parser(prog, "List the sessions of an archive, subagents below their parents.")


def _show_parser(prog: str) -> Parser:
    parser = session_parser(prog, "Print the messages of a session.")
    parser.add_argument(
        "--view",
        choices=list(map(str, View)),
        default=str(View.ALL),
        help="which messages, and in which order: stored (all, active, compacted) or as the model is "
        "sent them (context)",
    )
    parser.add_argument(
        "--max-messages",
        metavar="N",
        type=int,
        help="in the context of a nanobot session, how many messages to look at; 0 is no limit",
    )
    parser.add_argument(
        "--max-tokens",
        metavar="N",
        type=int,
        help="in the context of a nanobot session, about how many tokens may fit; 0 is no limit",
    )
    parser.add_argument("--from", dest="first", metavar="N", type=int, help="the first seq to print")
    parser.add_argument("--to", dest="last", metavar="M", type=int, help="the last seq to print")
    return parser


def _compactions_parser(prog: str) -> Parser:
    return session_parser(prog, "List the compactions of a session: what each folded, and how that is known.")


# -- verbs


def _browse(args: argparse.Namespace) -> int:
    return _show_known_archives(args.archives or _known_archives(), bool(args.archives), args.summarizer)


def _known_archives() -> list[str]:
    """Return the usual places that exist, and the archives that the config file names."""
    from .config import ConfigError, load, path

    usual = usual_places()
    try:
        places = [str(place) for place in usual if place.exists()] + load().archives
    except ConfigError as error:
        raise UsageError(str(error)) from None
    if not places:
        looked = ", ".join(map(str, usual))
        raise UsageError(
            f"nothing to browse: there is no {looked} here, and {path()} names no archives; "
            f"name an ARCHIVE, or try: {PROGRAM} demo"
        )
    return list(dict.fromkeys(places))


def _show_known_archives(places: list[str], strict: bool = True, summarizer: str | None = None) -> int:
    if not sys.stdout.isatty():
        return _print_trees(places)
    # A start makes hardly any garbage, so collecting it can wait until the screen is shown.
    gc.disable()
    from .app import run as browse
    from .config import ConfigError

    try:
        return browse(places, strict, summarizer)
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _print_trees(places: list[str]) -> int:
    """Print the session trees of all archives that can be read. Return the worst status of the others."""
    status = 0
    for place in places:
        try:
            for archive in open_archive(place, _zone):
                _print_tree(archive)
        except StoreError as error:
            status = max(status, complain(error))
    return status


def _print_tree(archive: Archive) -> None:
    from .headless import plain

    session_table = archive.reader().session_table()
    for line in plain.archive(archive.info, len(session_table)):
        print(line)
    group = None
    for node in reading.session_nodes(archive, session_table):
        if not node.depth and node.summary.group != group:
            group = node.summary.group
            if group is not None:
                print(plain.group(group))
        print(plain.branch(node, group is not None))


def _demo(args: argparse.Namespace) -> int:
    from sessionscope.store import PrivateFolder, write_demo

    if args.json:
        import tempfile

        path = Path(tempfile.mkdtemp(prefix=f"{PROGRAM}-demo-")) / DEMO_NAME
        write_demo(path)
        import json

        print(json.dumps({"path": str(path)}))
        return 0
    folder = PrivateFolder()
    try:
        write_demo(folder.path / DEMO_NAME)
        return _show_known_archives([str(folder.path / DEMO_NAME)])
    finally:
        folder.close()


def _ls(args: argparse.Namespace) -> int:
    opened_archives = [(archive, archive.reader().session_table()) for archive in open_archive(args.archive, _zone)]
    if args.json:
        from .headless import records

        with records.Document(sys.stdout, "sessions") as document:
            for archive, session_table in opened_archives:
                for node in reading.session_nodes(archive, session_table):
                    document.add(records.session(node))
        return 0
    from .headless import plain

    qualified = len(opened_archives) > 1
    longest = max((len(id_) for _, session_table in opened_archives for id_ in session_table.ids), default=0)
    width = min(plain.ID_CELLS, max(len("SESSION"), longest + 6))
    print(plain.sessions_head(width))
    for archive, session_table in opened_archives:
        for node in reading.session_nodes(archive, session_table):
            print(plain.session(node, width, qualified))
    return 0


def _show(args: argparse.Namespace) -> int:
    if args.first is not None and args.last is not None and args.first > args.last:
        raise UsageError(f"--from {args.first} is after --to {args.last}; swap them.")
    target, view = reading.find_session(args.archive, args.session, _zone), View(args.view)
    _, timeline = reading.outlined(target, view, _limits(args, view, target.archive))
    rows = reading.rows(timeline, view, args.first, args.last)
    if args.json:
        from .headless import records

        with records.Document(sys.stdout, "messages") as document:
            for row, pieces in reading.messages(target.reader, target.ref, rows):
                document.add(records.message(row, pieces))
        return 0
    from .headless import plain

    if timeline.about:
        print(f"{view}: {timeline.about}\n")
    for row, pieces in reading.messages(target.reader, target.ref, rows):
        for text in plain.message(row, pieces):
            sys.stdout.write(text)
    return 0


def _limits(args: argparse.Namespace, view: View, archive: Archive) -> Limits | None:
    """Return the limits from the command line. Raises UsageError if this view or archive has none."""
    messages, tokens = args.max_messages, args.max_tokens
    if messages is None and tokens is None:
        return None
    if view is not View.CONTEXT:
        raise UsageError("--max-messages and --max-tokens go with --view context.")
    if why := archive.info.lacks(Capability.LIMITS):
        raise UsageError(f"--max-messages and --max-tokens: {why}")
    if min(messages or 0, tokens or 0) < 0:
        raise UsageError("a limit is 0 for none, or more.")
    return Limits(messages, tokens or 0)


def _zone() -> tzinfo | None:
    """Return the config's time zone, for archives whose times have none."""
    from .config import ConfigError, load

    try:
        return load().zone()
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _compactions(args: argparse.Namespace) -> int:
    target = reading.find_session(args.archive, args.session, _zone)
    audit = target.reader.audit(target.ref, reading.outlined(target, View.ALL)[0])
    if args.json:
        from .headless import records

        with records.Document(sys.stdout, "compactions") as document:
            for compaction in audit.compactions:
                document.add(records.compaction_record(compaction))
            if audit.archived is not None:
                document.begin("archived")
                for entry in audit.archived:
                    document.add(records.archived(entry))
        return 0
    from .headless import plain

    if not audit.compactions:
        print("no compactions")
    for compaction in audit.compactions:
        for line in plain.compaction_lines(compaction):
            print(line)
    if audit.unexplained:
        print(plain.unexplained(audit.unexplained))
    for entry in audit.archived or ():
        for line in plain.archived(entry, audit.source):
            print(line)
    return 0


def _lazy(module: str, verb: str) -> tuple[Callable[[str], Parser], Callable[[argparse.Namespace], int]]:
    """Return the parser and the runner of a verb whose module is imported when it is used."""

    def loaded() -> Any:
        return import_module(f".headless.{module}", __package__)

    def parser(prog: str) -> Parser:
        parsed: Parser = loaded().PARSERS[verb](prog)
        return parsed

    def act(args: argparse.Namespace) -> int:
        return int(loaded().VERBS[verb](args, _zone))

    return parser, act


_VERBS: dict[str, tuple[Callable[[str], Parser], Callable[[argparse.Namespace], int]]] = {
    "demo": (_demo_parser, _demo),
    "ls": (_ls_parser, _ls),
    "show": (_show_parser, _show),
    "compactions": (_compactions_parser, _compactions),
    **{verb: _lazy("repair_verbs", verb) for verb in ("doctor", "repair", "settle", "restore")},
    **{verb: _lazy("compacting", verb) for verb in ("compact", "uncompact")},
    **{verb: _lazy("closing", verb) for verb in ("close", "archive", "reopen", "trash")},
}


# -- failures


def complain(error: Exception) -> int:
    """Print an error as one line on stderr and return its exit status."""
    from sessionscope.store import Busy, Refused

    from .text.visible import visible

    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror or error}."
    else:
        text = str(error)
    if sys.stderr is not None:
        # The terminal may be gone as well.
        with suppress(OSError):
            print(f"{PROGRAM}: {visible(text)}", file=sys.stderr, flush=True)
    return 3 if isinstance(error, (Busy, Refused, OSError)) else 2
