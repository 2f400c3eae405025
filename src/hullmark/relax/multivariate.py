"""The hull of one ReLU over the box of its inputs, by separation [OptC2V].

With `w` oriented so that `w >= 0`, let
`ell(I) = b + sum_{i in I} w_i l_i + sum_{i not in I} w_i u_i`. The hull of
`{(x, y) : l <= x <= u, y = relu(w . x + b)}` is `y >= 0`, `y >= w . x + b` and, for each set `I`
and index `h` with `ell(I) >= 0 > ell(I + h)`,

    y <= sum_{i in I} w_i (x_i - l_i) + ell(I) / (u_h - l_h) * (x_h - l_h).

The smallest of these bounds at a point takes coordinates by their place in the box,
`(x_i - l_i) / (u_i - l_i)`, as long as `ell` stays at least 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput

Array = NDArray[Any]

_UNIT = float(np.finfo(np.float64).eps) / 2
_TINY = float(np.finfo(np.float64).tiny)
# What is of second order in the rounding, the charges' own rounding included, is below this.
_SAFETY = 1.02
_LONGEST = 10**9


@dataclass(frozen=True, eq=False)
class NeuronRows:
    """`y[neuron] + x . inputs <= rhs`, one for each entry.

    `neuron` `(m,)` intp; `x` `(m, d)`, float64 numbers that float32 can represent; `rhs` `(m,)`.
    """

    neuron: Array
    x: Array
    rhs: Array


def separate_neurons(
    weight: Array, bias: Array, lower: Array, upper: Array, x: Array, y: Array
) -> NeuronRows:
    """For each ReLU the deepest upper row of its hull over the box, where it cuts the point off.

    Arguments:
        weight, bias: of the pre-activations, `(n, d)` and `(n,)`. Where a pre-activation is known
            only up to an error, a bias that is larger by the error makes the rows hold.
        lower, upper: the box, `(d,)`, or `(n, d)` if each neuron reads values of its own.
        x, y: the point; `x` as the box, `y` `(n,)`.

    Returns:
        At most one row for each neuron. A neuron that is stable on the box, or has a number that
        is not finite, gets none.

    Raises:
        BadInput: if the shapes do not fit.

    Trust: a row holds in real arithmetic for every point of the box with
    `y = max(weight @ x + bias, 0)`. That it is the deepest is true up to rounding.
    """
    low, high, place = _rows_of(weight, bias, (lower, upper, x))
    if np.shape(y) != np.shape(bias):
        raise BadInput(f"{len(bias)} neurons have a point of shape {np.shape(y)}")
    if weight.size == 0:
        return NeuronRows(np.empty(0, dtype=np.intp), np.empty((0, weight.shape[1])), np.empty(0))
    with np.errstate(all="ignore"):
        coefficients, found = _deepest(weight, bias, low, high, place)
        # Coefficients of float32 so that a row is the same one in both precisions.
        coefficients = coefficients.astype(np.float32).astype(np.float64)
        rhs = neuron_rhs(weight, bias, low, high, coefficients)
        excess = y + (coefficients * place).sum(axis=1) - rhs
        noise = 1e-9 * (np.abs(y) + np.abs(coefficients * place).sum(axis=1) + np.abs(rhs))
        chosen = np.flatnonzero(found & np.isfinite(rhs) & (excess > noise))
    return NeuronRows(chosen, coefficients[chosen], rhs[chosen])


def neuron_rhs(weight: Array, bias: Array, lower: Array, upper: Array, x: Array) -> Array:
    """Right-hand sides `(n,)` for which `y + x . inputs <= rhs` holds for each ReLU on the box.

    The row holds if it does with `y` replaced by 0 and by `weight @ inputs + bias`: both are
    maxima of linear functions over a box.

    Arguments:
        weight, bias, lower, upper: as for `separate_neurons`.
        x: any coefficients, `(n, d)`.

    Returns:
        float64; infinite where a number is not finite or overflows.

    Raises:
        BadInput: if the shapes do not fit.

    Trust: in real arithmetic, for the floats as stored; the rounding is charged beforehand
    [Higham02 §3.1]. For `x` of the hull's rows the right-hand side is the least one up to rounding.
    """
    low, high, coefficients = _rows_of(weight, bias, (lower, upper, x))
    with np.errstate(all="ignore"):
        zero = _largest(coefficients, np.zeros_like(bias), low, high)
        active = _largest(weight + coefficients, bias, low, high)
        rhs = np.maximum(zero, active)
    return np.where(np.isfinite(rhs), rhs, np.inf)


def _largest(slope: Array, constant: Array, lower: Array, upper: Array) -> Array:
    """Not below the maximum of `slope . x + constant` over the box; the slope is one rounding off.

    Each product carries two roundings and the sum of `d + 1` terms at most `d` more; the charge
    and its addition are covered by the terms beyond that.
    """
    terms = slope.shape[1] + 8
    gamma = terms * _UNIT / (1 - terms * _UNIT)
    at_lower, at_upper = slope * lower, slope * upper
    sums = np.maximum(at_lower, at_upper).sum(axis=1) + constant
    size = np.maximum(np.abs(at_lower), np.abs(at_upper)).sum(axis=1) + np.abs(constant)
    return np.nextafter(sums + (_SAFETY * gamma * size + terms * _TINY), np.inf)


def _deepest(
    weight: Array, bias: Array, lower: Array, upper: Array, x: Array
) -> tuple[Array, Array]:
    """Coefficients `(n, d)` of `x` in `y + x . inputs <= rhs`, and where there is such a row."""
    width = upper - lower
    drop = np.abs(weight) * width
    place = np.where(weight > 0, x - lower, upper - x) / width
    # What does not move `ell` comes last and is not reached.
    order = np.argsort(np.where(drop > 0, place, np.inf), axis=1, kind="stable")
    top = np.where(weight > 0, weight * upper, weight * lower).sum(axis=1) + bias
    falls = np.take_along_axis(drop, order, axis=1)
    after = top[:, None] - np.cumsum(falls, axis=1)
    found = (top >= 0) & (after < 0).any(axis=1)
    step = np.argmax(after < 0, axis=1)
    ranks = np.arange(weight.shape[1])
    full = np.where((ranks < step[:, None]) & (falls > 0), 1.0, 0.0)
    # `ell(I) / (u_h - l_h)` is this share of `w_h`.
    rest = np.take_along_axis(after + falls, step[:, None], axis=1)[:, 0]
    share = rest / np.take_along_axis(falls, step[:, None], axis=1)[:, 0]
    full[np.arange(len(full)), step] = np.clip(share, 0.0, 1.0)
    shares = np.empty_like(full)
    np.put_along_axis(shares, order, full, axis=1)
    return -shares * weight, found


def _rows_of(
    weight: Array, bias: Array, others: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """The box and a third array, one row for each neuron."""
    if np.ndim(weight) != 2 or np.shape(bias) != (len(weight),) or weight.shape[1] > _LONGEST:
        raise BadInput(f"a matrix {np.shape(weight)} does not go with biases {np.shape(bias)}")
    for other in others:
        if np.shape(other) not in (weight.shape, weight.shape[1:]):
            raise BadInput(f"inputs of shape {np.shape(other)} for a matrix {weight.shape}")
    low, high, third = (np.broadcast_to(a, weight.shape).astype(np.float64) for a in others)
    return low, high, third
