"""Functions of torch that move entries or ask for sizes; parameters are named as in torch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hullmark.errors import Unsupported
from hullmark.network.lower import Value
from hullmark.network.ops import Array
from hullmark.network.torch.context import Context, Function, only


def move(c: Context, x: Value, function: Callable[[Array], Array]) -> Value:
    """Entries moved about as `function` moves those of an array."""
    return c.low.select(x, function(c.low.positions(x)))


def _flatten(c: Context, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    rank = len(x.shape)
    start, end = start_dim % rank, end_dim % rank
    merged = math.prod(x.shape[start : end + 1])
    return Value(x.node, (*x.shape[:start], merged, *x.shape[end + 1 :]))


def _reshape(c: Context, x: Value, *shape: Any) -> Value:
    wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    return move(c, x, lambda a: a.reshape([int(n) for n in wanted]))


def _permute(c: Context, x: Value, *dims: Any) -> Value:
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims
    return move(c, x, lambda a: a.transpose(order))


def _transpose(c: Context, x: Value, dim0: int, dim1: int) -> Value:
    return move(c, x, lambda a: a.swapaxes(dim0, dim1))


def _squeeze(c: Context, x: Value, dim: int | None = None) -> Value:
    if dim is not None and x.shape[dim] != 1:
        return x
    return move(c, x, lambda a: a.squeeze(dim))


def _unsqueeze(c: Context, x: Value, dim: int) -> Value:
    return move(c, x, lambda a: np.expand_dims(a, dim))


def _getitem(c: Context, x: Any, index: Any) -> Any:
    if not isinstance(x, Value):
        return x[index]
    parts = index if isinstance(index, tuple) else (index,)
    if not all(p is None or p is Ellipsis or isinstance(p, int | slice) for p in parts):
        raise Unsupported("an index other than numbers and slices")
    return move(c, x, lambda a: np.asarray(a[index]))


def _chunk(c: Context, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    return _split(c, x, -(-x.shape[dim] // chunks), dim)


def _split(c: Context, x: Value, split_size_or_sections: Any, dim: int = 0) -> tuple[Value, ...]:
    size = split_size_or_sections
    cuts = (
        list(range(size, x.shape[dim], size))
        if isinstance(size, int)
        else [int(n) for n in np.cumsum(size)[:-1]]
    )
    return tuple(c.low.select(x, p) for p in np.split(c.low.positions(x), cuts, axis=dim))


def _cat(c: Context, tensors: Sequence[Any], dim: int = 0) -> Value:
    parts = [t if isinstance(t, Value) else c.low.constant(c.array(t)) for t in tensors]
    return c.low.concat(parts, dim)


def _stack(c: Context, tensors: Sequence[Any], dim: int = 0) -> Value:
    parts = [t if isinstance(t, Value) else c.low.constant(c.array(t)) for t in tensors]
    return c.low.concat([_unsqueeze(c, p, dim) for p in parts], dim)


def _size(c: Context, x: Value, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


def _attribute(c: Context, x: Value, name: str) -> Any:
    known = {"shape": x.shape, "ndim": len(x.shape)}
    if name == "T" and len(x.shape) == 2:
        return _transpose(c, x, 0, 1)
    if name not in known:
        raise Unsupported(f"attribute {name} of a tensor")
    return known[name]


def _pad(
    c: Context, input: Value, pad: Sequence[int], mode: str = "constant", value: Any = 0
) -> Value:
    only(mode == "constant" and not value and min(pad) >= 0, "other than padding with zeros")
    frame = [(0, 0)] * len(input.shape)
    for i in range(len(pad) // 2):
        frame[-1 - i] = (pad[2 * i], pad[2 * i + 1])
    return move(c, input, lambda a: np.pad(a, frame, constant_values=-1))


MOVES: dict[str, Function] = {
    **dict.fromkeys(("view", "reshape"), _reshape),
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "chunk": _chunk,
    "dim": lambda c, x: len(x.shape),
    "flatten": _flatten,
    "getattr": _attribute,
    "getitem": _getitem,
    "pad": _pad,
    "permute": _permute,
    "size": _size,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "transpose": _transpose,
    "unsqueeze": _unsqueeze,
}
