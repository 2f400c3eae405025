"""Small exact networks for the tests of the theory."""

import json
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np

from hullmark.theory import ExactNet, Layer, mlp

F = Fraction
# x2 + relu(x1 - x2) with a layer that x2 skips, and as a chain on the unit box.
MAX_SKIP = ExactNet(
    2,
    (Layer(np.array([[F(1), F(-1)]]), np.array([F(0)]), keep=(1,)),),
    np.array([[F(1), F(1)]]),
    np.array([F(0)]),
)
MAX_CHAIN = mlp([([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0])])
DIFFERENCE = mlp([([[1], [1]], [0, 0]), ([[1, -1]], [0])])

Ends = list[tuple[Fraction, Fraction]]


@dataclass(frozen=True)
class Reference:
    """A golden network, its box, and its ranges by several relaxations."""

    name: str
    net: ExactNet
    lower: list[Fraction]
    upper: list[Fraction]
    ranges: dict[str, Ends]
    patterns: int


def references(data: Path) -> list[Reference]:
    """All golden networks."""
    found: list[Reference] = []
    for entry in json.loads((data / "goldens" / "networks.json").read_text()):
        layers = [
            (
                [[Fraction(v) for v in row] for row in layer["weight"]],
                [Fraction(v) for v in layer["bias"]],
            )
            for layer in entry["layers"]
        ]
        box = _ends(entry["box"])
        ranges = {key: _ends(entry[key]) for key in ("exact", "p1", "triangle", "ibp")}
        lower, upper = ([end[side] for end in box] for side in (0, 1))
        found.append(Reference(entry["name"], mlp(layers), lower, upper, ranges, entry["patterns"]))
    return found


def _ends(values: list[list[str]]) -> Ends:
    return [(Fraction(low), Fraction(high)) for low, high in values]


def random_net(*sizes: int, seed: int, unit: int = 4) -> ExactNet:
    """Weights and biases that are multiples of 1 / unit, at most 2 and 1."""
    random = Random(seed)

    def number(most: int) -> Fraction:
        return Fraction(random.randint(-most * unit, most * unit), unit)

    return mlp(
        [
            ([[number(2) for _ in range(n)] for _ in range(m)], [number(1) for _ in range(m)])
            for n, m in pairwise(sizes)
        ]
    )


def integer_net(seed: int, *sizes: int) -> ExactNet:
    """Integer weights from -3 to 3, biases from -2 to 2."""
    rng = np.random.default_rng(seed)
    return mlp(
        [
            (rng.integers(-3, 4, size=(m, n)).tolist(), rng.integers(-2, 3, size=m).tolist())
            for n, m in pairwise(sizes)
        ]
    )


def random_points(box: tuple[list[Fraction], list[Fraction]], count: int, seed: int):
    """Points of a box, on a grid, its corners among them."""
    random = Random(seed)
    return [
        [a + (b - a) * Fraction(random.randint(0, 8), 8) for a, b in zip(*box, strict=True)]
        for _ in range(count)
    ]
