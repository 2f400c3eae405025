"""Joint rows of groups chosen beforehand: bounds contain what is exact, and rows tighten them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from inputs import Golden, goldens

from hullmark.bounds.alpha import Ascent
from hullmark.bounds.objective import output_objective
from hullmark.bounds.program import Program
from hullmark.joint.groups import shuffled
from hullmark.joint.krelu import Scheme, area, krelu_margins, prima
from hullmark.joint.mined import Mined, mined_margins
from hullmark.joint.tighten import Plan
from hullmark.network import ops
from hullmark.network.graph import Builder, Network

LONG = Ascent(steps=300, slope_rate=0.1, row_rate=0.05, decay=0.99)


def outputs(network: Network, lower, upper, scheme: Scheme) -> Mined:
    """Lower bounds of all outputs, then of their negations."""
    program = Program.compile(network)
    sides = program.enclosing(np.asarray(lower, float), np.asarray(upper, float))
    return krelu_margins(program, *sides, output_objective(program), scheme)


def cancelling() -> Network:
    """`relu(x) - relu(x)`, in two neurons."""
    builder = Builder((1,))
    hidden = builder.add(ops.Dense(np.ones((2, 1)), np.zeros(2)), 0)
    hidden = builder.add(ops.Rectifier(), hidden)
    return builder.build(builder.add(ops.Dense(np.array([[1.0, -1.0]]), np.zeros(1)), hidden))


def figure() -> Network:
    """[kReLU, Fig. 2]: `x9`, where DeepPoly says at most 5 and 2-ReLU 4."""
    builder = Builder((2,))
    at = builder.add(ops.Dense(np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2)), 0)
    at = builder.add(ops.Rectifier(), at)
    at = builder.add(ops.Dense(np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([0.0, 1.5])), at)
    at = builder.add(ops.Rectifier(), at)
    return builder.build(builder.add(ops.Dense(np.array([[1.0, 0.0]]), np.zeros(1)), at))


def maximum(before: str, slope: float = 0.0) -> Network:
    """`max(a, b) = rectified(a - b) + b` of two inputs, which may come through a stable layer."""
    builder = Builder((2,))
    at, bias = 0, 0.0
    if before == "hidden":
        at, bias = builder.add(ops.Dense(np.eye(2), np.full(2, 5.0)), 0), -5.0
        at = builder.add(ops.Rectifier(), at)
    if before == "stable":
        # The value that passes is itself a neuron of the layer.
        pre = builder.add(ops.Dense(np.array([[1.0, -1.0], [0.0, 1.0]]), np.array([0.0, 2.0])), at)
        last = ops.Dense(np.ones((1, 2)), np.array([-2.0]))
        return builder.build(builder.add(last, builder.add(ops.Rectifier(), pre)))
    if before == "two nodes":
        a, b = (builder.add(ops.Dense(row[None], np.zeros(1)), at) for row in np.eye(2))
        turned = builder.add(ops.Rectifier(), builder.add(ops.Add((1, -1)), a, b))
        return builder.build(builder.add(ops.Add((1, 1)), turned, b))
    pre = builder.add(ops.Dense(np.array([[1.0, -1.0]]), np.zeros(1)), at)
    post = builder.add(ops.Rectifier(np.array(slope)), pre)
    weight = np.array([[1.0, -slope, 0.0, 1.0 - slope]]) / (1 - slope)
    both = builder.add(ops.Concat(0), post, pre, at)
    return builder.build(builder.add(ops.Dense(weight, np.array([bias])), both))


def random_network(seed: int) -> Network:
    rng = np.random.default_rng(seed)
    builder, node = Builder((4,)), 0
    for width in (12, 12):
        size = 4 if node == 0 else 12
        weight = rng.normal(size=(width, size)) / size**0.5
        node = builder.add(ops.Dense(weight, 0.1 * rng.normal(size=width)), node)
        node = builder.add(ops.Rectifier(), node)
    last = ops.Dense(rng.normal(size=(2, 12)), np.zeros(2))
    return builder.build(builder.add(last, node))


def test_pairs_see_that_two_neurons_are_the_same() -> None:
    alone = outputs(cancelling(), [-1], [1], Scheme(None, queries=LONG))
    pairs = outputs(cancelling(), [-1], [1], Scheme(area(2), queries=LONG))
    assert alone.rows == {}
    assert float(alone.lower.max()) < -0.49
    assert float(pairs.lower.min()) > -1e-2
    assert float(pairs.lower.max()) <= 0


def test_the_example_of_the_paper() -> None:
    box = ([-1, -1], [1, 1])
    alone = outputs(figure(), *box, Scheme(None, queries=LONG))
    pairs = outputs(figure(), *box, Scheme(area(2), neurons=LONG, queries=LONG))
    assert -alone.lower[1] > 4.4
    assert 4.0 <= -float(pairs.lower[1]) < 4.05


def test_bounds_contain_the_exact_ranges(data: Path) -> None:
    found = [golden for golden in goldens(data) if golden.box.size <= 3][:12]
    for golden in found:
        _contains(golden, Scheme(area(2)))
    _contains(found[0], Scheme(prima(2, 1, 10)))


def _contains(golden: Golden, scheme: Scheme) -> None:
    lower, upper = ([float(v) for v in side] for side in (golden.box.lower, golden.box.upper))
    low, high = outputs(golden.network, lower, upper, scheme).lower.chunk(2)
    for i, (least, greatest) in enumerate(golden.ranges["exact"]):
        assert float(low[i]) <= least and greatest <= -float(high[i])


@pytest.mark.parametrize("rule", [area(3), prima(3, 1, 12), shuffled(3)])
def test_every_rule_tightens_and_no_point_is_cut_off(rule) -> None:
    network = random_network(3)
    sides = (-np.ones(4), np.ones(4))
    alone = outputs(network, *sides, Scheme(None)).lower
    found = outputs(network, *sides, Scheme(rule))
    assert sum(found.rows.values()) > 50
    assert bool((found.lower >= alone - 1e-3).all())
    assert float((found.lower - alone).sum()) > 0.02 * float(-alone.sum())
    program = Program.compile(network)
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.rand(20_000, 4, generator=generator, dtype=torch.float64) - 1
    values = program.evaluate(points)
    both = torch.cat([values, -values], dim=1)
    assert bool((both >= found.lower).all())


def test_random_groups_are_of_unstable_neurons() -> None:
    lower = np.array([-1.0, 1.0, -2.0, -1.0, -5.0, -1.0, -1.0])
    upper = np.array([1.0, 2.0, 1.0, 1.0, -4.0, 3.0, 1.0])
    groups = shuffled(2, 5)(lower, upper)
    assert groups.shape == (3, 2)
    assert set(groups.ravel().tolist()) == {0, 2, 3, 5, 6}


MAXIMA = [("inputs", 0.0), ("inputs", 0.25), ("hidden", 0.0), ("hidden", 0.25)]


@pytest.mark.parametrize(("before", "slope"), [*MAXIMA, ("stable", 0.0), ("two nodes", 0.0)])
def test_the_maximum_of_two_values(before: str, slope: float) -> None:
    """A neuron alone says that it is at most 2; with the value that passes it, 1."""
    network, box = maximum(before, slope), ([-1, -1], [1, 1])
    found = outputs(network, *box, Scheme(prima(), queries=LONG))
    assert found.lower.tolist() == pytest.approx([-1, -1], abs=1e-4)
    assert float(found.lower.max()) <= -1
    without = outputs(network, *box, Scheme(prima(), passing=False, queries=LONG))
    assert without.rows == {}
    assert without.lower.tolist() == pytest.approx([-1, -2])
    program = Program.compile(network)
    mined = mined_margins(
        program, *program.enclosing(*map(np.array, box)), output_objective(program), Plan()
    )
    assert sum(mined.rows.values()) > 0
    assert -1.01 <= float(mined.lower[1]) <= -1


def test_the_maximum_of_three_values() -> None:
    """`max(a, max(b, c))` over two layers: sums over the second need rows of the first."""
    builder = Builder((3,))
    weight = np.array([[0.0, 1.0, -1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    at = builder.add(ops.Rectifier(), builder.add(ops.Dense(weight, np.zeros(3)), 0))
    weight = np.array([[1.0, 1.0, -1.0], [0.0, 0.0, 1.0]])
    at = builder.add(ops.Rectifier(), builder.add(ops.Dense(weight, np.zeros(2)), at))
    network = builder.build(builder.add(ops.Dense(np.ones((1, 2)), np.zeros(1)), at))
    scheme = Scheme(prima(), neurons=LONG, forms=LONG, queries=LONG)
    found = outputs(network, [0, 0, 0], [1, 1, 1], scheme)
    assert 1 <= -float(found.lower[1]) < 1.001
    assert -float(outputs(network, [0, 0, 0], [1, 1, 1], Scheme(None)).lower[1]) > 1.8
