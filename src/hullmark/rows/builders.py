"""From what geometry found to rows with names and derivations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hullmark.errors import BadInput
from hullmark.rows.names import Kink, Name, Split, Terms
from hullmark.rows.row import Combined, Propagated, Row, combine, scope_of

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Group:
    """Kinks, and rows over their pre-activations that describe the set that the group lives in."""

    kinks: tuple[Kink, ...]
    parents: tuple[Row, ...]


def octahedral_group(
    kinks: Sequence[Kink], matrix: Array, bounds: Array, scope: frozenset[Split] = frozenset()
) -> Group:
    """The group with `matrix @ pre <= bounds`, as a backward pass proved it.

    Arguments:
        matrix: coefficients `(M, k)`, for example all nonzero vectors of `{-1, 0, 1}^k`.
        bounds: finite, `(M,)`.

    Raises:
        BadInput: if a number is not finite, or the shapes do not fit.
    """
    if matrix.shape != (len(bounds), len(kinks)):
        raise BadInput(f"{len(kinks)} kinks and {len(bounds)} bounds of a matrix {matrix.shape}")
    rows: list[Row] = []
    for normal, bound in zip(matrix.tolist(), bounds.tolist(), strict=True):
        pairs = zip(kinks, normal, strict=True)
        terms = tuple((kink.pre, float(c)) for kink, c in pairs if c)
        rows.append(Row(terms, bound, scope, Propagated()))
    return Group(tuple(kinks), tuple(rows))


def rows_of_group(
    group: Group, coefficients: tuple[Array, Array], rhs: Array, members: Array, multipliers: Array
) -> tuple[Row, ...]:
    """The rows that batched geometry found for one group, with names and derivations.

    Arguments:
        coefficients: on pre- and on post-activations, both `(m, k)`.
        rhs: right-hand sides `(m,)`, proved by the multipliers.
        members, multipliers: for each row and sign pattern `(m, 2^k, t)`, as in `Combined`; the
            members number `group.parents` and then the signs.

    Returns:
        One `Row` each. Where a kink's `post` is its `pre`, the coefficients are added and the
        right-hand side is proved anew.

    Raises:
        BadInput: if a number is not finite, or such a new right-hand side is not proved.

    Trust: none is added; `Row.derived` checks each.
    """
    scope = scope_of(group.parents)
    rows: list[Row] = []
    for x, y, bound, chosen, weights in zip(
        *(a.tolist() for a in (*coefficients, rhs, members, multipliers)), strict=True
    ):
        patterns = tuple(
            tuple((i, w) for i, w in zip(some, weight, strict=True) if w)
            for some, weight in zip(chosen, weights, strict=True)
        )
        combined = Combined(group.parents, group.kinks, patterns)
        sums: dict[Name, float] = {}
        for kink, before, after in zip(group.kinks, x, y, strict=True):
            sums[kink.pre] = sums.get(kink.pre, 0.0) + before
            sums[kink.post] = sums.get(kink.post, 0.0) + after
        terms = tuple((name, c) for name, c in sums.items() if c)
        if len(sums) < 2 * len(group.kinks):
            row = combine(terms, scope, combined)
            if row is None:
                raise BadInput("a row of a group has multipliers that do not prove it")
            rows.append(row)
        else:
            rows.append(Row(terms, bound, scope, combined))
    return tuple(rows)


def row_of_neuron(
    kink: Kink, inputs: Terms, definition: Row, intervals: Sequence[Row]
) -> Row | None:
    """`post + inputs <= rhs` with the least right-hand side: a row of one ReLU over its inputs.

    Where `pre <= 0` the row is about the inputs alone, and where `pre >= 0` the definition turns
    it into one; what is then left is charged to their intervals [OptC2V].

    Arguments:
        kink: a ReLU.
        inputs: coefficients on values that the pre-activation is an affine form of.
        definition: `pre - weight . values <= bias`.
        intervals: bounds of each value.

    Returns:
        None if a bound of a value is missing.

    Trust: exact, given the parents.
    """
    patterns = ((), ((0, 1.0),))
    combined = Combined((definition, *intervals), (kink,), patterns)
    return combine((*inputs, (kink.post, 1.0)), frozenset(), combined)
