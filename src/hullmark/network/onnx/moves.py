"""Operators that move entries and compute none: one numpy function each, for constants and values.

A constant goes through the function itself; a value sends the array of its flat positions
through, and the result is the index of one `Select`.
"""

from collections.abc import Callable

import numpy as np

from hullmark.errors import BadInput, Unsupported
from hullmark.network.onnx.call import Call, Operand, Result
from hullmark.network.ops import Array

Move = Callable[[Call, Array], Array]


def apply_move(call: Call, move: Move) -> Operand:
    """The first operand, moved."""
    x = call.operand(0)
    if isinstance(x, np.ndarray):
        return move(call, x)
    return call.low.select(x, move(call, call.low.positions(x)))


def _same(call: Call, data: Array) -> Array:
    return data


def _dropout(call: Call, data: Array) -> Array:
    call.ignore("ratio", "seed", "is_test")
    training = call.optional(2)
    if training is not None and bool(training):
        raise Unsupported("dropout in training mode")
    return data


def _reshape(call: Call, data: Array) -> Array:
    wanted = [int(n) for n in call.constant(1).reshape(-1)]
    if not call.integer("allowzero", 0):
        wanted = [data.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return data.reshape(wanted)


def _flatten(call: Call, data: Array) -> Array:
    axis = call.integer("axis", 1)
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape(int(np.prod(data.shape[:axis])), -1)


def _transpose(call: Call, data: Array) -> Array:
    return np.transpose(data, call.integers("perm"))


def _squeeze(call: Call, data: Array) -> Array:
    return np.squeeze(data, call.axes(1))


def _unsqueeze(call: Call, data: Array) -> Array:
    axes = call.axes(1)
    if axes is None:
        raise BadInput("no axes are given")
    return np.expand_dims(data, axes)


def _expand(call: Call, data: Array) -> Array:
    wanted = tuple(int(n) for n in call.constant(1))
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, wanted))


def _tile(call: Call, data: Array) -> Array:
    return np.tile(data, [int(n) for n in call.constant(1)])


def _gather(call: Call, data: Array) -> Array:
    return np.take(data, call.constant(1), axis=call.integer("axis", 0))


def _slice(call: Call, data: Array) -> Array:
    if call.opset < 10:
        starts, ends, axes = (call.integers(name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        starts, ends, axes, steps = (
            None if part is None else tuple(int(n) for n in part)
            for part in (call.optional(i) for i in range(1, 5))
        )
    if starts is None or ends is None:
        raise BadInput("no start or no end is given")
    axes = axes or tuple(range(len(starts)))
    steps = steps or (1,) * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        kept = range(data.shape[axis])[slice(start, end, step)]
        data = np.take(data, np.arange(kept.start, kept.stop, kept.step), axis=axis)
    return data


def _depth_to_space(call: Call, data: Array) -> Array:
    n, c, h, w = data.shape
    b = call.integer("blocksize", 1)
    if call.text("mode", "DCR") == "DCR":
        data = data.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        data = data.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return data.reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(call: Call, data: Array) -> Array:
    n, c, h, w = data.shape
    b = call.integer("blocksize", 1)
    data = data.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return data.reshape(n, c * b**2, h // b, w // b)


MOVES: dict[str, Move] = {
    "Identity": _same,
    "Dropout": _dropout,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Tile": _tile,
    "Gather": _gather,
    "Slice": _slice,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}


def split(call: Call) -> Result:
    """Pieces along an axis: of given lengths, or as equal as they can be."""
    x = call.operand(0)
    axis = call.integer("axis", 0)
    count = call.integer("num_outputs", call.outputs)
    size = x.shape[axis]
    given = call.integers("split")
    if given is None and call.has(1):
        given = tuple(int(n) for n in call.constant(1))
    lengths = given or tuple(
        min(-(-size // count), size - i * -(-size // count)) for i in range(count)
    )
    if sum(lengths) != size or min(lengths) < 0:
        raise BadInput(f"pieces of {lengths} from an axis of {size}")
    cuts = np.cumsum(lengths)[:-1]
    if isinstance(x, np.ndarray):
        return list(np.split(x, cuts, axis=axis))
    return [call.low.select(x, part) for part in np.split(call.low.positions(x), cuts, axis=axis)]


def pad(call: Call) -> Result:
    """A frame of a constant, or of reflected or repeated entries; negative amounts crop."""
    x = call.operand(0)
    rank = len(x.shape)
    mode = call.text("mode", "constant")
    if call.opset < 11:
        amounts, fill, axes = call.integers("pads"), call.number("value", 0.0), None
    else:
        amounts = tuple(int(n) for n in call.constant(1))
        given = call.optional(2)
        fill = 0.0 if given is None or not given.size else float(given.reshape(()))
        axes = call.optional(3)
    chosen = [int(a) % rank for a in axes] if axes is not None else list(range(rank))
    if amounts is None or len(amounts) != 2 * len(chosen):
        raise BadInput(f"{amounts} is no padding for shape {x.shape}")
    frame = [(0, 0)] * rank
    for axis, before, after in zip(
        chosen, amounts[: len(chosen)], amounts[len(chosen) :], strict=True
    ):
        frame[axis] = (before, after)
    if isinstance(x, np.ndarray):
        return _frame(x, frame, mode, fill)
    index = _frame(call.low.positions(x), frame, mode, -1)
    y = call.low.select(x, index)
    return call.low.scale(y, np.ones(()), np.where(index < 0, fill, 0.0)) if fill else y


def _frame(data: Array, frame: list[tuple[int, int]], mode: str, fill: float) -> Array:
    crop = tuple(
        slice(max(-before, 0), n - max(-after, 0))
        for (before, after), n in zip(frame, data.shape, strict=True)
    )
    grow = [(max(before, 0), max(after, 0)) for before, after in frame]
    if mode == "constant":
        return np.pad(data[crop], grow, constant_values=fill)
    if mode in ("reflect", "edge", "wrap"):
        return np.pad(data[crop], grow, mode=mode)
    raise Unsupported(f"padding mode {mode!r}")
