"""The operations a network is made of: a small closed set of frozen values.

Every front end lowers to these, and every bound, encoding and proof is written for these
alone. Shapes never include the batch axis; `apply` takes arrays whose first axis is the batch.
Arrays are numpy, of float64 or of `Fraction` objects, and are never written to.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Roundoff:
    """How far stored coefficients may lie from the real numbers they stand for.

    `|true - stored| <= relative * |stored|` for every weight, and `<= bias` for every bias
    entry. Zero for coefficients taken from a file; positive where a batch norm was folded or a
    reciprocal was taken, since those are not representable.
    """

    relative: float = 0.0
    bias: Array | float = 0.0


EXACT = Roundoff()


@dataclass(frozen=True)
class Input:
    """The input of the network; node 0, and no other."""

    input_shape: Shape

    def shape(self, *inputs: Shape) -> Shape:
        return self.input_shape


@dataclass(frozen=True, eq=False)
class Dense:
    """`weight @ x + bias` along the last axis; weight `(m, n)`, bias `(m,)`."""

    weight: Array
    bias: Array
    roundoff: Roundoff = EXACT

    def shape(self, x: Shape) -> Shape:
        if not x or x[-1] != self.weight.shape[1]:
            raise BadInput(f"a matrix of shape {self.weight.shape} cannot act on shape {x}")
        return (*x[:-1], self.weight.shape[0])

    def apply(self, x: Array) -> Array:
        return np.dot(x, self.weight.T) + self.bias


@dataclass(frozen=True, eq=False)
class Conv:
    """Cross-correlation over the trailing spatial axes.

    weight `(out, in / groups, *kernel)`, bias `(out,)`, padding one `(before, after)` pair per
    spatial axis.
    """

    weight: Array
    bias: Array
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    groups: int = 1
    roundoff: Roundoff = EXACT

    def shape(self, x: Shape) -> Shape:
        kernel = self.weight.shape[2:]
        if len(x) != len(kernel) + 1 or x[0] != self.weight.shape[1] * self.groups:
            raise BadInput(f"a kernel of shape {self.weight.shape} cannot act on shape {x}")
        size = tuple(
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                x[1:], self.padding, self.dilation, kernel, self.stride, strict=True
            )
        )
        if min(size) < 1:
            raise BadInput(f"a kernel of shape {self.weight.shape} does not fit into shape {x}")
        return (self.weight.shape[0], *size)

    def apply(self, x: Array) -> Array:
        x = np.pad(x, [(0, 0), (0, 0), *self.padding])
        y = correlate(x, self.weight, self.stride, self.dilation, self.groups)
        return y + self.bias.reshape(-1, *[1] * len(self.stride))


@dataclass(frozen=True, eq=False)
class ConvTranspose:
    """The transpose of a `Conv` (as ONNX defines it).

    weight `(in, out / groups, *kernel)`, bias `(out,)`; output size
    `(n - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - before - after`.
    """

    weight: Array
    bias: Array
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    output_padding: Shape
    groups: int = 1
    roundoff: Roundoff = EXACT

    def shape(self, x: Shape) -> Shape:
        kernel = self.weight.shape[2:]
        if len(x) != len(kernel) + 1 or x[0] != self.weight.shape[0]:
            raise BadInput(f"a kernel of shape {self.weight.shape} cannot act on shape {x}")
        size = tuple(
            (n - 1) * s + d * (k - 1) + 1 + o - sum(p)
            for n, s, d, k, o, p in zip(
                x[1:],
                self.stride,
                self.dilation,
                kernel,
                self.output_padding,
                self.padding,
                strict=True,
            )
        )
        return (self.weight.shape[1] * self.groups, *size)

    def apply(self, x: Array) -> Array:
        kernel = self.weight.shape[2:]
        spread = np.zeros(
            (
                *x.shape[:2],
                *[(n - 1) * s + 1 for n, s in zip(x.shape[2:], self.stride, strict=True)],
            ),
            dtype=x.dtype,
        )
        spread[(..., *[slice(None, None, s) for s in self.stride])] = x
        margins = [
            (d * (k - 1) - p[0], d * (k - 1) - p[1] + o)
            for d, k, p, o in zip(
                self.dilation, kernel, self.padding, self.output_padding, strict=True
            )
        ]
        spread = _pad_or_crop(spread, margins)
        per_group = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
        flipped = np.flip(per_group, axis=tuple(range(3, 3 + len(kernel)))).swapaxes(1, 2)
        flipped = flipped.reshape(-1, *flipped.shape[2:])
        y = correlate(spread, flipped, (1,) * len(kernel), self.dilation, self.groups)
        return y + self.bias.reshape(-1, *[1] * len(kernel))


@dataclass(frozen=True, eq=False)
class Scale:
    """`factor * x + shift`, element by element; both broadcast against the shape of `x`."""

    factor: Array
    shift: Array
    roundoff: Roundoff = EXACT

    def shape(self, x: Shape) -> Shape:
        if np.broadcast_shapes(x, self.factor.shape, self.shift.shape) != x:
            raise BadInput(f"a scale of shape {self.factor.shape} cannot act on shape {x}")
        return x

    def apply(self, x: Array) -> Array:
        return x * self.factor + self.shift


@dataclass(frozen=True, eq=False)
class Select:
    """`y.flat[i] = x.flat[index.flat[i]]`, or 0 where the index is -1; y has `index`'s shape.

    Transposes, slices, gathers, splits, paddings and broadcasts are all this.
    """

    index: NDArray[np.int64]

    def shape(self, x: Shape) -> Shape:
        if self.index.size and int(self.index.max()) >= math.prod(x):
            raise BadInput(f"an index reaches outside shape {x}")
        return self.index.shape

    def apply(self, x: Array) -> Array:
        flat = x.reshape(len(x), -1)
        flat = np.concatenate([flat, np.zeros((len(x), 1), dtype=x.dtype)], axis=1)
        return flat[:, self.index.reshape(-1)].reshape(len(x), *self.index.shape)


@dataclass(frozen=True)
class Reshape:
    """The same values, in row-major order, in another shape."""

    target: Shape

    def shape(self, x: Shape) -> Shape:
        if math.prod(x) != math.prod(self.target):
            raise BadInput(f"shape {x} cannot be reshaped to {self.target}")
        return self.target

    def apply(self, x: Array) -> Array:
        return x.reshape(len(x), *self.target)


@dataclass(frozen=True)
class Concat:
    """Inputs joined along `axis` (not counting the batch)."""

    axis: int

    def shape(self, *inputs: Shape) -> Shape:
        first = inputs[0]
        joined = sum(x[self.axis] for x in inputs)
        return (*first[: self.axis], joined, *first[self.axis + 1 :])

    def apply(self, *inputs: Array) -> Array:
        return np.concatenate(inputs, axis=self.axis + 1)


@dataclass(frozen=True)
class Add:
    """The signed sum of inputs of one shape; `signs` holds +1 or -1 per input."""

    signs: tuple[int, ...]

    def shape(self, *inputs: Shape) -> Shape:
        if len(set(inputs)) != 1 or len(inputs) != len(self.signs):
            raise BadInput(f"shapes {inputs} cannot be added")
        return inputs[0]

    def apply(self, *inputs: Array) -> Array:
        total = inputs[0] * self.signs[0]
        for sign, x in zip(self.signs[1:], inputs[1:], strict=True):
            total = total + x if sign > 0 else total - x
        return total


@dataclass(frozen=True)
class ReduceSum:
    """The sum over `axes` (not counting the batch), which stay as size 1."""

    axes: tuple[int, ...]

    def shape(self, x: Shape) -> Shape:
        return tuple(1 if i in self.axes else n for i, n in enumerate(x))

    def apply(self, x: Array) -> Array:
        return x.sum(axis=tuple(a + 1 for a in self.axes), keepdims=True)


@dataclass(frozen=True, eq=False)
class Rectifier:
    """`negative * x` for `x < 0`, `positive * x` for `x >= 0`, element by element.

    ReLU is (0, 1), leaky ReLU (slope, 1), absolute value (-1, 1). Both slopes broadcast
    against the shape of `x` and are exact.
    """

    negative: Array = field(default_factory=lambda: np.zeros(()))
    positive: Array = field(default_factory=lambda: np.ones(()))

    def shape(self, x: Shape) -> Shape:
        if np.broadcast_shapes(x, self.negative.shape, self.positive.shape) != x:
            raise BadInput(f"slopes of shape {self.negative.shape} cannot act on shape {x}")
        return x

    def apply(self, x: Array) -> Array:
        return np.where(x < 0, self.negative * x, self.positive * x)

    @property
    def is_relu(self) -> bool:
        return bool(np.all(self.negative == 0) and np.all(self.positive == 1))


@dataclass(frozen=True)
class Sigmoid:
    """`1 / (1 + exp(-x))`, element by element."""

    def shape(self, x: Shape) -> Shape:
        return x

    def apply(self, x: Array) -> Array:
        x = np.asarray(x, dtype=np.float64)
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


@dataclass(frozen=True)
class Tanh:
    """The hyperbolic tangent, element by element."""

    def shape(self, x: Shape) -> Shape:
        return x

    def apply(self, x: Array) -> Array:
        return np.tanh(np.asarray(x, dtype=np.float64))


@dataclass(frozen=True)
class Sign:
    """-1, 0 or 1, element by element."""

    def shape(self, x: Shape) -> Shape:
        return x

    def apply(self, x: Array) -> Array:
        return np.sign(x)


@dataclass(frozen=True)
class Reciprocal:
    """`1 / x`, element by element, over a range that excludes 0."""

    def shape(self, x: Shape) -> Shape:
        return x

    def apply(self, x: Array) -> Array:
        return 1 / x


@dataclass(frozen=True)
class Product:
    """`x * y`, element by element, of two inputs of one shape."""

    def shape(self, x: Shape, y: Shape) -> Shape:
        if x != y:
            raise BadInput(f"shapes {x} and {y} cannot be multiplied")
        return x

    def apply(self, x: Array, y: Array) -> Array:
        return x * y


@dataclass(frozen=True)
class Softmax:
    """Softmax along `axis` (not counting the batch); only ever the last node."""

    axis: int

    def shape(self, x: Shape) -> Shape:
        return x

    def apply(self, x: Array) -> Array:
        e = np.exp(x - x.max(axis=self.axis + 1, keepdims=True))
        return e / e.sum(axis=self.axis + 1, keepdims=True)


Affine = Dense | Conv | ConvTranspose | Scale | Select | Reshape | Concat | Add | ReduceSum
Elementwise = Rectifier | Sigmoid | Tanh | Sign | Reciprocal
Op = Input | Affine | Elementwise | Product | Softmax


def correlate(x: Array, weight: Array, stride: Shape, dilation: Shape, groups: int) -> Array:
    """Cross-correlation without padding; x `(batch, in, *size)`, weight as in `Conv`."""
    kernel = weight.shape[2:]
    axes = tuple(range(2, 2 + len(kernel)))
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=axes)
    steps = tuple(slice(None, None, s) for s in stride)
    taps = tuple(slice(None, None, d) for d in dilation)
    windows = windows[(slice(None), slice(None), *steps, *taps)]
    inside = tuple(range(2 + len(kernel), 2 + 2 * len(kernel)))
    parts = []
    for piece, kernels in zip(
        np.split(windows, groups, axis=1), np.split(weight, groups, axis=0), strict=True
    ):
        part = np.tensordot(piece, kernels, axes=((1, *inside), (1, *axes)))
        parts.append(np.moveaxis(part, -1, 1))
    return np.concatenate(parts, axis=1)


def _pad_or_crop(x: Array, margins: list[tuple[int, int]]) -> Array:
    grown = np.pad(x, [(0, 0), (0, 0), *[(max(a, 0), max(b, 0)) for a, b in margins]])
    crop = [
        slice(max(-a, 0), n - max(-b, 0))
        for (a, b), n in zip(margins, grown.shape[2:], strict=True)
    ]
    return grown[(..., *crop)]
