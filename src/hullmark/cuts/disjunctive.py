"""Cuts of `M_k`: ReLUs of a layer together with everything the layer reads [MN-v1 §3].

Where the signs of a group of ReLUs are fixed, the graph of the group over a polytope is a polytope
again. A cut is an inequality that holds on all `2^k` of them: its coefficients and one set of
multipliers for each sign pattern are the unknowns of one linear program [Balas79], whose objective
is how far the cut passes from a given point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from hullmark.cuts.generator import (
    CutGenerator,
    Multipliers,
    Neurons,
    pre_bounds,
    signed_bounds,
    with_values,
)
from hullmark.errors import BadInput
from hullmark.lp.highs import solve
from hullmark.lp.program import Indices, Program, Vector
from hullmark.lp.safe import safe_bound
from hullmark.rows import Combined, Kink, Name, Row

DEPTH = 1e-6
"""A cut is kept if it passes the point at this distance, in units of the box, or more."""

_NEGLIGIBLE = 1e-9


@dataclass(frozen=True, eq=False)
class Cut:
    """`w . columns + y . posts <= rhs`.

    `w` `(d,)` and `y` `(k,)` are float64 numbers that float32 can represent, the largest 1.
    """

    w: Vector
    y: Vector
    rhs: float
    multipliers: Multipliers

    def over(self, rows: Indices) -> "Cut":
        """The cut with the multipliers of some rows of the program only."""
        kept = Multipliers(self.multipliers.rows[:, rows], self.multipliers.equations)
        return Cut(self.w, self.y, self.rhs, kept)


def disjunctive_cut(
    polytope: Program, neurons: Neurons, w: Vector, y: Vector, seconds: float = np.inf
) -> Cut | None:
    """A deepest cut of `conv {(w, y) : w in the polytope}`, if the point lies outside.

    The distance is the largest difference of a coordinate in units of its range over the box.

    Arguments:
        polytope: the rows and the finite column bounds that hold for `w`; its cost is not read.
        neurons: the group.
        w, y: the point, `(d,)` and `(k,)`.
        seconds: time limit of the linear program.

    Returns:
        None if no cut is found that is proved to pass the point at `DEPTH`.

    Raises:
        BadInput: if the shapes do not fit, or a column has no finite bounds.

    Trust: the cut holds in real arithmetic; its right-hand side is proved by `proven_rhs`. That
    there is none where None is returned is not proved.
    """
    _check(polytope, neurons, w, y)
    bounds = pre_bounds(polytope, neurons)
    scale = np.concatenate([polytope.upper - polytope.lower, np.maximum(bounds[1], 0.0)])
    scale = np.where(scale > 0, scale, 1.0)
    at = np.concatenate([w, y])
    generator = CutGenerator(polytope, neurons, bounds)
    solution = solve(generator.program(at, scale), seconds)
    if solution is None or not np.all(np.isfinite(solution.point)):
        return None
    coefficients, multipliers = generator.read(solution.point)
    size = np.abs(coefficients)
    if float(size @ scale) < _NEGLIGIBLE:
        return None
    top = float(size.max())
    coefficients = np.where(size * scale > _NEGLIGIBLE, coefficients / top, 0.0)
    # Coefficients of float32 so that a row is the same one in both precisions.
    coefficients = coefficients.astype(np.float32).astype(np.float64)
    multipliers = Multipliers(multipliers.rows / top, multipliers.equations / top)
    on_w, on_y = coefficients[: len(w)], coefficients[len(w) :]
    rhs = proven_rhs(polytope, neurons, (on_w, on_y), multipliers)
    depth = float(coefficients @ at) - rhs
    if not depth >= DEPTH * float(np.abs(coefficients) @ scale):
        return None
    return Cut(on_w, on_y, rhs, multipliers)


def proven_rhs(
    polytope: Program,
    neurons: Neurons,
    coefficients: tuple[Vector, Vector],
    multipliers: Multipliers,
) -> float:
    """A number that `w . columns + y . posts` does not exceed, by weak duality for each pattern.

    Arguments:
        coefficients: on the columns `(d,)` and on the post-activations `(k,)`.
        multipliers: of any value; what they leave over is charged against the columns' bounds and
            the bounds that the signs leave to the pre-activations.

    Returns:
        Infinity where nothing is proved.

    Trust: holds in real arithmetic, whatever the multipliers.
    """
    bounds = pre_bounds(polytope, neurons)
    k = len(neurons.bias)
    matrix = polytope.matrix.widened(polytope.matrix.columns + k).over(with_values(neurons.weight))
    row_lower = np.concatenate([polytope.row_lower, neurons.bias])
    row_upper = np.concatenate([polytope.row_upper, neurons.bias])
    proved: list[float] = []
    for index, signs in enumerate(product((False, True), repeat=k)):
        positive = np.array(signs)
        low, high = signed_bounds(bounds, positive)
        part = Program(
            -np.concatenate([coefficients[0], coefficients[1] * positive]),
            matrix,
            row_lower,
            row_upper,
            np.concatenate([polytope.lower, low]),
            np.concatenate([polytope.upper, high]),
        )
        duals = np.concatenate([multipliers.rows[index], multipliers.equations[index]])
        proved.append(-safe_bound(part, -duals))
    return max(proved)


@dataclass(frozen=True, eq=False)
class Sources:
    """The rows that a program and a group stand for.

    `columns`: the name of each column; `kinks`: of the group; `below` and `above`: for each row of
    the program the row that is its lower and its upper side, None where the side is infinite or
    holds by itself; `definitions`: for each neuron the rows `z - weight @ w <= bias` and
    `weight @ w - z <= -bias`, None where `z` is a column; `intervals`: bounds of single values.
    """

    columns: Sequence[Name]
    kinks: Sequence[Kink]
    below: Sequence[Row | None]
    above: Sequence[Row | None]
    definitions: Sequence[tuple[Row, Row] | None]
    intervals: Sequence[Row]


def row_of_cut(cut: Cut, sources: Sources) -> Row:
    """The cut with names and its derivation.

    Trust: none is added; `Row.derived` says whether the sources prove the right-hand side.
    """
    parents: list[Row] = list(sources.intervals)
    place: dict[int, int] = {}
    patterns: list[tuple[tuple[int, float], ...]] = []
    for rows, equations in zip(cut.multipliers.rows, cut.multipliers.equations, strict=True):
        chosen: list[tuple[int, float]] = []
        used = [
            (sources.above if rows[i] > 0 else sources.below, int(i), abs(float(rows[i])))
            for i in np.flatnonzero(rows)
        ]
        picked = [(side[i], weight) for side, i, weight in used]
        for pair, weight in zip(sources.definitions, equations.tolist(), strict=True):
            picked.append((pair[0 if weight > 0 else 1] if pair else None, abs(weight)))
        for row, weight in picked:
            if row is None or weight == 0:
                continue
            if id(row) not in place:
                place[id(row)] = len(parents)
                parents.append(row)
            chosen.append((place[id(row)], weight))
        patterns.append(tuple(chosen))
    posts = [kink.post for kink in sources.kinks]
    pairs = zip((*sources.columns, *posts), (*cut.w.tolist(), *cut.y.tolist()), strict=True)
    terms = tuple((name, c) for name, c in pairs if c)
    combined = Combined(tuple(parents), tuple(sources.kinks), tuple(patterns))
    return Row(terms, cut.rhs, frozenset(), combined)


def _check(polytope: Program, neurons: Neurons, w: Vector, y: Vector) -> None:
    columns, k = polytope.matrix.columns, len(neurons.bias)
    if neurons.weight.shape != (k, columns) or len(w) != columns or len(y) != k:
        shapes = f"weights {neurons.weight.shape}, point {len(w)} and {len(y)}"
        raise BadInput(f"{k} neurons over {columns} columns: {shapes}")
    box = np.concatenate([polytope.lower, polytope.upper])
    if k < 1 or not np.all(np.isfinite(box)):
        raise BadInput("a disjunctive cut needs neurons, and columns with finite bounds")
