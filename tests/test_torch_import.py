"""Torch modules in memory against torch itself."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hullmark.errors import BadInput, Unsupported
from hullmark.network.model import Model, check_parity
from hullmark.network.ops import Conv, Dense, Rectifier, Reshape
from hullmark.network.torch import load_torch


def same(module: nn.Module, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> Model:
    model = load_torch(module, shape)
    size = model.network.input_size
    check_parity(model, np.full(size, low), np.full(size, high))
    x = np.random.default_rng(3).uniform(low, high, (4, size)).astype(model.dtype)
    ours = model.network.evaluate(x.astype(np.float64)).reshape(4, -1)
    theirs = model.replay(x)
    scale = max(1.0, float(np.abs(theirs).max()))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=3e-6 * scale)
    return model


class Calls(nn.Module):
    """A module from a function, with weights that it may use."""

    def __init__(self, function, *size: int) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(*size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.weight)


class Residual(nn.Module):
    """Convolution, normalisation and a skip connection, with rectifiers in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.second(self.relu(self.norm(self.first(x)))) + x)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def test_fully_connected() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
    model = same(module, (3, 4))
    assert [type(n.op) for n in model.network.nodes[1:]] == [Reshape, Dense, Rectifier, Dense]
    assert model.dtype == np.float32 and model.source == "Sequential"


def test_residual_network_folds_its_normalisation() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        Residual(4),
        Residual(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    model = same(module, (3, 11, 11))
    kinds = [type(n.op) for n in model.network.nodes]
    assert kinds.count(Conv) == 6  # five convolutions, and the average
    assert {type(n.op).__name__ for n in model.network.nodes} <= {
        "Input",
        "Conv",
        "Rectifier",
        "Add",
        "Reshape",
        "Dense",
    }


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.9))
    module[1].eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    same(module, (3,))
    assert module.training and not module[1].training and module[2].training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_double_precision() -> None:
    model = same(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double(), (4,))
    assert model.dtype == np.float64


LAYERS = [
    (nn.Conv1d(3, 4, 3, padding=1, groups=1), (3, 8)),
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), (4, 7, 6)),
    (nn.Conv2d(2, 3, 3, padding="same", dilation=2), (2, 7, 6)),
    (nn.Conv3d(2, 3, 2), (2, 3, 4, 3)),
    (nn.ConvTranspose1d(3, 2, 4, stride=2, padding=1), (3, 5)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 5, 4)),
    (nn.BatchNorm1d(5), (5,)),
    (nn.BatchNorm2d(2, affine=False), (2, 3, 3)),
    (nn.LeakyReLU(0.2), (5,)),
    (nn.PReLU(3, 0.3), (3, 4)),
    (nn.ReLU6(), (5,)),
    (nn.Hardtanh(-0.5, 0.7), (5,)),
    (nn.Sigmoid(), (5,)),
    (nn.Softmax(dim=-1), (5,)),
    (nn.Identity(), (5,)),
    (nn.MaxPool1d(3, padding=1), (2, 9)),
    (nn.MaxPool2d(3, stride=2, padding=1), (2, 7, 6)),
    (nn.MaxPool2d((2, 3), stride=(3, 4), ceil_mode=True), (2, 7, 6)),
    (nn.MaxPool2d(2, dilation=2), (2, 7, 6)),
    (nn.AvgPool2d(3, stride=2, padding=1), (2, 7, 6)),
    (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False, ceil_mode=True), (2, 8, 6)),
    (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 8, 6)),
    (nn.AdaptiveAvgPool2d((2, 1)), (2, 6, 5)),
    (nn.ZeroPad2d((1, 0, 2, 1)), (2, 3, 3)),
]


@pytest.mark.parametrize("case", range(len(LAYERS)))
def test_layer(case: int) -> None:
    module, shape = LAYERS[case]
    same(module, shape)


