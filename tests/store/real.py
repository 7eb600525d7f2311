"""What the real packages say of an archive, where they are installed; nothing is asked of them where they are not."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WRITTEN = {"0.2.0": ("v0.2.0", ""), "0.18.0": ("v0.18.0", ""), "2.2.0": ("v2.2.0", "pl_"), "8.0.0": ("v8.0.0", "pl_")}
"""The sample that each release of power-loop wrote, and its layout."""
SESSIONS = {"0.2.0": ("v0.2.0", "loop-v0.2.0"), "0.3.5": ("v0.3.5",)}
"""The samples that each release of nanobot wrote."""


def installed(package: str) -> str:
    """The release of a package that is installed, nothing without any."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def check_context(path: Path, name: str, session: str, context: Sequence[int | None]) -> None:
    """Fails unless the release of power-loop that wrote a sample loads this context, if that one is installed."""
    written, prefix = WRITTEN.get(installed("power-loop"), ("", ""))
    if written == name:
        assert asyncio.run(power_loop(path, prefix, session)) == list(context)


async def power_loop(path: Path, prefix: str, session: str, what: str = "", seqs: Sequence[int] = ()) -> list[int]:
    """What the installed release loads as active, after it did something of its own."""

    async def now(value: Any) -> Any:
        return await value if inspect.isawaitable(value) else value

    if prefix:
        store = await import_module("power_loop.runtime.store.store").SessionStore.open(str(path), table_prefix=prefix)
    else:
        store = import_module("power_loop.runtime.session_store").SessionStore.open(str(path))
    try:
        if what == "append":
            await now(store.append_message(session, role="user", content="on"))
        elif what == "fold":
            exact = (
                {"fold_seqs": list(seqs)}
                if "fold_seqs" in inspect.signature(store.record_compaction).parameters
                else {}
            )
            await now(
                store.record_compaction(
                    session,
                    from_seq=min(seqs),
                    to_seq=max(seqs),
                    note_content="theirs",
                    before_tokens=9,
                    after_tokens=2,
                    round_index=0,
                    **exact,
                )
            )
        return [row.seq for row in await now(store.load_active_messages(session))]
    finally:
        await now(store.close())


def check_history(folder: Path, name: str, key: str, context: Sequence[object], note: str | None) -> None:
    """Fails unless the release of nanobot that wrote a sample sends as much of a session, with this summary, if that
    one is installed. Its home must be a temporary folder.
    """
    if name not in SESSIONS.get(installed("nanobot-ai"), ()):
        return
    # A copy, as 0.3.5 moves the sessions of a workspace elsewhere.
    with TemporaryDirectory() as workspace:
        manager = import_module("nanobot.session.manager").SessionManager(Path(workspace))
        shutil.copytree(folder, manager.sessions_dir, dirs_exist_ok=True)
        session = manager.get_or_create(key)
    summary = session.metadata.get("_last_summary") or {}
    assert summary.get("text") == note
    assert len(session.get_history()) == len(context)
