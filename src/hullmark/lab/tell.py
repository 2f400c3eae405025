"""Exact numbers, inputs and tables as lines of text."""

import sys
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from hullmark.console import say

LONGEST = 24
"""A fraction with more letters is told by a decimal."""

DIGITS = 10


def exactly(value: Fraction) -> str:
    """A fraction in full if it is short, else a decimal with a `~` before it."""
    text = str(value)
    return text if len(text) <= LONGEST else f"~{decimal(value)}"


def decimal(value: Fraction, side: str | None = None) -> str:
    """A decimal of a few digits: a "lower" bound rounded down, an "upper" one up."""
    rounding = {"lower": ROUND_FLOOR, "upper": ROUND_CEILING}.get(side or "", ROUND_HALF_EVEN)
    context = Context(prec=DIGITS, rounding=rounding)
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


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout, each row on one line however long it is."""
    page = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*page, strict=True)]
    for row in page:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line("   ".join(cells).rstrip())


def line(text: str) -> None:
    """Print a line on stdout."""
    say(sys.stdout, text)
