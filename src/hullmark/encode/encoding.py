"""A network over one domain as a linear program, and the way back.

Columns are the inputs, the values of matrix operations that something reads, and the values of
nonlinear nodes that are not affine on the domain. Everything else is a form of columns with
coefficients 1 and -1, so that every entry of the program is a coefficient of the network, a
slope, or a coefficient of a row: none is rounded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hullmark.encode.inequalities import Inequalities
from hullmark.errors import BadInput
from hullmark.lp.program import Indices, Program, Sparse, Vector, gathered
from hullmark.lp.safe import sum_down
from hullmark.network import ops
from hullmark.network.graph import Network

_UNIT = 2.0**-53
_TINY = 2.0**-1000


class Form(NamedTuple):
    """The values of a node over the columns: `|value - matrix @ columns - constant| <= error`.

    Where not `known` `(size,)` the program leaves the value out, and the row is empty. Constant
    and error are 0 but for an affine top node.
    """

    matrix: Sparse
    constant: Vector
    error: Vector
    known: NDArray[np.bool_]


class Kinks(NamedTuple):
    """The unstable neurons of a rectifier and where they stand in the program.

    `pre` and `post` are columns, `at_negative` and `at_positive` the rows that keep `post` on
    its side of either slope; `at_negative` is -1 where the bound of the column does.
    """

    neurons: Indices
    pre: Indices
    post: Indices
    at_negative: Indices
    at_positive: Indices
    negative: Vector
    positive: Vector


class Goal(NamedTuple):
    """A linear function of the values that is nowhere below `cost . columns + constant`."""

    cost: Vector
    constant: float


@dataclass(frozen=True, eq=False)
class Encoding:
    """The linear program of a network up to the node `top`, a form of columns if it is affine.

    `program` has no objective; `forms`, `bounds` and `kinks` are per node. The first columns are
    the inputs. `bounds` are those of the relaxation that was encoded.

    Trust: in real arithmetic the values of every input in the domain are a feasible point.
    """

    network: Network
    top: int
    program: Program
    forms: Mapping[int, Form]
    bounds: Mapping[int, tuple[Vector, Vector]]
    kinks: Mapping[int, Kinks]

    @property
    def closed(self) -> bool:
        """Whether the top is no more than a form, which rows cannot read."""
        return isinstance(self.network.nodes[self.top].op, ops.Affine)

    @property
    def columns(self) -> int:
        """The number of columns."""
        return self.program.matrix.columns

    def goal(self, y: Vector, x: Vector | None = None, level: float = 0.0) -> Goal:
        """`y . top + x . input - level` over the columns, rounded downwards.

        Arguments:
            y: coefficients of the values of the top node, flat.
            x: coefficients of the inputs, if any.
            level: what is subtracted.

        Raises:
            BadInput: if a value is read that the program leaves out.
        """
        form = self.forms[self.top]
        picked = np.flatnonzero(y)
        if not np.all(form.known[picked]):
            raise BadInput(f"the program leaves out a value of node {self.top} that is asked for")
        part, weight = form.matrix.take(picked), y[picked]
        reach = self.reach()
        terms = part.value * weight[part.row]
        cost = gathered(part.index, terms, self.columns)
        size = gathered(part.index, np.abs(terms), self.columns)
        count = np.bincount(part.index, minlength=self.columns)
        if x is not None:
            cost[: len(x)] += x
            size[: len(x)] += np.abs(x)
            count[: len(x)] += 1
        # A product of two floats is exact where one is 1 or -1, a sum of one term is exact.
        plain = bool(np.all(np.abs(weight) == 1)) or bool(np.all(np.abs(part.value) == 1))
        rate = np.where((count <= 1) & plain, 0.0, 4 * (count + 2) * _UNIT)
        lost = rate * size + np.where(rate > 0, _TINY * (count + 1), 0.0)
        charged = np.where(lost > 0, -np.nextafter(lost * reach, np.inf), 0.0)
        offsets = weight * form.constant[picked]
        error = np.abs(weight) * form.error[picked] + 4 * _UNIT * np.abs(offsets)
        error = np.where(error > 0, error * (1 + 8 * _UNIT) + _TINY, 0.0)
        error = np.where(np.abs(weight) == 1, form.error[picked], error)
        return Goal(cost, sum_down(np.concatenate([offsets, -error, charged, [-level]])))

    def reach(self) -> Vector:
        """The largest magnitude of every column."""
        return np.maximum(np.abs(self.program.lower), np.abs(self.program.upper))

    def minimum(self, goals: Sequence[Goal]) -> tuple[Program, float]:
        """The program whose optimum, plus a constant, bounds the largest of the goals from below.

        Several goals take one more column, which is at least each of them.

        Trust: the optimum plus the constant is at most the largest of the goals at every point;
        the constant is to be added rounding down.
        """
        if len(goals) == 1:
            return self.program.with_cost(goals[0].cost), goals[0].constant
        costs = np.stack([goal.cost for goal in goals])
        constants = np.array([goal.constant for goal in goals])
        sizes = np.where(costs == 0, 0.0, np.abs(costs) * self.reach()).sum(axis=1)
        largest = float((sizes + np.abs(constants)).max()) * (1 + 1e-9) + 1
        largest = largest if np.isfinite(largest) else np.inf
        program, t = self.program, self.columns
        rows = Sparse.of(np.concatenate([-costs, np.ones((len(goals), 1))], axis=1))
        wide = replace(
            program,
            cost=np.concatenate([np.zeros(t), [1.0]]),
            matrix=program.matrix.widened(t + 1),
            lower=np.concatenate([program.lower, [-largest]]),
            upper=np.concatenate([program.upper, [largest]]),
        )
        return wide.with_rows(rows, constants, np.full(len(goals), np.inf)), 0.0

    def rows(self, inequalities: Inequalities) -> tuple[Sparse, Vector]:
        """Inequalities as rows over the columns, with their right-hand sides.

        Values that the program leaves out are taken at their bounds.

        Raises:
            BadInput: for a row that reads an affine top node or one after it.

        Trust: implied by the inequalities and the bounds; right-hand sides are rounded up.
        """
        start = inequalities.start
        row = np.repeat(np.arange(len(inequalities)), np.diff(start))
        parts: list[Sparse] = []
        order: list[Indices] = []
        rhs = inequalities.rhs.copy()
        for j in np.unique(inequalities.node).tolist():
            if j not in self.forms or (self.closed and j == self.top):
                raise BadInput(f"a row reads node {j}, which the program does not encode")
            terms = np.flatnonzero(inequalities.node == j)
            neuron, factor = inequalities.neuron[terms], inequalities.coefficient[terms]
            form, (lower, upper) = self.forms[j], self.bounds[j]
            missing = ~form.known[neuron]
            ends = np.where(factor > 0, lower[neuron], upper[neuron])
            for t in np.flatnonzero(missing & (factor != 0)):
                least = np.nextafter(factor[t] * ends[t], -np.inf)
                rhs[row[terms[t]]] = np.nextafter(rhs[row[terms[t]]] - least, np.inf)
            picked = form.matrix.take(neuron)
            value = picked.value * factor[picked.row]
            parts.append(replace(picked, value=value))
            order.append(row[terms])
        if not parts:
            return Sparse.zeros(len(inequalities), self.columns), rhs
        at = np.concatenate([o[p.row] for o, p in zip(order, parts, strict=True)])
        index = np.concatenate([p.index for p in parts])
        value = np.concatenate([p.value for p in parts])
        return Sparse.placed(at, index, value, (len(inequalities), self.columns)), rhs

    def values(self, point: Vector) -> dict[int, Vector]:
        """The values, flat, of every node that rows can read, at a point of the program.

        Trust: none; they are as consistent with each other as the point is feasible.
        """
        nodes = self.network.nodes
        found: dict[int, Vector] = {0: point[: nodes[0].size]}
        for i, form in self.forms.items():
            if i == 0 or (self.closed and i == self.top):
                continue
            inputs = (found[j].reshape(1, *nodes[j].shape) for j in nodes[i].inputs)
            op = nodes[i].op
            if isinstance(op, ops.Input | ops.Softmax):
                raise BadInput(f"node {nodes[i].name} cannot be encoded")
            value = np.asarray(op.apply(*inputs), np.float64).ravel()
            if not isinstance(op, ops.Affine):
                columns = form.matrix.times(point[: form.matrix.columns])
                value = np.where(form.known, columns, value)
            found[i] = value
        return found

    def slopes(self, program: Program, duals: Vector) -> dict[int, Vector]:
        """Lower slopes (upper ones, of concave rectifiers) of unstable neurons from multipliers.

        Arguments:
            program: this one's, with an objective and perhaps further rows and columns.
            duals: multipliers of its rows, as a solver returns them.

        Returns:
            For each rectifier `(size,)`, NaN where the multipliers say nothing. With these slopes
            and the multipliers of the joint rows a backward pass attains the optimum.

        Trust: none; any slope between the two is sound.
        """
        reduced = program.cost - program.matrix.transposed_times(duals)
        found: dict[int, Vector] = {}
        for i, kinks in self.kinks.items():
            as_row = kinks.at_negative >= 0
            left = np.abs(np.where(as_row, duals[kinks.at_negative], reduced[kinks.post]))
            right = np.abs(duals[kinks.at_positive])
            slopes = np.full(self.network.nodes[i].size, np.nan)
            with np.errstate(invalid="ignore", divide="ignore"):
                share = right / (left + right)
            slopes[kinks.neurons] = kinks.negative * (1 - share) + kinks.positive * share
            found[i] = slopes
        return found
