"""Modules of `torch.nn` that a trace keeps whole: which function each is, and its settings."""

from collections.abc import Callable
from typing import Any

from torch import nn

from hullmark.network.torch.context import only

Settings = Callable[[Any], tuple[Any, ...]]


def _none(module: Any) -> tuple[Any, ...]:
    return ()


def _conv(module: Any) -> tuple[Any, ...]:
    only(module.padding_mode == "zeros", f"padding_mode={module.padding_mode!r}")
    m = module
    return m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups


def _conv_transpose(m: Any) -> tuple[Any, ...]:
    return m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation


def _batch_norm(m: Any) -> tuple[Any, ...]:
    return (m.running_mean, m.running_var), (m.weight, m.bias), m.eps


def _max_pool(m: Any) -> tuple[Any, ...]:
    return m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices


def _avg_pool(m: Any) -> tuple[Any, ...]:
    divisor = getattr(m, "divisor_override", None)
    return m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, divisor


MODULES: dict[type[nn.Module], tuple[str, Settings]] = {
    nn.AdaptiveAvgPool2d: ("adaptive_avg_pool2d", lambda m: (m.output_size,)),
    nn.AvgPool1d: ("avg_pool1d", _avg_pool),
    nn.AvgPool2d: ("avg_pool2d", _avg_pool),
    nn.AvgPool3d: ("avg_pool3d", _avg_pool),
    nn.BatchNorm1d: ("normalise", _batch_norm),
    nn.BatchNorm2d: ("normalise", _batch_norm),
    nn.BatchNorm3d: ("normalise", _batch_norm),
    nn.Conv1d: ("conv1d", _conv),
    nn.Conv2d: ("conv2d", _conv),
    nn.Conv3d: ("conv3d", _conv),
    nn.ConvTranspose1d: ("conv_transpose1d", _conv_transpose),
    nn.ConvTranspose2d: ("conv_transpose2d", _conv_transpose),
    nn.ConvTranspose3d: ("conv_transpose3d", _conv_transpose),
    nn.Dropout: ("contiguous", _none),
    nn.Dropout1d: ("contiguous", _none),
    nn.Dropout2d: ("contiguous", _none),
    nn.Flatten: ("flatten", lambda m: (m.start_dim, m.end_dim)),
    nn.Hardtanh: ("clamp", lambda m: (m.min_val, m.max_val)),
    nn.Identity: ("contiguous", _none),
    nn.LeakyReLU: ("leaky_relu", lambda m: (m.negative_slope,)),
    nn.Linear: ("linear", lambda m: (m.weight, m.bias)),
    nn.MaxPool1d: ("max_pool1d", _max_pool),
    nn.MaxPool2d: ("max_pool2d", _max_pool),
    nn.MaxPool3d: ("max_pool3d", _max_pool),
    nn.PReLU: ("prelu", lambda m: (m.weight,)),
    nn.ReLU: ("relu", _none),
    nn.ReLU6: ("relu6", _none),
    nn.Sigmoid: ("sigmoid", _none),
    nn.Softmax: ("softmax", lambda m: (m.dim,)),
    nn.Tanh: ("tanh", _none),
    nn.ZeroPad2d: ("pad", lambda m: (m.padding,)),
}
