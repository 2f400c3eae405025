"""Interval bounds contain the exact interval image, and nearly equal it."""

import json
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from hullmark.bounds.interval import interval
from hullmark.bounds.program import Program
from hullmark.errors import Unsupported
from hullmark.network.graph import Builder, Network, Node
from hullmark.network.ops import (
    Add,
    Array,
    Conv,
    Dense,
    Reciprocal,
    Rectifier,
    Reshape,
    Roundoff,
    Scale,
    Sigmoid,
)


def exact(op: object) -> object:
    """The same operation with rational coefficients."""
    changed = {
        f.name: np.vectorize(Fraction, otypes=[object])(getattr(op, f.name))
        for f in fields(op)  # type: ignore[arg-type]
        if isinstance(getattr(op, f.name), np.ndarray)
    }
    return replace(op, **changed)  # type: ignore[type-var]


def absolute(op: object) -> object:
    """The linear part of an affine operation with the magnitudes of its coefficients."""
    changed = {
        f.name: abs(getattr(op, f.name)) * (f.name not in ("bias", "shift"))
        for f in fields(op)  # type: ignore[arg-type]
        if isinstance(getattr(op, f.name), np.ndarray)
    }
    if isinstance(op, Add):
        return Add(tuple(1 for _ in op.signs))
    return replace(op, **changed)  # type: ignore[type-var]


def exact_interval(network: Network, lower: Array, upper: Array) -> list[tuple[Array, Array]]:
    """Interval propagation over the rationals, for affine operations and rectifiers."""
    shape = (1, *network.input_shape)
    low, high = (np.vectorize(Fraction, otypes=[object])(b).reshape(shape) for b in (lower, upper))
    found = [(low, high)]
    for node in network.nodes[1:]:
        op = exact(node.op)
        if isinstance(op, Rectifier):
            (a, b), zero = found[node.inputs[0]], Fraction(0)
            ends = [op.apply(a), op.apply(b)]
            across = (a < 0) & (b > 0)
            ends.append(np.where(across, zero, ends[0]))
            found.append((np.minimum.reduce(ends), np.maximum.reduce(ends)))
            continue
        middles = [(a + b) / 2 for a, b in (found[j] for j in node.inputs)]
        widths = [(b - a) / 2 for a, b in (found[j] for j in node.inputs)]
        centre, radius = op.apply(*middles), absolute(op).apply(*widths)  # type: ignore[attr-defined]
        found.append((centre - radius, centre + radius))
    return found


def convolutional(rng: np.random.Generator) -> Network:
    """Every rounding kind of kernel, rectifiers of three kinds, and a residual sum."""
    b = Builder((2, 5, 5))
    conv = Conv(rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3), (1, 1), ((1, 1), (1, 1)), (1, 1))
    x = b.add(conv, 0)
    y = b.add(Rectifier(), x)
    y = b.add(Scale(rng.normal(size=(3, 1, 1)), rng.normal(size=(3, 1, 1))), y)
    y = b.add(Rectifier(np.array(0.1), np.array(1.0)), y)
    x = b.add(Add((1, -1)), x, y)
    x = b.add(Rectifier(np.array(-1.0), np.array(1.0)), x)
    x = b.add(Reshape((75,)), x)
    return b.build(b.add(Dense(rng.normal(size=(4, 75)), rng.normal(size=4)), x))


def check(network: Network, lower: Array, upper: Array, dtype: torch.dtype, close: float) -> None:
    boxes = [torch.as_tensor(b, dtype=dtype).reshape(1, -1) for b in (lower, upper)]
    expected = exact_interval(network, *(b.double().numpy() for b in boxes))
    found = interval(Program.compile(network, dtype=dtype), *boxes)
    assert set(found) == set(range(len(network.nodes)))
    for i, (low, high) in enumerate(expected):
        below, above = (np.vectorize(Fraction, otypes=[object])(b.numpy()) for b in found[i])
        assert (below <= low).all() and (high <= above).all()
        size = max(1, abs(low).max(), abs(high).max())
        assert max((low - below).max(), (above - high).max()) <= close * size


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
def test_contains_the_exact_image_and_is_near(dtype: torch.dtype, close: float) -> None:
    rng = np.random.default_rng(0)
    network = convolutional(rng)
    lower = rng.normal(size=50)
    check(network, lower, lower + rng.uniform(0, 0.2, size=50), dtype, close)
    check(network, lower, lower, dtype, close)
    check(network, lower * 1e-30, lower * 1e-30 + 1e-25, dtype, close)


