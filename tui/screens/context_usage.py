"""Context usage: the largest messages of the context, what compactions saved, and how it grew over the rounds."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from sessionscope.store import Archive, Certainty, Compaction, Ref
from sessionscope.tui.text import compaction_lines, glyphs, message_lines
from sessionscope.tui.text.clock import human
from sessionscope.tui.text.describe import Block
from sessionscope.tui.text.fitting import fit, one_line
from sessionscope.tui.widgets.biggest import Biggest
from sessionscope.tui.widgets.virtual_list import VirtualList
from sessionscope.tui.workers import read_workers
from sessionscope.tui.workers.context_usage import NOTE_ROLE, ContextUsage, bar, share, sparkline

from .pair import Pair

BAR_CELLS = 14
"""Cells of a bar."""
SPARK_CELLS = 28
"""Cells of the line over rounds."""


class ContextUsageScreen(Pair[int | None]):
    """Messages at the left or above, sums beside them. Returns the seq to go to."""

    list_pane: Biggest
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "other_pane", "Other pane", show=False, id="gauge.pane"),
        Binding("question_mark", "help", "Help", key_display="?", id="gauge.help"),
        Binding("escape", "leave", "Back", key_display="esc", id="gauge.leave"),
        Binding("q,w", "leave", "Back", show=False, id="gauge.quit"),
    ]

    def __init__(self, archive: Archive, ref: Ref, title: str) -> None:
        super().__init__(Biggest(id="biggest"))
        self._archive, self._ref, self._title = archive, ref, title

    def begin(self) -> None:
        self.follow()
        self.run_worker(
            lambda: read_workers.measure_context(self.post_message, self._archive, self._ref, 0, read_workers.stopped),
            thread=True,
            exit_on_error=False,
        )

    @on(read_workers.ContextUsageRead)
    def _context_usage_read(self, event: read_workers.ContextUsageRead) -> None:
        self.list_pane.show(event.context_usage)
        self.detail.show(usage_blocks(event.context_usage))
        self.follow()

    @on(read_workers.Failed)
    def _failed(self, event: read_workers.Failed) -> None:
        self.list_pane.hint = one_line(event.text)
        self.list_pane.refresh()

    def follow(self) -> None:
        right = f"~{human(self.list_pane.context_usage.tokens)} tokens, estimated" if self.list_pane.count else ""
        self.entitle(
            [(" context  ", "tab"), (self._title, "strong")], right, "dim", [(" BIGGEST FIRST", "strong")], "OF WHICH"
        )

    @on(VirtualList.Chosen)
    def _chosen(self) -> None:
        if self.list_pane.current is not None:
            self.dismiss(self.list_pane.current.seq)


def usage_blocks(context_usage: ContextUsage) -> list[Block]:
    """Return sums by role, what each compaction saved, and the rounds as a line."""
    roles = context_usage.by_role
    most = max((tokens for _, _, tokens in roles), default=0)
    blocks = [Block((("by role", "accent"),))]
    for role, count, tokens in roles:
        style = "note" if role == NOTE_ROLE else "title"
        blocks.append(
            Block(
                (
                    (f"{message_lines.ROLES.get(role, role):<6}", ""),
                    (f"{fit(bar(tokens, most, BAR_CELLS), BAR_CELLS)} ", style),
                    (f"{human(tokens):>5} {share(tokens, context_usage.tokens):>4}", ""),
                    (f"  {human(count)} message{'s' if count != 1 else ''}", "dim"),
                )
            )
        )
    compactions = [
        compaction
        for compaction in (context_usage.audit.compactions if context_usage.audit is not None else ())
        if not compaction.undone
    ]
    blocks.append(_head("what each compaction saved"))
    blocks += [
        _saved(compaction, max((one.before_tokens or 0 for one in compactions), default=0))
        for compaction in reversed(compactions)
    ]
    if not compactions:
        blocks.append(Block((("no compaction is in force", "dim"),)))
    blocks.append(_head("over rounds"))
    # A note that is no row of its own does not tell when it was written.
    since = any(compaction.note_seq is None for compaction in compactions)
    estimated = "estimated from the messages" + ", since the newest compaction" * since
    for values, known in ((context_usage.growth, estimated), (context_usage.sent, "recorded by the agent")):
        if values:
            many = f"{human(len(values))} round{'s' if len(values) != 1 else ''}"
            words = f"{human(values[-1])} of at most {human(max(values))} tokens, {many}"
            blocks += [
                Block(((sparkline(values, SPARK_CELLS), "title"),)),
                Block(((words, ""),)),
                Block(((known, "dim"),)),
            ]
    if not context_usage.sent and context_usage.usage is not None:
        blocks.append(Block(((context_usage.usage.coverage, "dim"),)))
    return blocks


def _head(text: str) -> Block:
    return Block((("\n", ""), (text, "accent")))


def _saved(compaction: Compaction, most: int) -> Block:
    name = f"{glyphs.NOTE}{compaction.number}"
    kept = bar(compaction.after_tokens or 0, most, BAR_CELLS)
    gone = bar(compaction.before_tokens or 0, most, BAR_CELLS)[len(kept) :]
    return Block(
        (
            (f"{name:<6}", "note"),
            (kept, "title"),
            (f"{'░' * len(gone):<{BAR_CELLS - len(kept)}} ", "dim"),
            (compaction_lines.tokens(compaction).removesuffix(f" {Certainty.RECORDED}"), ""),
        )
    )
