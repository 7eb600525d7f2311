"""Parsers of command lines: one line for wrong usage, and the arguments that several verbs share."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

PROGRAM = "sessionscope"
HELP_COLUMNS = 100
"""How wide help is printed."""


class UsageError(Exception):
    """What was asked for makes no sense. The text says what would, in one sentence."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of a fixed width: to ask the terminal for its own, argparse would load a module that no verb needs."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=HELP_COLUMNS)


class Parser(argparse.ArgumentParser):
    """Reports wrong usage in one line."""

    def __init__(self, prog: str, description: str, **more: Any) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=Formatter, **more)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help.")


class Version(argparse.Action):
    """Prints the installed version, which is looked up only for this."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version(PROGRAM)
        except PackageNotFoundError:
            found = "(not installed)"
        print(f"{PROGRAM} {found}")
        parser.exit()


def reading_parser(prog: str, description: str, **more: Any) -> Parser:
    """Return a parser with the arguments of a verb that reads an archive."""
    parser = Parser(prog, description, **more)
    parser.add_argument("archive", metavar="ARCHIVE", help="a path, or PATH#PREFIX for one of several in a file")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def session_parser(prog: str, description: str, optional: bool = False, **more: Any) -> Parser:
    """Return the same with a session of the archive, which may be left out if `optional`."""
    parser = reading_parser(prog, description, **more)
    if optional:
        parser.add_argument("session", metavar="SESSION", nargs="?", help="an id, or the ref that ls shows; else all")
    else:
        parser.add_argument("session", metavar="SESSION", help="an id, or the ref that ls shows")
    return parser


def add_writing(parser: Parser, dry: bool = True) -> None:
    """Add the options of a verb that writes."""
    if dry:
        parser.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    parser.add_argument(
        "--offline",
        action="store_true",
        help="for nanobot's folders: your word that no nanobot is running, which would overwrite it",
    )
