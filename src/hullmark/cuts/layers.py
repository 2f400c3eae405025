"""Separators that read a whole layer: `M_k`, and the hull of each ReLU over its inputs.

Both speak of the columns of an encoding: a column that an equation of the program defines, as all
pre-activations are, is an affine form of earlier columns.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from hullmark.cuts.cutloop import CutProgram
from hullmark.cuts.disjunctive import disjunctive_cut
from hullmark.cuts.generator import Neurons
from hullmark.encode import Encoding, Inequalities, Kinks
from hullmark.errors import BadInput
from hullmark.lp.program import Indices, Program, Sparse, Vector
from hullmark.relax.multivariate import separate_neurons
from hullmark.rows import Value

Terms = Sequence[tuple[Value, float]]


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
        self._names = column_names(encoding)
        self._rows = definitions(encoding.program)
        self._before = _columns_before(encoding, node)
        program.keep(self._before)

    def __call__(self, values: Mapping[int, Vector]) -> Inequalities:
        """Rows that the values violate, at most one for each group."""
        columns = self._before
        part = _restricted(self._program.model.program, columns)
        names = [self._names[c] for c in columns.tolist()]
        w = np.array([values[name.node].ravel()[name.neuron] for name in names])
        rows: list[tuple[Terms, float]] = []
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
                rows.append(([(name, c) for name, c in pairs if c], cut.rhs))
        return _inequalities(rows)

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

    Raises:
        BadInput: if the node has unstable neurons that are no ReLUs; names it.

    Trust: every row holds on the domain if the encoding does.
    """

    def __init__(self, encoding: Encoding, node: int) -> None:
        kinks, program = _relus(encoding, node), encoding.program
        rows = definitions(program)[kinks.pre]
        chosen = np.flatnonzero(rows >= 0)
        self._posts = [Value(node, int(i)) for i in kinks.neurons[chosen]]
        self._names = column_names(encoding)
        part = program.matrix.take(rows[chosen])
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
        used = {c: self._names[c] for c in np.unique(self._columns).tolist()}
        point = np.zeros(len(self._names))
        for column, name in used.items():
            point[column] = values[name.node].ravel()[name.neuron]
        found = separate_neurons(
            self._weight, self._bias, self._lower, self._upper, point[self._columns], y
        )
        rows: list[tuple[Terms, float]] = []
        for i, coefficients, rhs in zip(found.neuron, found.x.tolist(), found.rhs, strict=True):
            pairs = zip(self._columns[i].tolist(), coefficients, strict=True)
            terms = [(self._names[column], c) for column, c in pairs if c]
            rows.append(([*terms, (self._posts[i], 1.0)], float(rhs)))
        return _inequalities(rows)


def column_names(encoding: Encoding) -> list[Value]:
    """For each column of an encoding a value of the network that it is.

    Raises:
        BadInput: if a column is none, which no encoding does.
    """
    names: dict[int, Value] = {}
    for node, form in encoding.forms.items():
        if node == encoding.top:
            continue
        size = np.diff(form.matrix.start)
        for neuron in np.flatnonzero((size == 1) & form.known).tolist():
            entry = form.matrix.start[neuron]
            if form.matrix.value[entry] == 1:
                names.setdefault(int(form.matrix.index[entry]), Value(node, neuron))
    if len(names) < encoding.columns:
        raise BadInput("a column of an encoding is the value of no neuron")
    return [names[column] for column in range(encoding.columns)]


def definitions(program: Program) -> Indices:
    """For each column the equation that defines it from earlier columns, or -1."""
    matrix = program.matrix
    found = np.full(matrix.columns, -1, dtype=np.intp)
    finite = np.isfinite(program.row_lower) & np.isfinite(program.row_upper)
    for row in np.flatnonzero(finite & (np.diff(matrix.start) > 0)).tolist():
        entries = slice(matrix.start[row], matrix.start[row + 1])
        index, value = matrix.index[entries], matrix.value[entries]
        last = index.max()
        if found[last] < 0 and value[index == last].tolist() == [1.0]:
            found[last] = row
    return found


def _relus(encoding: Encoding, node: int) -> Kinks:
    kinks = encoding.kinks.get(node)
    if kinks is None or np.any(kinks.negative != 0) or np.any(kinks.positive != 1):
        raise BadInput(f"node {encoding.network.nodes[node].name} is not encoded as ReLUs")
    return kinks


def _columns_before(encoding: Encoding, node: int) -> Indices:
    """The columns of the values that the nodes before `node` have."""
    used = [f.matrix.index for j, f in encoding.forms.items() if j < node and j != encoding.top]
    return np.unique(np.concatenate(used))


def _restricted(program: Program, columns: Indices) -> Program:
    """The rows that read no other columns, over these columns alone."""
    matrix = program.matrix
    inside = np.zeros(matrix.columns, dtype=np.bool_)
    inside[columns] = True
    outside = np.bincount(matrix.row, weights=~inside[matrix.index], minlength=matrix.rows)
    rows = np.flatnonzero((outside == 0) & (np.diff(matrix.start) > 0))
    part = matrix.take(rows)
    renamed = Sparse(part.start, np.searchsorted(columns, part.index), part.value, len(columns))
    return Program(
        np.zeros(len(columns)),
        renamed,
        program.row_lower[rows],
        program.row_upper[rows],
        program.lower[columns],
        program.upper[columns],
    )


def _inequalities(rows: Sequence[tuple[Terms, float]]) -> Inequalities:
    names = [name for terms, _ in rows for name, _ in terms]
    return Inequalities(
        np.cumsum([0, *(len(terms) for terms, _ in rows)]),
        np.array([name.node for name in names], dtype=np.intp),
        np.array([name.neuron for name in names], dtype=np.intp),
        np.array([c for terms, _ in rows for _, c in terms], dtype=np.float64),
        np.array([rhs for _, rhs in rows], dtype=np.float64),
    )
