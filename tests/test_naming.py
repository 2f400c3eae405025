"""The rows of encodings by themselves, where rectifiers read rectifiers."""

import numpy as np
import pytest
import torch
from exactly import exactly, fractions

from hullmark.bounds.linear import propagate
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.naming import Naming
from hullmark.encode import Encoding, encode
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.rows import Combined, Defined, Row, Value

OUTER = {
    "relu": ops.Rectifier(),
    "leaky": ops.Rectifier(np.array(0.3)),
    "steep": ops.Rectifier(np.array(0.3), np.array(1.5)),
    "tanh": ops.Tanh(),
}
INNER = {"relu": ops.Rectifier(), "absolute": ops.Rectifier(np.array(-1.0))}


def nested(inner: ops.Op, outer: ops.Op, bias: float, twice: bool) -> Network:
    """`outer(inner(x + b))`, or of a sum of two values that are columns."""
    builder = Builder((1,))
    pre = builder.add(ops.Dense(np.array([[1.0]]), np.array([bias])), 0)
    if twice:
        other = builder.add(ops.Dense(np.array([[0.5]]), np.array([bias])), 0)
        pre = builder.add(ops.Add((1, 1)), pre, other)
    post = builder.add(outer, builder.add(inner, pre))
    return builder.build(builder.add(ops.Dense(np.array([[1.0]]), np.zeros(1)), post))


def encoded(network: Network, loose: float = 0.0) -> Encoding:
    """Over [-1, 1], with bounds of the inner rectifier that are loose by so much."""
    program = Program.compile(network)
    low, high = program.enclosing(np.array([-1.0]), np.array([1.0]))
    relaxation = Relaxation(program, low.unsqueeze(0), high.unsqueeze(0))
    with torch.no_grad():
        propagate(relaxation)
        inner = next(i for i, n in enumerate(network.nodes) if isinstance(n.op, ops.Rectifier))
        if inner in relaxation.bounds:
            low, high = relaxation.bounds[inner]
            relaxation.set_bounds(inner, low - loose, high + loose)
        return encode(relaxation.renewed())


def rows_of(encoding: Encoding) -> list[Row]:
    naming, count = Naming(encoding), encoding.program.matrix.rows
    found = [naming.own(row, sign) for row in range(count) for sign in (1, -1)]
    return [row for row in found if row is not None]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("bias", [-3.0, 0.25, 3.0])
@pytest.mark.parametrize("outer", OUTER)
@pytest.mark.parametrize("inner", INNER)
def test_rows_are_derived_and_hold(inner: str, outer: str, bias: float, twice: bool) -> None:
    network = nested(INNER[inner], OUTER[outer], bias, twice)
    rows = rows_of(encoded(network, loose=0.01))
    # What is stable throughout has columns for nothing but the input.
    assert rows or (bias != 0.25 and outer in ("relu", "leaky"))
    points = [] if outer == "tanh" else [-1.0, -0.25, 0.5, 1.0]
    for row in rows:
        assert row.derived()
        for x in points:
            values = list(exactly(network).values(fractions(np.array([x])).reshape(1, 1)))
            assert row.excess({name: values[name.node].ravel()[0] for name, _ in row.terms}) <= 0


def test_a_column_of_a_stable_neuron_is_defined_by_what_it_is_of() -> None:
    """The outer neuron needs its pre-activation, which is `a + b`, or 0, as a column."""
    for bias, count in ((3.0, 3), (-3.0, 1)):
        network = nested(INNER["relu"], OUTER["tanh"], bias, twice=True)
        inner = next(i for i, n in enumerate(network.nodes) if isinstance(n.op, ops.Rectifier))
        named = [
            row
            for row in rows_of(encoded(network))
            if isinstance(row.derivation, Defined) and row.derivation.value == Value(inner, 0)
        ]
        assert [len(row.terms) for row in named] == [count, count]


def test_lines_keep_their_kinks() -> None:
    network = nested(INNER["relu"], OUTER["steep"], 0.25, twice=False)
    derivations = [row.derivation for row in rows_of(encoded(network))]
    kinks = [d.kinks for d in derivations if isinstance(d, Combined)]
    posts = {kink.post.node for (kink,) in kinks}
    assert posts == {i for i, n in enumerate(network.nodes) if isinstance(n.op, ops.Rectifier)}


@pytest.mark.parametrize(("bias", "kept"), [(-3.0, 0), (3.0, 0), (0.25, 1)])
def test_what_reads_a_stable_relu_is_stable(bias: float, kept: int) -> None:
    encoding = encoded(nested(INNER["relu"], OUTER["relu"], bias, twice=True), loose=0.01)
    assert sum(len(kinks.neurons) for kinks in encoding.kinks.values()) == kept
