"""A network together with the original it was imported from, and the check that they agree."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from hullmark.errors import BadInput, ParityError
from hullmark.network.graph import Network
from hullmark.network.ops import Array, Input, Op, Sign

SAFETY = 64.0
FLOOR = 128.0


class Runner(Protocol):
    """The original network, run by the library that it was made for."""

    def run(self, x: Array) -> Array:
        """Outputs at `x`, `(batch, *input_shape)` of the model's own type; may be flattened."""
        ...


@dataclass(frozen=True, eq=False)
class Model:
    """An imported network, the original, the type of its input, and where it came from."""

    network: Network
    original: Runner
    dtype: np.dtype[Any]
    source: str

    def replay(self, x: Array) -> Array:
        """What the original yields.

        Arguments:
            x: `(batch, input_size)` or `(batch, *input_shape)`, representable in `dtype`.

        Returns:
            `(batch, output_size)`, in the original's own type.

        Raises:
            ParityError: if the original yields another number of outputs.

        Trust: these are the original's own floating-point results, not real numbers; in a
        batch the last digits may differ from those of a sample alone, which decides.
        """
        rows = np.ascontiguousarray(x, dtype=self.dtype)
        y = self.original.run(rows.reshape(len(rows), *self.network.input_shape))
        if y.size != len(rows) * self.network.output_size:
            raise ParityError(
                f"{self.source}: the original yields {y.size // max(1, len(rows))} outputs, "
                f"the imported network {self.network.output_size}"
            )
        return y.reshape(len(rows), -1)


def check_parity(
    model: Model, lower: Array, upper: Array, *, samples: int = 8, seed: int = 0
) -> float:
    """Compare the imported network with the original on points of a box.

    The points are the two extreme corners, the centre, four random corners and `samples`
    random points. What single precision may cost is measured, not guessed: the imported network
    is run in double and in the original's precision, and the original may differ from the
    former by 64 times as much as the latter does anywhere, plus 128 units of that precision
    on the largest output.

    Arguments:
        lower, upper: the box, `(input_size,)`.
        samples: number of random points.
        seed: of the random points.

    Returns:
        The largest difference, relative to the largest output.

    Raises:
        ParityError: if they differ by more, or the original yields NaN or infinity; names the
            file, the worst output and both values.

    Trust: evidence, no proof. Points where a `Sign` is fed with almost zero are left out,
    unless there are no others.
    """
    most = np.finfo(model.dtype).max
    x = _points(model, lower, upper, samples, seed).clip(-most, most).astype(model.dtype)
    theirs = model.replay(x).astype(np.float64)
    if not np.isfinite(theirs).all():
        sample, output = np.argwhere(~np.isfinite(theirs))[0]
        raise ParityError(
            f"{model.source}: the original yields {theirs[sample, output]} for output {output}"
        )
    ours, steady = _evaluate(model.network, x.astype(np.float64), np.dtype(np.float64))
    rough, _ = _evaluate(model.network, x.astype(np.float32), np.dtype(np.float32))
    if not steady.any():
        steady = np.ones(len(x), dtype=bool)
    ours, rough, theirs = ours[steady], rough[steady], theirs[steady]
    unit = float(np.finfo(model.dtype).eps)
    scale = float(np.abs(theirs).max())
    spread = float(np.abs(rough - ours).max()) * unit / float(np.finfo(np.float32).eps)
    tolerance = SAFETY * spread + FLOOR * unit * scale
    difference = np.abs(theirs - ours)
    if not difference.max() <= tolerance:
        sample, output = np.unravel_index(np.argmax(difference), difference.shape)
        raise ParityError(
            f"{model.source}: the imported network disagrees with the original: output {output} "
            f"is {ours[sample, output]:.9g}, the original yields {theirs[sample, output]:.9g} "
            f"(tolerance {tolerance:.2g})"
        )
    return float(difference.max()) / scale if scale else 0.0


def _points(model: Model, lower: Array, upper: Array, samples: int, seed: int) -> Array:
    size = model.network.input_size
    lower = np.asarray(lower, dtype=np.float64).reshape(-1)
    upper = np.asarray(upper, dtype=np.float64).reshape(-1)
    if lower.shape != (size,) or upper.shape != (size,):
        raise BadInput(f"{model.source}: a box of {lower.size} sizes for an input of {size}")
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise BadInput(f"{model.source}: the network can only be compared on a bounded box")
    random = np.random.default_rng(seed)
    inside = random.random((samples, size))
    corners = random.integers(0, 2, (4, size)).astype(np.float64)
    weight = np.concatenate([[np.zeros(size), np.ones(size), np.full(size, 0.5)], corners, inside])
    return lower * (1 - weight) + upper * weight


def _evaluate(network: Network, x: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Outputs in one precision throughout, and which samples stay away from jumps."""
    kept: dict[int, Array] = {}
    steady = np.ones(len(x), dtype=bool)
    readers = {j: i for i, node in enumerate(network.nodes) for j in node.inputs}
    value = x
    with np.errstate(all="ignore"):
        for i, node in enumerate(network.nodes):
            if isinstance(node.op, Input):
                value = x.reshape(len(x), *node.shape)
            else:
                value = _as(node.op, dtype).apply(*(kept[j] for j in node.inputs)).astype(dtype)
            if isinstance(node.op, Sign):
                fed = np.abs(kept[node.inputs[0]].reshape(len(x), -1))
                steady &= fed.min(axis=1) > 1e-5 * fed.max()
            kept[i] = value
            for j in node.inputs:
                if readers[j] == i:
                    kept.pop(j, None)
    return value.reshape(len(x), -1).astype(np.float64), steady


def _as(op: Op, dtype: np.dtype[Any]) -> Any:
    """The operation with its coefficients rounded to a type."""
    if dtype == np.float64:
        return op
    changed = {
        name: value.astype(dtype)
        for name, value in vars(op).items()
        if isinstance(value, np.ndarray) and value.dtype == np.float64
    }
    return replace(op, **changed) if changed else op
