"""Optima, enclosed by both kinds of branch and bound, for all piecewise linear activations."""

import numpy as np
import pytest

from hullmark.errors import BadInput
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.search.optimum import Optimum, minimise
from hullmark.spec.sets import Box
from hullmark.verdict import Options

BOX = Box([-1, -1], [1, 1])
ROW = np.ones(1)
# Convex and concave ones, and one that is either, neuron by neuron.
ACTIVATIONS = {
    "relu": ops.Rectifier(),
    "leaky": ops.Rectifier(np.array(0.1)),
    "absolute": ops.Rectifier(np.array(-1.0)),
    "concave": ops.Rectifier(np.array(1.5)),
    "minimum": ops.Rectifier(np.array(1.0), np.array(0.0)),
    "any": ops.Rectifier(
        np.array([0.5, 2.0, -1.0, 0.0, 1.0]), np.array([1.0, 1.0, -3.0, 2.0, 1.0])
    ),
}


def network_of(activation: ops.Op, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    builder, node, before = Builder((2,)), 0, 2
    for size in (5, 5):
        layer = ops.Dense(rng.normal(size=(size, before)), rng.normal(size=size))
        node, before = builder.add(activation, builder.add(layer, node)), size
    return builder.build(builder.add(ops.Dense(rng.normal(size=(1, 5)), np.zeros(1)), node))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_both_splittings_end_at_one_optimum(name: str, seed: int) -> None:
    network = network_of(ACTIVATIONS[name], seed)
    x = np.random.default_rng(seed).uniform(-1, 1, size=(5000, 2))
    sampled = float(network.evaluate(x).min())
    found: list[Optimum] = []
    for dtype, gap in (("float64", 1e-5), ("float32", 1e-2)):
        for splitting in ("inputs", "neurons"):
            one = minimise(network, BOX, ROW, gap, splitting, Options(20, dtype=dtype))
            found.append(one)
            assert one.lower <= one.upper <= one.lower + 2 * gap
            assert one.point is not None and BOX.contains(one.point)
            assert one.lower <= sampled + 1e-12
    # The minimum is one number, and every pair of bounds encloses it.
    assert max(one.lower for one in found) <= min(one.upper for one in found)


@pytest.mark.parametrize("splitting", ["neurons", "inputs"])
@pytest.mark.parametrize("timeout", [1e-9, 0.01, 0.03, 0.1])
def test_bounds_hold_whenever_time_runs_out(splitting: str, timeout: float) -> None:
    for name in ("relu", "concave", "any"):
        network = network_of(ACTIVATIONS[name], 5)
        exact = minimise(network, BOX, ROW, 1e-6)
        found = minimise(network, BOX, ROW, 1e-6, splitting, Options(timeout))
        assert found.lower <= exact.upper and exact.lower <= found.upper
        if timeout < 1e-6:
            assert found.lower == -np.inf or found.lower < exact.lower + 1e-9


def test_smooth_networks_are_split_over_their_inputs() -> None:
    """`tanh(x) - x / 2` on `[-3, 3]` is least at 3 or at minus the point where tanh' is 1/2."""
    builder = Builder((1,))
    both = builder.add(ops.Concat(0), builder.add(ops.Tanh(), 0), 0)
    network = builder.build(builder.add(ops.Dense(np.array([[1.0, -0.5]]), np.zeros(1)), both))
    box = Box([-3], [3])
    turn = float(np.arccosh(np.sqrt(2)))
    least = min(np.tanh(3) - 1.5, turn / 2 - np.tanh(turn))
    found = minimise(network, box, ROW, 1e-7)
    assert found.lower <= least + 1e-15 and least - 1e-15 <= found.upper
    assert found.upper - found.lower <= 1e-7
    with pytest.raises(BadInput, match="no split of neurons"):
        minimise(network, box, ROW, splitting="neurons")


def test_a_box_of_one_point() -> None:
    network = network_of(ACTIVATIONS["relu"], 0)
    value = float(network.evaluate(np.array([[0.25, -0.5]]))[0, 0])
    for splitting in ("neurons", "inputs"):
        found = minimise(network, Box([0.25, -0.5], [0.25, -0.5]), ROW, 1e-6, splitting)
        assert found.lower <= value + 1e-12 and value - 1e-12 <= found.upper
        assert found.upper - found.lower <= 1e-9


def test_what_does_not_fit_is_named() -> None:
    network = network_of(ACTIVATIONS["relu"], 0)
    with pytest.raises(BadInput, match=r"a box of 2 inputs and a row of shape \(3,\) do not fit"):
        minimise(network, BOX, np.ones(3))
    for gap in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="the gap must be positive"):
            minimise(network, BOX, ROW, gap)
