"""The doctor: findings of an archive, their repairs, and applying these. Runs only when asked."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.worker import Worker

from sessionscope.store import Capability, Finding, Ref, Repair, Severity, Spot, StoreError
from sessionscope.tui.dialogs.plan import PlanDialog
from sessionscope.tui.sessions.opened_archive import OpenedArchive
from sessionscope.tui.sessions.session_catalog import SessionCatalog
from sessionscope.tui.text import describe, session_lines
from sessionscope.tui.text.clock import human
from sessionscope.tui.text.fitting import one_line
from sessionscope.tui.widgets.findings import HEAVIEST_FIRST, FindingsList
from sessionscope.tui.widgets.virtual_list import VirtualList
from sessionscope.tui.workers import action_workers, read_workers

from .pair import Pair

CHOICES = 9
UNFINISHED = "the check did not finish"
_PLURALS = {
    Severity.ERROR: ("error", "errors"),
    Severity.WARNING: ("warning", "warnings"),
    Severity.INFO: ("to know", "to know"),
}


class Doctor(Pair[Spot | None]):
    """Findings at the left or above, the one under the cursor beside them. Returns the place to go to."""

    list_pane: FindingsList
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "repair", "Repair", id="doctor.repair", tooltip="put this finding right"),
        Binding("R", "repair_all", "Repair all", id="doctor.repair_all", tooltip="put right all that is safe to"),
        *(
            Binding(str(number), f"choose({number})", f"Choose {number}", show=False, id=f"doctor.choose_{number}")
            for number in range(1, CHOICES + 1)
        ),
        Binding("u", "undo", "Undo", id="doctor.undo", tooltip="take the last repair back"),
        Binding("d", "look", "Look again", id="doctor.look"),
        Binding("t", "scope", "This session/all", show=False, id="doctor.scope"),
        Binding("tab,shift+tab", "other_pane", "Other pane", show=False, id="doctor.pane"),
        Binding("question_mark", "help", "Help", key_display="?", id="doctor.help"),
        Binding("escape", "leave", "Back", key_display="esc", id="doctor.leave"),
        Binding("q", "leave", "Back", show=False, id="doctor.quit"),
    ]

    def __init__(self, catalog: SessionCatalog, opened_archive: OpenedArchive, ref: Ref | None) -> None:
        super().__init__(FindingsList(self.named, id="findings"))
        self._catalog, self.opened_archive, self._ref = catalog, opened_archive, ref
        self.narrowed = False
        """Whether only the findings of one session are shown."""
        self.found: list[Finding] = []
        self.looking = False
        self.incomplete = False
        """Whether the last check failed, so that some findings may be missing."""
        self._epoch = 0
        self._says = ""
        self._names: dict[Ref, str] = {}
        self._worker: Worker[None] | None = None

    def begin(self) -> None:
        self.action_look()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what changes the archive if this format offers no repair."""
        changes = action in ("repair", "repair_all", "choose", "undo")
        return not changes or Capability.REPAIR in self.opened_archive.capabilities

    def named(self, ref: Ref) -> str:
        """Return what a session is called. One bounded read the first time."""
        if ref not in self._names:
            try:
                key = self.opened_archive.reader.key(ref)
                summaries = self.opened_archive.reader.summaries([key]) if key is not None else []
            except StoreError:
                summaries = []
            self._names[ref] = session_lines.title_of(summaries[0]) if summaries else one_line(ref.id)
        return self._names[ref]

    # -- what is shown

    def show(self) -> None:
        """Show what is known by now."""
        found = [finding for finding in self.found if not self.narrowed or finding.spot.session == self._ref]
        self.list_pane.show(found, self._hint())
        self._show_detail()
        self._show_title()

    def _hint(self) -> str:
        """Return what to show if there are no findings."""
        if self.looking:
            return "looking…"
        if self.incomplete:
            return UNFINISHED
        return "nothing is wrong with this session" if self.narrowed else "all is well"

    def _show_detail(self) -> None:
        finding = self.list_pane.current
        if finding is None:
            self.detail.show([])
            return
        session = finding.spot.session
        self.detail.show(describe.finding_blocks(finding, self.named(session) if session is not None else ""))

    def _show_title(self) -> None:
        counts = Counter(finding.severity for finding in self.found)
        words = ", ".join(
            f"{human(counts[severity])} {_PLURALS[severity][counts[severity] > 1]}"
            for severity in HEAVIEST_FIRST
            if counts[severity]
        )
        scope = f" · {self.named(self._ref)}" if self.narrowed and self._ref is not None else ""
        if self.incomplete:
            words = f"{words}, {UNFINISHED}" if words else UNFINISHED
        right = self._says or words or ("" if self.looking else "nothing found")
        info = self.opened_archive.archive.info
        self.entitle(
            [(" doctor  ", "tab"), (one_line(self.opened_archive.name), "strong"), (f"  {info.format}", "dim")],
            right,
            "note" if self._says else "dim",
            [(" FINDINGS", "strong"), (scope, "note")],
            "FINDING",
        )

    def follow(self) -> None:
        self._show_detail()
        self._show_title()

    # -- looking

    def action_look(self) -> None:
        """Check everything from the start."""
        self.found, self.looking, self.incomplete = [], True, False
        self._says = "looking…"
        epoch = self._begin()
        self._worker = self.run_worker(
            lambda: action_workers.look(
                self.post_message, self.opened_archive.archive, None, epoch, read_workers.stopped
            ),
            thread=True,
            group="care",
            exclusive=True,
            exit_on_error=False,
        )
        self.show()

    def _begin(self) -> int:
        """Begin work, and return its epoch. Answers of earlier work are ignored from now on."""
        self._epoch += 1
        return self._epoch

    @on(action_workers.FindingsRead)
    def _findings_read(self, event: action_workers.FindingsRead) -> None:
        if event.epoch != self._epoch:
            return
        self.found += event.findings
        if event.complete:
            self.looking, self._says = False, ""
            self.found.sort(key=lambda finding: HEAVIEST_FIRST.index(finding.severity))
            sick: dict[Ref, Severity] = {}
            for finding in self.found:
                if finding.spot.session is not None:
                    # The worst come first.
                    sick.setdefault(finding.spot.session, finding.severity)
            self.opened_archive.sick = sick
        self.show()

    @on(action_workers.Progressed)
    def _progressed(self, event: action_workers.Progressed) -> None:
        if event.epoch == self._epoch and self._says:
            share = f" {round(100 * event.done / event.total)}%" if event.total else f" {human(event.done)}"
            self._says = f"{one_line(event.what)}{share if event.done else ''}"
            self._show_title()

    @on(action_workers.GivenUp)
    def _given_up(self, event: action_workers.GivenUp) -> None:
        if event.epoch == self._epoch:
            self.incomplete = self.looking and bool(event.text)
            self.looking, self._says = False, ""
            if event.text:
                self.notify(one_line(event.text), severity="error", markup=False)
            self.show()

    # -- repairing

    def action_repair(self) -> None:
        finding = self.list_pane.current
        if finding is None or not finding.fixable:
            words = "choose with 1 to 9 what to do" if finding and finding.choices else "nothing to repair here"
            self.notify(words, timeout=3)
            return
        self._plan(Repair(finding.spot.session, (finding.code,), (), finding.spot))

    def action_repair_all(self) -> None:
        if not any(finding.fixable for finding in self.list_pane.found):
            self.notify("nothing here has a safe fix", timeout=3)
            return
        self._plan(Repair(self._ref if self.narrowed else None))

    def action_choose(self, number: int) -> None:
        finding = self.list_pane.current
        if finding is None or not finding.choices:
            self.notify("there is nothing to choose here", timeout=3)
        elif number > len(finding.choices):
            self.notify(f"there are {len(finding.choices)} choices", timeout=3)
        elif number == 1:
            self.notify("it stays as it is", timeout=3)
        else:
            choice = finding.choices[number - 1].name
            self._plan(Repair(finding.spot.session, (finding.code,), ((finding.code, choice),), finding.spot))

    def _plan(self, action: Repair) -> None:
        if self.looking:
            self.notify("the doctor is still looking", timeout=3)
            return
        self._says = "planning…"
        epoch = self._begin()
        self._worker = self.run_worker(
            lambda: action_workers.plan(
                self.post_message, self.opened_archive.archive, action, epoch, read_workers.stopped
            ),
            thread=True,
            group="care",
            exclusive=True,
            exit_on_error=False,
        )
        self._show_title()

    @on(action_workers.Planned)
    def _planned(self, event: action_workers.Planned) -> None:
        if event.epoch != self._epoch:
            return
        self._says = ""
        self._show_title()
        if event.plan.empty:
            self.notify("nothing is left to repair; the archive changed since the doctor looked", timeout=4)
            self.action_look()
            return
        many = len(event.plan.findings)
        verb = f"Repair {many} findings" if many > 1 else "Repair this finding"

        def answered(take: bool | None) -> None:
            if take and event.epoch == self._epoch:
                self._apply(event)

        self.app.push_screen(PlanDialog(event.plan, verb), answered)

    def _apply(self, planned: action_workers.Planned) -> None:
        self._says = "repairing…"
        epoch = self._begin()
        self._worker = self.run_worker(
            lambda: action_workers.apply(
                self.post_message, self.opened_archive.archive, planned.plan, epoch, read_workers.stopped
            ),
            thread=True,
            group="care",
            exclusive=True,
            exit_on_error=False,
        )
        self._show_title()

    @on(action_workers.Applied)
    def _applied(self, event: action_workers.Applied) -> None:
        # What was done is shown whatever was begun since.
        self.opened_archive.done(event.plan.action, event.receipt)
        more = " · u takes it back" if event.receipt.undo is not None else ""
        self.notify(f"{one_line(event.receipt.said)}{more}", markup=False)
        for note in event.receipt.notes:
            self.notify(one_line(note), severity="warning", markup=False)
        self._names.clear()
        self.action_look()

    def action_undo(self) -> None:
        if not self.opened_archive.undos:
            self.notify("nothing was done here that could be taken back", timeout=3)
            return
        action = self.opened_archive.undos[-1]
        self._says = "taking it back…"
        epoch = self._begin()
        self._worker = self.run_worker(
            lambda: action_workers.undo(
                self.post_message, self.opened_archive.archive, action, epoch, read_workers.stopped
            ),
            thread=True,
            group="care",
            exclusive=True,
            exit_on_error=False,
        )
        self._show_title()

    # -- going elsewhere

    @on(VirtualList.Chosen)
    def _chosen(self) -> None:
        finding = self.list_pane.current
        if finding is not None and finding.spot.session is not None:
            self.dismiss(finding.spot)
        else:
            self.notify("this is about the archive as a whole", timeout=3)

    def action_scope(self) -> None:
        if self._ref is not None:
            self.narrowed = not self.narrowed
            self.show()

    def action_leave(self) -> None:
        """Stop what is running, unless it already changes something. If nothing is running, go back."""
        if self._worker is not None and self._worker.is_running and self._says:
            self._worker.cancel()
            self.looking, self._says = False, ""
            self._begin()
            self.show()
            return
        self.dismiss(None)
