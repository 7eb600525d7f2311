"""Compare what two commits print: `python tests/compare_commits.py BASE [COMMIT]`, from anywhere in the checkout.

Every read verb, every `--help` and every dry run is run over all samples by the code of both commits, then sessions
are closed, restored and repaired in throw-away copies. Each command's output and exit status must be the same, byte for
byte. The exit status is 1 where one differs, or where looking changed a sample.

A commit declares a difference that it makes on purpose, one a line, at the end of its message:

    Changes-output: doctor *                    command lines that match this pattern may print something else
    Changes-output: "fold_is" -> "set_is"       the old text, wherever it is printed, is now the new one

Both commits run in this environment, so its packages must do for both.
"""

from __future__ import annotations

import argparse
import difflib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from fnmatch import fnmatch
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[1]
SAMPLES = ("power-loop", "nanobot", "nanobot-damaged")
HELP = "help"
DEMO = "demo.db"
FROZEN_NS = 1_760_000_000_000_000_000
"""What the clock says in both runs: 2025-10-09 08:53:20 UTC, in nanoseconds since the epoch."""
BUNDLE = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
TODAY = re.compile(r"(\d{4}-\d\d-\d\d)[T ]\d\d:\d\d(:\d\d(\.\d+)?)?")
TRAILER = "Changes-output"
REPLACEMENT = re.compile(r'"(.*)" -> "(.*)"')
DIFFERENCES_SHOWN, DIFFERENCE_LINES = 20, 40


class Output(NamedTuple):
    """What one command left behind."""

    status: int
    out: str
    err: str


Outputs = dict[str, Output]


class Declared(NamedTuple):
    """The differences that commits declare: patterns of command lines, and texts that were replaced."""

    commands: tuple[str, ...]
    replacements: tuple[tuple[str, str], ...]

    def covers(self, command: str, old: Output, new: Output) -> bool:
        """Return whether two outputs are the same but for what is declared."""
        for before, after in self.replacements:
            old = Output(old.status, old.out.replace(before, after), old.err.replace(before, after))
        return old == new or any(fnmatch(command, pattern) for pattern in self.commands)


# -- the run of one commit over one sample, in a process of its own


def drive(checkout: Path, sample: str) -> None:
    """Run every command on a sample in this folder by the code of a checkout, and print the outputs as JSON."""
    import secrets
    import time

    time.time_ns, time.time = lambda: FROZEN_NS, lambda: FROZEN_NS / 1e9
    count = iter(range(1 << 32))
    secrets.token_hex = lambda nbytes=32: f"{next(count):0{2 * (nbytes or 32)}x}"[: 2 * (nbytes or 32)]
    package = checkout / ".package"
    sys.path.insert(0, str(package if package.exists() else checkout))
    main = import_module("sessionscope.tui.__main__" if package.exists() else "tui.__main__").main
    source = sys.modules[main.__module__].__file__
    assert source is not None
    assert Path(source).resolve().is_relative_to(checkout.resolve()), f"{source} is not of {checkout}"
    runner = Runner(main)
    if sample == HELP:
        runner.helps()
    else:
        if sample == DEMO:
            made = json.loads(runner.run("demo", "--json").out)["path"]
            shutil.move(made, DEMO)
            runner.outputs.clear()
        before = digest(Path(sample))
        runner.looks(sample)
        if digest(Path(sample)) != before:
            runner.outputs["(looking)"] = Output(1, "", f"looking changed {sample}\n")
        runner.writes(sample)
    json.dump(runner.outputs, sys.__stdout__)


