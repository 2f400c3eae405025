"""A ladder as text: one line for each rung."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from typing import TYPE_CHECKING

from hullmark.exact import figures, round_down, round_up
from hullmark.ladder.rungs import Ladder, Number, Rung
from hullmark.results import ceiling_text, floor_text

if TYPE_CHECKING:
    from rich.table import Table

LONGEST = 9
"""Letters of a fraction that is shown as one; longer ones are shown as decimals."""

DIGITS = 6
WIDEST = 1000


def number_text(value: Number, up: bool, digits: int = DIGITS) -> str:
    """A number for a person: a short fraction, or a decimal rounded up or down."""
    if isinstance(value, Fraction):
        text = figures(value, LONGEST)
        if text is not None:
            return text
        value = round_up(value) if up else round_down(value)
    if math.isnan(value):
        return "?"
    return ceiling_text(value, digits) if up else floor_text(value, digits)


def table_text(ladder: Ladder, width: int | None = None) -> str:
    """The table, and under it what was left out; no line is longer than `width`."""
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, width=width or WIDEST, highlight=False, emoji=False)
    console.print(_table(ladder))
    for line in closing_lines(ladder):
        console.print(line, markup=False)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def closing_lines(ladder: Ladder) -> list[str]:
    """What stands under the table."""
    lines = [f"left out: {skip.name}: {skip.why}" for skip in ladder.skipped]
    if ladder.ended != "complete":
        lines.append(f"{ladder.ended} after {ladder.seconds:.1f} s")
    return lines


def _table(ladder: Ladder) -> Table:
    from rich import box
    from rich.table import Table

    head = f"{ladder.quantity}, {len(ladder.rungs)} rungs in {ladder.seconds:.1f} s"
    table = Table(title=head, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("relaxation", no_wrap=True)
    upper = "upper" if ladder.two_sided else "met"
    for name in ("lower", upper, "gap", "rows", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("attained", "kind"):
        table.add_column(name, no_wrap=True)
    table.add_column("")
    for rung in ladder.rungs:
        table.add_row(*_cells(rung, ladder.two_sided))
    return table


def _cells(rung: Rung, two_sided: bool) -> list[str]:
    real = rung.kind == "real"
    word = {True: "yes", False: "no", None: ""}[rung.attained]
    up_lower, up_upper = rung.roundings(two_sided)
    # Below a margin nothing real is a bound.
    lower = number_text(rung.lower, up_lower) if two_sided or not real else ""
    return [
        rung.name,
        lower,
        number_text(rung.upper, up_upper),
        number_text(rung.gap, up=True, digits=4) if lower else "",
        f"{rung.rows:,}" if rung.rows else "",
        f"{rung.seconds:.2f}",
        word,
        rung.kind,
        rung.note,
    ]
