"""Separators that read a whole layer: `M_k`, and the hull of each ReLU over its inputs.

Both speak of the columns of an encoding: a column that an equation of the program defines, as all
pre-activations are, is an affine form of earlier columns.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hullmark.cuts.cutloop import CutProgram
from hullmark.cuts.disjunctive import Cut, disjunctive_cut
from hullmark.cuts.generator import Neurons
from hullmark.cuts.naming import Naming, definitions
from hullmark.cuts.proofs import CutProof, NeuronProof
from hullmark.encode import Encoding, Inequalities, Kinks, Proof
from hullmark.errors import BadInput
from hullmark.lp.program import Indices, Program, Sparse, Vector
from hullmark.relax.multivariate import separate_neurons
from hullmark.rows import Value


class _Found(NamedTuple):
    """`sum terms <= rhs`."""

    terms: Sequence[tuple[Value, float]]
    rhs: float
    proof: Proof


class DisjunctiveGroups:
    """Cuts of `M_k` [MN-v1 §3]: a group of ReLUs together with all that their layer reads.

    Arguments:
        program: its rows on what comes before the layer, those that were added included, are the
            set over which the group is relaxed; from now on it keeps them. That set is larger than
            what `M_k` leaves to the layers before while rows of theirs are missing: bounds are
            then weaker than those of `M_k`, also where a cut loop finds nothing violated.
        node: the rectifier.
        groups: flat indices of unstable neurons, `(G, k)`. A cut takes `2^k` copies of all that
            comes before the layer.

    Raises:
        BadInput: if a neuron is not unstable or not a ReLU; names the node.

    Trust: every row holds on the domain if those of the program do.
    """

    def __init__(self, program: CutProgram, node: int, groups: Indices) -> None:
        self._program, self._node = program, node
        encoding = program.encoding
        kinks = _relus(encoding, node)
        place = {neuron: i for i, neuron in enumerate(kinks.neurons.tolist())}
        if not all(neuron in place for neuron in groups.ravel().tolist()):
            name = encoding.network.nodes[node].name
            raise BadInput(f"a group has a neuron of node {name} that is not unstable")
        self._groups = [[place[neuron] for neuron in group] for group in groups.tolist()]
        self._kinks = kinks
        self._rows = definitions(encoding.program)
        self._before = _columns_before(encoding, node)
        program.keep(self._before)

    def __call__(self, values: Mapping[int, Vector]) -> Inequalities:
        """Rows that the values violate, at most one for each group."""
        columns, every = self._before, self._program.naming.columns
        part, rows = _restricted(self._program.model.program, columns)
        names = [every[c] for c in columns.tolist()]
        w = np.array([values[name.node].ravel()[name.neuron] for name in names])
        found: list[_Found] = []
        for group in self._groups:
            pre = np.searchsorted(columns, self._kinks.pre[group])
            posts = [Value(self._node, int(i)) for i in self._kinks.neurons[group]]
            live = self._live(self._kinks.pre[group])
            ones = np.ones(len(group))
            weight = Sparse.placed(np.arange(len(group)), pre, ones, (len(group), len(columns)))
            neurons = Neurons(weight, np.zeros(len(group)), np.searchsorted(columns, live))
            y = np.array([values[self._node].ravel()[post.neuron] for post in posts])
            cut = disjunctive_cut(part, neurons, w, y)
            if cut is not None:
                pairs = zip((*names, *posts), (*cut.w.tolist(), *cut.y.tolist()), strict=True)
                terms = [(name, c) for name, c in pairs if c]
                found.append(_Found(terms, cut.rhs, self._proof(cut, group, rows)))
        return _inequalities(found)

    def _proof(self, cut: Cut, group: list[int], rows: Indices) -> Proof:
        """Of a cut over some rows of the program."""
        naming, kinks = self._program.naming, self._kinks
        pairs = zip(kinks.pre[group].tolist(), kinks.neurons[group].tolist(), strict=True)
        used = np.flatnonzero(np.any(cut.multipliers.rows != 0, axis=0))
        return CutProof(
            naming,
            cut.over(used),
            self._before,
            tuple(naming.kink(pre, Value(self._node, neuron)) for pre, neuron in pairs),
            tuple(self._program.parents(rows[used])),
        )

    def _live(self, pre: Indices) -> Indices:
        """The pre-activations and everything that they are affine forms of."""
        found: set[int] = set()
        waiting: list[int] = pre.tolist()
        matrix = self._program.encoding.program.matrix
        while waiting:
            column = waiting.pop()
            if column in found:
                continue
            found.add(column)
            row = self._rows[column]
            if row >= 0:
                waiting.extend(matrix.index[matrix.start[row] : matrix.start[row + 1]].tolist())
        return np.array(sorted(found), dtype=np.intp)


class NeuronHulls:
    """The hull of each unstable ReLU of a layer over the box of the columns it reads [OptC2V].

    Arguments:
        encoding: the network over one domain.
        node: the rectifier.
        naming: of the encoding, if it is there already.

    Raises:
        BadInput: if the node has unstable neurons that are no ReLUs; names it.

    Trust: every row holds on the domain if the encoding does.
    """

    def __init__(self, encoding: Encoding, node: int, naming: Naming | None = None) -> None:
        kinks, program = _relus(encoding, node), encoding.program
        rows = definitions(program)[kinks.pre]
        chosen = np.flatnonzero(rows >= 0)
        self._posts = [Value(node, int(i)) for i in kinks.neurons[chosen]]
        self._naming = Naming(encoding) if naming is None else naming
        self._pre, self._rows = kinks.pre[chosen], rows[chosen]
        part = program.matrix.take(self._rows)
        width = int(np.diff(part.start).max(initial=1)) - 1
        # Each neuron's columns, with a column of weight 0 where it reads fewer than others. One
        # that it reads twice stays two, since the sum of their weights might be rounded.
        self._weight = np.zeros((len(chosen), width))
        self._columns = np.zeros((len(chosen), width), dtype=np.intp)
        for i, (start, end) in enumerate(pairwise(part.start.tolist())):
            others = start + np.flatnonzero(part.index[start:end] != kinks.pre[chosen[i]])
            self._weight[i, : end - start - 1] = -part.value[others]
            self._columns[i, : end - start - 1] = part.index[others]
        self._bias = program.row_upper[rows[chosen]]
        self._lower, self._upper = program.lower[self._columns], program.upper[self._columns]

    def __call__(self, values: Mapping[int, Vector]) -> Inequalities:
        """Rows that the values violate, at most one for each neuron."""
        y = np.array([values[post.node].ravel()[post.neuron] for post in self._posts])
        names = self._naming.columns
        point = np.zeros(len(names))
        for column in np.unique(self._columns).tolist():
            point[column] = values[names[column].node].ravel()[names[column].neuron]
        deepest = separate_neurons(
            self._weight, self._bias, self._lower, self._upper, point[self._columns], y
        )
        found: list[_Found] = []
        for i, factors, rhs in zip(
            deepest.neuron.tolist(), deepest.x.tolist(), deepest.rhs.tolist(), strict=True
        ):
            used = [(c, x) for c, x in zip(self._columns[i].tolist(), factors, strict=True) if x]
            terms = [(names[column], x) for column, x in used]
            kink = self._naming.kink(int(self._pre[i]), self._posts[i])
            columns = tuple(self._columns[i, self._weight[i] != 0].tolist())
            proof = NeuronProof(self._naming, kink, int(self._rows[i]), columns, terms, rhs)
            found.append(_Found([*terms, (self._posts[i], 1.0)], rhs, proof))
        return _inequalities(found)


def _relus(encoding: Encoding, node: int) -> Kinks:
    kinks = encoding.kinks.get(node)
    if kinks is None or np.any(kinks.negative != 0) or np.any(kinks.positive != 1):
        raise BadInput(f"node {encoding.network.nodes[node].name} is not encoded as ReLUs")
    return kinks


def _columns_before(encoding: Encoding, node: int) -> Indices:
    """The columns of the values that the nodes before `node` have."""
    used = [f.matrix.index for j, f in encoding.forms.items() if j < node and j != encoding.top]
    return np.unique(np.concatenate(used))


def _restricted(program: Program, columns: Indices) -> tuple[Program, Indices]:
    """The rows that read no other columns, over these columns alone; and which they are."""
    matrix = program.matrix
    inside = np.zeros(matrix.columns, dtype=np.bool_)
    inside[columns] = True
    outside = np.bincount(matrix.row, weights=~inside[matrix.index], minlength=matrix.rows)
    rows = np.flatnonzero((outside == 0) & (np.diff(matrix.start) > 0))
    part = matrix.take(rows)
    renamed = Sparse(part.start, np.searchsorted(columns, part.index), part.value, len(columns))
    restricted = Program(
        np.zeros(len(columns)),
        renamed,
        program.row_lower[rows],
        program.row_upper[rows],
        program.lower[columns],
        program.upper[columns],
    )
    return restricted, rows


def _inequalities(rows: Sequence[_Found]) -> Inequalities:
    terms = [term for row in rows for term in row.terms]
    return Inequalities(
        np.cumsum([0, *(len(row.terms) for row in rows)]),
        np.array([name.node for name, _ in terms], dtype=np.intp),
        np.array([name.neuron for name, _ in terms], dtype=np.intp),
        np.array([c for _, c in terms], dtype=np.float64),
        np.array([row.rhs for row in rows], dtype=np.float64),
        tuple(row.proof for row in rows),
    )
