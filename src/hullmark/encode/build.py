"""Builds the linear program of a network from its relaxation, node by node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hullmark.bounds.activations import image
from hullmark.bounds.interval import Interval
from hullmark.bounds.relaxation import Relaxation
from hullmark.encode.encoding import Encoding, Form, Kinks
from hullmark.encode.matrices import MOVES, AffineMap, affine_map
from hullmark.errors import BadInput, Unsupported
from hullmark.lp.program import Indices, Program, Sparse, Vector, gathered
from hullmark.network import ops

if TYPE_CHECKING:
    from torch import Tensor

Mask = NDArray[np.bool_]

_UNIT = 2.0**-53


def encode(
    relaxation: Relaxation, top: int | None = None, asked: Indices | None = None
) -> Encoding:
    """The linear program of a network over one domain: the triangle relaxation [Ehlers17].

    Stable neurons are affine; every unstable one has its chord and both of its lines, every
    other nonlinear value the lines or planes of the relaxation.

    Arguments:
        relaxation: of batch 1, with sound bounds of the pre-activations before `top`.
        top: the node of which objectives are made; the output if None.
        asked: the neurons of `top` that objectives may read, flat; all if None.

    Raises:
        BadInput: for a relaxation of several domains.
        Unsupported: for an operation without linear bounds.

    Trust: in real arithmetic the values of every input of the domain are a feasible point; where
    the coefficients of an operation carry a `roundoff`, its equations have room for it.
    """
    network = relaxation.program.network
    top = len(network.nodes) - 1 if top is None else top
    if relaxation.batch != 1:
        raise BadInput(f"a linear program is of one domain, not of {relaxation.batch}")
    relaxation.advance(top)
    size = network.nodes[top].size
    builder = _Builder(relaxation, top, np.arange(size) if asked is None else asked)
    for i in builder.order:
        builder.add(i)
    return builder.encoding()


@dataclass(eq=False)
class _Builder:
    """Forms, columns and rows so far."""

    relaxation: Relaxation
    top: int
    asked: Indices
    forms: dict[int, Form] = field(default_factory=dict[int, Form])
    kinks: dict[int, Kinks] = field(default_factory=dict[int, Kinks])
    bounds: dict[int, tuple[Vector, Vector]] = field(
        default_factory=dict[int, tuple[Vector, Vector]]
    )
    columns: int = 0
    rows: int = 0

    def __post_init__(self) -> None:
        nodes = self.relaxation.program.network.nodes
        needed = {0, self.top}
        for i in range(self.top, 0, -1):
            if i in needed:
                needed.update(nodes[i].inputs)
        self.order = sorted(needed)
        self._maps = {
            i: affine_map(op, tuple(nodes[j].shape for j in nodes[i].inputs))
            for i in self.order
            if isinstance(op := nodes[i].op, ops.Affine)
        }
        for i in self.order:
            lower, upper = (_flat(b) for b in self._interval(i))
            self.bounds[i] = (
                np.where(np.isnan(lower), -np.inf, lower),
                np.where(np.isnan(upper), np.inf, upper),
            )
        self._parts: list[tuple[Sparse, Vector, Vector]] = []
        self._sides: list[tuple[Vector, Vector]] = []
        self._live = self._find_live()

    def _interval(self, i: int) -> Interval:
        """Bounds of a node; the given ones of a pre-activation that is a rectifier itself are met
        with its image, so that what reads a stable neuron is stable too."""
        lower, upper = self.relaxation.interval(i)
        node = self.relaxation.program.network.nodes[i]
        if not isinstance(node.op, ops.Rectifier):
            return lower, upper
        low, high = image(node.op, *self.relaxation.interval(node.inputs[0]))
        return lower.fmax(low), upper.fmin(high)

    def _find_live(self) -> dict[int, Mask]:
        """The values that something before the top's asked neurons depends on."""
        nodes = self.relaxation.program.network.nodes
        live = {i: np.zeros(nodes[i].size, dtype=np.bool_) for i in self.order}
        live[self.top][self.asked] = True
        for i in reversed(self.order):
            if i in self._maps:
                chosen = np.flatnonzero(live[i])
                for j, matrix in zip(nodes[i].inputs, self._maps[i].matrices, strict=True):
                    live[j][matrix.take(chosen).index] = True
                continue
            for j in nodes[i].inputs:
                live[j] |= live[i] & ~self._vanishing(i)
        return live

    def _vanishing(self, i: int) -> Mask:
        """Where a nonlinear node is 0 on the whole domain."""
        op = self.relaxation.program.network.nodes[i].op
        if not isinstance(op, ops.Rectifier):
            return np.zeros(self.relaxation.program.network.nodes[i].size, dtype=np.bool_)
        _, upper = self.bounds[self.relaxation.program.network.nodes[i].inputs[0]]
        return (upper <= 0) & (self._slopes(i)[0] == 0)

    def _slopes(self, i: int) -> tuple[Vector, Vector]:
        node = self.relaxation.program.network.nodes[i]
        op, shape = node.op, node.shape
        if not isinstance(op, ops.Rectifier):
            raise BadInput(f"node {node.name} is no rectifier and has no slopes")
        return (
            np.broadcast_to(np.asarray(op.negative, np.float64), shape).ravel(),
            np.broadcast_to(np.asarray(op.positive, np.float64), shape).ravel(),
        )

    def add(self, i: int) -> None:
        """Encode one node."""
        node = self.relaxation.program.network.nodes[i]
        every = np.ones(node.size, dtype=np.bool_)
        if i == 0:
            columns = self._new_columns(0, np.arange(node.size))
            form = Form(self._onto(columns, every), np.zeros(node.size), np.zeros(node.size), every)
            self.forms[0] = form
        elif i in self._maps:
            self._affine(i, self._maps[i])
        elif isinstance(node.op, ops.Rectifier):
            self._rectifier(i)
        elif isinstance(node.op, ops.Elementwise):
            self._curve(i)
        elif isinstance(node.op, ops.Product):
            self._product(i)
        else:
            raise Unsupported(f"node {node.name} has no linear relaxation")

    def encoding(self) -> Encoding:
        """What was built."""
        matrix = Sparse.zeros(0, self.columns)
        for part, _, _ in self._parts:
            matrix = matrix.over(part)
        empty = np.zeros(0)
        low, high = zip(*self._sides, strict=True)
        program = Program(
            cost=np.zeros(self.columns),
            matrix=matrix,
            row_lower=np.concatenate([empty, *(a for _, a, _ in self._parts)]),
            row_upper=np.concatenate([empty, *(b for _, _, b in self._parts)]),
            lower=np.concatenate(low),
            upper=np.concatenate(high),
        )
        forms = {
            i: form._replace(matrix=form.matrix.widened(self.columns))
            for i, form in self.forms.items()
        }
        network = self.relaxation.program.network
        return Encoding(network, self.top, program, forms, self.bounds, self.kinks)

    def _new_columns(self, i: int, neurons: Indices) -> Indices:
        lower, upper = self.bounds[i]
        self._sides.append((lower[neurons], upper[neurons]))
        first, self.columns = self.columns, self.columns + len(neurons)
        return np.arange(first, self.columns)

    def _new_rows(self, matrix: Sparse, lower: Vector, upper: Vector) -> Indices:
        self._parts.append((matrix, lower, upper))
        first, self.rows = self.rows, self.rows + matrix.rows
        return np.arange(first, self.rows)

    def _onto(self, columns: Indices, mask: Mask) -> Sparse:
        """Rows that are one column each where the mask is true, and empty elsewhere."""
        rows = np.flatnonzero(mask)
        return Sparse.placed(rows, columns, np.ones(len(rows)), (len(mask), self.columns))

    def _affine(self, i: int, found: AffineMap) -> None:
        node, live = self.relaxation.program.network.nodes[i], self._live[i]
        neurons = np.flatnonzero(live)
        total = Sparse.zeros(len(neurons), self.columns)
        for j, matrix in zip(node.inputs, found.matrices, strict=True):
            total = total.plus(matrix.take(neurons).compose(self.forms[j].matrix))
        bias, error = found.bias[neurons], self._error(i, found, neurons)
        if isinstance(node.op, MOVES) or i == self.top:
            every = np.arange(len(neurons))
            spread = Sparse.placed(neurons, every, np.ones(len(neurons)), (node.size, len(every)))
            constant, lost = np.zeros(node.size), np.zeros(node.size)
            constant[neurons], lost[neurons] = bias, error
            self.forms[i] = Form(spread.compose(total), constant, lost, live)
        else:
            self._define(i, live, total, bias, error)

    def _define(self, i: int, live: Mask, total: Sparse, bias: Vector, error: Vector) -> None:
        """New columns for the live values of node i, equal to `total @ columns + bias`."""
        columns = self._new_columns(i, np.flatnonzero(live))
        own = Sparse.placed(
            np.arange(len(columns)), columns, np.ones(len(columns)), (len(columns), self.columns)
        )
        exact = error == 0
        low = np.where(exact, bias, np.nextafter(bias - error, -np.inf))
        high = np.where(exact, bias, np.nextafter(bias + error, np.inf))
        self._new_rows(own.plus(total.negated()), low, high)
        none = np.zeros(len(live))
        self.forms[i] = Form(self._onto(columns, live), none, none, live)

    def _error(self, i: int, found: AffineMap, neurons: Indices) -> Vector:
        """How far the stored coefficients may put the values of node i off."""
        error = found.bias_error[neurons]
        if found.relative:
            inputs = self.relaxation.program.network.nodes[i].inputs
            for j, matrix in zip(inputs, found.matrices, strict=True):
                part = matrix.take(neurons)
                largest = np.maximum(*map(np.abs, self.bounds[j]))[part.index]
                terms = np.abs(part.value) * largest
                size = gathered(part.row, terms, part.rows)
                terms_of = np.diff(part.start)
                error = error + found.relative * size * (1 + 4 * (terms_of + 8) * _UNIT)
        return np.where(error > 0, error * (1 + 16 * _UNIT) + 2.0**-1000, 0.0)

    def _single(self, j: int, neurons: Indices) -> Indices:
        """The columns of some values of node j, which get columns where they have none."""
        form = self.forms[j]
        part = form.matrix.take(neurons)
        alone = np.diff(part.start) == 1
        first = np.minimum(part.start[:-1], max(0, len(part.value) - 1))
        if len(part.value):
            alone &= part.value[first] == 1
        else:
            alone &= False
        if not alone.all():
            missing = np.zeros(len(form.known), dtype=np.bool_)
            missing[neurons[~alone]] = True
            fresh = np.flatnonzero(missing)
            none = np.zeros(len(fresh))
            kept = Sparse.placed(*_entries(form.matrix, ~missing), form.matrix.shape)
            self._define(j, missing, form.matrix.take(fresh), none, none)
            matrix = self.forms[j].matrix.plus(kept)
            self.forms[j] = Form(matrix, form.constant, form.error, form.known)
            part = matrix.take(neurons)
        return part.index

    def _rectifier(self, i: int) -> None:
        node = self.relaxation.program.network.nodes[i]
        j = node.inputs[0]
        lower, upper = self.bounds[j]
        negative, positive = self._slopes(i)
        live = self._live[i]
        unstable = live & (lower < 0) & (upper > 0) & (negative != positive)
        slope = np.where(lower >= 0, positive, negative)
        plain = np.isin(slope, (-1.0, 0.0, 1.0))
        aliased, scaled = live & ~unstable & plain, live & ~unstable & ~plain
        with_column = np.flatnonzero(unstable | scaled)
        pre = self._single(j, with_column)
        post = self._new_columns(i, with_column)
        of_scaled = scaled[with_column]
        slopes = slope[with_column][of_scaled]
        rows = self._pairs(post[of_scaled], pre[of_scaled], -slopes)
        none = np.zeros(len(slopes))
        self._new_rows(rows, none, none)
        open_ = ~of_scaled
        self._kinks(i, with_column[open_], pre[open_], post[open_])
        row, index, value = _entries(self.forms[j].matrix, aliased & (slope != 0))
        matrix = Sparse.placed(row, index, value * slope[row], (node.size, self.columns))
        matrix = matrix.plus(self._onto(post, unstable | scaled))
        self.forms[i] = Form(matrix, np.zeros(node.size), np.zeros(node.size), live)

    def _kinks(self, i: int, neurons: Indices, pre: Indices, post: Indices) -> None:
        """Both lines and the chord of unstable neurons."""
        lines = self.relaxation.lines[i]
        below, below_at, above, above_at = (_flat(part)[neurons] for part in lines)
        negative, positive = (s[neurons] for s in self._slopes(i))
        convex = positive > negative
        low_side = np.where(convex, 0.0, -np.inf)
        high_side = np.where(convex, np.inf, 0.0)
        # Where the column's own bound says `post >= 0`, no row need say it.
        floor = self.bounds[i][0][neurons]
        needs_row = ~(convex & (negative == 0) & (floor >= 0))
        at_negative = np.full(len(neurons), -1)
        at_negative[needs_row] = self._new_rows(
            self._pairs(post[needs_row], pre[needs_row], -negative[needs_row]),
            low_side[needs_row],
            high_side[needs_row],
        )
        at_positive = self._new_rows(self._pairs(post, pre, -positive), low_side, high_side)
        self._lines(
            post,
            pre,
            np.where(convex, above, below),
            np.where(convex, -np.inf, below_at),
            np.where(convex, above_at, np.inf),
        )
        self.kinks[i] = Kinks(neurons, pre, post, at_negative, at_positive, negative, positive)

    def _lines(self, post: Indices, pre: Indices, slope: Vector, low: Vector, high: Vector) -> None:
        """Rows `low <= post - slope * pre <= high`, where a side is finite."""
        low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
        used = np.isfinite(slope) & (np.isfinite(low) | np.isfinite(high))
        self._new_rows(self._pairs(post[used], pre[used], -slope[used]), low[used], high[used])

    def _pairs(self, post: Indices, pre: Indices, factor: Vector) -> Sparse:
        """Rows `post + factor * pre`."""
        index = np.stack([post, pre], axis=1).ravel()
        value = np.stack([np.ones(len(post)), factor], axis=1).ravel()
        return Sparse(np.arange(0, 2 * len(post) + 1, 2), index, value, self.columns)

    def _curve(self, i: int) -> None:
        j = self.relaxation.program.network.nodes[i].inputs[0]
        live = self._live[i]
        neurons = np.flatnonzero(live)
        pre, post = self._single(j, neurons), self._new_columns(i, neurons)
        lines = self.relaxation.lines[i]
        below, below_at, above, above_at = (_flat(part)[neurons] for part in lines)
        none = np.full(len(neurons), np.inf)
        self._lines(post, pre, below, below_at, none)
        self._lines(post, pre, above, -none, above_at)
        zero = np.zeros(len(live))
        self.forms[i] = Form(self._onto(post, live), zero, zero, live)

    def _product(self, i: int) -> None:
        first, second = self.relaxation.program.network.nodes[i].inputs
        live = self._live[i]
        neurons = np.flatnonzero(live)
        pre = (self._single(first, neurons), self._single(second, neurons))
        post = self._new_columns(i, neurons)
        planes = [_flat(p)[neurons] for p in self.relaxation.products[i]]
        for (a, b, at), below in ((planes[:3], True), (planes[3:], False)):
            used = np.isfinite(a) & np.isfinite(b) & np.isfinite(at)
            rows = self._pairs(post[used], pre[0][used], -a[used])
            every = np.arange(rows.rows)
            other = Sparse.placed(every, pre[1][used], -b[used], rows.shape)
            none = np.full(rows.rows, np.inf)
            low, high = (at[used], none) if below else (-none, at[used])
            self._new_rows(rows.plus(other), low, high)
        zero = np.zeros(len(live))
        self.forms[i] = Form(self._onto(post, live), zero, zero, live)


def _entries(matrix: Sparse, rows: Mask) -> tuple[Indices, Indices, Vector]:
    """Row, column and value of the entries in some rows."""
    used = rows[matrix.row]
    return matrix.row[used], matrix.index[used], matrix.value[used]


def _flat(values: Tensor) -> Vector:
    return values.detach().double().cpu().numpy().ravel()
