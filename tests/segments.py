"""Networks of one input, where every piece of a function can be known exactly."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from exactly import RECTIFIERS, Rng, exactly

from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.network.ops import Array


@dataclass(frozen=True, eq=False)
class Pieces:
    """The ends of all linear pieces of all nodes of a network on an interval of its one input.

    `x` `(N,)` ascending, and `values[i]` `(N, size)` of every node: fractions. Any linear form of
    any values is least at one of these points.
    """

    x: Array
    values: list[Array]

    def form(self, terms: Mapping[int, Array]) -> Array:
        """`sum terms[i] . value_i` `(N,)`; the coefficients are floats of any shape."""
        total = np.zeros(len(self.x), dtype=object) + Fraction(0)
        for i, c in terms.items():
            total = total + self.values[i] @ np.array([Fraction(float(v)) for v in c.ravel()])
        return total


def pieces(network: Network, lower: float, upper: float) -> Pieces:
    """Exactly, for networks of affine nodes and rectifiers."""
    exact = exactly(network)
    x = np.array(sorted({Fraction(lower), Fraction(upper)}), dtype=object)
    for node in network.nodes:
        if not isinstance(node.op, ops.Rectifier):
            continue
        # All nodes before this one are linear between neighbours.
        at = list(exact.values(x.reshape(-1, 1)))[node.inputs[0]].reshape(len(x), -1)
        crossed = at[:-1] * at[1:] < 0
        found = set(x.tolist())
        for k, j in zip(*np.nonzero(crossed), strict=True):
            share = at[k, j] / (at[k, j] - at[k + 1, j])
            found.add(x[k] + share * (x[k + 1] - x[k]))
        x = np.array(sorted(found), dtype=object)
    values = [v.reshape(len(x), -1) for v in exact.values(x.reshape(-1, 1))]
    return Pieces(x, values)


def round_up(value: Fraction, dtype: type[np.floating] = np.float64) -> float:
    """The least number of a type that is not below a fraction."""
    near = dtype(float(value))
    while Fraction(float(near)) < value:
        near = np.nextafter(near, dtype(np.inf))
    return float(near)


def wire(rng: Rng, width: int = 4, depth: int = 2) -> Network:
    """One input; dense and convolutional layers, rectifiers of every kind, skips and branches."""
    builder = Builder((1,))
    at = builder.add(ops.Dense(rng.normal(size=(width, 1)), rng.normal(size=width) * 0.5), 0)
    for layer in range(depth):
        if layer and rng.random() < 0.4:
            square = builder.add(ops.Reshape((1, width)), at)
            kernel = rng.normal(size=(1, 1, 2))
            conv = ops.Conv(kernel, rng.normal(size=1) * 0.3, (1,), ((1, 0),), (1,))
            at = builder.add(ops.Reshape((width,)), builder.add(conv, square))
        elif layer:
            at = builder.add(ops.Dense(rng.normal(size=(width, width)), rng.normal(size=width)), at)
        op = RECTIFIERS[int(rng.integers(len(RECTIFIERS)))]
        skip, at = at, builder.add(op, at)
        match int(rng.integers(3)):
            case 0:
                at = builder.add(ops.Add((1, -1)), at, skip)
            case 1:
                other = builder.add(ops.Rectifier(np.array(-0.5)), skip)
                both = builder.add(ops.Concat(0), at, other)
                at = builder.add(
                    ops.Dense(rng.normal(size=(width, 2 * width)), np.zeros(width)), both
                )
            case _:
                pass
    return builder.build(
        builder.add(ops.Dense(rng.normal(size=(2, width)), rng.normal(size=2)), at)
    )
