"""Exact numbers, inputs and tables as lines of text."""

import sys
from collections.abc import Iterable, Sequence
from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
)
from fractions import Fraction

from hullmark.console import say
from hullmark.exact import figures

LONGEST = 24
"""A fraction with more letters is told by a decimal."""

MOST_WRITTEN = 4000
"""A fraction with more letters is written into files by a decimal."""

DIGITS = 10


def exactly(value: Fraction) -> str:
    """A fraction in full if it is short, else a decimal with a `~` before it."""
    return figures(value, LONGEST) or f"~{decimal(value)}"


def in_full(value: Fraction, side: str | None = None) -> str:
    """A fraction for a file: in full, or, beyond `MOST_WRITTEN`, as `~` and a rounded decimal."""
    return figures(value, MOST_WRITTEN) or f"~{decimal(value, side)}"


def decimal(value: Fraction, side: str | None = None) -> str:
    """A decimal of a few digits: a "lower" bound rounded down, an "upper" one up."""
    rounding = {"lower": ROUND_FLOOR, "upper": ROUND_CEILING}.get(side or "", ROUND_HALF_EVEN)
    context = Context(DIGITS, rounding, MIN_EMIN, MAX_EMAX)
    found = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    plain = not found or -6 <= found.adjusted() < DIGITS
    return f"{found.normalize(context):{'f' if plain else 'e'}}"


def point(x: Iterable[Fraction]) -> str:
    """The entries of an input, in parentheses."""
    return f"({', '.join(exactly(v) for v in x)})"


def affine(weight: Iterable[Fraction], bias: Fraction) -> str:
    """`weight · x + bias` as one writes it."""
    terms = [(w, f"X_{j}") for j, w in enumerate(weight) if w] + ([(bias, "")] if bias else [])
    text = ""
    for value, name in terms:
        size = exactly(abs(value))
        shown = " ".join(part for part in ("" if name and size == "1" else size, name) if part)
        sign = "-" if value < 0 else "+"
        text += f" {sign} {shown}" if text else f"{'-' if value < 0 else ''}{shown}"
    return text or "0"


class Table:
    """A table on stdout that is printed as its rows come; columns grow with what they hold.

    The header comes with the first rows, and each row is one line however long it is.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self._header: list[Sequence[str]] = [header]
        self._widths = [0] * len(header)

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Print more rows."""
        page = [*self._header, *rows]
        self._header = []
        columns = zip(self._widths, *([len(cell) for cell in row] for row in page), strict=True)
        self._widths = [max(column) for column in columns]
        for row in page:
            cells = (cell.ljust(width) for cell, width in zip(row, self._widths, strict=True))
            line("   ".join(cells).rstrip())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table at once."""
    Table(header).add(rows)


def line(text: str) -> None:
    """Print a line on stdout."""
    say(sys.stdout, text)
