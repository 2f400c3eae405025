"""The rungs of a small network in exact numbers: which there are, and what each of them says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hullmark.ladder.quantity import Quantity
from hullmark.ladder.rungs import Number, Real
from hullmark.network import ops
from hullmark.network.graph import Network, Node
from hullmark.relax.exact import Array
from hullmark.spec.numbers import as_fraction
from hullmark.spec.property import Constraint
from hullmark.theory.net import ExactNet, Layer, network
from hullmark.theory.regions import Range
from hullmark.theory.relaxations import relax

MOST_INPUTS = 10
MOST_RELUS = 64
"""No network with more inputs or two-piece activations is tried in exact numbers."""

LARGEST_K = 3
LARGEST_WINDOW = 3


@dataclass(frozen=True, eq=False)
class Part:
    """A network whose outputs are margins, on a box; if a quantity is two-sided, its value."""

    net: ExactNet
    lower: Array
    upper: Array


@dataclass(frozen=True)
class Ask:
    """One relaxation with its option, and the name of the rung without which it is not tried."""

    name: str
    relaxation: str
    after: str
    k: int | None = None
    window: int | None = None


@dataclass(frozen=True)
class Told:
    """The bounds of every output of every part, and how much that took."""

    bounds: tuple[tuple[Range, ...], ...]
    rows: int
    regions: int
    seconds: float

    def ends(self, quantity: Quantity) -> tuple[Number, Number]:
        """The bounds of the quantity; infinity above a worst margin."""
        pairs = [pair for bounds in self.bounds for pair in bounds]
        upper = max(high for _, high in pairs) if quantity.two_sided else float("inf")
        return min(low for low, _ in pairs), upper


def is_small(network: Network) -> bool:
    """Whether exact numbers are tried at all."""
    pieces = (ops.Rectifier, ops.Sign)
    bends = sum(node.size for node in network.nodes if isinstance(node.op, pieces))
    return network.input_size <= MOST_INPUTS and bends <= MOST_RELUS


def parts_of(graph: Network, quantity: Quantity) -> tuple[Part, ...]:
    """The networks whose outputs are the margins, or the value, of a quantity.

    Cases of one constraint are outputs of one network for each box; the largest of several
    constraints is made by further ReLUs, `max(a, b) = b + relu(a - b)`, a network for each case.
    From below every relaxation keeps these maxima as well as it keeps single ReLUs.

    Raises:
        Unsupported: if the network is not piecewise linear, or its coefficients are not exact.

    Trust: exact.
    """
    read = sorted({i for _, case in quantity.cases() for c in case.constraints for i, _ in c.x})
    net = network(_with_inputs(graph, read))
    found: list[Part] = []
    for box, cases in quantity.parts:
        lower, upper = (
            np.array([as_fraction(value) for value in side], dtype=object)
            for side in (box.exact_lower, box.exact_upper)
        )
        asked = cases[:1] if quantity.two_sided else cases
        single = [case.constraints[0] for case in asked if len(case.constraints) == 1]
        if single:
            found.append(Part(_rows(net, single, read), lower, upper))
        found += [
            Part(_largest(_rows(net, case.constraints, read)), lower, upper)
            for case in asked
            if len(case.constraints) > 1
        ]
    return tuple(found)


def asks_of(parts: Sequence[Part]) -> list[Ask]:
    """All exact rungs of some networks, cheap ones first."""
    widest = max((layer.size for part in parts for layer in part.net.layers), default=0)
    deepest = max(len(part.net.layers) for part in parts)
    found = [Ask("ibp", "ibp", "")]
    found += [Ask(name, name, "ibp") for name in ("deepz", "deeppoly0", "deeppoly1", "deeppoly")]
    found.append(Ask("triangle", "triangle", "ibp"))
    sizes = range(1, min(widest, LARGEST_K) + 1)
    mk, mko = ([_grouped(name, k, 1) for k in sizes] for name in ("mk", "mko"))
    krelu = [_grouped("krelu", k, 2) for k in sizes[1:]]
    found += [*mk[:1], Ask("multivariate", "multivariate", "triangle"), *krelu[:1], *mk[1:2]]
    found += [Ask("exact", "exact", "ibp"), Ask("p1", "p1", "ibp")]
    for r in range(2, min(deepest, LARGEST_WINDOW) + 1):
        found.append(Ask(f"pr r={r}", "pr", "p1" if r == 2 else f"pr r={r - 1}", window=r))
    return [*found, *mk[2:], *krelu[1:], *mko]


def tell(parts: Sequence[Part], ask: Ask) -> tuple[tuple[tuple[Range, ...], ...], int, int]:
    """The bounds of every part, and how many rows and regions they took.

    Raises:
        Unsupported: if the relaxation is out of reach.

    Trust: exact.
    """
    found = [
        relax(part.net, part.lower, part.upper, ask.relaxation, k=ask.k, window=ask.window)
        for part in parts
    ]
    total = sum(relaxed.rows for relaxed in found)
    whole = ask.relaxation == "exact"
    bounds = tuple(tuple(relaxed.bounds) for relaxed in found)
    return bounds, 0 if whole else total, total if whole else 0


def real_of(parts: Sequence[Part], points: Sequence[Array]) -> Real:
    """The least and the greatest output at some inputs `(n,)`, moved into the box of each part.

    Trust: exact.
    """
    real = Real()
    for part in parts if len(points) else ():
        exact = np.array([[Fraction(v) for v in x.tolist()] for x in points], dtype=object)
        values = part.net.evaluate(np.minimum(np.maximum(exact, part.lower), part.upper))
        real = real.joined(Real(values.min(), values.max()))
    return real


def _grouped(name: str, k: int, least: int) -> Ask:
    """A relaxation of groups of k, which comes after that of k - 1, the least after triangles."""
    return Ask(f"{name} k={k}", name, "triangle" if k == least else f"{name} k={k - 1}", k=k)


def _with_inputs(graph: Network, read: Sequence[int]) -> Network:
    """The network whose outputs are all outputs, then some of the inputs."""
    if not read:
        return graph
    nodes = list(graph.nodes)

    def append(op: ops.Affine, *inputs: int) -> int:
        shape = op.shape(*(nodes[j].shape for j in inputs))
        nodes.append(Node(op, inputs, shape, "margins"))
        return len(nodes) - 1

    outputs = append(ops.Reshape((graph.output_size,)), len(nodes) - 1)
    chosen = np.eye(graph.input_size)[list(read)]
    flat = append(ops.Reshape((graph.input_size,)), 0)
    inputs = append(ops.Dense(chosen, np.zeros(len(read))), flat)
    append(ops.Concat(0), outputs, inputs)
    return Network(tuple(nodes))


def _rows(net: ExactNet, constraints: Sequence[Constraint], read: Sequence[int]) -> ExactNet:
    """The network whose outputs are `row value - bound` of some constraints."""
    outputs = net.output_size - len(read)
    weight = np.full((len(constraints), net.output_size), Fraction(0), dtype=object)
    for row, constraint in zip(weight, constraints, strict=True):
        for j, value in constraint.y:
            row[j] = value
        for i, value in constraint.x:
            row[outputs + read.index(i)] = value
    bound = np.array([constraint.bound for constraint in constraints], dtype=object)
    return ExactNet(net.input_size, net.layers, weight @ net.weight, weight @ net.bias - bound)


def _largest(net: ExactNet) -> ExactNet:
    """The network whose only output is the largest output of another."""
    size = net.weight.shape[1]
    layers = list(net.layers)
    weight, bias = net.weight[0], net.bias[0]
    one = np.array([Fraction(1)], dtype=object)
    for row, constant in zip(net.weight[1:], net.bias[1:], strict=True):
        over = weight - _padded(row, len(weight) - size)
        layers.append(Layer(over[None], np.array([bias - constant]), tuple(range(size))))
        weight, bias = np.append(row, one), constant
    last = np.array([bias], dtype=object)
    return ExactNet(net.input_size, tuple(layers), weight[None], last)


def _padded(row: Array, more: int) -> Array:
    return np.append(row, np.full(more, Fraction(0), dtype=object))
