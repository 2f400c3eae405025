"""Which relaxation is exact for some encoding of which functions: [Expr Table 1], measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Literal

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.relax.exact import Array
from hullmark.theory.cpwl import Cpwl
from hullmark.theory.encodings import nested_max
from hullmark.theory.net import ExactNet
from hullmark.theory.regions import exact_range
from hullmark.theory.relaxations import bounds
from hullmark.theory.univariate import RELAXATIONS, count_hinges, encode, triangle_encodings

Kind = Literal["monotone", "convex", "all"]
"""Of functions of one variable."""

KINDS: tuple[Kind, ...] = ("monotone", "convex", "all")

Answer = Literal["exact", "none", "open"]
"""Whether a network is known for every function of a kind, proved not to exist for some of them
[Expr], or neither."""

MOST_HINGES = 10
"""The encodings of a function with more are not counted one by one."""

_GRID = 24


@dataclass(frozen=True)
class Cell:
    """One cell of the table: functions of a kind under a relaxation.

    `encoding` names the network that was tried; its bounds were exact on `exact` of `boxes`
    boxes. If `answer` is "exact" that is all of them.
    """

    functions: str
    relaxation: str
    answer: Answer
    encoding: str
    exact: int
    boxes: int


def random_function(kind: Kind, pieces: int, random: Random) -> Cpwl:
    """A function of one variable with that many pieces, slopes between -6 and 6.

    Raises:
        BadInput: if `kind` is none of `KINDS`, or there are not between 1 and 16 pieces.
    """
    if kind not in KINDS:
        raise BadInput(f"no functions of the kind {kind!r}; take one of {', '.join(KINDS)}")
    if not 1 <= pieces <= 16:
        raise BadInput(f"a random function of {pieces} pieces; take 1 to 16")
    knots = [Fraction(k, 4) for k in sorted(random.sample(range(-8, 9), pieces + 1))]
    slopes = [Fraction(random.randint(-12, 12), random.randint(2, 3)) for _ in range(pieces)]
    if kind == "monotone":
        sign = random.choice([-1, 1])
        slopes = [sign * abs(slope) for slope in slopes]
    if kind == "convex":
        slopes.sort()
    return Cpwl.sloped(knots, random.randint(-3, 3), slopes)


def random_interval(f: Cpwl, random: Random) -> tuple[Fraction, Fraction]:
    """Two points of a grid on the domain, in order, which may be one."""
    start, end = f.domain
    first, second = (
        start + (end - start) * Fraction(random.randint(0, _GRID), _GRID) for _ in "ab"
    )
    return min(first, second), max(first, second)


def table1(functions: int = 10, boxes: int = 5, seed: int = 0) -> list[Cell]:
    """The table of [Expr], by trying an encoding on random functions and boxes.

    Arguments:
        functions: random functions of each kind.
        boxes: random intervals for each function; for max in R^2, `functions * boxes` boxes.
        seed: of the random numbers.

    Returns:
        A cell for each kind, and one for max in R^2, under each of `RELAXATIONS`. Where no
        encoding is known that serves, one that serves another relaxation is tried.

    Trust: the counts are exact; that an encoding serves on all boxes is shown where it is
    defined, and that there is none in the papers.
    """
    cells: list[Cell] = []
    for kind in KINDS:
        random = Random(seed)
        drawn = [random_function(kind, random.randint(2, 5), random) for _ in range(functions)]
        questions = [(f, random_interval(f, random)) for f in drawn for _ in range(boxes)]
        cells += [_univariate(kind, relaxation, questions) for relaxation in RELAXATIONS]
    return cells + _maximum(functions * boxes, Random(seed))


def _univariate(
    kind: Kind, relaxation: str, questions: list[tuple[Cpwl, tuple[Fraction, Fraction]]]
) -> Cell:
    answer: Answer = "exact"
    name = relaxation
    if relaxation == "ibp" and kind != "monotone":
        answer, name = "none", "deeppoly0" if kind == "convex" else "p1"
    elif relaxation != "p1" and kind == "all":
        answer, name = "open", "p1"
    hits = sum(exact_on(encode(f, name), f, relaxation, [ends]) for f, ends in questions)
    return Cell(kind, relaxation, answer, name, hits, len(questions))


def _maximum(count: int, random: Random) -> list[Cell]:
    """max(x1, x2): no single-neuron relaxation is exact on all boxes for any network [Expr]."""
    net = nested_max(2)
    boxes: list[tuple[Array, Array]] = []
    for _ in range(count):
        ends = np.array([[Fraction(random.randint(-8, 8), 4) for _ in "ab"] for _ in range(2)])
        boxes.append((ends.min(axis=0), ends.max(axis=0)))
    truth = [exact_range(net, low, high) for low, high in boxes]
    cells: list[Cell] = []
    for relaxation in RELAXATIONS:
        found = [bounds(net, low, high, relaxation) for low, high in boxes]
        hits = sum(a == b for a, b in zip(found, truth, strict=True))
        answer: Answer = "exact" if relaxation == "p1" else "none"
        cells.append(Cell("max in R^2", relaxation, answer, "nested", hits, count))
    return cells


def grid_intervals(f: Cpwl) -> list[tuple[Fraction, Fraction]]:
    """All intervals between two of the knots and of the midpoints between them."""
    middles = [(a + b) / 2 for a, b in zip(f.knots, f.knots[1:], strict=False)]
    points = sorted([*f.knots, *middles])
    return [(a, b) for i, a in enumerate(points) for b in points[i + 1 :]]


def exact_on(
    net: ExactNet, f: Cpwl, relaxation: str, intervals: Iterable[tuple[Fraction, Fraction]]
) -> bool:
    """Whether a relaxation of a network gives the range of a function on all these intervals."""
    return all(
        bounds(net, _point(a), _point(b), relaxation) == [f.range(a, b)] for a, b in intervals
    )


def _point(x: Fraction) -> Array:
    return np.array([x], dtype=object)


def exact_encodings(f: Cpwl, relaxation: str) -> tuple[int, int]:
    """How many mixtures of hinges encode a convex function exactly under a relaxation.

    Of `n` hinges, `2^n` mixtures serve the triangle, and generally one DeepPoly-0, and another
    one DeepPoly-1: the solutions are exponentially more [Expr].

    Returns:
        The number of those that are exact on all of `grid_intervals`, and of all; networks that
        have the same neurons count once.

    Raises:
        BadInput: if the function is neither convex nor concave.
        Unsupported: if it has over `MOST_HINGES`; `count_hinges` gives the count of all.
    """
    if count_hinges(f) > MOST_HINGES:
        raise Unsupported(f"2^{count_hinges(f)} encodings are too many (limit 2^{MOST_HINGES})")
    distinct = {_neurons(net): net for _, net in triangle_encodings(f)}
    intervals = grid_intervals(f)
    return sum(exact_on(net, f, relaxation, intervals) for net in distinct.values()), len(distinct)


def _neurons(net: ExactNet) -> tuple[tuple[Fraction, ...], ...]:
    """Weight, bias and outgoing weight of every neuron of one hidden layer, in order."""
    found = [
        (row[0], constant, out)
        for layer in net.layers
        for row, constant, out in zip(layer.weight, layer.bias, net.weight[0], strict=True)
    ]
    return tuple(sorted(found))
