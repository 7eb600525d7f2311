"""The verbs that compact a session by hand and undo a compaction. Without a screen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from sessionscope.store import (
    Capability,
    Compact,
    Refused,
    StoreError,
    Uncompact,
    Zone,
    actions_for,
    never,
    range_or_proposal,
)

from . import reading, written
from .arguments import Parser, UsageError, add_writing, session_parser
from .outcome import Interrupted
from .repair_verbs import carry_out


def _compact_parser(prog: str) -> Parser:
    parser = session_parser(prog, "Fold a range of messages into a note, as the agent's own compaction would.")
    parser.add_argument("--from", dest="first", type=int, metavar="N", help="the first seq that leaves the context")
    parser.add_argument(
        "--to",
        dest="last",
        type=int,
        metavar="M",
        help="the last one; without both, all but the newest exchanges leave",
    )
    parser.add_argument("--keep", type=int, metavar="N", help="so many of the newest exchanges stay (4)")
    note = parser.add_mutually_exclusive_group()
    note.add_argument("--note", metavar="TEXT", help="what stands for the messages from now on")
    note.add_argument("--note-file", metavar="FILE", help="a file that holds it")
    note.add_argument(
        "--summarizer", metavar="COMMAND", help="a command, run without a shell, that reads the messages and prints it"
    )
    add_writing(parser)
    return parser


def _uncompact_parser(prog: str) -> Parser:
    parser = session_parser(prog, "Take a compaction back: its messages are in the context again.")
    parser.add_argument("number", metavar="NUMBER", type=int, help="as compactions numbers them")
    add_writing(parser)
    return parser


def _compact(args: argparse.Namespace, zone: Zone) -> int:
    if (args.first is None) != (args.last is None):
        raise UsageError("--from and --to go together; without both, all but the newest exchanges leave.")
    if args.keep is not None and (args.first is not None or args.keep < 1):
        raise UsageError("--keep N, of 1 and more, goes without --from and --to.")
    note, command = _note(args), args.summarizer or _configured(args)
    if note is None and command is None and not args.dry_run:
        raise UsageError(
            "a compaction needs a --note, a --note-file or a --summarizer; --dry-run shows what would leave."
        )
    target = reading.find_session(args.archive, args.session, zone)
    action = Compact(target.ref, args.first, args.last, note or "", *([] if args.keep is None else [args.keep]))
    if note is None and command is not None:
        _summarized(target, action, command, args)
    else:
        written.plan(carry_out(target.archive, action, args), (), args.json)
    return 0


def _note(args: argparse.Namespace) -> str | None:
    """Return the note that was given, None if none was."""
    if args.note_file is None:
        note: str | None = args.note
        return note
    data = Path(args.note_file).read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{args.note_file}: a note is text in UTF-8.") from None


def _configured(args: argparse.Namespace) -> str | None:
    """Return the config's summarizer, for a compaction that is applied without a note. A dry run starts no command."""
    if args.dry_run or args.note is not None or args.note_file is not None:
        return None
    from sessionscope.tui.config import ConfigError, load

    try:
        return load().summarizer
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _summarized(target: reading.NamedSession, action: Compact, command: str, args: argparse.Namespace) -> None:
    """Compact exactly what the user's command has read. A note that cannot be used is saved."""
    from sessionscope.tui.external.save_note import save_note
    from sessionscope.tui.external.summarizer import NoteError, summarize

    from .excerpt import excerpt

    progress = written.progress()
    seen = actions_for(target.archive, Capability.COMPACT).plan(action, progress).compaction
    if seen is None:
        raise Refused("there is nothing to summarize.")
    first, last = range_or_proposal(seen.context, action.first, action.last, action.keep)
    try:
        note = summarize(command, excerpt(target.reader, target.ref, seen.cut), progress, never)
    except NoteError as error:
        raise Refused(f"{error} Nothing was changed.") from None
    try:
        done = carry_out(target.archive, Compact(target.ref, first, last, note), args, seen)
    except (StoreError, OSError, Interrupted, KeyboardInterrupt):
        print(f"sessionscope: the note that was written is kept in {save_note(note.encode())}", file=sys.stderr)
        raise
    written.plan(done, (), args.json)


def _uncompact(args: argparse.Namespace, zone: Zone) -> int:
    target = reading.find_session(args.archive, args.session, zone)
    written.plan(carry_out(target.archive, Uncompact(target.ref, args.number), args), (), args.json)
    return 0


PARSERS = {"compact": _compact_parser, "uncompact": _uncompact_parser}
VERBS: dict[str, Callable[[argparse.Namespace, Zone], int]] = {"compact": _compact, "uncompact": _uncompact}