def digest(path: Path) -> str:
    """Return a digest of a file, or of the names and contents of a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    contents = ((os.fsencode(file), sha256(file.read_bytes()).digest()) for file in files)
    return sha256(b"".join(b"%s\0%s" % entry for entry in contents)).hexdigest()


def text_file() -> IO[str]:
    """Return a temporary file for the output of a command. It is a real one, as commands ask for its descriptor."""
    return tempfile.TemporaryFile("w+", encoding="utf-8")


class Runner:
    """Runs command lines in this process and keeps what each left behind."""

    def __init__(self, main: object) -> None:
        assert callable(main)
        self._main = main
        self.outputs: Outputs = {}

    def run(self, *argv: object, step: str = "") -> Output:
        """Run one command line. `step` tells it from the same command at another moment."""
        words = [str(word) for word in argv]
        with text_file() as out, text_file() as err:
            with redirect_stdout(out), redirect_stderr(err):
                status = self._main(words)
            out.seek(0)
            err.seek(0)
            output = Output(status, out.read(), err.read())
        self.outputs[" ".join([*words, step and f"({step})"]).strip()] = output
        return output

    def both(self, *argv: object, step: str = "") -> list[dict[str, object]]:
        """Run a verb for its text and for its JSON. Return the records of the first list of the document."""
        self.run(*argv, step=step)
        output = self.run(*argv, "--json", step=step)
        try:
            document = json.loads(output.out)
        except ValueError:
            return []
        lists = [value for value in document.values() if isinstance(value, list)]
        return lists[0] if lists else []

    def helps(self) -> None:
        """Every help, and what the program says of wrong command lines."""
        verbs = (
            "demo",
            "ls",
            "show",
            "compactions",
            "compact",
            "uncompact",
            "doctor",
            "repair",
            "settle",
            "close",
            "archive",
            "reopen",
            "trash",
            "restore",
        )
        for verb in verbs:
            self.run(verb, "--help")
            self.run(verb, "--no-such-option")
            self.run(verb, "nowhere.db")
            self.run(verb, "nowhere.db", "session")
        no_archive, no_view = ("trash", "list", "nowhere.db"), ("show", "nowhere.db", "a", "--view", "b")
        for argv in ((), ("--help",), ("nowhere.db",), no_archive, no_view):
            self.run(*argv)

    def looks(self, archive: str) -> None:
        """Every verb that reads, and every dry run."""
        self.run(archive)
        self.run("show", archive, "no such session")
        sessions = self.both("ls", archive)
        self.doctor(archive)
        for kind in ("trash", "backups", "quarantine", "conflicts", "all"):
            self.both("trash", "list", archive, "--kind", kind)
        self.both("trash", "empty", archive, "--older-than", "0", "--dry-run")
        for session in sessions:
            self.session(archive, str(session["ref"]))

    def doctor(self, archive: str) -> None:
        """The doctor, and a dry run of each of its repairs."""
        findings = self.both("doctor", archive)
        self.both("repair", archive, "--dry-run")
        self.both("repair", archive, "--dry-run", "--offline")
        for code in sorted({str(finding["code"]) for finding in findings}):
            self.both("repair", archive, "--only", code, "--dry-run", "--offline")
        choices = {(finding["code"], choice["name"]) for finding in findings for choice in finding.get("choices") or ()}
        for code, choice in sorted(choices):
            self.both("repair", archive, "--choose", f"{code}={choice}", "--dry-run", "--offline")

    def session(self, archive: str, ref: str) -> None:
        """What can be asked of one session."""
        numbers = []
        for view in ("all", "active", "compacted", "context"):
            messages = self.both("show", archive, ref, "--view", view)
            numbers.append([message["seq"] for message in messages if isinstance(message.get("seq"), int)])
        self.both("show", archive, ref, "--view", "context", "--max-messages", "3", "--max-tokens", "200")
        self.both("show", archive, ref, "--from", "2", "--to", "4")
        for compaction in self.both("compactions", archive, ref):
            self.both("uncompact", archive, ref, compaction.get("number", 1), "--dry-run")
        self.both("uncompact", archive, ref, "9", "--dry-run")
        for range_ in ranges(numbers[3] or numbers[0]):
            self.both("compact", archive, ref, *range_, "--note", "A note.", "--dry-run", "--offline")
        for verb in ("doctor", "repair"):
            self.both(verb, archive, ref, *(("--dry-run", "--offline") if verb == "repair" else ()))
        self.both("settle", archive, ref, "--dry-run", "--offline")
        for more in ((), ("--no-cascade",), ("--anyway",), ("--anyway", "--no-cascade")):
            self.both("close", archive, ref, *more, "--dry-run", "--offline")
        for verb in ("archive", "reopen"):
            self.both(verb, archive, ref, "--dry-run")

    def writes(self, archive: str) -> None:
        """What closing, compacting, settling and repairing print, and what is there after each is undone."""
        for at, session in enumerate(self.both("ls", archive, step="before writing")[:3]):
            ref = str(session["ref"])
            self.undone(archive, "trash", at, "close", archive, ref, "--anyway", "--offline", "--json")
            self.run("compact", archive, ref, "--keep", "1", "--note", "A note.", "--offline", "--json")
            self.both("show", archive, ref, step="compacted")
            self.both("compactions", archive, ref, step="compacted")
            self.undone(archive, "backups", at, "settle", archive, ref, "--offline", "--json")
        self.undone(archive, "backups", 9, "repair", archive, "--offline", "--json")

    def undone(self, archive: str, kind: str, at: int, *argv: str) -> None:
        """Run a command, look at the bundle that it made, and restore that."""
        known = self.bundles(archive, kind, f"before {argv[0]} {at}")
        self.run(*argv)
        for bundle in self.bundles(archive, kind, f"after {argv[0]} {at}") - known:
            for what in ("show", "export"):
                self.run("trash", what, archive, Path(bundle).name, "--kind", kind, step=f"{argv[0]} {at}")
            for more in (("--dry-run",), ("--json",)):
                self.run("restore", bundle, "--offline", *more, step=f"{argv[0]} {at}")
        self.both("ls", archive, step=f"{argv[0]} {at} undone")

    def bundles(self, archive: str, kind: str, step: str) -> set[str]:
        """The paths of the bundles of a kind."""
        return {str(bundle["path"]) for bundle in self.both("trash", "list", archive, "--kind", kind, step=step)}


def ranges(seqs: list[object]) -> Iterator[tuple[str, ...]]:
    """Ranges to compact: proposals, thirds of a context, and some that are to be refused."""
    yield from ((), ("--keep", "0"), ("--keep", "1"), ("--keep", "99"), ("--from", "9", "--to", "3"), ("--from", "1"))
    third = len(seqs) // 3
    for first, last in ((0, third), (third, 2 * third), (2 * third, len(seqs) - 1), (1, 2)):
        if 0 <= first <= last < len(seqs):
            yield "--from", str(seqs[first]), "--to", str(seqs[last])


# -- the comparison


def git(*argv: str) -> bytes:
    return subprocess.run(["git", *argv], cwd=ROOT, check=True, capture_output=True).stdout


def unpack(commit: str, folder: Path) -> Path:
    """Write the files of a commit to a folder."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", commit))) as archive:
        archive.extractall(folder, filter="fully_trusted")
    return folder


