"""Every sample of nanobot's sessions, whole or damaged, reads as the releases read it, and stays as it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sessionscope.store import Archive, Certainty, State, View, open_archive
from sessionscope.store.io.spans import Trouble

from .test_watching import look
from .workspaces import DAMAGED, SAMPLES, damaged, found, rows, workspace

FOLDERS = {"v0.2.0": "nanobot 0.1.4-0.2", "v0.3.5": "nanobot 0.3", "loop-v0.2.0": "nanobot 0.1.4-0.2"}
NAMES = [path.name for path in DAMAGED]
LATER = ("last_archived", "last_consolidated")


def expanded(path: Path) -> Archive:
    (archive,) = open_archive(path)
    return archive


def stored(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metadata line and the messages of an undamaged file."""
    records = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    return records[0], [record for record in records if "_type" not in record]


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_sessions(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SAMPLES / name, tmp_path / "sessions"))
    archive = expanded(folder)
    assert archive.info.format == FOLDERS[name]
    files = {path.name for path in folder.glob("*.jsonl")} - {"memory_history.jsonl"}
    assert found(archive).keys() == files
    reader = archive.reader()
    for file, ref in found(archive).items():
        head, messages = stored(folder / file)
        offset = next((head[key] for key in LATER if key in head), 0)
        assert ref.id == head["key"]
        assert reader.resolve(head["key"]) == reader.resolve(str(ref)) == reader.resolve(file) == ref
        detail = reader.session(ref)
        summary = detail.summary
        assert (summary.title, summary.group) == (
            head["metadata"].get("title"),
            head["key"].partition(":")[0] if ":" in head["key"] else None,
        )
        assert (summary.message_count.value, summary.active_count.value) == (len(messages), len(messages) - offset)
        assert not summary.damage
        assert not detail.damage
        lines = rows(reader, ref)
        assert [line.seq for line in lines] == list(range(1, len(messages) + 1))
        assert [line.state for line in lines] == [
            State.COMPACTED if at < offset else State.ACTIVE for at in range(len(messages))
        ]
        whole = reader.messages(ref, [line.row or "" for line in lines], 1 << 20)
        for line, message, record in zip(lines, whole, messages, strict=True):
            assert (line.role, message.role, line.damage, message.damage) == (record["role"], record["role"], (), ())
            content = record["content"]
            assert (message.parts if isinstance(content, list) else message.content) == content
            assert [call.id for call in message.tool_calls] == [call["id"] for call in record.get("tool_calls", [])]
            assert message.tool_call_id == record.get("tool_call_id")
            shown = {"role", "content", "tool_calls", "tool_call_id", "name", "timestamp"}
            assert message.meta == {key: value for key, value in record.items() if key not in shown}
        for view, state in ((View.ACTIVE, State.ACTIVE), (View.COMPACTED, State.COMPACTED)):
            assert [line.seq for line in rows(reader, ref, view)] == [line.seq for line in lines if line.state == state]


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_session(name: str, tmp_path: Path) -> None:
    """What nanobot loads has seqs, in its own number and order; all that can be recovered stands in its place."""
    folder = damaged(name, tmp_path / "sessions")
    expected = json.loads((DAMAGED[NAMES.index(name)] / "EXPECTED.json").read_text())
    archive, theirs = expanded(folder), expected["nanobot_0.2.0"]
    reader = archive.reader()
    ref = found(archive)["my_bot_42.jsonl"]
    lines = rows(reader, ref)
    whole = {line.row: reader.message(ref, line.row or "") for line in lines}
    loaded = [whole[line.row] for line in lines if line.seq is not None]
    lost = any("loads nothing" in damage for damage in reader.session(ref).damage)
    assert not lost or not theirs["count"]
    assert lost or [digest(as_stored(message.raw)) for message in loaded] == theirs["digests"]
    assert [line.seq for line in lines if line.seq is not None] == list(range(1, len(loaded) + 1))
    sent = rows(reader, ref, View.CONTEXT)
    assert len(sent) == theirs["get_history_len"]
    for line in lines:
        assert (line.seq is None) == (line.state == State.DAMAGED)
        assert (line.seq is None) == bool(line.damage) or str(Trouble.SURROGATE) in line.damage
    if theirs["list_sessions"] and isinstance(theirs["list_sessions"], list) and reader.session(ref).summary.title:
        (listed,) = theirs["list_sessions"]
        summary = reader.session(ref).summary
        assert (summary.ref.id, summary.title, summary.preview) == (
            expected["key"],
            listed["title"] or summary.title,
            listed["preview"],
        )


