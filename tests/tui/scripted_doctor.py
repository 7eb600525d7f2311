"""Archives with a scripted doctor: what it finds, plans and does is given, and what it is asked is noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from sessionscope.store import Cancelled, Choice, Finding, Plan, Receipt, Ref, Refused, Restore, Settle, Severity, Spot
from sessionscope.store.model.findings import KEEP, Change, wanted
from sessionscope.store.model.plans import silent
from sessionscope.store.powerloop.archive import PowerLoopArchive
from sessionscope.store.powerloop.reader import PowerLoopReader

ROOT = Ref("", "sess_root0000000000000000000")
OTHER = Ref("", "sess_tree00000000000000000000")
BUNDLE = "/kept/backups/1"
BRICKED = Finding(
    "next-seq-behind",
    Severity.ERROR,
    Spot(ROOT),
    "next_seq is 5, but there are messages up to 20.",
    fix="next_seq becomes 21.",
)
FOLDED = Finding(
    "fold-unrecorded",
    Severity.ERROR,
    Spot(ROOT, row="4", seq=4),
    "messages 4 to 6 are compacted out, but no compaction took them.",
    fix="they become active again.",
)
ORPHAN = Finding(
    "orphan-session",
    Severity.WARNING,
    Spot(ROOT),
    "its parent [red]sess_gone[/red]\x1b[31m is missing.",
    choices=(KEEP, Choice("detach", "cut the link, so that it is a root")),
)
HOLE = Finding("hole", Severity.INFO, Spot(ROOT, seq=9), "messages 9 to 11 are missing.")
WHOLE = Finding("layouts", Severity.INFO, Spot(), "the file holds two layouts.")
ALL = (HOLE, BRICKED, ORPHAN, WHOLE, FOLDED)


class ScriptedDoctor:
    """Stands for the doctor and the actions of every database while a test runs."""

    def __init__(self, findings: Sequence[Finding] = ALL, offline: str = "") -> None:
        self.left, self.offline = list(findings), offline
        self.looks, self.applied = 0, list[Any]()
        self.before_each: Callable[[], object] = lambda: None
        self.refuses = ""

    def findings(
        self, _reader: object, ref: Ref | None = None, progress: Any = silent, cancel: Callable[[], bool] = bool
    ) -> Iterator[Finding]:
        self.looks += 1
        for at, finding in enumerate(self.left):
            progress("messages", at, len(self.left))
            self.before_each()
            if cancel():
                raise Cancelled("stopped")
            yield finding

    def plan(self, action: Any, progress: Any = silent, cancel: Callable[[], bool] = bool) -> Plan:
        if isinstance(action, Settle):
            return Plan(
                action,
                1,
                ("call_9 is answered as aborted.",),
                (),
                (Change(Spot(action.ref, seq=21), "messages", None, "tool <aborted>"),),
                offline=self.offline,
            )
        if isinstance(action, Restore):
            return Plan(action, 1, ("it is put back.",), (), offline=self.offline)
        taken = [finding for finding, _ in wanted(self.left, action.only, dict(action.choose), action.spot)]
        changes = tuple(Change(finding.spot, "session_state.next_seq", "5", "21") for finding in taken)
        return Plan(
            action,
            len(taken),
            ("next_seq goes behind the last message.",),
            (),
            changes,
            tuple(taken),
            offline=self.offline,
        )

    def apply(self, plan: Plan, progress: Any = silent, cancel: Any = bool, offline: bool = False) -> Receipt:
        if self.refuses:
            raise Refused(self.refuses)
        assert offline == bool(plan.offline)
        self.applied.append(plan.action)
        if isinstance(plan.action, Restore):
            return Receipt("put back as it was.", 1)
        self.left = [finding for finding in self.left if finding not in plan.findings]
        return Receipt(f"repaired {len(plan.findings)}.", plan.rows, Restore(BUNDLE), BUNDLE)


@pytest.fixture
def scripted_doctor(monkeypatch: pytest.MonkeyPatch) -> ScriptedDoctor:
    """A database with all of these findings."""
    found = ScriptedDoctor()
    monkeypatch.setattr(PowerLoopReader, "findings", lambda reader, *more: found.findings(reader, *more), raising=False)
    monkeypatch.setattr(PowerLoopArchive, "actions", property(lambda _: found), raising=False)
    return found