FUNCTIONS = [
    lambda x, w: functional.relu(x) - 2 * x + 0.5 - (1 - x),
    lambda x, w: (x + w) * w / (w.abs() + 1),
    lambda x, w: torch.sigmoid(x) * torch.tanh(x),
    lambda x, w: x / (x.abs() + 1.5),
    lambda x, w: torch.max(x, w) - torch.min(x, -x),
    lambda x, w: torch.clamp(x, -0.5, 0.7) + x.clamp(min=0.1),
    lambda x, w: functional.leaky_relu(x, 0.3) + functional.relu6(x),
    lambda x, w: torch.cat([x, x * 2], dim=1),
    lambda x, w: torch.stack([x, -x], dim=2).mean(dim=(1, 2)),
    lambda x, w: x.view(x.size(0), -1).sum(dim=1, keepdim=True),
    lambda x, w: x.permute(0, 2, 1).reshape(x.shape[0], -1),
    lambda x, w: x.transpose(1, 2)[:, 1:, ::2],
    lambda x, w: torch.flatten(x, 1)[..., 3],
    lambda x, w: x.unsqueeze(1).squeeze(1).contiguous(),
    lambda x, w: functional.linear(x, w, w[:, 0]),
    lambda x, w: x @ w.T,
    lambda x, w: w @ x,
    lambda x, w: x @ x.transpose(1, 2),
    lambda x, w: torch.split(x, 2, dim=1)[0] + x.chunk(2, dim=1)[1].amax(1, keepdim=True),
    lambda x, w: x**2 - torch.square(x) + torch.abs(x),
    lambda x, w: functional.dropout(x, 0.5, training=False).neg(),
    lambda x, w: functional.max_pool2d(x.unsqueeze(1), 2, stride=2),
    lambda x, w: functional.avg_pool2d(x.unsqueeze(1), kernel_size=2, count_include_pad=False),
    lambda x, w: functional.conv2d(x.unsqueeze(1), w.reshape(4, 1, 2, 2), padding=1),
    lambda x, w: functional.pad(x, (1, 2)),
    lambda x, w: functional.softmax(x, dim=-1),
    lambda x, w: torch.amin(x, dim=-1),
]


@pytest.mark.parametrize("case", range(len(FUNCTIONS)))
def test_function(case: int) -> None:
    same(Calls(FUNCTIONS[case], 4, 4), (4, 4))


def test_unpacked_shapes() -> None:
    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        n, c, h = x.shape
        return x.reshape(n, c * h) * h

    same(Calls(function, 1), (3, 4))


def test_writing_in_place_is_seen_by_later_readers() -> None:
    def rectified(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = x * 2
        z = functional.relu(y, inplace=True)
        return z + y

    def shifted(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y += 1
        y.mul_(3).relu_()
        return y

    same(Calls(rectified, 1), (4,))
    same(Calls(shifted, 1), (4,))


REFUSED = [
    (nn.GELU(), "GELU"),
    (nn.BatchNorm1d(4, track_running_stats=False), "statistics"),
    (Calls(lambda x, w: torch.erf(x), 1), "erf"),
    (Calls(lambda x, w: x.max(dim=1)[0], 1), "max"),
    (Calls(lambda x, w: x if x.sum() > 0 else -x, 1), "traced"),
    (Calls(lambda x, w: torch.add(x, x, alpha=2), 1), "alpha"),
    (Calls(lambda x, w: (x, x), 1), "tuple"),
    (nn.Sequential(nn.Softmax(dim=1), nn.Linear(4, 4)), "softmax"),
    (nn.Linear(4, 4).half(), "float16"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refused(case: int) -> None:
    module, word = REFUSED[case]
    with pytest.raises(Unsupported, match=word) as caught:
        load_torch(module, (4,))
    assert type(module).__name__ in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(BadInput, match="Linear"):
        load_torch(nn.Linear(4, 4), (5,))
    with pytest.raises(BadInput, match="shape"):
        load_torch(nn.Linear(4, 4), ())
