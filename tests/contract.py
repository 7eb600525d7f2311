"""The names that users, their scripts and their files see, collected from what the program does.

`python -m tests.contract` writes `tests/data/contract.json`. A change there is a change for users: it needs an issue
that asks for it, and a line in the changelog.
"""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

from sessionscope.store import State, View
from sessionscope.tui import cli
from sessionscope.tui.__main__ import main
from sessionscope.tui.app import binding_ids
from sessionscope.tui.config import Config
from sessionscope.tui.headless import records

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / "tests" / "data" / "contract.json"
DATABASE, FOLDER = "power-loop/v0.2.0.db", "nanobot/v0.2.0"
SESSION, BOT = "sess_root0000000000000000000", "slack:C123:1715800000.000100"
FREE = {"arguments", "content", "undo"}
"""JSON keys whose values are the session's own."""
HYPHENATED = re.compile(r"[a-z]+(-[a-z0-9]+)+")
_MAKERS = {"Finding", "Obstacle", "check_result", "finding", "_choice"}


def contract() -> dict[str, Any]:
    """Return all public names, by what they are."""
    with tempfile.TemporaryDirectory() as folder:
        on_disk, json_keys = _used(Path(folder))
    return {
        "verbs": {verb: _options(verb) for verb in sorted(cli._VERBS)},
        "json keys": json_keys,
        "states": sorted(map(records.state_name, State)),
        "views": sorted(View),
        "finding codes and choices": sorted(set(_codes())),
        "on disk": on_disk,
        "config": list(Config.__struct_fields__),
        "keymap": sorted(binding_ids()),
    }


def _options(verb: str) -> list[str]:
    parser = cli._VERBS[verb][0](verb)
    return sorted(max(action.option_strings, key=len, default=action.dest) for action in parser._actions)


def _codes() -> Iterator[str]:
    """The code of each finding: the first argument of whatever makes one, and what looks like one beside it."""
    for path in (ROOT / "store").rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            getattr(node.targets[0], "id", ""): node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
                first = node.args[0]
                code = constants.get(first.id, first) if isinstance(first, ast.Name) else first
                yield from _texts([code] if name in _MAKERS else ())
        if path.parent.name == "doctor" or path.name in ("diagnosis.py", "message_scan.py", "read_only.py"):
            yield from (text for text in _texts(ast.walk(tree)) if HYPHENATED.fullmatch(text))


def _texts(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _used(folder: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What using the program leaves on the disk, and the keys of what it prints as JSON."""
    database = Path(shutil.copy(ROOT / "tests" / "data" / DATABASE, folder / "a.db"))
    bots = Path(shutil.copytree(ROOT / "tests" / "data" / FOLDER, folder / "sessions"))
    keys: dict[str, set[str]] = {}

    def run(verb: str, *words: object) -> dict[str, Any]:
        out = io.StringIO()
        with redirect_stdout(out):
            assert main([verb, *map(str, words), "--json"]) in (0, 1), (verb, words)
        found: dict[str, Any] = json.loads(out.getvalue())
        name = f"{verb} {words[0]}" if verb == "trash" else verb
        keys.setdefault(name, set()).update(_paths(found))
        return found

    on_disk: dict[str, Any] = {}
    for place, session in ((database, SESSION), (bots, BOT)):
        for verb in ("ls", "doctor"):
            run(verb, place)
        for verb in ("show", "compactions", "settle"):
            run(verb, place, session, *(["--offline"] if verb == "settle" else []))
        run("compact", place, session, "--keep", 1, "--note", "so far", "--offline")
        kind = "power-loop" if place is database else "nanobot"
        on_disk[f"{kind} compaction"] = _of_database(place) if place is database else _of_folder(place)
        run("repair", place, "--offline")
        closed = run("close", place, session, "--anyway", "--offline")
        on_disk[f"{kind} bundle"] = _of_bundle(Path(closed["bundle"]), place)
        run("trash", "list", place, "--kind", "all")
        run("trash", "show", place, closed["bundle"])
        run("restore", closed["bundle"], "--offline")
    run("archive", database, SESSION)
    run("reopen", database, SESSION)
    return on_disk, {verb: sorted(found) for verb, found in sorted(keys.items())}


def _paths(value: Any, at: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{at}{key}"
            if key not in FREE:
                yield from _paths(inner, f"{at}{key}.")
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner, at)


def _of_database(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        statement = "SELECT meta_json FROM messages WHERE name = 'compact_note' ORDER BY rowid DESC"
        (meta,) = conn.execute(statement).fetchone()
    return sorted(json.loads(meta))


def _of_folder(folder: Path) -> dict[str, list[str]]:
    for path in sorted(folder.glob("*.jsonl")):
        metadata = json.loads(path.read_bytes().split(b"\n")[0]).get("metadata", {})
        ours = {key: sorted(value[-1]) for key, value in metadata.items() if "sessionscope" in key}
        if ours:
            return ours
    raise AssertionError("no file has a compaction of ours")


def _of_bundle(bundle: Path, place: Path) -> dict[str, Any]:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    return {
        "folder": str(bundle.parent.relative_to(place.parent)),
        "manifest": sorted(manifest),
        "more": sorted(manifest["more"]),
        "session": sorted(manifest["more"]["sessions"][0]),
        "files": sorted({Path(name).name for name in manifest["files"]}),
    }


if __name__ == "__main__":
    CONTRACT.write_text(json.dumps(contract(), indent=1) + "\n")
