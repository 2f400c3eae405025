"""The named bounding methods: what each one is, and bounds of cases and outputs by any of them.

A method is used as it is: none borrows a bound from another, except `best`, which says so. All
of them bound a query of an `Objective`, the largest of its rows over a box, from below.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from hullmark.bounds.aims import split_aim
from hullmark.bounds.alpha import Ascent, ascend
from hullmark.bounds.interval import interval
from hullmark.bounds.kernels import compile_affine
from hullmark.bounds.linear import CHUNK, backward, propagate
from hullmark.bounds.objective import Objective, objective_of, output_objective
from hullmark.bounds.optimised import propagate_optimised
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Interval, Relaxation, never
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.bounds.zonotope import MEMORY, zonotope
from hullmark.errors import BadInput
from hullmark.network import ops
from hullmark.network.graph import Network, Node
from hullmark.network.ops import Array
from hullmark.spec.property import Case
from hullmark.spec.sets import Box

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "ibp": "interval bound propagation",
        "deepz": "zonotopes, a noise symbol for each unstable neuron",
        "deeppoly0": "backward linear bounds, lower line of an unstable ReLU: 0",
        "deeppoly1": "backward linear bounds, lower line of an unstable ReLU: its input",
        "deeppoly": "backward linear bounds, the lower line that leaves the smaller area",
        "crown": "another name of deeppoly",
        "alpha": "backward linear bounds with all lower slopes optimised (alpha-CROWN)",
        "best": "for every pre-activation and query the best of ibp, deepz and deeppoly",
    }
)

RULES = {"deeppoly0": "zero", "deeppoly1": "one", "deeppoly": "area", "crown": "area"}
FORWARD: Mapping[str, Callable[[Program, Tensor, Tensor], dict[int, Interval]]] = MappingProxyType(
    {"ibp": interval, "deepz": zonotope}
)
# Steps of the ascents of "alpha": for each pre-activation, and for the queries.
INTERMEDIATE = Ascent(steps=20)
FINAL = Ascent(steps=60)


def bound_cases(
    network: Network,
    box: Box,
    cases: tuple[Case, ...],
    method: str,
    device: str = "cpu",
    dtype: str = "float64",
) -> Array:
    """Lower bounds of the margins of cases over one box, by one method and no search.

    The margin of a case at a point is `max_i(row_i - bound_i)` over its constraints.

    Arguments:
        network: without a final softmax.
        box: of inputs; the boxes of the cases themselves are not looked at.
        cases: over the network's inputs and outputs.
        method: one of `METHODS`.
        device, dtype: where to compute, and in "float64" or "float32".

    Returns:
        float64, shape `(len(cases),)`; minus infinity where nothing is known, and where a case
        has no constraints.

    Raises:
        BadInput: for an unknown method, precision or device.
        Unsupported: for an operation that the method cannot bound on this box.

    Trust: every bound holds in real arithmetic, rounding charged outwards.
    """
    check_method(method)
    if dtype not in ("float64", "float32"):
        raise BadInput(f"the precision must be float64 or float32, not {dtype}")
    program = Program.compile(network, device, getattr(torch, dtype))
    if not cases:
        return np.zeros(0)
    lower, upper = program.enclosing(box.lower, box.upper)
    objective = objective_of(program, cases)
    found = bound_margins(program, lower.unsqueeze(0), upper.unsqueeze(0), objective, method)
    return found[0].double().cpu().numpy()


def bound_outputs(
    program: Program, lower: Tensor, upper: Tensor, method: str
) -> tuple[Tensor, Tensor]:
    """Bounds of every output over each box, by one method and no search.

    Arguments:
        program: the compiled network.
        lower, upper: boxes `(B, input_size)`, of the program's device and precision.
        method: one of `METHODS`.

    Returns:
        Lower and upper bounds, each `(B, output_size)`.

    Raises and trust as for `bound_cases`.
    """
    found = bound_margins(program, lower, upper, output_objective(program), method)
    low, negated = found.chunk(2, dim=1)
    return low, -negated


@faithful_arithmetic()
@torch.no_grad()
def bound_margins(
    program: Program,
    lower: Tensor,
    upper: Tensor,
    objective: Objective,
    method: str,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Lower bounds `(B, Q)` of every query of an objective over each box.

    Boxes are taken in pieces that fit into memory.

    Arguments:
        program: the compiled network.
        lower, upper: boxes `(B, input_size)`, of the program's device and precision.
        objective: the same queries for all boxes (batch 1).
        method: one of `METHODS`.
        stop: ends the ascents of "alpha" early; the others are done when they are.

    Raises and trust as for `bound_cases`.
    """
    check_method(method)
    if method == "best":
        bound = _best
    elif method in FORWARD:
        program, bound = _with_rows(program, objective), _forward
    else:
        bound = partial(_optimised, stop=stop) if method == "alpha" else _linear
    piece = _boxes_at_once(program, method)
    pieces = zip(lower.split(piece), upper.split(piece), strict=True)
    found = torch.cat([bound(program, low, high, objective, method) for low, high in pieces])
    # A bound that left the range of float, in either direction, says nothing.
    return torch.where(found.isfinite(), found, -torch.inf)


