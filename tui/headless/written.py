"""Findings, plans and receipts, printed for people or as one JSON document."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from sessionscope.store import Change, Fate, Finding, Member, Plan, Progress, Receipt, Salvaged, Severity, Spot

from . import plain, records
from .outcome import NotPrinted

MARKS = {Severity.ERROR: "‼", Severity.WARNING: "!", Severity.INFO: "·"}
SHOWN = 40
"""How many changes of a plan are printed for people. --json has all that the plan names."""


def progress() -> Progress:
    """Return a function that shows progress on a terminal's last line.

    It does nothing if stderr is no terminal.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        return lambda what, done, total: None

    def tell(what: str, done: int, total: int) -> None:
        share = f"{done:,} of {total:,}" if total else f"{done:,}"
        ended = bool(total) and done >= total
        # The reader may be gone, which is no reason to stop.
        with suppress(OSError, ValueError):
            sys.stderr.write("\r\x1b[K" if ended else f"\r\x1b[K{plain.one_line(what)} {share}")
            sys.stderr.flush()

    return tell


# -- findings


class FindingsReport(Protocol):
    """Where findings are written as they come."""

    def add(self, finding: Finding) -> None: ...

    def end(self, many: int) -> None: ...


def findings(as_json: bool) -> AbstractContextManager[FindingsReport]:
    """Return a context manager that findings are written to."""
    return _Document() if as_json else nullcontext(_Lines())


class _Lines:
    def add(self, finding: Finding) -> None:
        print("\n".join(finding_lines(finding)))

    def end(self, many: int) -> None:
        if not many:
            print("nothing found")


class _Document:
    def __init__(self) -> None:
        self._document = records.Document(sys.stdout, "findings")

    def __enter__(self) -> _Document:
        self._document.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._document.__exit__(kind, error, at)

    def add(self, finding: Finding) -> None:
        self._document.add(finding_record(finding))

    def end(self, many: int) -> None:
        """Do nothing: the document ends by itself."""


def finding_lines(finding: Finding) -> list[str]:
    """Return a finding for people: what and where, then what can be done."""
    where = spot(finding.spot)
    lines = [
        f"{MARKS[finding.severity]} {finding.code}{f'  {where}' if where else ''}",
        f"    {plain.one_line(finding.message)}",
    ]
    if finding.fix:
        lines.append(f"    repair: {plain.one_line(finding.fix)}")
    if finding.salvage:
        lines.append("    --salvage NEW.db: write what can still be read into a new database")
    return lines + [
        f"    --choose {finding.code}={choice.name}: {plain.one_line(choice.about)}" for choice in finding.choices[1:]
    ]


def spot(place: Spot) -> str:
    """Return where something is, in a few words."""
    words = [plain.one_line(place.session.id)] if place.session is not None else []
    if place.file is not None and (place.session is None or place.session.file != place.file):
        words.append(plain.one_line(place.file))
    if place.seq is not None:
        words.append(f"#{place.seq}")
    elif place.line is not None:
        words.append(f"line {place.line}")
    return " ".join(words)


