"""Pre-activation bounds by mixed-integer programs: the solver's word, which nothing confirms."""

import math

import numpy as np

from hullmark.bounds.relaxation import Relaxation
from hullmark.encode import Encoding, Query, encode
from hullmark.errors import Unsupported
from hullmark.lp.highs import unverified_integer_bound
from hullmark.lp.program import Indices, Program, Sparse, Vector


def unverified_milp_bounds(
    relaxation: Relaxation, node: int, neurons: Indices, seconds: float = math.inf
) -> tuple[Vector, Vector]:
    """What a mixed-integer solver says about neurons of a pre-activation [Tjeng].

    For tables of what such refinement would give (kPoly refines the second layer of its fully
    connected networks so); never for a proof.

    Arguments:
        relaxation: of one domain, with bounds of every pre-activation before `node`.
        node: the pre-activation.
        neurons: flat indices, `(Q,)`.
        seconds: for each of the `2 Q` programs.

    Returns:
        Lower and upper bounds, each `(Q,)`; infinite where the solver had none.

    Raises:
        Unsupported: where an unstable rectifier before the node is no ReLU.

    Trust: none. Solvers work with tolerances and hand over no multipliers, so that these bounds
    cannot be recomputed; they must not enter a relaxation whose bounds are to hold.
    """
    encoding = encode(relaxation, node, neurons)
    program, binary = _with_indicators(encoding)
    size = relaxation.program.network.nodes[node].size
    found = np.full((2, len(neurons)), -np.inf)
    for side, sign in enumerate((1, -1)):
        for q, neuron in enumerate(neurons.tolist()):
            goal = Query.neuron(size, neuron, sign).goals(encoding)[0]
            cost = np.concatenate([goal.cost, np.zeros(len(binary))])
            least = unverified_integer_bound(program.with_cost(cost), binary, seconds)
            found[side, q] = least + goal.constant
    return found[0], -found[1]


def _with_indicators(encoding: Encoding) -> tuple[Program, Indices]:
    """The program with a column `d` in {0, 1} for each unstable ReLU: `y <= u d` and
    `y <= z - l (1 - d)`."""
    program = encoding.program
    columns, count = program.matrix.columns, 0
    parts: list[tuple[Sparse, Vector]] = []
    for kinks in encoding.kinks.values():
        if np.any(kinks.negative != 0) or np.any(kinks.positive != 1):
            raise Unsupported("mixed-integer bounds are for ReLUs only")
        every = np.arange(len(kinks.neurons))
        indicator = columns + count + every
        lower, upper = program.lower[kinks.pre], program.upper[kinks.pre]
        above = _rows((kinks.post, 1.0), (indicator, -upper))
        shifted = _rows((kinks.post, 1.0), (kinks.pre, -1.0), (indicator, -lower))
        parts += [(above, np.zeros(len(every))), (shifted, -lower)]
        count += len(every)
    wide = Program(
        cost=np.zeros(columns + count),
        matrix=program.matrix.widened(columns + count),
        row_lower=program.row_lower,
        row_upper=program.row_upper,
        lower=np.concatenate([program.lower, np.zeros(count)]),
        upper=np.concatenate([program.upper, np.ones(count)]),
    )
    for matrix, rhs in parts:
        none = np.full(matrix.rows, -np.inf)
        wide = wide.with_rows(matrix.widened(columns + count), none, rhs)
    return wide, np.arange(columns, columns + count)


def _rows(*terms: tuple[Indices, Vector | float]) -> Sparse:
    """One row for each entry of the index arrays."""
    index = np.stack([column for column, _ in terms], axis=1)
    value = np.stack([np.broadcast_to(v, index.shape[:1]) for _, v in terms], axis=1)
    start = np.arange(0, index.size + 1, len(terms))
    return Sparse(start, index.ravel(), np.ascontiguousarray(value, np.float64).ravel(), 0)
