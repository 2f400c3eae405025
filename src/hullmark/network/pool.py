"""Pooling windows: sizes, taps that lie inside the image, and what divides an average."""

import math
from dataclasses import dataclass

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.network import layers, ops
from hullmark.network.lower import Lowering, Value
from hullmark.network.ops import Array, Shape

Padding = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """A sliding window: one entry per spatial axis, padding as `(before, after)` pairs."""

    kernel: Shape
    stride: Shape
    padding: Padding
    dilation: Shape
    ceil: bool = False

    def sizes(self, image: Shape) -> Shape:
        """How many windows there are along each axis of an image.

        Rounding up never adds a window that starts in the padding after the image.
        """
        result: list[int] = []
        for n, k, s, (before, after), d in zip(
            image, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            room = n + before + after - d * (k - 1) - 1
            if room < 0:
                raise BadInput(f"a window of {self.kernel} does not fit into an image of {image}")
            count = room // s + 1
            if self.ceil and room % s and count * s < n + before:
                count += 1
            result.append(count)
        return tuple(result)


def same_padding(image: Shape, window: Window, upper: bool) -> Padding:
    """The padding that makes the result `ceil(image / stride)`; the odd one after if `upper`."""
    pairs: list[tuple[int, int]] = []
    for n, k, s, d in zip(image, window.kernel, window.stride, window.dilation, strict=True):
        total = max(0, (math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if upper else (large, small))
    return tuple(pairs)


def max_pool(low: Lowering, x: Value, window: Window) -> Value:
    """The maximum over each window of `(1, channels, *size)`; padding never wins."""
    image = _image(x, window)
    sizes = window.sizes(image)
    rank = len(image)
    flat = np.zeros((1,) * 2 * rank, dtype=np.int64)
    for axis, (n, count) in enumerate(zip(image, sizes, strict=True)):
        taps = _taps(window, axis, count)
        inside = (taps >= 0) & (taps < n)
        if not inside.any(axis=1).all():
            raise Unsupported("a pooling window that lies in the padding alone")
        first = np.take_along_axis(taps, inside.argmax(axis=1)[:, np.newaxis], axis=1)
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = window.kernel[axis], count
        flat = flat * n + np.where(inside, taps, first).T.reshape(shape)
    flat = flat.reshape(-1, 1, 1, *sizes)
    channels = np.arange(x.shape[1]).reshape(1, 1, -1, *(1,) * rank) * math.prod(image)
    return layers.tournament(low, x, flat + channels)


def average_pool(low: Lowering, x: Value, window: Window, count_padding: bool) -> Value:
    """The mean over each window of `(1, channels, *size)`, with or without the padding.

    A window that reaches beyond the padded image never counts what lies there.
    """
    image = _image(x, window)
    sizes = window.sizes(image)
    counts = np.ones((1,) * len(image))
    padding: list[tuple[int, int]] = []
    for axis, (n, count) in enumerate(zip(image, sizes, strict=True)):
        taps = _taps(window, axis, count)
        before, after = window.padding[axis]
        low_end, high_end = (-before, n + after) if count_padding else (0, n)
        seen = ((taps >= low_end) & (taps < high_end)).sum(axis=1)
        shape = [1] * len(image)
        shape[axis] = count
        counts = counts * seen.reshape(shape)
        padding.append((before, max(0, int(taps[-1, -1]) + 1 - n)))
    channels = x.shape[1]
    weight = np.ones((channels, 1, *window.kernel))
    bias = np.zeros(channels)
    total = ops.Conv(weight, bias, window.stride, tuple(padding), window.dilation, channels)
    divisor = counts.flat[:1] if bool((counts == counts.flat[0]).all()) else counts
    return layers.divide(low, low.convolve(total, x), divisor)


def _taps(window: Window, axis: int, count: int) -> Array:
    """Positions along one axis, `(windows, taps)`, negative or too large in the padding."""
    starts = np.arange(count) * window.stride[axis] - window.padding[axis][0]
    return starts[:, np.newaxis] + np.arange(window.kernel[axis]) * window.dilation[axis]


def _image(x: Value, window: Window) -> Shape:
    if len(x.shape) != len(window.kernel) + 2 or x.shape[0] != 1:
        raise Unsupported(f"a window of {window.kernel} on shape {x.shape}")
    return x.shape[2:]