def declared(base: str, commit: str) -> Declared:
    """Return what the commits after `base` declare."""
    text = git("log", f"{base}..{commit}", f"--format=%(trailers:key={TRAILER},valueonly,unfold)").decode()
    lines = [line for line in text.splitlines() if line]
    found = [REPLACEMENT.fullmatch(line) for line in lines]
    # The newest commit comes first in a log; a text is replaced in the order in which it was renamed.
    replacements = [(match[1], match[2]) for match in reversed(found) if match is not None]
    return Declared(tuple(line for line, match in zip(lines, found, strict=True) if match is None), tuple(replacements))


def samples(more: list[Path]) -> dict[str, Path | None]:
    """Return the samples by name: files and folders of the tests' data and of more folders."""
    folders = [ROOT / "tests" / "data" / name for name in SAMPLES] + more
    found = {
        f"{folder.name}-{path.name}": path
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.suffix == ".db" or path.is_dir()
    }
    return {HELP: None, DEMO: None} | found


def outputs(checkout: Path, name: str, source: Path | None, folder: Path) -> Outputs:
    """Return what the code of a checkout prints about a fresh copy of a sample, which has the same path each time."""
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "home"
    home.mkdir(parents=True)
    if source is not None:
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", __file__, "--drive", str(checkout), name]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{checkout.name} failed on {name}:\n{done.stderr}")
    today = f"{datetime.now(UTC):%Y-%m-%d}"

    def steady(text: str) -> str:
        """Without what the moment of the run decides: names of bundles, and times of this day."""
        text = BUNDLE.sub("BUNDLE", text)
        return TODAY.sub(lambda match: "NOW" if match[1] == today else match[0], text)

    return {
        steady(command): Output(status, steady(out), steady(err))
        for command, (status, out, err) in json.loads(done.stdout).items()
    }


def difference(command: str, old: Output | None, new: Output | None) -> str:
    """Return how two outputs of a command differ, shortened."""
    lines = [
        [f"status {output.status}", *output.out.splitlines(), *output.err.splitlines()] if output else ["not run"]
        for output in (old, new)
    ]
    found = [line[:200] for line in difflib.unified_diff(*lines, "base", "commit", lineterm="", n=1)]
    rest = f"… {len(found) - DIFFERENCE_LINES} more lines" if len(found) > DIFFERENCE_LINES else ""
    return "\n".join([f"$ sessionscope {command}", *found[:DIFFERENCE_LINES], rest])


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare what two commits print, over all samples.")
    parser.add_argument("base", metavar="BASE", help="the commit that is known to be right")
    parser.add_argument("commit", metavar="COMMIT", nargs="?", default="HEAD", help="the commit to check (HEAD)")
    parser.add_argument("--samples", metavar="FOLDER", type=Path, action="append", default=[], help="more samples")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="only the samples whose names match this")
    parser.add_argument("--drive", nargs=2, help=argparse.SUPPRESS)
    if sys.argv[1:2] == ["--drive"]:
        drive(Path(sys.argv[2]), sys.argv[3])
        return 0
    args = parser.parse_args()
    allowed = declared(args.base, args.commit)
    with tempfile.TemporaryDirectory(prefix="compare-commits-") as temp:
        old, new = (unpack(commit, Path(temp, side)) for commit, side in ((args.base, "base"), (args.commit, "commit")))

        def compare(sample: tuple[str, Path | None]) -> tuple[str, Outputs, Outputs]:
            name, source = sample
            folder = Path(temp, "work", name)
            return name, outputs(old, name, source, folder), outputs(new, name, source, folder)

        chosen = [(name, path) for name, path in samples(args.samples).items() if fnmatch(name, args.only)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(pool.map(compare, chosen))
    differences, commands, excused = [], 0, 0
    for _, before, after in results:
        for command in before | after:
            commands += 1
            one, other = before.get(command), after.get(command)
            if one == other and command != "(looking)":
                continue
            if one is not None and other is not None and allowed.covers(command, one, other):
                excused += 1
                continue
            differences.append(difference(command, one, other))
    for text in differences[:DIFFERENCES_SHOWN]:
        print(text, end="\n\n")
    print(f"{commands} commands over {len(results)} samples: {len(differences)} differ, {excused} differ as declared.")
    return 1 if differences or not commands else 0


if __name__ == "__main__":
    sys.exit(main())
