"""Affine operations as sparse matrices whose entries are the stored coefficients, unrounded."""

import math
from typing import NamedTuple

import numpy as np

from hullmark.errors import BadInput
from hullmark.lp.program import Sparse, Vector
from hullmark.network import ops
from hullmark.network.ops import Array, Shape

MOVES = (ops.Select, ops.Reshape, ops.Concat, ops.Add, ops.ReduceSum)


class AffineMap(NamedTuple):
    """`y = sum_j matrices[j] @ x_j + bias`, all flat; the true coefficients are within `relative`
    of each entry and `bias_error` `(size,)` of the bias."""

    matrices: tuple[Sparse, ...]
    bias: Vector
    relative: float
    bias_error: Vector


def affine_map(op: ops.Affine, inputs: tuple[Shape, ...]) -> AffineMap:
    """The matrices of an affine operation whose inputs have the given shapes.

    Operations of `MOVES` have entries 1 and -1 only, and no bias.

    Raises:
        BadInput: for coefficients that are not floats.

    Trust: exact.
    """
    output = op.shape(*inputs)
    size = math.prod(output)
    match op:
        case ops.Dense(weight=weight, bias=bias):
            copies = math.prod(inputs[0][:-1])
            matrix = _repeated(Sparse.of(_floats(weight)), copies)
            return _weighted(op, matrix, np.tile(_floats(bias), copies), output)
        case ops.Conv(bias=bias):
            matrix = _correlation(op, inputs[0], output)
            return _weighted(op, matrix, _spread(bias, output), output)
        case ops.ConvTranspose(bias=bias):
            adjoint = ops.Conv(
                op.weight, np.zeros(1), op.stride, op.padding, op.dilation, op.groups
            )
            matrix = _correlation(adjoint, output, inputs[0]).transposed()
            return _weighted(op, matrix, _spread(bias, output), output)
        case ops.Scale(factor=factor, shift=shift):
            every = np.arange(size)
            factors = np.broadcast_to(_floats(factor), output).ravel()
            matrix = Sparse.placed(every, every, factors, (size, size))
            shifts = np.broadcast_to(_floats(shift), output).ravel()
            return _weighted(op, matrix, shifts, output)
        case _:
            none = np.zeros(size)
            return AffineMap(_moved(op, inputs, output), none, 0.0, none)


def _moved(op: ops.Affine, inputs: tuple[Shape, ...], output: Shape) -> tuple[Sparse, ...]:
    sizes = [math.prod(shape) for shape in inputs]
    size = math.prod(output)
    match op:
        case ops.Add(signs=signs):
            unit = Sparse.unit(size)
            return tuple(unit if sign > 0 else unit.negated() for sign in signs)
        case ops.Concat(axis=axis):
            first = np.cumsum([0, *sizes])
            numbered = [
                np.arange(a, a + math.prod(shape)).reshape(shape)
                for a, shape in zip(first[:-1], inputs, strict=True)
            ]
            source = np.concatenate(numbered, axis=axis).ravel()
            return tuple(
                _picked(np.where((source >= a) & (source < a + n), source - a, -1), n)
                for a, n in zip(first[:-1], sizes, strict=True)
            )
        case ops.ReduceSum():
            target = np.broadcast_to(np.arange(size).reshape(output), inputs[0]).ravel()
            every = np.arange(sizes[0])
            return (Sparse.placed(target, every, np.ones(sizes[0]), (size, sizes[0])),)
        case ops.Select(index=index):
            return (_picked(index.ravel(), sizes[0]),)
        case _:
            return (Sparse.unit(size),)


def _picked(source: Array, size: int) -> Sparse:
    """`y[i] = x[source[i]]`, or 0 where that is -1."""
    rows = np.flatnonzero(source >= 0)
    return Sparse.placed(rows, source[rows], np.ones(len(rows)), (len(source), size))


def _weighted(
    op: ops.Dense | ops.Conv | ops.ConvTranspose | ops.Scale,
    matrix: Sparse,
    bias: Vector,
    output: Shape,
) -> AffineMap:
    slack = np.asarray(op.roundoff.bias, np.float64)
    if isinstance(op, ops.Dense | ops.Scale) or not slack.ndim:
        error = np.broadcast_to(slack, output).ravel()
    else:
        error = _spread(slack, output)
    return AffineMap((matrix,), bias, op.roundoff.relative, error)


def _repeated(block: Sparse, copies: int) -> Sparse:
    """The matrix with `copies` of a block along its diagonal."""
    if copies == 1:
        return block
    at = np.repeat(np.arange(copies), len(block.value))
    row = np.tile(block.row, copies) + at * block.rows
    column = np.tile(block.index, copies) + at * block.columns
    value = np.tile(block.value, copies)
    return Sparse.placed(row, column, value, (copies * block.rows, copies * block.columns))


def _correlation(op: ops.Conv, big: Shape, small: Shape) -> Sparse:
    """The matrix of a convolution from `big` to the first `small` of its outputs."""
    weight = _floats(op.weight)
    axes = tuple(range(1, len(big)))
    source = np.arange(math.prod(big)).reshape(big)
    source = np.pad(source, [(0, 0), *op.padding], constant_values=-1)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(op.dilation, weight.shape[2:], strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(source, reach, axis=axes)
    steps = tuple(slice(None, None, s) for s in op.stride)
    taps = tuple(slice(None, None, d) for d in op.dilation)
    windows = windows[(slice(None), *steps, *taps)]
    windows = windows[(slice(None), *(slice(n) for n in small[1:]))]
    # Channels, places, taps: for each place the inputs that meet the taps.
    count = math.prod(small[1:])
    windows = windows.reshape(len(source), count, -1)
    into, per_group = weight.shape[1], len(weight) // op.groups
    kernels = weight.reshape(len(weight), into, 1, -1)
    channel = np.arange(len(weight))[:, None] // per_group * into + np.arange(into)
    column = windows[channel].ravel()
    value = np.broadcast_to(kernels, (len(weight), into, count, kernels.shape[-1])).ravel()
    place = np.arange(len(weight))[:, None, None] * count + np.arange(count)[:, None]
    row = np.broadcast_to(place[:, None], (len(weight), into, count, kernels.shape[-1])).ravel()
    used = (column >= 0) & (value != 0)
    shape = (math.prod(small), math.prod(big))
    return Sparse.placed(row[used], column[used], value[used], shape)


def _spread(per_channel: Array, output: Shape) -> Vector:
    values = _floats(per_channel).reshape(-1, *[1] * (len(output) - 1))
    return np.broadcast_to(values, output).ravel()


def _floats(values: Array) -> Vector:
    if values.dtype == object:
        raise BadInput("a network of fractions has no linear program in floats")
    return np.asarray(values, np.float64)
