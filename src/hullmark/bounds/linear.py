"""Backward linear bounds: DeepPoly, CROWN, and what a dual ascent needs of them.

A backward pass starts from linear functions of node values and substitutes, node by node
towards the input, each value by the line that keeps a lower bound [CROWN], [DeepPoly]; at the
input the box decides. `start` and every pass concern *lower* bounds; an upper bound is the
lower bound of the negated function.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hullmark.bounds.kernels import DenseKernel
from hullmark.bounds.relaxation import Relaxation, Stopped
from hullmark.bounds.rounding import certain, down

# Coefficients that one pass may hold at a time, in numbers; it bounds the memory of a pass.
CHUNK = 400_000


@dataclass(frozen=True, eq=False)
class Dual:
    """Free choices of a backward pass; any values within their ranges are sound.

    `slopes[i]`: lower slopes of rectifier i, `(B|1, Q|1, *shape)`, between its two slopes where
    unstable and the exact slope where stable. `push[j]`: signed multipliers of splits at
    pre-activation j, same shape: `+beta` for a split `z >= 0`, `-beta` for `z <= 0`. `gamma[p]`
    `(B|1, Q, rows)`, at least 0: multipliers of the joint rows of the relaxation's pool p.
    """

    slopes: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    push: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    gamma: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])


FIXED = Dual()


@dataclass(frozen=True, eq=False)
class Pass:
    """What a backward pass found.

    `lower` `(B, Q)`: sound lower bounds. `coefficients[i]`: the coefficient on the output of
    nonlinear node i; `input` `(B, Q, n)` and `constant` `(B, Q)`: the linear lower bound over
    the input, `constant + input @ x`, up to `slack` `(B, Q)` of rounding.
    """

    lower: Tensor
    coefficients: dict[int, Tensor]
    input: Tensor
    constant: Tensor
    top: int


def backward(
    relaxation: Relaxation,
    start: Mapping[int, Tensor],
    constant: Tensor,
    dual: Dual = FIXED,
    record: bool = False,
) -> Pass:
    """Lower bounds of `constant + sum_j start[j] . value_j` over each domain.

    Arguments:
        relaxation: built up to the last node in `start`.
        start: coefficients `(B|1, Q, *shape)` per node.
        constant: `(B|1, Q)`, rounded down.
        dual: slopes, and multipliers of splits and of joint rows.
        record: keep the coefficients at the nonlinear nodes (for `primal`).

    Trust: `lower` holds in real arithmetic for every point of the domain that meets its splits;
    minus infinity where the range of float was left.
    """
    nodes = relaxation.program.network.nodes
    batch = relaxation.batch
    pending = {i: a.expand(max(len(a), 1), *a.shape[1:]) for i, a in start.items()}
    kept: dict[int, Tensor] = {}
    constant = constant.expand(batch, -1)

    def contribute(j: int, part: Tensor) -> None:
        pending[j] = pending[j] + part if j in pending else part

    for key, gamma in dual.gamma.items():
        # A valid row is at most 0; whatever of it is added keeps a lower bound.
        pool = relaxation.pools[key]
        constant = constant - gamma @ pool.rhs - gamma @ relaxation.pool_charge(key)
        for j, part in pool.shares(gamma):
            contribute(j, part)
    owed, top = set(pending), max(pending)
    for i in range(top, 0, -1):
        a = pending.pop(i, None)
        push = dual.push.get(i)
        if push is not None and a is not None:
            a = a - push
            if relaxation.charged:
                constant = constant - dot(push.abs(), relaxation.pay(i))
        if a is None:
            continue
        kernel, node = relaxation.program.kernels[i], nodes[i]
        if kernel is not None:
            if kernel.bias is not None:
                constant = constant + dot(a, kernel.bias.unsqueeze(0))
            charge = relaxation.charge.get(i)
            if charge is not None and i in owed:
                constant = constant - dot(a.abs(), charge)
            for j, part in zip(node.inputs, kernel.transpose(a.flatten(0, 1)), strict=True):
                contribute(j, part.reshape(*a.shape[:2], *nodes[j].shape))
                owed.add(j)
        else:
            if record:
                kept[i] = a
            gain, parts = _substitute(relaxation, i, a, dual)
            constant = constant + gain
            for j, part in zip(node.inputs, parts, strict=True):
                contribute(j, part)
    a = pending.get(0)
    if a is None:
        queries = next(iter(start.values())).shape[1]
        a = relaxation.lower.new_zeros(1, queries, *nodes[0].shape)
    if relaxation.charged:
        constant = constant - relaxation.lost
    lower = constant + _concretise(relaxation, a)
    return Pass(certain(down(lower)), kept, a.flatten(2), constant, top)


def _substitute(
    relaxation: Relaxation, i: int, a: Tensor, dual: Dual
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One nonlinear node: constant gained and the coefficients on its inputs."""
    above, below = a.clamp(min=0), a.clamp(max=0)
    if i in relaxation.products:
        lx, ly, lo, ux, uy, uo = relaxation.products[i]
        lo, uo = _charged(relaxation, i, lo, uo)
        gain = dot(above, lo) + dot(below, uo)
        return gain, (
            above * lx.unsqueeze(1) + below * ux.unsqueeze(1),
            above * ly.unsqueeze(1) + below * uy.unsqueeze(1),
        )
    lines = relaxation.lines[i]
    lo, uo = _charged(relaxation, i, lines.lower_offset, lines.upper_offset)
    gain = dot(below, uo)
    if relaxation.charged or i not in relaxation.program.slopes:
        gain = gain + dot(above, lo)
    slopes = dual.slopes.get(i)
    lower_slope = lines.lower_slope.unsqueeze(1) if slopes is None else slopes
    return gain, (torch.addcmul(below * lines.upper_slope.unsqueeze(1), above, lower_slope),)