def test_goldens(data: Path) -> None:
    cases = json.loads((data / "goldens" / "networks.json").read_text())
    assert len(cases) > 10
    for case in cases:
        network = from_golden(case)
        lower, upper = np.array([[float(Fraction(v)) for v in side] for side in case["box"]]).T
        found = interval(Program.compile(network), *(torch.tensor(b)[None] for b in (lower, upper)))
        low, high = found[len(network.nodes) - 1]
        for k, (a, b) in enumerate(case["ibp"]):
            assert Fraction(low[0, k].item()) <= Fraction(a)
            assert Fraction(high[0, k].item()) >= Fraction(b)
            assert low[0, k].item() == pytest.approx(float(Fraction(a)), rel=1e-9, abs=1e-9)
            assert high[0, k].item() == pytest.approx(float(Fraction(b)), rel=1e-9, abs=1e-9)


def from_golden(case: dict[str, list[dict[str, list[list[str]]]]]) -> Network:
    layers = case["layers"]
    weights = [np.array([[float(Fraction(v)) for v in r] for r in w["weight"]]) for w in layers]
    b = Builder((weights[0].shape[1],))
    x = 0
    for k, (weight, layer) in enumerate(zip(weights, layers, strict=True)):
        bias = np.array([float(Fraction(str(v))) for v in layer["bias"]])
        x = b.add(Dense(weight, bias), b.add(Rectifier(), x) if k else x)
    return b.build(x)


def test_roundoff_of_coefficients_is_paid() -> None:
    b = Builder((2,))
    weight, bias = np.array([[2.0, -3.0]]), np.array([0.5])
    network = b.build(b.add(Dense(weight, bias, Roundoff(1e-3, np.array([1e-2]))), 0))
    lower, upper = torch.tensor([[1.0, 1.0]]).double(), torch.tensor([[1.0, 2.0]]).double()
    low, high = interval(Program.compile(network), lower, upper)[1]
    # The weights may be a thousandth larger or smaller, the bias a hundredth.
    worst = 2 * 0.999 - 3 * 1.001 * 2 + 0.5 - 0.01
    best = 2 * 1.001 - 3 * 0.999 * 1 + 0.5 + 0.01
    assert worst - 0.002 <= low.item() <= worst
    assert best <= high.item() <= best + 0.002 * 3


def test_a_batch_is_its_boxes() -> None:
    rng = np.random.default_rng(1)
    program = Program.compile(convolutional(rng))
    lower = torch.as_tensor(rng.normal(size=(3, 50)))
    upper = lower + 0.1
    together = interval(program, lower, upper)
    for k in range(3):
        alone = interval(program, lower[k : k + 1], upper[k : k + 1])
        for i, (low, high) in alone.items():
            torch.testing.assert_close(together[i][0][k], low[0], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(together[i][1][k], high[0], rtol=1e-12, atol=1e-12)


def test_overflow_is_infinite() -> None:
    b = Builder((2,))
    x = b.add(Dense(np.full((2, 2), 1e200), np.zeros(2)), 0)
    x = b.add(Dense(np.array([[1e200, -1e200], [1.0, 0.0]]), np.zeros(2)), b.add(Rectifier(), x))
    network = b.build(b.add(Sigmoid(), x))
    box = torch.full((1, 2), 1e10).double()
    found = interval(Program.compile(network), -box, box)
    for low, high in found.values():
        assert not low.isnan().any() and not high.isnan().any()
        assert (low <= high).all()
    assert found[3][0][0, 0] == -torch.inf and found[3][1][0, 0] == torch.inf
    assert (found[4][0] >= 0).all() and (found[4][1] <= 1).all()


def test_a_reciprocal_around_zero_names_its_node() -> None:
    b = Builder((1,))
    network = b.build(b.add(Reciprocal(), 0, name="divide"))
    with pytest.raises(Unsupported, match="divide"):
        interval(Program.compile(network), -torch.ones(1, 1).double(), torch.ones(1, 1).double())


def test_too_long_sums_are_refused_in_single_precision() -> None:
    b = Builder((100_000,))
    nodes = b.build(b.add(Dense(np.ones((1, 100_000)), np.zeros(1)), 0))
    assert isinstance(nodes.nodes[0], Node)
    box = torch.ones(1, 100_000)
    with pytest.raises(Unsupported, match="float64"):
        interval(Program.compile(nodes, dtype=torch.float32), -box, box)
