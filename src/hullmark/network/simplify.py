"""Smaller networks that compute the same function: one pass of local rules over the graph."""

import math
from dataclasses import replace

import numpy as np

from hullmark.network import merge
from hullmark.network.graph import Builder, Network
from hullmark.network.ops import (
    Array,
    Conv,
    ConvTranspose,
    Dense,
    Op,
    Rectifier,
    Reshape,
    Scale,
    Select,
    Shape,
)

Chain = tuple[Op, ...]


def simplify(network: Network) -> Network:
    """The same function with fewer operations.

    Batch norms and other scales go into the matrix or convolution next to them, matrices in a
    row become one where that does not grow, moves of entries are composed, and operations that
    do nothing disappear.

    Trust: exact over the reals up to the `roundoff` of each resulting op (see `merge`).
    """
    rebuild = _Rebuild(network.input_shape, network.nodes[0].name)
    places = [0]
    for node, consumers in zip(network.nodes[1:], network.consumers[1:], strict=True):
        inputs = tuple(places[i] for i in node.inputs)
        places.append(rebuild.emit(node.op, inputs, node.name, len(consumers)))
    return rebuild.close(places[-1])


class _Rebuild:
    """The network made so far, and for each node how many reads of it are still to come."""

    def __init__(self, shape: Shape, name: str) -> None:
        self._builder = Builder(shape, name)
        self._ops: list[tuple[Op, tuple[int, ...]] | None] = [None]
        self._readers = [0]

    def emit(self, op: Op, inputs: tuple[int, ...], name: str, readers: int) -> int:
        """The node for `op`, merged with the one that it reads where a rule says so."""
        first = inputs[0]
        if self._idle(op, first):
            self._readers[first] += readers - 1
            return first
        chain = self._merge(op, inputs)
        made = self._ops[first]
        if chain is None or made is None:
            self._ops.append((op, inputs))
            self._readers.append(readers)
            return self._builder.add(op, *inputs, name=name)
        at = made[1][0]
        if self._readers[first] > 1:
            self._readers[at] += 1
        for i, part in enumerate(chain):
            at = self.emit(part, (at,), name, readers if i == len(chain) - 1 else 1)
        return at

    def close(self, output: int) -> Network:
        if output == 0:
            output = self._builder.add(Reshape(self._builder.shape(0)), 0)
        return self._builder.build(output)

    def _idle(self, op: Op, at: int) -> bool:
        shape = self._builder.shape(at)
        if isinstance(op, Reshape):
            return op.target == shape
        if isinstance(op, Scale):
            return merge.is_identity(op)
        if isinstance(op, Select) and op.index.shape == shape:
            return bool(np.array_equal(op.index.reshape(-1), np.arange(op.index.size)))
        return False

    def _merge(self, op: Op, inputs: tuple[int, ...]) -> Chain | None:
        made = self._ops[inputs[0]]
        if made is None or len(inputs) != 1 or len(made[1]) != 1:
            return None
        first, (source,) = made
        before, between = self._builder.shape(source), self._builder.shape(inputs[0])
        chain = _moves(first, op)
        if chain is None and self._readers[inputs[0]] <= 1:
            chain = _maps(first, op, before, between)
        return chain


def _moves(first: Op, second: Op) -> Chain | None:
    """Rules that cost nothing even where the first result has other readers."""
    match first, second:
        case Reshape(), Reshape() | Select():
            return (second,)
        case Select(index=index), Reshape(target=target):
            return (Select(index.reshape(target)),)
        case Select(index=inner), Select(index=outer):
            flat = np.append(inner.reshape(-1), -1)
            return (Select(flat[outer]),)
        case Rectifier(), Rectifier() if first.is_relu and second.is_relu:
            return (first,)
        case _:
            return None


def _maps(first: Op, second: Op, before: Shape, between: Shape) -> Chain | None:
    """Rules for a first result that nobody else reads."""
    merged: Op | None = None
    match first, second:
        case Scale(), Reshape(target=target):
            return second, merge.reshaped(first, before, target)
        case Select(index=index), Dense():
            return _select_dense(index, second, before)
        case Select(index=index), Conv():
            merged = _padding_conv(index, second, before)
        case Scale(), Scale():
            merged = merge.scale_scale(first, second)
        case Dense(), Scale():
            merged = merge.dense_scale(first, second, between)
        case Conv() | ConvTranspose(), Scale():
            merged = merge.conv_scale(first, second, between)
        case Scale(), Dense():
            merged = merge.scale_dense(first, second, between)
        case Scale(), Conv():
            merged = merge.scale_conv(first, second, between)
        case Dense(), Dense():
            merged = merge.dense_dense(first, second)
        case _:
            pass
    return None if merged is None else (merged,)


def _select_dense(index: Array, dense: Dense, before: Shape) -> Chain | None:
    """A matrix that reads the entries where they are, if it has no more columns for that."""
    columns = math.prod(before)
    kept = index >= 0
    if index.ndim != 1 or columns > index.size or len(np.unique(index[kept])) < kept.sum():
        return None
    weight = np.zeros((len(dense.weight), columns))
    weight[:, index[kept]] = dense.weight[:, kept]
    return Reshape((columns,)), replace(dense, weight=weight)


def _padding_conv(index: Array, conv: Conv, before: Shape) -> Conv | None:
    """The convolution with more padding, if the selection is a frame of zeros."""
    if index.ndim != len(before) or len(before) < 2 or index.shape[0] != before[0]:
        return None
    frame: list[tuple[int, int]] = []
    for axis, (n, m) in enumerate(zip(before, index.shape, strict=True)):
        others = tuple(i for i in range(index.ndim) if i != axis)
        start = int(np.argmax((index >= 0).any(axis=others)))
        frame.append((start, m - n - start))
    if min(map(min, frame)) < 0:
        return None
    entries = np.arange(math.prod(before)).reshape(before)
    if not np.array_equal(index, np.pad(entries, frame, constant_values=-1)):
        return None
    padding = tuple((a + c, b + d) for (a, b), (c, d) in zip(conv.padding, frame[1:], strict=True))
    return replace(conv, padding=padding)