def _concretise(relaxation: Relaxation, a: Tensor) -> Tensor:
    at_lower, at_upper = _charged(relaxation, 0, relaxation.lower, relaxation.upper)
    return dot(a.clamp(min=0), at_lower) + dot(a.clamp(max=0), at_upper)


def _charged(relaxation: Relaxation, i: int, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """What node i offers to positive and negative coefficients, less its charge."""
    charge = relaxation.charge.get(i)
    return (lower, upper) if charge is None else (lower - charge, upper + charge)


def dot(a: Tensor, v: Tensor) -> Tensor:
    """`(B, Q)` from `a` `(B|1, Q, *shape)` and `v` `(B|1, *shape)`."""
    a, v = a.flatten(2), v.flatten(1)
    if len(v) == 1:
        return a @ v[0]
    if len(a) == 1:
        return v @ a[0].T
    return torch.bmm(a, v.unsqueeze(2)).squeeze(2)


def primal(relaxation: Relaxation, found: Pass, dual: Dual = FIXED) -> dict[int, Tensor]:
    """The point at which a recorded pass is attained, as node values `(B, Q, *shape)`.

    The input is the corner that the last coefficients choose; every nonlinear value lies on the
    line that the pass used. Its values at the pre-activations are the gradient of the bound by
    slopes and split multipliers, and it approaches an optimum of the relaxation.
    """
    program = relaxation.program
    nodes = program.network.nodes
    batch, queries = found.lower.shape
    a = found.input.reshape(-1, queries, *nodes[0].shape)
    corner = torch.where(a > 0, relaxation.lower.unsqueeze(1), relaxation.upper.unsqueeze(1))
    values = {0: corner.expand(batch, queries, *nodes[0].shape)}
    for i in range(1, found.top + 1):
        kernel, node = program.kernels[i], nodes[i]
        if any(j not in values for j in node.inputs):
            continue
        if kernel is not None:
            flat = kernel.forward(*(values[j].flatten(0, 1) for j in node.inputs))
            if kernel.bias is not None:
                flat = flat + kernel.bias
            values[i] = flat.reshape(batch, queries, *node.shape)
        elif i in found.coefficients and i in relaxation.lines:
            z, lines = values[node.inputs[0]], relaxation.lines[i]
            slopes = dual.slopes.get(i)
            lower_slope = lines.lower_slope.unsqueeze(1) if slopes is None else slopes
            low = torch.addcmul(lines.lower_offset.unsqueeze(1), z, lower_slope)
            high = torch.addcmul(lines.upper_offset.unsqueeze(1), z, lines.upper_slope.unsqueeze(1))
            values[i] = torch.where(found.coefficients[i] > 0, low, high)
        elif i in found.coefficients:
            x, y = (values[j] for j in node.inputs)
            lx, ly, lo, ux, uy, uo = (p.unsqueeze(1) for p in relaxation.products[i])
            values[i] = torch.where(
                found.coefficients[i] > 0, lx * x + ly * y + lo, ux * x + uy * y + uo
            )
    return values


def seed(
    relaxation: Relaxation, node: int, neurons: Tensor, sign: int | Tensor
) -> tuple[dict[int, Tensor], Tensor]:
    """Start of a pass for `sign * value[neurons]` of one node: coefficients and constant.

    `neurons`: flat indices, `(Q,)` for all domains alike or `(B, Q)`; `sign`: 1 or -1 for all, or
    one of them for each query, `(Q,)`.
    """
    program = relaxation.program
    signs = torch.as_tensor(sign, dtype=program.dtype, device=program.device)
    signs = signs.expand(neurons.shape[-1])
    kernel, item = program.kernels[node], program.network.nodes[node]
    if isinstance(kernel, DenseKernel) and len(item.shape) == 1:
        rows = signs.unsqueeze(1) * kernel.weight[neurons]
        charge = relaxation.charge.get(node)
        constant = torch.zeros(1, 1, dtype=program.dtype, device=program.device)
        if kernel.bias is not None:
            constant = signs * kernel.bias[neurons].reshape(-1, neurons.shape[-1])
        if charge is not None:
            offset = charge.gather(1, neurons) if neurons.dim() == 2 else charge[:, neurons]
            constant = down(constant - offset)
        constant = constant.expand(-1, neurons.shape[-1])
        return {item.inputs[0]: rows if neurons.dim() == 2 else rows.unsqueeze(0)}, constant
    index = neurons.reshape(-1, neurons.shape[-1])
    unit_rows = torch.zeros(*index.shape, item.size, dtype=program.dtype, device=program.device)
    unit_rows.scatter_(2, index.unsqueeze(2), signs.reshape(1, -1, 1).expand(*index.shape, 1))
    constant = torch.zeros(1, index.shape[1], dtype=program.dtype, device=program.device)
    return {node: unit_rows.reshape(*index.shape, *item.shape)}, constant


def bound_neurons(
    relaxation: Relaxation, node: int, neurons: Tensor, dual: Dual = FIXED
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds, each shaped `(B, Q)`, of chosen neurons of one node.

    `neurons` as in `seed`. Runs in pieces that fit into memory.
    """
    relaxation.advance(node)
    largest = max(n.size for n in relaxation.program.network.nodes[: node + 1])
    piece = max(1, CHUNK // (relaxation.batch * largest))
    lower: list[Tensor] = []
    upper: list[Tensor] = []
    for part in torch.split(neurons, piece, dim=-1):
        if relaxation.stop():
            raise Stopped
        lower.append(backward(relaxation, *seed(relaxation, node, part, 1), dual).lower)
        upper.append(-backward(relaxation, *seed(relaxation, node, part, -1), dual).lower)
    return torch.cat(lower, dim=1), torch.cat(upper, dim=1)


def propagate(relaxation: Relaxation, upto: int | None = None, sieve: bool = False) -> None:
    """Bound every pre-activation in order by backward passes (DeepPoly / CROWN).

    Arguments:
        relaxation: takes the bounds in.
        upto: the last pre-activation to bound; all if None.
        sieve: leave neurons whose sign intervals already settle to those intervals, and give
            the others the better of both; for searches, which want no method pure.
    """
    program = relaxation.program
    for j in program.pre_activations:
        if j == 0 or j in relaxation.bounds:
            continue
        if upto is not None and j > upto:
            return
        relaxation.advance(j)
        every = torch.arange(program.network.nodes[j].size, device=program.device)
        shape = (relaxation.batch, *program.network.nodes[j].shape)
        if not sieve:
            lower, upper = bound_neurons(relaxation, j, every)
            relaxation.set_bounds(j, lower.reshape(shape), upper.reshape(shape))
            continue
        relaxation.set_bounds(j, *relaxation.interval(j))
        neurons = unstable_neurons(relaxation, j)
        if len(neurons):
            relaxation.refine(j, neurons, *bound_neurons(relaxation, j, neurons))


def unstable_neurons(relaxation: Relaxation, node: int) -> Tensor:
    """Flat indices of the neurons of a pre-activation that no domain's bounds make affine."""
    program = relaxation.program
    lower, upper = relaxation.bounds[node]
    readers = [i for i in program.network.consumers[node] if i in program.nonlinear]
    if all(i in program.slopes for i in readers):
        wanted = (lower < 0) & (upper > 0)
    else:
        wanted = upper > lower
    return wanted.flatten(1).any(dim=0).nonzero().squeeze(1)
