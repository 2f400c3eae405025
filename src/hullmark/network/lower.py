"""From the operators of a front end to the few operations of `ops`: shapes, views, affine maps.

A `Value` carries the shape it has in the source, a batch of one included, next to the node that
holds it. The two shapes may differ as long as the row-major order agrees, so that flattening,
squeezing the batch away and naming it `1` cost nothing and cannot be misread.
"""

import math
from dataclasses import dataclass

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.network.ops import EXACT, Array, Roundoff, Shape


@dataclass(frozen=True)
class Value:
    """The result `node`, read in the source's own `shape` (a batch of one included)."""

    node: int
    shape: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def natural(shape: Shape) -> Shape:
    """The shape of a node for a value of this shape: a leading 1 is the batch and goes."""
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


def lost(shape: Shape) -> int:
    """How many leading axes `natural` drops: 0 or 1."""
    return len(shape) - len(natural(shape))


class Lowering:
    """Collects nodes for one network; every method appends what it needs and returns a `Value`.

    Arguments:
        shape: of the input in the source, a batch of one included.
        name: of the input in the source.

    Trust: every lowering is exact over the reals, except for the coefficients' `Roundoff`.
    """

    def __init__(self, shape: Shape, name: str) -> None:
        self._builder = Builder(natural(shape), name)
        self._label = name
        self._uses = 0
        self.input = Value(0, shape)

    def source(self, label: str) -> None:
        """Name the node of the source that the next operations stand for."""
        self._label, self._uses = label, 0

    def build(self, output: Value) -> Network:
        """The network that computes `output`, its entries in the source's row-major order."""
        return self._builder.build(output.node)

    def _add(self, op: ops.Op, *nodes: int) -> int:
        self._uses += 1
        name = self._label if self._uses == 1 else f"{self._label}.{self._uses}"
        return self._builder.add(op, *nodes, name=name)

    def view(self, x: Value, shape: Shape) -> int:
        """The node of `x` in this shape, through a `Reshape` where it has another one."""
        if self._builder.shape(x.node) == shape:
            return x.node
        return self._add(ops.Reshape(shape), x.node)

    def emit(self, op: ops.Op, *inputs: Value, shape: Shape) -> Value:
        """Append an operation on the natural shapes of `inputs`; `shape` is the result's."""
        node = self._add(op, *(self.view(x, natural(x.shape)) for x in inputs))
        return Value(node, shape)

    def emit_full(self, op: ops.Op, *inputs: Value, shape: Shape) -> Value:
        """Append an operation that acts along the leading axis, on the shapes of the source."""
        return Value(self._add(op, *(self.view(x, x.shape) for x in inputs)), shape)

    def pointwise(self, op: ops.Rectifier | ops.Elementwise, x: Value) -> Value:
        """Append an elementwise operation whose parameters, if any, are scalars."""
        return Value(self._add(op, x.node), x.shape)

    def select(self, x: Value, index: Array) -> Value:
        """Entries of `x` by flat position, 0 where the index is -1; shape as the index."""
        shape = index.shape
        if index.size == x.size and np.array_equal(index.reshape(-1), np.arange(x.size)):
            return Value(x.node, shape)
        if not index.size:
            raise Unsupported(f"an empty result of shape {shape}")
        target = index.reshape(natural(shape)).astype(np.int64)
        return Value(self._add(ops.Select(target), x.node), shape)

    def positions(self, x: Value) -> Array:
        """The flat position of each entry, in the shape of `x`; feeds `select`."""
        return np.arange(x.size, dtype=np.int64).reshape(x.shape)

    def expand(self, x: Value, shape: Shape) -> Value:
        """`x` broadcast to `shape`."""
        if x.shape == shape:
            return x
        return self.select(x, np.broadcast_to(self.positions(x), shape))

    def constant(self, value: Array) -> Value:
        """A value that does not depend on the input."""
        zeros = self.select(self.input, np.full(value.shape, -1, dtype=np.int64))
        return self.scale(zeros, np.ones(()), value)

    def scale(self, x: Value, factor: Array, shift: Array, roundoff: Roundoff = EXACT) -> Value:
        """`factor * x + shift` with numpy broadcasting, which may enlarge `x`."""
        factor, shift = real(factor), real(shift)
        shape = _broadcast(x.shape, factor.shape, shift.shape)
        x = self.expand(x, shape)
        if isinstance(roundoff.bias, np.ndarray):
            bias = _against(np.broadcast_to(roundoff.bias, np.shape(shift)), shape)
            roundoff = Roundoff(roundoff.relative, bias)
        op = ops.Scale(_against(factor, shape), _against(shift, shape), roundoff)
        if factor.size == 1 and shift.size == 1:
            return Value(self._add(op, x.node), shape)
        return self.emit(op, x, shape=shape)

    def add(self, *inputs: Value, signs: tuple[int, ...] | None = None) -> Value:
        """The signed sum, with numpy broadcasting."""
        if len(inputs) == 1 and not signs:
            return inputs[0]
        shape = _broadcast(*(x.shape for x in inputs))
        op = ops.Add(signs or (1,) * len(inputs))
        return self.emit(op, *(self.expand(x, shape) for x in inputs), shape=shape)

    def product(self, x: Value, y: Value) -> Value:
        """The product of two values, entry by entry, with numpy broadcasting."""
        shape = _broadcast(x.shape, y.shape)
        return self.emit(ops.Product(), self.expand(x, shape), self.expand(y, shape), shape=shape)

    def concat(self, inputs: list[Value], axis: int) -> Value:
        """Values joined along `axis` of the source."""
        first = inputs[0].shape
        axis = axis + len(first) if axis < 0 else axis
        for x in inputs:
            if len(x.shape) != len(first) or any(
                i != axis and n != m for i, (n, m) in enumerate(zip(x.shape, first, strict=True))
            ):
                raise BadInput(f"shapes {[x.shape for x in inputs]} do not join along axis {axis}")
        total = sum(x.shape[axis] for x in inputs)
        shape = (*first[:axis], total, *first[axis + 1 :])
        if axis == 0:
            return self.emit_full(ops.Concat(0), *inputs, shape=shape)
        return self.emit(ops.Concat(axis - lost(shape)), *inputs, shape=shape)

    def dense(
        self, x: Value, weight: Array, bias: Array | None, roundoff: Roundoff = EXACT
    ) -> Value:
        """`weight @ x + bias` along the last axis."""
        weight = real(weight)
        bias = np.zeros(len(weight)) if bias is None else real(bias)
        op = ops.Dense(weight, bias, roundoff)
        return self.emit(op, x, shape=(*x.shape[:-1], len(weight)))

    def convolve(self, op: ops.Conv | ops.ConvTranspose, x: Value) -> Value:
        """A convolution on `(1, channels, *size)`."""
        real(op.weight)
        real(op.bias)
        if len(x.shape) != op.weight.ndim or x.shape[0] != 1:
            raise Unsupported(f"a convolution kernel {op.weight.shape} on shape {x.shape}")
        return self.emit(op, x, shape=(1, *op.shape(x.shape[1:])))

    def total(self, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
        """The sum over axes of the source."""
        axes = tuple(sorted({a % len(x.shape) for a in axes}))
        kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        inner = tuple(a - lost(x.shape) for a in axes if a >= lost(x.shape))
        y = x if not inner else self.emit(ops.ReduceSum(inner), x, shape=kept)
        if keep:
            return Value(y.node, kept)
        return Value(y.node, tuple(n for i, n in enumerate(kept) if i not in axes))


def real(value: Array) -> Array:
    """The coefficients in double precision.

    Raises:
        BadInput: if some are not finite.
        Unsupported: if they are not real numbers.
    """
    if value.dtype.kind not in "fiu":
        raise Unsupported(f"coefficients of type {value.dtype}")
    wide = value.astype(np.float64)
    if not np.isfinite(wide).all():
        raise BadInput("a coefficient is NaN or infinite")
    return wide


def _broadcast(*shapes: Shape) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise BadInput(f"shapes {', '.join(map(str, shapes))} do not broadcast") from None


def _against(value: Array, shape: Shape) -> Array:
    """A coefficient that broadcasts against `shape`, cut to the natural form of that shape."""
    if value.size == 1:
        return value.reshape(())
    full = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
    return full[0] if lost(shape) else full