def check_method(method: str) -> None:
    """Reject what is not one of `METHODS`.

    Raises:
        BadInput: listing the known ones.
    """
    if method not in METHODS:
        raise BadInput(f"unknown method {method!r}; known are {', '.join(METHODS)}")


def _boxes_at_once(program: Program, method: str) -> int:
    sizes = [node.size for node in program.network.nodes]
    if method in ("deepz", "best"):
        symbols = sizes[0] + sum(sizes[i] for i in program.nonlinear)
        item = torch.finfo(program.dtype).bits // 8
        return max(1, MEMORY // (2 * symbols * max(sizes) * item))
    return max(1, CHUNK // (8 * sum(sizes)))


def _linear(
    program: Program, lower: Tensor, upper: Tensor, objective: Objective, method: str
) -> Tensor:
    relaxation = Relaxation(program, lower, upper, RULES[method])
    propagate(relaxation)
    return bound_by_rows(relaxation, objective)


def bound_by_rows(relaxation: Relaxation, objective: Objective) -> Tensor:
    """For each query the best bound `(B, Q)` of its rows, each by one backward pass.

    Arguments:
        relaxation: with bounds of every pre-activation.
        objective: of batch 1.
    """
    nodes = relaxation.program.network.nodes
    relaxation.advance(len(nodes) - 1)
    single = objective.single()
    piece = max(1, CHUNK // (relaxation.batch * max(n.size for n in nodes)))
    found: list[Tensor] = []
    for k in range(0, single.y.shape[1], piece):
        part = single.select(slice(k, k + piece))
        start, constant = part.mixed(relaxation, torch.ones_like(part.bound))
        found.append(backward(relaxation, start, constant).lower)
    return _largest(torch.cat(found, dim=1), objective)


def _largest(rows: Tensor, objective: Objective) -> Tensor:
    """Each query's best bound `(B, Q)`, from one bound for each row `(B, Q * m)`."""
    known = objective.used.flatten(1) & ~rows.isnan()
    rows = torch.where(known, rows, -torch.inf)
    return rows.unflatten(1, (-1, objective.rows)).amax(dim=2)


def _optimised(
    program: Program,
    lower: Tensor,
    upper: Tensor,
    objective: Objective,
    method: str,
    stop: Callable[[], bool],
) -> Tensor:
    relaxation = Relaxation(program, lower, upper)
    propagate_optimised(relaxation, replace(INTERMEDIATE, stop=stop))
    return ascend_queries(relaxation, objective, replace(FINAL, stop=stop))


def ascend_queries(relaxation: Relaxation, objective: Objective, ascent: Ascent) -> Tensor:
    """Optimised bounds `(B, Q)`; a query of many rows is bounded row by row and as a mix.

    Arguments:
        relaxation: with bounds of every pre-activation.
        objective: of batch 1, in pieces that fit into memory.
        ascent: of each query.
    """
    relaxation.advance(len(relaxation.program.network.nodes) - 1)
    best = _largest(_ascend_pieces(relaxation, objective.single(), ascent), objective)
    if objective.rows == 1:
        return best
    mixed = _ascend_pieces(relaxation, objective, ascent)
    known = objective.used.any(dim=2) & ~mixed.isnan()
    return torch.maximum(best, torch.where(known, mixed, -torch.inf))


def _ascend_pieces(relaxation: Relaxation, objective: Objective, ascent: Ascent) -> Tensor:
    program = relaxation.program
    sizes = [n.size for n in program.network.nodes]
    rows = sum(len(pool.rhs) for pool in relaxation.pools.values())
    held = max(4 * (sum(sizes[i] for i in program.slopes) + rows), *sizes)
    piece = max(1, CHUNK // (relaxation.batch * held))
    # Without slopes and without a choice of rows there is nothing to climb.
    steps = ascent.steps if program.slopes or objective.rows > 1 else 0
    shorter = replace(ascent, steps=steps)
    parts = (part for _, part in split_aim(objective, piece))
    return torch.cat([ascend(relaxation, part, shorter).lower for part in parts], dim=1)


def _forward(
    program: Program, lower: Tensor, upper: Tensor, objective: Objective, method: str
) -> Tensor:
    """The bounds of the last node of a program made by `_with_rows`."""
    found = FORWARD[method](program, lower, upper)
    return _largest(found[len(program.network.nodes) - 1][0], objective)


def _with_rows(program: Program, objective: Objective) -> Program:
    """The program followed by `rows . (y, x) - bound`, so that a forward domain bounds the rows
    by all that it knows of how the outputs and inputs depend on each other."""
    single = objective.single()
    weight = single.y[0, :, 0]
    nodes, kernels = list(program.network.nodes), list(program.kernels)

    def append(op: ops.Affine, *inputs: int) -> int:
        shapes = [nodes[j].shape for j in inputs]
        nodes.append(Node(op, inputs, op.shape(*shapes), "rows"))
        kernels.append(compile_affine(op, shapes, program.device, program.dtype))
        return len(nodes) - 1

    values = append(ops.Reshape((nodes[-1].size,)), len(nodes) - 1)
    if single.x is not None:
        weight = torch.cat([weight, single.x[0, :, 0]], dim=1)
        inputs = append(ops.Reshape((nodes[0].size,)), 0)
        values = append(ops.Concat(0), values, inputs)
    rows = weight.double().cpu().numpy()
    bound = single.bound[0, :, 0].double().cpu().numpy()
    append(ops.Dense(rows, -bound, ops.Roundoff(objective.roundoff)), values)
    return Program(Network(tuple(nodes)), tuple(kernels), program.device, program.dtype)


def _best(
    program: Program, lower: Tensor, upper: Tensor, objective: Objective, method: str
) -> Tensor:
    """Backward bounds over pre-activation bounds met with those of intervals and zonotopes."""
    extended = _with_rows(program, objective)
    forward = [bound(extended, lower, upper) for bound in FORWARD.values()]
    relaxation = Relaxation(program, lower, upper)
    for j in program.pre_activations:
        if j == 0:
            continue
        propagate(relaxation, upto=j)
        low, high = relaxation.bounds[j]
        for found in forward:
            low, high = torch.maximum(low, found[j][0]), torch.minimum(high, found[j][1])
        relaxation.set_bounds(j, low, high)
    margins = bound_by_rows(relaxation, objective)
    for found in forward:
        rows = found[len(extended.network.nodes) - 1][0]
        margins = torch.maximum(margins, _largest(rows, objective))
    return margins
