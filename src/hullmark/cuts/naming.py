"""What the columns and rows of an encoding say about values of the network, as rows with names."""

from fractions import Fraction
from functools import cache

import numpy as np

from hullmark.encode import Encoding, Form
from hullmark.errors import BadInput
from hullmark.lp.program import Indices, Program, Vector
from hullmark.network import ops
from hullmark.rows import Combined, Defined, Derivation, Kink, Propagated, Row, Terms, Value


class Naming:
    """The rows of an encoding by themselves; each is made once, so that proofs share it.

    Arguments:
        encoding: the network over one domain.

    `columns`: the value that each column is.

    Trust: bounds of columns are leaves (`Propagated`), and so are lines of what is no rectifier;
    the lines of a rectifier are derived from the bounds of its pre-activation. Equations of values
    (`Defined`) read stable neurons as the multiples of their pre-activations that they are.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.columns = column_names(encoding)
        self.known = frozenset(self.columns)
        self._encoding = encoding
        self.interval = cache(self._interval)
        self.own = cache(self._own)

    def _interval(self, column: int) -> tuple[Row, ...]:
        """The bounds of a column, where they are finite."""
        program, name = self._encoding.program, self.columns[column]
        ends = ((1.0, float(program.upper[column])), (-1.0, -float(program.lower[column])))
        return tuple(
            Row(((name, sign),), end, frozenset(), Propagated())
            for sign, end in ends
            if np.isfinite(end)
        )

    def _own(self, row: int, sign: int) -> Row | None:
        """The upper (`sign` 1) or lower (-1) side of a row of the encoding.

        Returns:
            None if that side is infinite, or a sum of its entries is no float.
        """
        program = self._encoding.program
        rhs = float(program.row_upper[row] if sign > 0 else -program.row_lower[row])
        index, value = _entries(program, row)
        terms = merged_terms([self.columns[c] for c in index.tolist()], (sign * value).tolist())
        if terms is None or not np.isfinite(rhs):
            return None
        return Row(terms, rhs, frozenset(), self._derivation(index))

    def _derivation(self, index: Indices) -> Derivation:
        """Why a row of these columns holds: the last of them is the value that it is about."""
        last = int(index.max())
        name, others = self.columns[last], index[index != last].tolist()
        node = self._encoding.network.nodes[name.node]
        if isinstance(node.op, ops.Affine):
            return Defined(name)
        if not isinstance(node.op, ops.Rectifier):
            return Propagated()
        # The row of a stable neuron that got its column later may read any others, or none.
        if not others or others != self._columns(Value(node.inputs[0], name.neuron)):
            return Defined(name)
        (pre,) = others
        return Combined(self.interval(pre), (self.kink(pre, name),), ((), ()))

    def _columns(self, value: Value) -> list[int]:
        """The one column that is this value, if there is one."""
        return _column(self._encoding.forms[value.node], value.neuron)

    def kink(self, pre: int, post: Value) -> Kink:
        """The kink from a column to a value of a rectifier."""
        node = self._encoding.network.nodes[post.node]
        if not isinstance(node.op, ops.Rectifier):
            raise BadInput(f"node {node.name} is not a rectifier")
        sides = (node.op.negative, node.op.positive)
        slopes = (float(np.broadcast_to(s, node.shape).ravel()[post.neuron]) for s in sides)
        return Kink(self.columns[pre], post, *slopes)


def merged_terms(names: list[Value], factors: list[float]) -> Terms | None:
    """Terms with each name once and no zeros; None if a sum of coefficients is no float."""
    sums: dict[Value, Fraction] = {}
    for name, factor in zip(names, factors, strict=True):
        sums[name] = sums.get(name, Fraction(0)) + Fraction(factor)
    found = {name: float(total) for name, total in sums.items()}
    if any(Fraction(value) != sums[name] for name, value in found.items()):
        return None
    return tuple((name, value) for name, value in found.items() if value)


def column_names(encoding: Encoding) -> list[Value]:
    """For each column of an encoding a value of the network that it is.

    Raises:
        BadInput: if a column is none, which no encoding does.
    """
    names: dict[int, Value] = {}
    for node, form in encoding.forms.items():
        if node == encoding.top and encoding.closed:
            continue
        size = np.diff(form.matrix.start)
        for neuron in np.flatnonzero((size == 1) & form.known).tolist():
            for column in _column(form, neuron):
                names.setdefault(column, Value(node, neuron))
    if len(names) < encoding.columns:
        raise BadInput("a column of an encoding is the value of no neuron")
    return [names[column] for column in range(encoding.columns)]


def _column(form: Form, neuron: int) -> list[int]:
    """The column that a value of a node is, if it is one."""
    start, end = form.matrix.start[neuron : neuron + 2].tolist()
    alone = end - start == 1 and form.matrix.value[start] == 1
    return [int(form.matrix.index[start])] if alone else []


def definitions(program: Program) -> Indices:
    """For each column the equation that defines it from earlier columns, or -1."""
    matrix = program.matrix
    found = np.full(matrix.columns, -1, dtype=np.intp)
    finite = np.isfinite(program.row_lower) & np.isfinite(program.row_upper)
    for row in np.flatnonzero(finite & (np.diff(matrix.start) > 0)).tolist():
        index, value = _entries(program, row)
        last = index.max()
        if found[last] < 0 and value[index == last].tolist() == [1.0]:
            found[last] = row
    return found


def _entries(program: Program, row: int) -> tuple[Indices, Vector]:
    """Columns and coefficients of one row, as stored."""
    matrix = program.matrix
    entries = slice(matrix.start[row], matrix.start[row + 1])
    return matrix.index[entries], matrix.value[entries]
