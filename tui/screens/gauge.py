"""The gauge: what fills the model's context, what compactions saved of it, and how it grew over the rounds."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from store import Archive, Certainty, Compaction, Ref

from .. import care, render, study
from ..clock import human
from ..describe import Block
from ..ink import Inked
from ..weighing import NOTE_ROLE, Weight, bar, share, sparkline
from ..widgets.bar import Bar, KeyBar
from ..widgets.biggest import Biggest
from ..widgets.column import Column
from ..widgets.inspector import Inspector
from ..widgets.virtual_list import VirtualList

BAR, SPARKS = 14, 28
"""Cells of a bar and of the line over rounds."""


class Gauge(Inked[int | None]):
    """Messages at the left or above, sums beside them. Dismissed with the seq to go to."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (10, "-low")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "other_pane", "Other pane", show=False, id="gauge.pane"),
        Binding("question_mark", "help", "Help", key_display="?", id="gauge.help"),
        Binding("escape", "leave", "Back", key_display="esc", id="gauge.leave"),
        Binding("q,w", "leave", "Back", show=False, id="gauge.quit"),
    ]

    def __init__(self, archive: Archive, ref: Ref, title: str) -> None:
        super().__init__()
        self._archive, self._ref, self._title = archive, ref, title

    def compose(self) -> ComposeResult:
        yield Bar(id="gauge-title")
        with Horizontal(id="gauge-panes"):
            with Column(id="biggest"):
                yield Bar(id="biggest-title", classes="pane-title -on")
                self.list_pane = Biggest(id="rows")
                yield self.list_pane
            with Column(id="weights"):
                yield Bar(id="weights-title", classes="pane-title")
                self.detail = Inspector(id="sums")
                yield self.detail
        yield KeyBar(id="gauge-keys")

    def on_mount(self) -> None:
        if self.list_pane.is_attached:
            self.list_pane.focus()
            self._show_titles()
            self.run_worker(
                lambda: study.weigh(self.post_message, self._archive, self._ref, 0, care.stopped), thread=True,
                exit_on_error=False)

    @on(study.Weighed)
    def _weighed(self, event: study.Weighed) -> None:
        self.list_pane.show(event.weight)
        self.detail.show(weight_blocks(event.weight))
        self._show_titles()

    @on(study.Failed)
    def _failed(self, event: study.Failed) -> None:
        self.list_pane.hint = render.one_line(event.text)
        self.list_pane.refresh()

    def _show_titles(self) -> None:
        weight, shown = self.list_pane.weight, self.list_pane.count
        right = f"~{human(weight.tokens)} tokens, estimated " if shown else ""
        self.query_one("#gauge-title", Bar).show(
            [(" context  ", "tab"), (self._title, "strong")], [(right, "dim")])
        self.query_one("#biggest-title", Bar).show(
            [(" BIGGEST FIRST", "strong")], [(f"{self.list_pane.cursor + 1 if shown else 0}/{shown} ", "dim")])
        self.query_one("#weights-title", Bar).show([(" OF WHICH", "strong")])

    @on(VirtualList.Highlighted, "#rows")
    def _highlighted(self) -> None:
        self._show_titles()

    @on(VirtualList.Chosen, "#rows")
    def _chosen(self) -> None:
        if self.list_pane.current is not None:
            self.dismiss(self.list_pane.current.seq)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        for pane, title in (("rows", "#biggest-title"), ("sums", "#weights-title")):
            self.query_one(title).set_class(event.widget.id == pane, "-on")

    def action_other_pane(self) -> None:
        (self.detail if self.list_pane.has_focus else self.list_pane).focus()

    async def action_help(self) -> None:
        from .help import Help

        if self.is_active:
            await self.app.push_screen(Help(Biggest.HELP, self))

    def action_leave(self) -> None:
        self.dismiss(None)


def weight_blocks(weight: Weight) -> list[Block]:
    """Sums by role, what each compaction saved, and the rounds as a line."""
    roles = weight.by_role
    most = max((tokens for _, _, tokens in roles), default=0)
    blocks = [Block((("by role", "accent"),))]
    for role, count, tokens in roles:
        style = "note" if role == NOTE_ROLE else "title"
        blocks.append(Block((
            (f"{render.ROLES.get(role, role):<6}", ""), (f"{render.fit(bar(tokens, most, BAR), BAR)} ", style),
            (f"{human(tokens):>5} {share(tokens, weight.tokens):>4}", ""),
            (f"  {human(count)} message{'s' if count != 1 else ''}", "dim"))))
    folds = [fold for fold in (weight.audit.compactions if weight.audit is not None else ()) if not fold.undone]
    blocks.append(_head("what each compaction saved"))
    blocks += [_saved(fold, max((one.before_tokens or 0 for one in folds), default=0)) for fold in reversed(folds)]
    if not folds:
        blocks.append(Block((("no compaction is in force", "dim"),)))
    blocks.append(_head("over rounds"))
    # A note without a row of its own does not tell when it came.
    since = any(fold.note_seq is None for fold in folds)
    estimated = "estimated from the messages" + ", since the newest compaction" * since
    for values, known in ((weight.growth, estimated), (weight.sent, "recorded by the agent")):
        if values:
            words = f"{human(values[-1])} of at most {human(max(values))} tokens, {human(len(values))} rounds"
            blocks += [Block(((sparkline(values, SPARKS), "title"),)), Block(((words, ""),)), Block(((known, "dim"),))]
    if not weight.sent and weight.usage is not None:
        blocks.append(Block(((weight.usage.coverage, "dim"),)))
    return blocks


def _head(text: str) -> Block:
    return Block((("\n", ""), (text, "accent")))


def _saved(fold: Compaction, most: int) -> Block:
    name = f"{render.NOTE}{fold.number}"
    kept = bar(fold.after_tokens or 0, most, BAR)
    gone = bar(fold.before_tokens or 0, most, BAR)[len(kept):]
    return Block(((f"{name:<6}", "note"), (kept, "title"), (f"{'░' * len(gone):<{BAR - len(kept)}} ", "dim"),
                  (render.tokens(fold).removesuffix(f" {Certainty.RECORDED}"), "")))
