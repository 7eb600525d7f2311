"""The doctor of nanobot's session files: each damage is found and put right, and no byte is lost."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sessionscope.store import (
    Actions,
    Cancelled,
    Finding,
    Misused,
    NotAnArchive,
    Plan,
    Receipt,
    Refused,
    Repair,
    Restore,
    Settle,
)
from sessionscope.store.io import bundle as bundle_module
from sessionscope.store.model.rows import Ref
from sessionscope.store.nanobot.dropin.session_manager import LOCK, SessionManager
from sessionscope.store.nanobot.format.discovery import folders, is_session_file
from sessionscope.store.nanobot.read.message_scan import CODES
from sessionscope.store.nanobot.write import file_edits
from sessionscope.store.registry import open_archive

from . import damages
from .faults import failing
from .helpers import DATA, only
from .real import installed

SAMPLES = sorted(path.name for path in (DATA / "nanobot-damaged").iterdir() if path.name[0].isdigit())
HEAD = {
    "_type": "metadata",
    "key": "telegram:42",
    "created_at": "2026-05-16T09:00:00",
    "updated_at": "2026-05-16T10:00:00",
    "metadata": {},
    "last_consolidated": 0,
}
SEVERE = ("error", "warning")


def digest(row: dict[str, Any]) -> str:
    text = json.dumps(row, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def actions(folder: Path) -> Actions:
    found = only(folder).actions
    assert found is not None
    return found


def findings(folder: Path) -> list[Finding]:
    return list(only(folder).reader().findings())


def codes(found: list[Finding], *severities: str) -> list[str]:
    return sorted({finding.code for finding in found if not severities or finding.severity in severities})


def repair(folder: Path, action: Repair | Settle | Restore | None = None) -> tuple[Plan, Receipt]:
    doing = actions(folder)
    plan = doing.plan(action or Repair())
    return plan, doing.apply(plan, offline=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name, without the lock that each writer takes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != LOCK}


def lines(path: Path) -> list[dict[str, Any]]:
    texts = [line.decode().strip() for line in path.read_bytes().splitlines()]
    return [json.loads(text) for text in texts if text]


def sessions(tmp_path: Path, **files: bytes) -> Path:
    folder = tmp_path / "sessions"
    folder.mkdir()
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def made(*rows: Any, head: Any = HEAD) -> bytes:
    """A session's file of these rows, or of lines as they are."""
    every = [*([head] if head is not None else []), *rows]
    return b"".join(
        row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in every
    )


def user(text: str, minute: int = 1) -> dict[str, Any]:
    return {"role": "user", "content": text, "timestamp": f"2026-05-16T09:{minute:02}:00"}


def calling(*ids: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": id_, "type": "function", "function": {"name": "exec", "arguments": "{}"}} for id_ in ids],
    }


def result(id_: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "name": "exec", "content": f"done {id_}"}


# -- the samples


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    source = DATA / "nanobot-damaged" / request.param
    folder = tmp_path / "sessions"
    shutil.copytree(source, folder)
    expected: dict[str, Any] = json.loads((folder / "EXPECTED.json").read_text())
    (folder / "EXPECTED.json").unlink()
    return folder, expected