def as_stored(raw: dict[str, str | None]) -> dict[str, Any]:
    """A record from what the inspector shows of it."""
    record: dict[str, Any] = {}
    for key, text in raw.items():
        if key == "bytes":
            continue
        if key in ("tool_calls", "media", "thinking_blocks", "latency_ms") and text is not None:
            record[key] = json.loads(text)
        else:
            record[key] = text
    return record


@pytest.mark.parametrize("name", NAMES)
def test_what_can_be_recovered_stands_in_the_timeline(name: str, tmp_path: Path) -> None:
    folder = damaged(name, tmp_path / "sessions")
    expected = json.loads((DAMAGED[NAMES.index(name)] / "EXPECTED.json").read_text())["recoverable"]["messages"]
    archive = expanded(folder)
    refs = found(archive)
    ref = refs.get("my_bot_42.jsonl.tmp") or refs["my_bot_42.jsonl"]
    reader = archive.reader()
    said = [line for line in rows(reader, ref) if line.role]
    # A metadata line among the messages may carry a role of its own, but is none of them.
    said = [line for line in said if not any("metadata" in damage for damage in line.damage)]
    assert [line.role for line in said] == [message["role"] for message in expected]
    for line, message in zip(said, expected, strict=True):
        partial = any("first fields" in damage for damage in line.damage)
        lossy = any("is lost" in damage for damage in line.damage)
        assert ("partial" if partial else "lossy" if lossy else "exact") == message["fidelity"]


@pytest.mark.parametrize("path", [*(SAMPLES / name for name in FOLDERS), *DAMAGED], ids=lambda path: path.name)
def test_looking_leaves_no_trace(path: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(path, tmp_path / "sessions"))
    before = look(folder / "any")
    archive = expanded(folder)
    reader = archive.reader()
    for ref in found(archive).values():
        for view in View:
            rows(reader, ref, view)
        reader.session(ref)
        reader.audit(ref, reader.outline(ref))
        reader.usage(ref)
        reader.spawner(ref)
    archive.stamp()
    archive.close()
    assert look(folder / "any") == before


def test_the_audit_of_a_workspace(tmp_path: Path) -> None:
    archive = expanded(workspace(tmp_path / "ws"))
    reader = archive.reader()
    ref = reader.resolve("loop:consolidated")
    (compaction,) = (audit := reader.audit(ref, reader.outline(ref))).compactions
    assert (compaction.from_seq, compaction.to_seq, compaction.rows, compaction.set_runs) == (1, 6, 6, ((1, 6),))
    assert compaction.set_is is Certainty.RECORDED
    assert compaction.note == "- summary of the old turns"
    # The log holds that very summary, and tells when it was written.
    assert compaction.created_at is not None
    assert audit.archived == ()
    plain = reader.resolve("loop:plain")
    audit = reader.audit(plain, reader.outline(plain))
    assert audit.compactions == []
    (entry,) = audit.archived or ()
    assert (entry.number, entry.text, entry.of_this_session) == (1, "- summary of the old turns", False)


def test_what_stands_beside_the_messages(tmp_path: Path) -> None:
    early = expanded(Path(shutil.copytree(SAMPLES / "v0.2.0", tmp_path / "early"))).reader()
    goal = dict(early.session(early.resolve("websocket:goal")).extras[:1])
    assert goal == {"goal": "active: Write the book · since 2026-05-16T01:02:03+00:00"}
    both = [text for label, text in early.session(early.resolve("websocket:goal")).extras if label == "goal"]
    assert both[1] == "completed (legacy): legacy str blob"
    open_turn = early.session(early.resolve("discord:7"))
    assert [text for label, text in open_turn.extras if label == "open turn"] == [
        "a user's turn is marked as not yet answered",
        "awaiting_tools · iteration 0 · model m · 1 waiting: exec",
    ]
    assert open_turn.pending["phase"] == "awaiting_tools"
    assert ("channel", "discord · chat 7") in open_turn.extras
    folder = Path(shutil.copytree(SAMPLES / "v0.3.5", tmp_path / "later"))
    later = expanded(folder).reader()
    facts = later.session(later.resolve("openai:resp")).extras
    assert ("provider state", "openai_responses · openai · gpt-x · 1") in facts
