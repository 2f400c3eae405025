"""Handlers of the operators with sliding windows: convolutions and pooling."""

from dataclasses import replace

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.network import layers, ops, pool
from hullmark.network.onnx.call import Call, Result
from hullmark.network.ops import Shape


def conv(call: Call) -> Result:
    """Cross-correlation with constant kernels."""
    weight, bias = call.constant(1), call.optional(2)
    window = _window(call, weight.shape[2:], call.value(0).shape[2:])
    op = ops.Conv(
        weight.astype(np.float64),
        np.zeros(len(weight)) if bias is None else bias.astype(np.float64),
        window.stride,
        window.padding,
        window.dilation,
        call.integer("group", 1),
    )
    return call.low.convolve(op, call.value(0))


def conv_transpose(call: Call) -> Result:
    """The transpose of a convolution with constant kernels."""
    x, weight, bias = call.value(0), call.constant(1), call.optional(2)
    groups = call.integer("group", 1)
    kernel, image = weight.shape[2:], x.shape[2:]
    automatic = call.text("auto_pad", "NOTSET")
    extra = call.integers("output_padding") or (0,) * len(kernel)
    target = call.integers("output_shape")
    call.attributes["auto_pad"] = "NOTSET"
    window = _window(call, kernel, image)
    padding = window.padding
    if target is None and automatic.startswith("SAME"):
        target = tuple(n * s for n, s in zip(image, window.stride, strict=True))
    if target is not None:
        pairs: list[tuple[int, int]] = []
        full = _transposed_size(image, kernel, window, extra)
        for n, m in zip(full, target[-len(kernel) :], strict=True):
            total = max(0, n - m)
            half = total // 2
            upper = automatic == "SAME_UPPER"
            pairs.append((half, total - half) if upper else (total - half, half))
        padding = tuple(pairs)
    channels = weight.shape[1] * groups
    op = ops.ConvTranspose(
        weight.astype(np.float64),
        np.zeros(channels) if bias is None else bias.astype(np.float64),
        window.stride,
        padding,
        window.dilation,
        extra,
        groups,
    )
    return call.low.convolve(op, x)


def max_pool(call: Call) -> Result:
    """The maximum over windows; only the values, not where they were."""
    call.ignore("storage_order")
    return pool.max_pool(call.low, call.value(0), _pool_window(call))


def average_pool(call: Call) -> Result:
    """The mean over windows."""
    window = _pool_window(call)
    counted = bool(call.integer("count_include_pad", 0))
    return pool.average_pool(call.low, call.value(0), window, counted)


def global_average_pool(call: Call) -> Result:
    """The mean over all spatial axes."""
    x = call.value(0)
    return layers.mean(call.low, x, tuple(range(2, len(x.shape))), keep=True)


def global_max_pool(call: Call) -> Result:
    """The maximum over all spatial axes."""
    x = call.value(0)
    return layers.extremum(call.low, x, tuple(range(2, len(x.shape))), True, 1)


def _transposed_size(image: Shape, kernel: Shape, window: pool.Window, extra: Shape) -> Shape:
    """The size of a transposed convolution without padding."""
    return tuple(
        s * (n - 1) + e + d * (k - 1) + 1
        for n, k, s, d, e in zip(image, kernel, window.stride, window.dilation, extra, strict=True)
    )


def _pool_window(call: Call) -> pool.Window:
    kernel = call.integers("kernel_shape")
    if kernel is None:
        raise BadInput("no kernel_shape is given")
    return _window(call, kernel, call.value(0).shape[2:])


def _window(call: Call, kernel: Shape, image: Shape) -> pool.Window:
    """Strides, dilations and padding, explicit or automatic."""
    rank = len(kernel)
    declared = call.integers("kernel_shape")
    if declared not in (None, kernel) or len(image) != rank:
        raise BadInput(f"kernel_shape {declared} for a kernel of {kernel} on an image of {image}")
    ends = call.integers("pads") or (0,) * 2 * rank
    stride = call.integers("strides") or (1,) * rank
    dilation = call.integers("dilations") or (1,) * rank
    if len(ends) != 2 * rank or min((*stride, *dilation)) < 1:
        raise BadInput(f"pads {ends}, strides {stride}, dilations {dilation}")
    if min(ends) < 0:
        raise Unsupported(f"negative pads {ends}")
    explicit = tuple(zip(ends[:rank], ends[rank:], strict=True))
    ceil = bool(call.integer("ceil_mode", 0))
    window = pool.Window(kernel, stride, explicit, dilation, ceil)
    automatic = call.text("auto_pad", "NOTSET")
    if automatic == "VALID":
        return replace(window, padding=((0, 0),) * rank)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        padding = pool.same_padding(image, window, automatic == "SAME_UPPER")
        return replace(window, padding=padding)
    return window
