"""Zonotopes: the published bounds on small networks, exact containment, kept dependence."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from hullmark.bounds.interval import interval
from hullmark.bounds.program import Program
from hullmark.bounds.zonotope import zonotope
from hullmark.errors import Unsupported
from hullmark.network.graph import Builder, Network
from hullmark.network.ops import Add, Array, Concat, Dense, Product, Rectifier, Sigmoid, Tanh


def dense(rng: np.random.Generator, sizes: list[int]) -> Network:
    b = Builder((sizes[0],))
    x = 0
    for k, (n, m) in enumerate(pairwise(sizes)):
        weight = rng.normal(size=(m, n)) / np.sqrt(n)
        x = b.add(Dense(weight, rng.normal(size=m)), b.add(Rectifier(), x) if k else x)
    return b.build(x)


def published(network: Network, lower: Array, upper: Array) -> list[tuple[Array, Array]]:
    """DeepZ over the rationals for a chain of dense layers and ReLUs [DeepZ §4.1]."""
    fraction = np.vectorize(Fraction, otypes=[object])
    low, high = fraction(lower), fraction(upper)
    centre = (low + high) / 2
    generators = np.diag((high - low) / 2)
    found = [(low, high)]
    for node in network.nodes[1:]:
        if isinstance(node.op, Dense):
            weight = fraction(node.op.weight)
            centre = weight.dot(centre) + fraction(node.op.bias)
            generators = weight.dot(generators)
        else:
            low, high = found[-1]
            for j in range(len(centre)):
                if high[j] <= 0:
                    centre[j], generators[j] = Fraction(0), generators[j] * 0
                elif low[j] < 0:
                    slope = high[j] / (high[j] - low[j])
                    middle = -slope * low[j] / 2
                    fresh = np.array(
                        [[middle if i == j else Fraction(0)] for i in range(len(centre))]
                    )
                    centre[j], generators[j] = slope * centre[j] + middle, slope * generators[j]
                    generators = np.concatenate([generators, fresh], axis=1)
        spread = abs(generators).sum(axis=1)
        found.append((centre - spread, centre + spread))
    return found


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_agrees_with_the_published_transformer(dtype: torch.dtype, close: float) -> None:
    rng = np.random.default_rng(2)
    for _ in range(3):
        network = dense(rng, [4, 6, 6, 5, 3])
        lower = rng.normal(size=4)
        boxes = [torch.as_tensor(b, dtype=dtype)[None] for b in (lower, lower + 0.7)]
        # float32 weights, so that both precisions bound the same network.
        expected = published(rounded(network), *(b[0].double().numpy() for b in boxes))
        found = zonotope(Program.compile(rounded(network), dtype=dtype), *boxes)
        for i, (low, high) in enumerate(expected):
            assert found[i][0][0].numpy() == pytest.approx(low.astype(float), rel=close, abs=close)
            assert found[i][1][0].numpy() == pytest.approx(high.astype(float), rel=close, abs=close)
            # Up to the first ReLU nothing but rounding is in between.
            if i <= 1:
                assert all(
                    Fraction(v.item()) <= e for v, e in zip(found[i][0][0], low, strict=True)
                )
                assert all(
                    Fraction(v.item()) >= e for v, e in zip(found[i][1][0], high, strict=True)
                )


def rounded(network: Network) -> Network:
    b = Builder(network.input_shape)
    x = 0
    for node in network.nodes[1:]:
        op = node.op
        if isinstance(op, Dense):
            weight, bias = (a.astype(np.float32).astype(np.float64) for a in (op.weight, op.bias))
            op = Dense(weight, bias)
        x = b.add(op, x)
    return b.build(x)


def test_parallel_branches_have_their_own_noise() -> None:
    b = Builder((2,))
    sides = [b.add(Dense(row[None], np.zeros(1)), 0) for row in np.eye(2)]
    absolute = Rectifier(np.array(-1.0), np.array(1.0))
    left, right = (b.add(absolute, side) for side in sides)
    network = b.build(b.add(Add((1, -1)), left, right))
    box = torch.ones(1, 2).double()
    low, high = zonotope(Program.compile(network), -box, box)[5]
    # |x| - |y|: were the two symbols one, the difference would seem to be 0.
    assert low.item() == pytest.approx(-1, abs=1e-12)
    assert high.item() == pytest.approx(1, abs=1e-12)


def test_the_rounding_of_slopes_adds_up() -> None:
    b = Builder((64,))
    x = 0
    for _ in range(40):
        x = b.add(Rectifier(np.array(0.7), np.array(0.9)), x)
    network = b.build(x)
    point = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    found = zonotope(Program.compile(network, dtype=torch.float32), point, point)
    exact = np.array([[Fraction(v) for v in point[0].tolist()]], dtype=object)
    for i, value in enumerate(network_values(network, exact)):
        low, high = (side[0].tolist() for side in found[i])
        for v, a, c in zip(value[0], low, high, strict=True):
            assert Fraction(a) <= v <= Fraction(c)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contains_exact_values(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(3)
    network = rounded(dense(rng, [3, 60, 60, 2]))
    lower = torch.as_tensor(rng.normal(size=(1, 3)), dtype=dtype)
    # A point and boxes so small that rounding is all there is, next to an ordinary one.
    for width in (0.0, 1e-30, 1e-7, 0.5):
        upper = lower + width
        found = zonotope(Program.compile(network, dtype=dtype), lower, upper)
        corners = np.array([lower[0].tolist(), upper[0].tolist()])
        for pick in [(0, 0, 0), (1, 0, 1), (1, 1, 1)]:
            x = np.array([[Fraction(corners[pick[k], k]) for k in range(3)]], dtype=object)
            values = network_values(network, x)
            for i, value in enumerate(values):
                low, high = (b[0].tolist() for b in found[i])
                for v, a, b in zip(value[0], low, high, strict=True):
                    assert Fraction(a) <= v <= Fraction(b)


def network_values(network: Network, x: Array) -> list[Array]:
    fraction = np.vectorize(Fraction, otypes=[object])
    values = [x]
    for node in network.nodes[1:]:
        op = node.op
        if isinstance(op, Dense):
            op = Dense(fraction(op.weight), fraction(op.bias))
        elif isinstance(op, Rectifier):
            op = Rectifier(fraction(op.negative), fraction(op.positive))
        values.append(op.apply(*(values[j] for j in node.inputs)))
    return values


def test_branches_share_their_noise() -> None:
    b = Builder((2,))
    rng = np.random.default_rng(4)
    z = b.add(Dense(rng.normal(size=(5, 2)), rng.normal(size=5)), 0)
    y = b.add(Rectifier(), z)
    left = b.add(Rectifier(), b.add(Dense(rng.normal(size=(4, 5)), rng.normal(size=4)), y))
    right = b.add(Tanh(), b.add(Dense(rng.normal(size=(4, 5)), rng.normal(size=4)), y))
    total = b.add(Add((1, 1)), left, right)
    back = b.add(Add((1, -1)), total, right)
    joined = b.add(Concat(0), back, left)
    apart = b.add(Dense(np.hstack([np.eye(4), -np.eye(4)]), np.zeros(4)), joined)
    network = b.build(apart)
    box = torch.ones(1, 2).double()
    found = zonotope(Program.compile(network), -box, box)
    # left + right - right - left is 0, and every symbol of either branch cancels.
    last = len(network.nodes) - 1
    assert found[last][0].abs().max() < 1e-12 and found[last][1].abs().max() < 1e-12
    plain = interval(Program.compile(network), -box, box)
    assert plain[last][1].min() > 0.1


def test_bounds_after_a_relu_may_be_negative() -> None:
    b = Builder((1,))
    network = b.build(b.add(Rectifier(), 0))
    low, high = zonotope(
        Program.compile(network), torch.tensor([[-1.0]]).double(), torch.tensor([[1.0]]).double()
    )[1]
    assert low.item() == pytest.approx(-0.5, abs=1e-12)
    assert high.item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("op", [Sigmoid(), Tanh()])
def test_smooth_slopes_are_those_of_the_flatter_end(op: Sigmoid | Tanh) -> None:
    b = Builder((1,))
    x = b.add(op, 0)
    network = b.build(b.add(Add((1, 1)), x, 0))
    low, high = -0.5, 2.0
    found = zonotope(
        Program.compile(network), torch.tensor([[low]]).double(), torch.tensor([[high]]).double()
    )
    t = np.tanh(high / 2)
    slope = (1 - t**2) / 4 if isinstance(op, Sigmoid) else 1 - np.tanh(high) ** 2
    f = op.apply(np.array([low, high]))
    # Where a slope is the smaller end slope, the difference grows from end to end.
    rest = f - slope * np.array([low, high])
    expected = (rest[0] + slope * low, rest[1] + slope * high)
    assert found[1][0].item() == pytest.approx(min(expected[0], f[0]), abs=1e-9)
    assert found[1][1].item() == pytest.approx(max(expected[1], f[1]), abs=1e-9)
    assert found[2][1].item() == pytest.approx(rest[1] + (1 + slope) * high, abs=1e-9)


def test_a_product_keeps_its_linear_part() -> None:
    b = Builder((2,))
    left = b.add(Dense(np.array([[1.0, 0.0]]), np.array([2.0])), 0)
    right = b.add(Dense(np.array([[0.0, 1.0]]), np.array([3.0])), 0)
    network = b.build(b.add(Product(), left, right))
    box = torch.tensor([[0.5, 0.25]]).double()
    found = zonotope(Program.compile(network), -box, box)
    # (2 + a/2)(3 + b/4): centre 6, terms 3/2 and 1/2, remainder 1/8.
    assert found[3][0].item() == pytest.approx(6 - 1.5 - 0.5 - 0.125, abs=1e-9)
    assert found[3][1].item() == pytest.approx(6 + 1.5 + 0.5 + 0.125, abs=1e-9)


def test_memory_is_guarded() -> None:
    network = dense(np.random.default_rng(5), [4, 50, 50, 2])
    box = torch.ones(1, 4).double()
    program = Program.compile(network)
    zonotope(program, -box, box)
    with pytest.raises(Unsupported, match=r"node \w+: \d+ generators"):
        zonotope(program, -box, box, memory=10_000)