def finding_record(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON."""
    place = finding.spot
    return {
        "code": finding.code,
        "severity": str(finding.severity),
        "session_id": place.session.id if place.session is not None else None,
        "place": _place(place),
        "message": finding.message,
        "fixable": finding.fixable,
        "fix": finding.fix or None,
        "choices": [{"name": choice.name, "about": choice.about} for choice in finding.choices],
        "salvage": finding.salvage,
    }


def _place(place: Spot) -> dict[str, Any]:
    session = place.session
    return {
        "session_id": session.id if session is not None else None,
        "ref": str(session) if session is not None else None,
        "row": place.row,
        "seq": place.seq,
        "file": place.file,
        "line": place.line,
        "start": place.start,
        "stop": place.stop,
    }


# -- plans


class Done(NamedTuple):
    """The plan of an action and, if it was applied, its receipt and the command line that undoes it."""

    plan: Plan
    receipt: Receipt | None = None
    undo: str | None = None


def plan(done: Done, left: Sequence[Finding], as_json: bool) -> None:
    """Print a plan, its receipt if it was applied, and findings that are left.

    Raises NotPrinted if that fails after something was changed.
    """
    try:
        if as_json:
            print(records.dumps(_plan_record(done, left)))
        else:
            _print_plan(done, left)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        if done.receipt is None:
            raise
        raise NotPrinted(error, done.undo) from error


def _print_plan(done: Done, left: Sequence[Finding]) -> None:
    plan, receipt, _ = done
    for line in (*_plan_lines(plan, receipt is not None), *_receipt_lines(done), *_left_lines(left, plan, receipt)):
        print(line)


def _plan_lines(plan: Plan, applied: bool) -> list[str]:
    if plan.empty:
        return ["nothing to do: " + " ".join(map(plain.one_line, plan.reasons)) if plan.reasons else "nothing to do"]
    lines = [] if applied else ["would do, and did nothing so far:"]
    lines += [f"  {plain.one_line(reason)}" for reason in plan.reasons]
    lines += _member_lines(plan)
    lines += [f"! {plain.one_line(warning)}" for warning in plan.warnings]
    for change in plan.changes[:SHOWN] if not plan.members else ():
        lines += [f"  {line}" for line in diff(change)]
    more = len(plan.changes) - SHOWN if not plan.members else 0
    return lines + ([f"  … and {more} more changes; --json names them"] if more > 0 else [])


def diff(change: Change) -> list[str]:
    """Return a change as lines of a diff, after the line that says where."""
    where = spot(change.spot)
    lines = [f"{plain.one_line(change.what)}{f'  {where}' if where else ''}"]
    lines += [f"- {plain.one_line(change.before)}"] if change.before is not None else []
    return lines + ([f"+ {plain.one_line(change.after)}"] if change.after is not None else [])


def _receipt_lines(done: Done) -> list[str]:
    receipt = done.receipt
    if receipt is None:
        return []
    lines = [plain.one_line(receipt.said), *(f"  {plain.one_line(note)}" for note in receipt.notes)]
    if receipt.bundle is not None:
        lines.append(f"  kept in {plain.one_line(receipt.bundle)}")
    if done.undo is not None:
        lines.append(f"  To undo it: {plain.one_line(done.undo)}")
    return lines


def _left_lines(left: Sequence[Finding], plan: Plan, receipt: Receipt | None) -> list[str]:
    if receipt is None and not plan.empty:
        return []
    if not left:
        return []
    return ["left as it is:", *(line for finding in left for line in finding_lines(finding))]


FATES = {Fate.DELETED: "✕", Fate.DETACHED: "↥", Fate.ROOT: "↥"}


def _member_lines(plan: Plan) -> list[str]:
    """Return the sessions of a plan as a tree, with what happens to each."""
    return [
        f"  {'  ' * min(member.depth, 20)}{FATES[member.fate]} "
        f"{plain.one_line(member.title or member.preview or '(empty)')[:60]}  {plain.one_line(member.ref.id)}"
        f"  {member.messages} · {plain.one_line(member.lifecycle + ', ') if member.lifecycle else ''}{member.why}"
        for member in plan.members
    ]


def member_record(member: Member) -> dict[str, Any]:
    """Return a session of a plan as JSON."""
    return {
        "id": member.ref.id,
        "ref": str(member.ref),
        "fate": str(member.fate),
        "why": member.why,
        "depth": member.depth,
        "kind": member.kind or None,
        "lifecycle": member.lifecycle or None,
        "title": member.title,
        "preview": member.preview,
        "message_count": member.messages,
        "against": list(member.against),
    }


def _compaction_record(plan: Plan) -> dict[str, Any]:
    """Return what a compaction does to the context, if the plan is of one."""
    compaction = plan.compaction
    if compaction is None:
        return {}
    cut = compaction.cut
    first, last = cut.span
    return {
        "from_seq": first,
        "to_seq": last,
        "before_tokens": compaction.before_tokens,
        "after_tokens": compaction.after_tokens,
        "tokens_are": "estimated",
        "recorded_tokens": compaction.recorded,
        "leaves": len(cut.leaves),
        "stays": len(cut.stays),
        "notes": cut.notes,
        "note": compaction.note,
    }


def _plan_record(done: Done, left: Sequence[Finding]) -> dict[str, Any]:
    plan, receipt, undo = done
    return {
        "plan": {
            "action": type(plan.action).__name__.lower(),
            "rows": plan.rows,
            "reasons": list(plan.reasons),
            "warnings": list(plan.warnings),
            "offline": bool(plan.offline),
            "delete": [member.ref.id for member in plan.members if member.fate is Fate.DELETED],
            "detach": [member.ref.id for member in plan.members if member.fate is not Fate.DELETED],
            "sessions": [member_record(member) for member in plan.members],
            **_compaction_record(plan),
            "findings": [finding_record(finding) for finding in plan.findings],
            "changes": [
                {"place": _place(change.spot), "what": change.what, "before": change.before, "after": change.after}
                for change in plan.changes
            ],
        },
        "applied": receipt is not None,
        "bundle": receipt.bundle if receipt is not None else None,
        "said": receipt.said if receipt is not None else None,
        "undo": undo,
        "notes": list(receipt.notes) if receipt is not None else [],
        "findings": [finding_record(finding) for finding in left],
    }


# -- salvage


def salvaged(result: Salvaged, as_json: bool) -> None:
    """Print what a salvage saved, table by table, and what was lost."""
    import msgspec

    if as_json:
        print(records.dumps({"salvaged": msgspec.to_builtins(result)}))
        return
    print(f"saved into {plain.one_line(result.target)}:")
    for table in result.tables:
        lost = f"; lost: {plain.one_line(table.lost)}" if table.lost else ""
        print(f"  {plain.one_line(table.name)}: {table.rows:,} {'row' if table.rows == 1 else 'rows'}{lost}")
    if result.pages:
        runs = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in result.pages[:SHOWN])
        print(f"  pages that could not be read in full: {runs}{', …' if len(result.pages) > SHOWN else ''}")
    for note in (*result.sessions, *result.notes):
        print(f"  {plain.one_line(note)}")
