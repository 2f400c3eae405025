"""Every operation under every bounding domain: the values of sampled points stay inside.

An operation without an example, or a domain that cannot take one, fails here.
"""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch

from hullmark.bounds.interval import interval
from hullmark.bounds.linear import bound_neurons, propagate
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.zonotope import zonotope
from hullmark.network import ops
from hullmark.network.graph import Builder, Network

Rng = np.random.Generator
Bounds = dict[int, tuple[torch.Tensor, torch.Tensor]]


def conv(rng: Rng, groups: int = 1) -> ops.Conv:
    weight = rng.normal(size=(4, 2 // groups, 3, 2))
    return ops.Conv(weight, rng.normal(size=4), (2, 1), ((1, 0), (0, 1)), (1, 2), groups)


def conv_transpose(rng: Rng, groups: int = 1) -> ops.ConvTranspose:
    weight = rng.normal(size=(2, 4 // groups, 3, 2))
    return ops.ConvTranspose(
        weight, rng.normal(size=4), (2, 1), ((1, 0), (0, 1)), (1, 2), (1, 0), groups
    )


def index(rng: Rng) -> np.ndarray:
    return rng.integers(-1, 24, size=(3, 7))


SHAPE = (2, 3, 4)
# Each takes the node that an affine map of the input ends in, of shape (2, 3, 4).
EXAMPLES: dict[str, Callable[[Builder, int, Rng], int]] = {
    "Dense": lambda b, x, r: b.add(ops.Dense(r.normal(size=(5, 4)), r.normal(size=5)), x),
    "Conv": lambda b, x, r: b.add(conv(r), x),
    "Conv, grouped": lambda b, x, r: b.add(conv(r, 2), x),
    "ConvTranspose": lambda b, x, r: b.add(conv_transpose(r), x),
    "ConvTranspose, grouped": lambda b, x, r: b.add(conv_transpose(r, 2), x),
    "Scale": lambda b, x, r: b.add(ops.Scale(r.normal(size=(2, 1, 1)), r.normal(size=(3, 1))), x),
    "Select": lambda b, x, r: b.add(ops.Select(index(r)), x),
    "Reshape": lambda b, x, r: b.add(ops.Reshape((4, 6)), x),
    "Concat": lambda b, x, r: b.add(ops.Concat(1), x, b.add(ops.Rectifier(), x)),
    "Add": lambda b, x, r: b.add(ops.Add((1, -1, -1)), x, b.add(ops.Rectifier(), x), x),
    "ReduceSum": lambda b, x, r: b.add(ops.ReduceSum((0, 2)), x),
    "Rectifier": lambda b, x, r: b.add(ops.Rectifier(), x),
    "Rectifier, leaky": lambda b, x, r: b.add(
        ops.Rectifier(np.abs(r.normal(size=(2, 1, 1))), np.array(1.0)), x
    ),
    "Rectifier, absolute": lambda b, x, r: b.add(ops.Rectifier(np.array(-1.0), np.array(1.0)), x),
    "Sigmoid": lambda b, x, r: b.add(ops.Sigmoid(), x),
    "Tanh": lambda b, x, r: b.add(ops.Tanh(), x),
    "Sign": lambda b, x, r: b.add(ops.Sign(), x),
    "Reciprocal": lambda b, x, r: b.add(ops.Reciprocal(), shifted_from_zero(b, x, r)),
    "Product": lambda b, x, r: b.add(ops.Product(), x, b.add(ops.Rectifier(), x)),
}


def shifted_from_zero(b: Builder, x: int, rng: Rng) -> int:
    """Values of either sign away from 0: between 1 and 3, or between -3 and -1."""
    signs = rng.choice([-1.0, 1.0], size=SHAPE)
    return b.add(ops.Scale(signs, 2 * signs), b.add(ops.Tanh(), x))


def linear(program: Program, lower: torch.Tensor, upper: torch.Tensor) -> Bounds:
    relaxation = Relaxation(program, lower, upper)
    propagate(relaxation)
    last = len(program.network.nodes) - 1
    every = torch.arange(program.network.output_size)
    low, high = bound_neurons(relaxation, last, every)
    shape = (len(low), *program.network.output_shape)
    return {last: (low.reshape(shape), high.reshape(shape))}


DOMAINS: dict[str, Callable[[Program, torch.Tensor, torch.Tensor], Bounds]] = {
    "interval": interval,
    "zonotope": zonotope,
    "linear": linear,
}


def network(name: str, rng: Rng) -> Network:
    """The example between a dense layer of three inputs and a dense layer of two outputs."""
    b = Builder((3,))
    x = b.add(ops.Dense(rng.normal(size=(24, 3)), rng.normal(size=24)), 0)
    x = EXAMPLES[name](b, b.add(ops.Reshape(SHAPE), x), rng)
    size = int(np.prod(b.shape(x)))
    x = b.add(ops.Tanh(), b.add(ops.Reshape((size,)), x))
    return b.build(b.add(ops.Dense(rng.normal(size=(2, size)), rng.normal(size=2)), x))


def test_every_operation_has_an_example() -> None:
    every = {op.__name__ for op in (*get_args(ops.Affine), *get_args(ops.Elementwise), ops.Product)}
    assert {name.split(",")[0] for name in EXAMPLES} == every


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_values_stay_inside(domain: str, name: str, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(17)
    net = network(name, rng)
    centres = rng.normal(size=(4, 3))
    widths = np.array([[0.0], [1e-6], [0.1], [0.6]])
    lower = torch.as_tensor(centres - widths, dtype=dtype)
    upper = torch.as_tensor(centres + widths, dtype=dtype)
    bounds = DOMAINS[domain](Program.compile(net, dtype=dtype), lower, upper)
    assert len(net.nodes) - 1 in bounds
    for k in range(4):
        a, b = lower[k].double().numpy(), upper[k].double().numpy()
        corners = np.indices((2, 2, 2)).reshape(3, 8).T
        weights = np.concatenate([corners, rng.uniform(size=(60, 3))])
        points = np.clip(a + weights * (b - a), a, b)
        for i, value in enumerate(net.values(points)):
            if i not in bounds:
                continue
            low, high = (side[k].double().numpy() for side in bounds[i])
            # The float64 values themselves are off by this much.
            slack = 1e-12 * (1 + np.abs(value))
            assert (low - slack <= value).all() and (value <= high + slack).all()
            assert np.isfinite(low).all() and np.isfinite(high).all()


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_point_is_bounded_tightly(domain: str, name: str) -> None:
    rng = np.random.default_rng(23)
    net = network(name, rng)
    x = rng.normal(size=(2, 3))
    found = DOMAINS[domain](Program.compile(net), *(torch.as_tensor(x),) * 2)
    for i, value in enumerate(net.values(x)):
        if i in found:
            low, high = (side.numpy() for side in found[i])
            assert low == pytest.approx(value, abs=1e-8)
            assert high == pytest.approx(value, abs=1e-8)
