"""Convolutions and pooling of torch; settings are named as in torch."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hullmark.network import ops, pool
from hullmark.network.lower import Value
from hullmark.network.torch.context import Context, Function, only, sequence

Settings = dict[str, Any]

CONV: Settings = {
    "weight": None,
    "bias": None,
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
}
CONV_TRANSPOSE: Settings = {
    "weight": None,
    "bias": None,
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "groups": 1,
    "dilation": 1,
}
MAX_POOL: Settings = {
    "kernel_size": None,
    "stride": None,
    "padding": 0,
    "dilation": 1,
    "ceil_mode": False,
    "return_indices": False,
}
AVERAGE_POOL: Settings = {
    "kernel_size": None,
    "stride": None,
    "padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
}


def _with(defaults: Settings, handler: Callable[[Context, Value, Settings], Value]) -> Function:
    """The handler behind torch's own signature: settings by place or by name."""

    def function(c: Context, input: Value, *places: Any, **named: Any) -> Value:
        given = {**dict(zip(defaults, places, strict=False)), **named}
        only(len(places) <= len(defaults) and given.keys() <= defaults.keys(), f"{list(given)}")
        return handler(c, input, {**defaults, **given})

    return function


def _window(rank: int, s: Settings) -> pool.Window:
    kernel = sequence(s["kernel_size"], rank)
    stride = kernel if s["stride"] in (None, [], ()) else sequence(s["stride"], rank)
    padding = tuple((p, p) for p in sequence(s["padding"], rank))
    dilation = sequence(s.get("dilation", 1), rank)
    return pool.Window(kernel, stride, padding, dilation, bool(s["ceil_mode"]))


def _max_pool(rank: int) -> Function:
    def handler(c: Context, input: Value, s: Settings) -> Value:
        only(not s["return_indices"], "return_indices")
        return pool.max_pool(c.low, input, _window(rank, s))

    return _with(MAX_POOL, handler)


def _average_pool(rank: int) -> Function:
    def handler(c: Context, input: Value, s: Settings) -> Value:
        only(s["divisor_override"] is None, "divisor_override")
        counted = bool(s["count_include_pad"])
        return pool.average_pool(c.low, input, _window(rank, s), counted)

    return _with(AVERAGE_POOL, handler)


def _adaptive_average_pool(c: Context, input: Value, output_size: Any) -> Value:
    size, image = sequence(output_size, 2), input.shape[-2:]
    only(not any(n % m for n, m in zip(image, size, strict=True)), f"pooling {image} to {size}")
    kernel = tuple(n // m for n, m in zip(image, size, strict=True))
    window = pool.Window(kernel, kernel, ((0, 0),) * 2, (1, 1))
    return pool.average_pool(c.low, input, window, count_padding=True)


def _convolve(c: Context, input: Value, s: Settings) -> Value:
    weight = c.array(s["weight"]).astype(np.float64)
    kernel = weight.shape[2:]
    rank = len(kernel)
    dilation = sequence(s["dilation"], rank)
    if s["padding"] == "valid":
        padding = ((0, 0),) * rank
    elif s["padding"] == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = tuple((t // 2, t - t // 2) for t in totals)
    else:
        padding = tuple((p, p) for p in sequence(s["padding"], rank))
    bias = _bias(c, s, len(weight))
    stride = sequence(s["stride"], rank)
    op = ops.Conv(weight, bias, stride, padding, dilation, s["groups"])
    return c.low.convolve(op, input)


def _convolve_transposed(c: Context, input: Value, s: Settings) -> Value:
    weight = c.array(s["weight"]).astype(np.float64)
    rank = weight.ndim - 2
    op = ops.ConvTranspose(
        weight,
        _bias(c, s, weight.shape[1] * s["groups"]),
        sequence(s["stride"], rank),
        tuple((p, p) for p in sequence(s["padding"], rank)),
        sequence(s["dilation"], rank),
        sequence(s["output_padding"], rank),
        s["groups"],
    )
    return c.low.convolve(op, input)


def _bias(c: Context, s: Settings, channels: int) -> Any:
    if s["bias"] is None:
        return np.zeros(channels)
    return c.array(s["bias"]).astype(np.float64)


WINDOWS: dict[str, Function] = {
    **{f"conv{n}d": _with(CONV, _convolve) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _with(CONV_TRANSPOSE, _convolve_transposed) for n in (1, 2, 3)},
    **{f"max_pool{n}d": _max_pool(n) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _average_pool(n) for n in (1, 2, 3)},
    "adaptive_avg_pool2d": _adaptive_average_pool,
}
