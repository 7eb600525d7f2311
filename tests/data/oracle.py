"""Asks a real power-loop what a database holds: run by the interpreter of an environment that has the package.

    python tests/data/oracle.py DATABASE [--prefix PREFIX]          prints the answers as JSON
    python tests/data/oracle.py --all SCRATCH     adds those of this release to oracle.json

The package writes to what it opens, so each database is copied first. `oracle.json` beside this file holds the answers
of 0.2.0, 0.18.0, 2.2.0 and 8.0.0 for every sample that the release can load, so that the tests need none of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import shutil
import sqlite3
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Sample, layout and the releases that load it.
LOADABLE = [
    ("v0.2.0", "", ("0.2.0", "0.18.0")),
    ("damaged-0.2.0-half-append", "", ("0.2.0",)),
    ("damaged-0.2.0-orphans", "", ("0.2.0",)),
    ("mixed-0.2.0-then-8.0.0", "", ("0.2.0",)),
    ("mixed-0.2.0-then-8.0.0", "pl_", ("8.0.0",)),
    ("poisoned-0.2.0-opened-by-8.0.0-prefix-empty", "", ("0.2.0",)),
    ("v0.18.0", "", ("0.18.0",)),
    ("folds-0.18.0-ambiguous", "", ("0.18.0",)),
    ("folds-0.18.0-three-generations", "", ("0.18.0",)),
    ("v2.2.0", "pl_", ("2.2.0", "8.0.0")),
    ("v8.0.0", "pl_", ("8.0.0",)),
    ("v8.0.0-prefix-empty", "", ("8.0.0",)),
]


def digest(role: Any, content: Any, name: Any, tool_calls: Any, tool_call_id: Any, round_index: Any, meta: Any,
           created_at: Any) -> str:
    """A fingerprint of one message, the same for a real row and for ours."""
    values = [role, content, name, tool_calls or None, tool_call_id, round_index, meta or {}, created_at]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


async def _now(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def answers(path: Path, prefix: str) -> dict[str, Any]:
    """What the installed release says of each session: order, states, rows, compactions, children, columns."""
    with sqlite3.connect(path) as conn:
        ids = [id_ for (id_,) in conn.execute(f'SELECT session_id FROM "{prefix}sessions" ORDER BY rowid')]
    if int(version("power-loop").split(".")[0]) >= 2:
        from power_loop.runtime.store.store import SessionStore

        store = await SessionStore.open(str(path), table_prefix=prefix)
    else:
        from power_loop.runtime.session_store import SessionStore

        store = SessionStore.open(str(path))
    found = {}
    for id_ in ids:
        row = await _now(store.get_session(id_))
        everything = await _now(store.load_all_messages(id_))
        found[id_] = {
            "session": [row.status.value, row.kind.value, row.lifecycle.value, row.parent_session_id, row.config,
                        row.metadata, row.system_prompt, row.created_at, row.updated_at],
            "context": [message.seq for message in await _now(store.load_active_messages(id_))],
            "states": [[message.seq, message.state.value] for message in everything],
            "rows": [digest(m.role, m.content, m.name, m.tool_calls, m.tool_call_id, m.round_index, m.meta,
                            m.created_at) for m in everything],
            "compactions": [[c.compact_seq, c.from_seq, c.to_seq, c.note_seq, c.before_tokens, c.after_tokens,
                             c.round_index, c.created_at] for c in await _now(store.list_compactions(id_))],
            "children": [child.session_id for child in await _now(store.list_children(id_))],
        }
    await _now(store.close())
    return found


def main(arguments: list[str]) -> None:
    release = version("power-loop")
    if arguments[0] == "--all":
        target = HERE / "oracle.json"
        known = json.loads(target.read_text()) if target.exists() else {}
        for sample, prefix, releases in LOADABLE:
            if release in releases:
                copy = shutil.copyfile(HERE / "power-loop" / f"{sample}.db", Path(arguments[1]) / f"{sample}.db")
                known.setdefault(f"{sample}#{prefix}", {})[release] = asyncio.run(answers(Path(copy), prefix))
        target.write_text(json.dumps(known, sort_keys=True, ensure_ascii=False, separators=(",", ":")) + "\n")
    else:
        prefix = arguments[arguments.index("--prefix") + 1] if "--prefix" in arguments else ""
        print(json.dumps(asyncio.run(answers(Path(arguments[0]), prefix))))


if __name__ == "__main__":
    main(sys.argv[1:])
