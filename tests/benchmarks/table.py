"""A line of the report, and how lines are printed."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Line(Struct, frozen=True):
    """One figure. `target` is what `judged` may be at most; without one the figure only informs."""

    what: str
    figure: str
    judged: float | None = None
    target: float | None = None
    unit: str = "x"

    def cells(self) -> tuple[str, str, str, str, str]:
        """The columns of the table."""
        value = "" if self.judged is None else f"{self.judged:.{2 if self.judged < 100 else 0}f}{self.unit}"
        if self.judged is None or self.target is None:
            return self.what, self.figure, value, "", ""
        return self.what, self.figure, value, f"<= {self.target:g}{self.unit}", "ok" if self.met else "MISSED"

    @property
    def met(self) -> bool:
        """Whether the target is reached, or there is none."""
        return self.judged is None or self.target is None or self.judged <= self.target


def show(title: str, lines: Iterable[Line]) -> bool:
    """Prints a section; whether every target in it is met."""
    rows = list(lines)
    table = [("", "measured", "judged", "target", ""), *(line.cells() for line in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    print(f"\n{title}\n")
    for row in table:
        print("  ".join([f"{row[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in
                                                     zip(row[1:], widths[1:], strict=True))]).rstrip(), flush=True)
    return all(line.met for line in rows)
