"""Exact networks from other sources: the same function, layer by layer, skips included."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from exactly import exactly
from torch import nn

from hullmark.errors import BadInput, Unsupported
from hullmark.network.onnx import load_onnx
from hullmark.network.onnx.write import write_onnx
from hullmark.network.torch import load_torch
from hullmark.theory import bounds, exact_range, mlp, network, regions
from hullmark.theory.net import MOST


class Residual(nn.Module):
    """Two ReLU layers, the input added behind the first and joined to the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 3)
        self.last = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        behind = torch.relu(self.first(x)) + x
        return self.last(torch.cat([torch.relu(self.second(behind)), x], dim=1))


class Branches(nn.Module):
    """Two branches of different depth that meet, and the largest of two values."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.long, self.longer = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deep = torch.relu(self.longer(torch.relu(self.long(x))))
        return torch.maximum(torch.abs(self.short(x)), deep)


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.LeakyReLU(0.25), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1)
    )


MODULES: list[tuple[Callable[[], nn.Module], tuple[int, ...], int]] = [
    (Residual, (2,), 2),
    (Branches, (3,), 3),
    (convolution, (1, 3, 3), 3),
    (lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), (2,), 1),
]


@pytest.mark.parametrize(("make", "shape", "depth"), MODULES)
def test_a_module_is_the_same_function(make, shape: tuple[int, ...], depth: int) -> None:
    torch.manual_seed(0)
    module = make()
    net = network(module, shape)
    graph = load_torch(module, shape).network
    rng = np.random.default_rng(0)
    points = rng.integers(-8, 9, size=(30, net.input_size)) / 4
    exact = np.vectorize(Fraction, otypes=[object])(points)
    known = exactly(graph).evaluate(exact.reshape(-1, *graph.input_shape))
    assert np.array_equal(net.evaluate(points), known.reshape(len(points), -1))
    assert len(net.layers) == depth
    values = module(torch.tensor(points, dtype=torch.float32).reshape(-1, *shape))
    assert np.allclose(net.evaluate(points).astype(float), values.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(("make", "shape", "depth"), MODULES[:2])
def test_relaxations_hold_with_skips(make, shape: tuple[int, ...], depth: int) -> None:
    torch.manual_seed(1)
    net = network(make(), shape)
    box = [-1] * net.input_size, [1] * net.input_size
    exact = exact_range(net, *box)
    for name, options in (("triangle", {}), ("mk", {"k": 1}), ("p1", {}), ("ibp", {})):
        for (low, high), (least, most) in zip(
            bounds(net, *box, name, **options), exact, strict=True
        ):
            assert low <= least and most <= high
    assert bounds(net, *box, "pr", window=depth) == exact


def test_only_what_is_read_later_is_kept() -> None:
    net = network(Residual(), (2,))
    first, second = net.layers
    # The inputs are added behind the first layer, and joined to the second.
    assert first.keep == (0, 1) and second.keep == (0, 1)
    assert not net.is_chain
    chain = network(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
    assert chain.is_chain and chain.depth == 2 and chain.relus == 3


def test_relus_that_nothing_reads_have_regions_too() -> None:
    module = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
        module[0].bias.copy_(torch.tensor([0.0, 0.5]))
        module[2].weight.copy_(torch.tensor([[1.0, 0.0]]))
    assert len(regions(network(module), [-1], [1])) == 3


def test_a_file_is_read(tmp_path: Path) -> None:
    net = mlp([([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0])])
    write_onnx(tmp_path / "net.onnx", net.as_floats())
    for source in (tmp_path / "net.onnx", str(tmp_path / "net.onnx")):
        assert exact_range(network(source), [0, 0], [1, 1]) == [(0, 1)]
    assert network(load_onnx(tmp_path / "net.onnx")).relus == 2


def test_what_cannot_be_exact_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"Tanh.*not piecewise linear"):
        network(nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 1)))
    normed = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1)).eval()
    with pytest.raises(Unsupported, match="only known up to rounding"):
        network(normed)
    with pytest.raises(Unsupported, match=rf"\d+ coefficients.*limit {MOST}"):
        network(nn.Sequential(nn.Linear(1, MOST + 1), nn.ReLU(), nn.Linear(MOST + 1, 1)))
    with pytest.raises(BadInput, match="shape of the module's input"):
        network(nn.Sequential(nn.Flatten(), nn.ReLU()))
    with pytest.raises(BadInput, match="missing"):
        network("missing.onnx")


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "at least one layer"),
        ([([[1, 2]], [0, 0])], "weight of shape"),
        ([([[1, 2]], [0]), ([[1, 1]], [0])], "reads 2 values"),
        ([([[float("nan")]], [0])], "weight of layer 0"),
        ([([[1]], [float("inf")])], "bias of layer 0"),
        ([([1, 2], [0])], "2 dimension"),
    ],
)
def test_bad_layers_are_named(layers, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        mlp(layers)


def test_numbers_are_taken_exactly() -> None:
    net = mlp([([[0.1]], [Fraction(1, 3)])])
    assert net.evaluate([[1]])[0, 0] == Fraction(0.1) + Fraction(1, 3)
    with pytest.raises(Unsupported, match="no float64"):
        net.as_floats()
    with pytest.raises(BadInput, match="2 columns"):
        net.evaluate([[1, 2]])


def test_affine_maps_in_a_row_are_not_rounded_into_one() -> None:
    torch.manual_seed(3)
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    net = network(nn.Sequential(first, second, nn.ReLU(), nn.Linear(2, 1)))
    exact = [
        np.vectorize(Fraction, otypes=[object])(p.detach().numpy()) for p in first.parameters()
    ]
    other = [
        np.vectorize(Fraction, otypes=[object])(p.detach().numpy()) for p in second.parameters()
    ]
    assert np.array_equal(net.layers[0].weight, other[0] @ exact[0])
    assert np.array_equal(net.layers[0].bias, other[0] @ exact[1] + other[1])


def test_outputs_and_objectives_that_there_are_not() -> None:
    net = mlp([([[1], [2]], [0, 0])])
    assert bounds(net.objective([1, -1]), [0], [1]) == [(-1, 0)]
    for bad in (-1, 2):
        with pytest.raises(BadInput, match=f"no output {bad}"):
            net.selected(bad)
    with pytest.raises(BadInput, match="objective of 1 for 2"):
        net.objective([1])
    with pytest.raises(BadInput, match="a path, a torch module"):
        network(5)