def test_each_message_that_can_be_had_is_there_in_order_and_unchanged(sample: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = sample
    before = contents(folder)
    assert findings(folder)
    assert contents(folder) == before
    plan, receipt = repair(folder)
    after = contents(folder)
    rows = [row for row in lines(folder / "my_bot_42.jsonl") if row.get("_type") != "metadata"]
    there = iter([digest(row) for row in rows])
    wanted = [one for one in expected["recoverable"]["messages"] if one["fidelity"] == "exact"]
    assert all(one["digest"] in there for one in wanted), "one that can be had exactly is missing, or out of order"
    marked = [row["_sessionscope"]["fidelity"] for row in rows if "_sessionscope" in row]
    told = [one["fidelity"] for one in expected["recoverable"]["messages"] if one["fidelity"] != "exact"]
    assert marked[: len(told)] == told
    kept = b"".join(path.read_bytes() for path in Path(receipt.bundle).iterdir()) if receipt.bundle else b""
    assert all(data in kept or after.get(name) == data for name, data in before.items())
    left = findings(folder)
    assert not [finding for finding in left if finding.fixable]
    assert all(finding.choices or finding.severity == "info" for finding in left), codes(left)
    again, _ = repair(folder)
    assert again.empty
    assert contents(folder) == after
    if receipt.undo is not None:
        repair(folder, receipt.undo)
        assert contents(folder) == before
        with pytest.raises(Refused, match="put back already"):
            repair(folder, receipt.undo)
    else:
        assert plan.empty


def test_the_manager_reads_what_was_repaired_without_a_warning(
    sample: tuple[Path, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    folder, expected = sample
    repair(folder)
    with caplog.at_level(logging.WARNING):
        session = SessionManager(folder.parent).get_or_create("my_bot:42")
        listed = SessionManager(folder.parent).list_sessions()
    assert not caplog.records
    assert len(session.messages) >= expected["recoverable"]["count"]
    assert any(one["path"].endswith("my_bot_42.jsonl") for one in listed)


def _manager() -> Any:
    """The real 0.2.0's, where that is installed: 0.3.5 keeps the sessions of a workspace elsewhere."""
    if installed("nanobot-ai") != "0.2.0":
        pytest.skip("needs nanobot-ai 0.2.0")
    return import_module("nanobot.session.manager")


def test_the_real_package_reads_what_was_repaired_without_a_warning(sample: tuple[Path, dict[str, Any]]) -> None:
    manager = _manager()
    from loguru import logger

    folder, expected = sample
    repair(folder)
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), level="WARNING")
    try:
        real = manager.SessionManager(folder.parent)
        session = real.get_or_create("my_bot:42")
        listed = real.list_sessions()
        session.get_history()
        real.save(session)
    finally:
        logger.remove(sink)
    assert said == []
    assert len(session.messages) >= expected["recoverable"]["count"]
    assert any(one["path"].endswith("my_bot_42.jsonl") for one in listed)


@pytest.mark.parametrize("name", ["v0.2.0", "v0.3.5", "loop-v0.2.0"])
def test_what_the_real_packages_wrote_has_nothing_to_put_right(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sessions"
    shutil.copytree(DATA / "nanobot" / name, folder)
    before = contents(folder)
    assert codes(findings(folder), *SEVERE) == []
    assert repair(folder)[0].empty
    assert contents(folder) == before
    assert not (tmp_path / "sessions.sessionscope").exists()


# -- each defect

ROWS = (user("one"), {"role": "assistant", "content": "two"}, user("three", 3))
_LONG = b'{"role": "user", "content": "x", "n": ' + b"9" * 4301 + b"}\n"
DAMAGED = {
    "truncated-line": made(*ROWS, b'{"role": "user", "content": "four", "time'),
    "torn-line": made(ROWS[0], b'{"role": "user", "content": "four' + made(*ROWS[1:], head=None)),
    "glued-objects": made(json.dumps(ROWS[0]).encode() + json.dumps(ROWS[1]).encode() + b"\n"),
    "spread-object": made(json.dumps(ROWS[0], indent=2).encode() + b"\n", ROWS[1]),
    "bare-control-characters": made(b'{"role": "user", "content": "a\tb"}\n', ROWS[1]),
    "unknown-escape": made(b'{"role": "user", "content": "a\\x"}\n', ROWS[1]),
    "invalid-utf8": made(b'{"role": "user", "content": "a\xff"}\n', ROWS[1]),
    "utf-16": made(*ROWS).decode().encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf" + made(*ROWS),
    "nul-bytes": made(*ROWS, b"\0" * 100),
    "not-an-object": made(ROWS[0], b"[1, 2]\n", ROWS[1]),
    "huge-integer": made(_LONG, ROWS[1]),
    "nested-too-deeply": made(ROWS[0], b'{"role": "user", "content": ' + b"[" * 200_000 + b"\n", ROWS[1]),
    "no-json": made(ROWS[0], b"what is this\n", ROWS[1]),
    "beside-damage": made(b"junk" + json.dumps(ROWS[0]).encode() + b"\n", ROWS[1]),
    "lone-surrogate": made(b'{"role": "user", "content": "a\\ud83d"}\n', ROWS[1]),
    "metadata-missing": made(*ROWS, head=None),
    "metadata-misplaced": b"\n" + made(*ROWS),
    "metadata-duplicated": made(ROWS[0], HEAD | {"metadata": {"title": "later"}}, ROWS[1]),
    "metadata-torn": b'{"_type": "metadata", "key": "telegram:42", "crea\n' + made(*ROWS, head=None),
    "message-as-metadata": made(ROWS[0], {"_type": "metadata"} | user("I am a message"), ROWS[1]),
    "metadata-not-an-object": made(*ROWS, head=HEAD | {"metadata": [1]}),
    "bad-date": made(*ROWS, head=HEAD | {"updated_at": None}),
    "bad-key": made(*ROWS, head=HEAD | {"key": 5}),
    "bad-offset": made(*ROWS, head=HEAD | {"last_consolidated": -1}),
    "save-unfinished": made(*ROWS, head=HEAD | {"pending_from": 500}),
    "bad-tool-calls": made(ROWS[0], {"role": "assistant", "content": "x", "tool_calls": 5}),
    "state-misplaced": made(ROWS[0], {"_type": "provider_state", "state": {}}, ROWS[1]),
}
CHOSEN = {
    "no-role": ({"quarantine": 2, "user": 3, "assistant": 3}, made(*ROWS[:2], {"content": "whose?"})),
    "orphan-result": ({"insert-call": 4}, made(ROWS[0], result("lost"), ROWS[1])),
    "duplicated-tail": ({"remove": 3}, made(*ROWS, *ROWS[1:])),
    "key-disagrees": ({"take-name": 3, "rename": 3}, made(*ROWS, head=HEAD | {"key": "slack:1"})),
}


@pytest.mark.parametrize("code", DAMAGED)
def test_each_defect_is_found_and_put_right_and_a_second_repair_changes_nothing(tmp_path: Path, code: str) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=DAMAGED[code])
    found = findings(folder)
    assert code in codes(found, *SEVERE)
    before = contents(folder)
    _, receipt = repair(folder)
    after = contents(folder)
    assert after != before
    left = findings(folder)
    assert code not in codes(left, *SEVERE)
    assert not [finding for finding in left if finding.fixable]
    assert repair(folder)[0].empty
    assert contents(folder) == after
    head, *rows = lines(folder / "telegram_42.jsonl")
    assert head["_type"] == "metadata"
    assert [row for row in rows if row in ROWS] == [row for row in ROWS if row in rows]
    assert receipt.undo is not None
    repair(folder, receipt.undo)
    assert contents(folder) == before


def test_every_kind_of_damage_that_the_codec_tells_apart_has_a_code_and_a_test() -> None:
    assert set(CODES.values()) <= DAMAGED.keys()
    assert len(set(CODES.values())) == len(CODES)


@pytest.mark.parametrize(("code", "choice"), [(code, choice) for code, (some, _) in CHOSEN.items() for choice in some])
def test_where_a_person_must_decide_nothing_happens_until_then(tmp_path: Path, code: str, choice: str) -> None:
    many, data = CHOSEN[code]
    folder = sessions(tmp_path, telegram_42__jsonl=data)
    assert code in codes(findings(folder), *SEVERE)
    assert repair(folder)[0].empty
    _, receipt = repair(folder, Repair(choose=((code, choice),)))
    (path,) = folder.glob("*.jsonl*")
    assert len(lines(path)) - 1 == many[choice]
    assert code not in codes(findings(folder), *SEVERE)
    assert receipt.undo is not None
    repair(folder, receipt.undo)
    assert contents(folder) == {"telegram_42.jsonl": data}


def test_an_offset_counts_what_it_counted_before(tmp_path: Path) -> None:
    glued = json.dumps(user("a")).encode() + json.dumps(user("b", 2)).encode() + b"\n"
    folder = sessions(
        tmp_path,
        telegram_42__jsonl=made(
            glued, b'{"role": "us\n', b"null\n", user("c", 3), user("d", 4), head=HEAD | {"last_consolidated": 4}
        ),
    )
    repair(folder)
    head, *rows = lines(folder / "telegram_42.jsonl")
    assert [row["content"] for row in rows] == ["a", "b", "c", "d"]
    # Four were consolidated: a, b, the one that broke off before its role was told, and c.
    assert head["last_consolidated"] == 3


def test_a_call_that_is_put_in_is_counted(tmp_path: Path) -> None:
    rows = (user("a"), result("x"), user("b", 2), user("c", 3))
    folder = sessions(tmp_path, telegram_42__jsonl=made(*rows, head=HEAD | {"last_consolidated": 1}))
    repair(folder, Repair(choose=(("orphan-result", "insert-call"),)))
    head, *after = lines(folder / "telegram_42.jsonl")
    assert [row["role"] for row in after] == ["user", "assistant", "tool", "user", "user"]
    assert head["last_consolidated"] == 1


def test_rows_that_are_sound_stay_the_bytes_that_they_were(tmp_path: Path) -> None:
    anomalies = b'{"content":"spaced"  ,   "role":"user","n":1.50,"nan":NaN}\r\n'
    folder = sessions(tmp_path, telegram_42__jsonl=made(anomalies, b"junk\n", ROWS[0]))
    repair(folder)
    assert anomalies in (folder / "telegram_42.jsonl").read_bytes()


def test_unanswered_calls_are_told_and_left_to_settle(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=made(user("go"), calling("a", "b"), result("a")))
    (told,) = [finding for finding in findings(folder) if finding.code == "unanswered-calls"]
    assert not told.fixable
    assert "settle" in told.message
    assert repair(folder)[0].empty


# -- beside a file


def test_a_temporary_file_that_is_whole_may_take_its_place(tmp_path: Path) -> None:
    old, new = made(ROWS[0]), made(*ROWS)
    folder = sessions(tmp_path, telegram_42__jsonl=old, telegram_42__jsonl__tmp=new)
    (told,) = [finding for finding in findings(folder) if finding.code == "leftover-temporary"]
    assert [choice.name for choice in told.choices] == ["keep", "use", "remove"]
    assert repair(folder)[0].empty
    _, receipt = repair(folder, Repair(choose=(("leftover-temporary", "use"),)))
    assert contents(folder) == {"telegram_42.jsonl": new}
    assert receipt.undo is not None
    repair(folder, receipt.undo)
    assert contents(folder) == {"telegram_42.jsonl": old, "telegram_42.jsonl.tmp": new}
    repair(folder, Repair(choose=(("leftover-temporary", "remove"),)))
    assert contents(folder) == {"telegram_42.jsonl": old}


def test_a_temporary_file_that_says_nothing_new_goes(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=made(*ROWS), telegram_42__jsonl__tmp=made(*ROWS))
    repair(folder)
    assert contents(folder) == {"telegram_42.jsonl": made(*ROWS)}


def test_half_a_temporary_file_is_no_session(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl__tmp=made(*ROWS)[:-20])
    (told,) = findings(folder)
    assert told.code == "leftover-temporary"
    assert [choice.name for choice in told.choices] == ["keep", "remove"]


def test_two_files_of_one_key_are_told(tmp_path: Path) -> None:
    later = HEAD | {"updated_at": "2026-05-17T10:00:00"}
    folder = sessions(tmp_path, telegram_42__jsonl=made(ROWS[0]), dGVsZWdyYW06NDI__jsonl=made(*ROWS, head=later))
    told = [finding for finding in findings(folder) if finding.code == "two-files-one-key"]
    assert {finding.spot.file for finding in told} == {"telegram_42.jsonl", "dGVsZWdyYW06NDI.jsonl"}
    assert all("dGVsZWdyYW06NDI.jsonl was" in finding.message or "this one was" in finding.message for finding in told)


def test_a_session_that_an_upgrade_hid_is_shown_again(tmp_path: Path) -> None:
    folder = tmp_path / ("0" * 32)
    folder.mkdir()
    (folder / ".workspace").write_text("/somewhere")
    (folder / "telegram_42.jsonl").write_bytes(made(*ROWS))
    assert codes(findings(folder), "warning") == ["invisible"]
    repair(folder, Repair(choose=(("invisible", "rename"),)))
    assert codes(findings(folder), *SEVERE) == []
    assert (folder / "dGVsZWdyYW06NDI.jsonl").read_bytes() == made(*ROWS)
    assert not (folder / "telegram_42.jsonl").exists()


def test_a_sidecar_that_is_not_used_may_be_removed(tmp_path: Path) -> None:
    folder = sessions(tmp_path, dGVsZWdyYW06NDI__jsonl=made(*ROWS), dGVsZWdyYW06NDI__checkpoint__json=b"{}")
    (told,) = findings(folder)
    assert (told.code, told.severity) == ("stale-sidecar", "info")
    repair(folder, Repair(choose=(("stale-sidecar", "remove"),)))
    assert list(contents(folder)) == ["dGVsZWdyYW06NDI.jsonl"]


# -- settle


def test_settling_answers_in_the_right_place(tmp_path: Path) -> None:
    rows = (user("go"), calling("a", "b"), result("a"), user("and?", 2), calling("c"))
    folder = sessions(tmp_path, telegram_42__jsonl=made(*rows))
    before = contents(folder)
    _, receipt = repair(folder, Settle(Ref("", "telegram:42", "telegram_42.jsonl")))
    _, *after = lines(folder / "telegram_42.jsonl")
    assert [(row["role"], row.get("tool_call_id")) for row in after] == [
        ("user", None),
        ("assistant", None),
        ("tool", "a"),
        ("tool", "b"),
        ("user", None),
        ("assistant", None),
        ("tool", "c"),
    ]
    assert after[3]["content"] == "Error: Task interrupted before this tool finished."
    assert codes(findings(folder)) == []
    assert actions(folder).plan(Settle(Ref("", "telegram:42", "telegram_42.jsonl"))).empty
    assert receipt.undo is not None
    repair(folder, receipt.undo)
    assert contents(folder) == before


def test_settling_ends_an_open_turn_as_nanobot_does(tmp_path: Path) -> None:
    checkpoint = {
        "phase": "awaiting_tools",
        "assistant_message": calling("a", "b"),
        "completed_tool_results": [result("a")],
        "pending_tool_calls": [{"id": "b", "function": {"name": "exec", "arguments": "{}"}}],
    }
    head = HEAD | {"metadata": {"title": "t", "pending_user_turn": True, "runtime_checkpoint": checkpoint}}
    folder = sessions(tmp_path, telegram_42__jsonl=made(user("go"), calling("a", "b"), head=head))
    assert codes(findings(folder)) == ["open-turn"]
    repair(folder, Settle(Ref("", "telegram:42", "telegram_42.jsonl"), "power cut"))
    first, *rows = lines(folder / "telegram_42.jsonl")
    assert first["metadata"] == {"title": "t"}
    assert [(row["role"], row.get("tool_call_id")) for row in rows] == [
        ("user", None),
        ("assistant", None),
        ("tool", "a"),
        ("tool", "b"),
    ]
    assert rows[-1]["content"] == "power cut"
    assert codes(findings(folder)) == []


def test_the_real_package_goes_on_after_settling(tmp_path: Path) -> None:
    manager = _manager()
    rows = (user("go"), calling("a", "b"), result("a"), user("and?", 2), calling("c"))
    folder = sessions(tmp_path, telegram_42__jsonl=made(*rows))
    repair(folder, Settle(Ref("", "telegram:42", "telegram_42.jsonl")))
    sent = manager.SessionManager(tmp_path).get_or_create("telegram:42").get_history()
    assert [one.get("tool_call_id") for one in sent if one["role"] == "tool"] == ["a", "b", "c"]
    assert len(sent) == 7


def test_a_user_who_waits_is_told(tmp_path: Path) -> None:
    head = HEAD | {"metadata": {"pending_user_turn": True}}
    folder = sessions(tmp_path, telegram_42__jsonl=made(user("hello?"), head=head))
    repair(folder, Settle(Ref("", "telegram:42", "telegram_42.jsonl")))
    first, *rows = lines(folder / "telegram_42.jsonl")
    assert first["metadata"] == {}
    assert rows[-1]["content"] == "Error: Task interrupted before a response was generated."


def test_a_checkpoint_beside_the_session_is_put_into_it(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    shutil.copytree(DATA / "nanobot" / "v0.3.5", folder)
    name = "b3BlbmFpOnJlc3A"
    now = os.stat(folder / f"{name}.jsonl").st_mtime
    os.utime(folder / f"{name}.checkpoint.json", (now + 5, now + 5))
    before = contents(folder)
    held = json.loads(before[f"{name}.checkpoint.json"])["checkpoint"]
    _, receipt = repair(folder, Settle(Ref("", "openai:resp", f"{name}.jsonl")))
    assert not (folder / f"{name}.checkpoint.json").exists()
    text = (folder / f"{name}.jsonl").read_text()
    assert all(one["id"] in text for one in held.get("pending_tool_calls", ()))
    assert receipt.undo is not None
    repair(folder, receipt.undo)
    assert contents(folder) == before


def test_a_damaged_session_is_repaired_before_it_is_settled(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=DAMAGED["truncated-line"])
    with pytest.raises(Refused, match="repair it before"):
        actions(folder).plan(Settle(Ref("", "telegram:42", "telegram_42.jsonl")))


# -- refusals


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Path]:
    folder = sessions(tmp_path, telegram_42__jsonl=DAMAGED["glued-objects"])
    before = contents(folder)
    yield folder
    assert contents(folder) == before or "changed" in before


def test_without_a_persons_word_nothing_is_written(broken: Path) -> None:
    doing = actions(broken)
    plan = doing.plan(Repair())
    with pytest.raises(Misused, match="A running nanobot would overwrite this"):
        doing.apply(plan)
    assert not broken.with_name("sessions.sessionscope").exists()


def test_a_file_that_changed_since_is_left_alone(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=DAMAGED["glued-objects"])
    doing = actions(folder)
    plan = doing.plan(Repair())
    with (folder / "telegram_42.jsonl").open("ab") as file:
        file.write(json.dumps(user("more", 9)).encode() + b"\n")
    before = contents(folder)
    with pytest.raises(Refused, match="changed since"):
        doing.apply(plan, offline=True)
    assert contents(folder) == before


@pytest.mark.parametrize(("owner", "name"), [(bundle_module, "_sync"), (Path, "mkdir"), (file_edits, "replace_file")])
def test_a_full_disk_changes_nothing(broken: Path, owner: Any, name: str) -> None:
    doing = actions(broken)
    plan = doing.plan(Repair())
    with failing(owner, name), pytest.raises(Refused, match="No space left"):
        doing.apply(plan, offline=True)


def test_it_stops_when_told_to(broken: Path) -> None:
    doing = actions(broken)
    plan = doing.plan(Repair())
    with pytest.raises(Cancelled):
        doing.apply(plan, cancel=lambda: True, offline=True)
    with pytest.raises(Cancelled):
        list(only(broken).reader().findings(cancel=lambda: True))


def test_a_lock_that_is_held_refuses(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(file_edits, "WAIT_S", 0.05)
    lock = broken / ".session-files.lock"
    doing = actions(broken)
    plan = doing.plan(Repair())
    with FileLock(lock), pytest.raises(Refused, match="holds its lock"):
        doing.apply(plan, offline=True)
    lock.unlink(missing_ok=True)


def test_what_was_kept_is_not_put_back_over_later_work(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=DAMAGED["glued-objects"])
    _, receipt = repair(folder)
    with (folder / "telegram_42.jsonl").open("ab") as file:
        file.write(json.dumps(user("more", 9)).encode() + b"\n")
    assert receipt.undo is not None
    with pytest.raises(Refused, match="changed since"):
        repair(folder, receipt.undo)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b"])
def test_no_path_from_a_bundle_is_obeyed(tmp_path: Path, name: str) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=DAMAGED["glued-objects"])
    _, receipt = repair(folder)
    assert receipt.bundle is not None
    manifest = Path(receipt.bundle) / "manifest.json"
    found = json.loads(manifest.read_text())
    found["more"]["targets"][0][0] = name
    manifest.write_text(json.dumps(found))
    with pytest.raises(NotAnArchive, match="is no name of a file"):
        actions(folder).plan(Restore(receipt.bundle))


def test_a_single_file_is_repaired_where_it_stands(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=DAMAGED["glued-objects"], other_1__jsonl=DAMAGED["no-json"])
    (archive,) = open_archive(folder / "telegram_42.jsonl")
    doing = archive.actions
    assert doing is not None
    doing.apply(doing.plan(Repair()), offline=True)
    assert (folder / "other_1.jsonl").read_bytes() == DAMAGED["no-json"]
    assert "glued-objects" not in codes(findings(folder))
    assert len(folders(folder)) == 1


def test_just_one_finding_is_put_right(tmp_path: Path) -> None:
    folder = sessions(tmp_path, telegram_42__jsonl=made(ROWS[0], b"junk\n", ROWS[1], b"null\n", ROWS[2]))
    first = findings(folder)[0]
    repair(folder, Repair(only=(first.code,), spot=first.spot))
    assert codes(findings(folder), *SEVERE) == ["not-an-object"]
    repair(folder, Repair(only=("not-an-object",)))
    assert (folder / "telegram_42.jsonl").read_bytes() == made(*ROWS)


# -- any damage


def sound(data: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines of a file that are messages with nothing wrong about them."""
    for line in data.splitlines(True):
        try:
            value = json.loads(line.decode().strip())
        except (ValueError, RecursionError):
            continue
        message = isinstance(value, dict) and isinstance(value.get("role"), str) and "_type" not in value
        if message and isinstance(value.get("tool_calls", []), list) and b"\\u" not in line:
            yield line, value


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_any_damage_is_repaired_once_and_for_all(
    tmp_path_factory: pytest.TempPathFactory, seed: int, later: bool
) -> None:
    folder = tmp_path_factory.mktemp("any") / "sessions"
    folder.mkdir()
    data = damages.file(seed, later)
    path = folder / damages.NAMES["0.3.5" if later else "0.2.0"]
    path.write_bytes(data)
    assume(is_session_file(path, content=True))
    list(only(folder).reader().findings())
    _, receipt = repair(folder)
    after = contents(folder)
    left = findings(folder)
    assert not [finding for finding in left if finding.fixable]
    assert repair(folder)[0].empty
    assert contents(folder) == after
    there = lines(path)
    assert all(line.strip() in after[path.name] or value in there for line, value in sound(data))
    if receipt.undo is not None:
        repair(folder, receipt.undo)
        assert path.read_bytes() == data
