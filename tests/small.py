"""Small networks that are told by their weights, and their relaxations over one box."""

from itertools import pairwise

import numpy as np
from exactly import Rng

from hullmark.bounds.linear import propagate
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.lp.program import Vector
from hullmark.network import ops
from hullmark.network.graph import Builder, Network

# Of the solver: primal and dual feasibility are 1e-7 each.
SOLVED = 1e-6


def network_of(*layers: tuple[list[list[float]], list[float]]) -> Network:
    builder, at = Builder((len(layers[0][0][0]),)), 0
    for number, (weight, bias) in enumerate(layers):
        if number:
            at = builder.add(ops.Rectifier(), at)
        at = builder.add(ops.Dense(np.array(weight, float), np.array(bias, float)), at)
    return builder.build(at)


def random_network(*sizes: int, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    return network_of(
        *[
            (rng.normal(size=(m, n)) / np.sqrt(n), rng.normal(size=m) / 4)  # type: ignore[misc]
            for n, m in pairwise(sizes)
        ]
    )


MAXIMUM = network_of(([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0]))
DIFFERENCE = network_of(([[1], [1]], [0, 0]), ([[1, -1]], [0]))
FIGURE_2 = network_of(
    ([[1, 1], [1, -1]], [0, 0]), ([[1, 2], [0, 1]], [0, 1.5]), ([[1, 0], [0, 1]], [0, 0])
)


def deep(rng: Rng, width: int = 8) -> tuple[Network, Vector]:
    builder, at = Builder((3,)), 0
    for _ in range(2):
        weight = rng.normal(size=(width, builder.shape(at)[0]))
        at = builder.add(ops.Dense(weight, rng.normal(size=width) * 0.3), at)
        at = builder.add(ops.Rectifier(), at)
    last = ops.Dense(rng.normal(size=(2, width)), rng.normal(size=2))
    return builder.build(builder.add(last, at)), np.full(3, -1.0)


def relaxed(network: Network, lower: Vector, upper: Vector) -> Relaxation:
    program = Program.compile(network)
    sides = program.enclosing(lower, upper)
    relaxation = Relaxation(program, *(s.unsqueeze(0) for s in sides))
    propagate(relaxation)
    return relaxation
