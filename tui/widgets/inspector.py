"""The inspector: everything about what is under the cursor, as lines of text that can be read and selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from rich.theme import Theme
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from sessionscope.tui.compat import resize_content
from sessionscope.tui.text.describe import Block
from sessionscope.tui.text.fitting import fit
from sessionscope.tui.text.styles import named_style
from sessionscope.tui.text.visible import visible

if TYPE_CHECKING:
    from rich.markdown import Markdown

LABEL_WIDTH = 9
TEXT_STYLES = ("dim", "accent", "note", "damage", "strong", "title", "hole")


class Inspector(ScrollView, can_focus=True):
    """Blocks wrapped to the width of the pane."""

    HELP = """\
### Inspector
The whole message under the cursor, the note of a compaction, or everything about the session.

- `m` text, Markdown, or every column as stored; `i` the session
- `>` and `<` read on and back in a huge message, `e` opens all of it in $PAGER
- `y` copies the message; or select with the mouse and copy with `ctrl+c`
"""
    DEFAULT_CSS = """
    Inspector {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        padding: 0 0 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False, id="inspector.down"),
        Binding("k", "scroll_up", show=False, id="inspector.up"),
        Binding("g", "scroll_home", show=False, id="inspector.top"),
        Binding("G", "scroll_end", show=False, id="inspector.end"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._blocks: Sequence[Block] = ()
        self._lines: list[Strip] = []
        self._base: Style | None = None

    def show(self, blocks: Sequence[Block], keep: bool = False) -> None:
        """Show other blocks from their top, or with `keep` from where it was scrolled to."""
        self._blocks = blocks
        self._wrap()
        if not keep:
            self.scroll_home(animate=False, immediate=True)

    def on_resize(self, _event: events.Resize) -> None:
        self._wrap()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._base = None
        if self.is_attached and self._blocks:
            self._wrap()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        # An inspector as high as its lines needs them before it has a size.
        return len(self._wrapped(width - self.scrollbar_gutter.width))

    def _wrap(self) -> None:
        width, before = self.scrollable_content_region.width, len(self._lines)
        self._lines = self._wrapped(width)
        resize_content(self, Size(width, len(self._lines)))
        height = self.styles.height
        self.refresh(layout=height is not None and height.is_auto and len(self._lines) != before)

    def _wrapped(self, width: int) -> list[Strip]:
        """Return the blocks as lines of so many cells."""
        lines: list[Strip] = []
        if width <= 0:
            return lines
        styles = {name: named_style(self, name) for name in TEXT_STYLES}
        console = self.app.console
        theme = Theme(_markdown_styles(styles), inherit=True)
        options = console.options.update(width=width, height=None, overflow="fold", highlight=False)
        for block in self._blocks:
            content: Text | Markdown
            if block.markdown is not None:
                content = _markdown(block.markdown, self.app.current_theme.dark)
            else:
                content = Text(overflow="fold")
                for text, name in block.spans:
                    content.append(text, styles.get(name, Style.null()))
                content.rstrip()
            if block.label is None:
                with console.use_theme(theme):
                    lines += [_tamed(line) for line in console.render_lines(content, options, pad=False)]
                continue
            beside = options.update_width(max(1, width - LABEL_WIDTH))
            for at, line in enumerate(console.render_lines(content, beside, pad=False)):
                label = fit(block.label if at == 0 else "", LABEL_WIDTH - 1) + " "
                lines.append(_tamed([Segment(label, styles["dim"]), *line]))
        return lines

    def render_line(self, y: int) -> Strip:
        width, base = self.scrollable_content_region.width, self._base
        if base is None:
            # Computing it walks all ancestors, so it is done once for each style sheet.
            base = self._base = self.rich_style
        index = self.scroll_offset.y + y
        if index >= len(self._lines):
            return Strip.blank(width, base)
        strip = self._lines[index].apply_style(base)
        selection = self.text_selection
        if selection is not None and (span := selection.get_span(index)) is not None:
            start, end = span
            marked = self.screen.get_component_rich_style("screen--selection")
            end = strip.cell_length if end == -1 else end
            strip = Strip.join([strip.crop(0, start), _over(strip.crop(start, end), marked), strip.crop(end)])
        return strip.adjust_cell_length(width, base).apply_offsets(0, index)

    @property
    def plain(self) -> str:
        """All lines as text."""
        return "\n".join(line.text.rstrip() for line in self._lines)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        return selection.extract(self.plain), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()


def _tamed(line: list[Segment]) -> Strip:
    """Return a line without anything that a terminal would interpret.

    A Markdown parser decodes what is harmless in the source.
    """
    return Strip([Segment(visible(text), style) for text, style, _ in line])


def _over(strip: Strip, style: Style) -> Strip:
    return Strip([Segment(text, (old or Style.null()) + style) for text, old, _ in strip], strip.cell_length)


def _markdown_styles(styles: dict[str, Style]) -> dict[str, Style]:
    """Return the theme's styles for Markdown: Rich's own assume a black terminal."""
    plain = {name: Style(color=style.color, bold=style.bold) for name, style in styles.items()}
    found = {f"markdown.h{level}": plain["title"] + Style(bold=True) for level in range(1, 8)}
    return found | {
        "markdown.h1.border": plain["dim"],
        "markdown.code": plain["accent"],
        "markdown.code_block": plain["accent"],
        "markdown.block_quote": plain["dim"],
        "markdown.item.bullet": plain["accent"],
        "markdown.item.number": plain["accent"],
        "markdown.hr": plain["dim"],
        "markdown.link": plain["title"],
        "markdown.link_url": plain["title"] + Style(underline=True),
        "markdown.table.border": plain["dim"],
        "markdown.table.header": plain["strong"],
    }


def _markdown(text: str, dark: bool) -> Markdown:
    # Imported on first use: the start does not wait for a Markdown parser.
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown

    content = Markdown("", code_theme="ansi_dark" if dark else "ansi_light", hyperlinks=False)
    # Agents write in tags. As HTML they would vanish.
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    content.parsed = parser.parse(text)
    return content
