"""What bounding without search ends with: bounds, what they rest on, and where they are exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from hullmark.encode import Proof
    from hullmark.methods.task import Bounded
    from hullmark.network.ops import Array
    from hullmark.rows import Row


@dataclass(frozen=True, eq=False)
class Attained:
    """An input at which the network comes as near to a bound as `gap`: the bound is exact to that.

    Arguments:
        end: "lower" or "upper" of an output or row of the objective, or "margin" of a case.
        index: which output, row or case.
        input: shape `(n,)`.
        gap: how far the network's value is from the bound, rounded up.

    Trust: bound and gap hold in real arithmetic for the box rounded outwards to floats.
    """

    end: Literal["lower", "upper", "margin"]
    index: int
    input: "Array"
    gap: float


@dataclass(frozen=True, eq=False)
class BoundReport:
    """What one bounding method, without search, says of a network.

    Arguments:
        lower, upper: bounds of each output, or of each row of the objective; shape `(m,)`.
        margin: lower bound of the worst margin of the property; NaN where only a box was given.
        margins: lower bound of each case's margin, shape `(cases,)`. By `mined` a number that is
            not positive bounds a margin where it is the worst one over its box.
        method: the method's name.
        seconds: wall-clock time, loading included.
        proved: whether the worst margin is shown to be positive. `mined` may show that without a
            number; `margin` is 0 then.
        rows: how many joint rows the bound of the worst margin rests on (where only a box was
            given: all bounds together). `mined` and `prima` count all rows that they have in the
            end; others those of the linear program that gave the bound, if one did, and not those
            behind bounds of hidden layers.
        complete: whether the method ended by itself and not because its time was up.
        attained: the bounds that are exact, and where.
        proofs: of the joint rows; see `joint_rows`.

    Trust: every number is rounded outwards and holds for the real function of the stored
    coefficients, however little time there was.
    """

    lower: "Array"
    upper: "Array"
    margin: float
    margins: "Array"
    method: str
    seconds: float
    proved: bool = False
    rows: int = 0
    complete: bool = True
    attained: tuple[Attained, ...] = ()
    proofs: "tuple[Proof | None, ...]" = ()

    def joint_rows(self) -> "tuple[Row, ...]":
        """The joint rows that the bound of the worst margin rests on, with their derivations.

        Returns:
            As many as `rows`, but for those that no `Row` says: that read a value twice with
            coefficients whose sum is no float, or rest on a sum of neurons without a bound.

        Trust: `Row.derived` checks each, exactly.
        """
        found = (proof.row() for proof in self.proofs if proof is not None)
        return tuple(row for row in found if row is not None)


class Answer(NamedTuple):
    """What is known over one box, and which cases of the property it is about."""

    cases: tuple[int, ...]
    found: "Bounded"


def report_of(
    answers: Sequence[Answer], rows: int, cases: int | None, method: str, seconds: float
) -> BoundReport:
    """The least bounds over all boxes.

    Arguments:
        answers: one for each box. Its queries are the cases, then each row of the objective, then
            each of them negated.
        rows: how many rows there are.
        cases: how many cases the property has, over all boxes; None if there is no property.
        method, seconds: as in `BoundReport`.
    """
    total = (cases or 0) + 2 * rows
    least = np.full(total, np.inf)
    attained: dict[int, Attained] = {}
    for members, found in answers:
        queries = [*members, *range(total - 2 * rows, total)]
        for place, (query, bound) in enumerate(zip(queries, found.lower.tolist(), strict=True)):
            if bound >= least[query]:
                continue
            least[query] = bound
            attained.pop(query, None)
            if place in found.attained:
                end, index = _named(query, total, rows)
                at = found.attained[place]
                attained[query] = Attained(end, index, at.input, at.gap)
    margins, values = np.split(least, [total - 2 * rows])
    behind = _behind(answers)
    return BoundReport(
        lower=values[:rows],
        upper=-values[rows:],
        margin=float("nan") if cases is None else float(margins.min(initial=np.inf)),
        margins=margins,
        method=method,
        seconds=seconds,
        proved=cases is not None and all(found.positive for _, found in answers),
        rows=sum(found.rows for found in behind),
        complete=all(found.complete for _, found in answers),
        attained=tuple(attained[query] for query in sorted(attained)),
        proofs=tuple(proof for found in behind for proof in found.proofs),
    )


def _behind(answers: Sequence[Answer]) -> list["Bounded"]:
    """What the worst margin rests on, or all bounds if there is none."""
    leasts = [found.lower[: len(members)].min(initial=np.inf) for members, found in answers]
    worst = int(np.argmin(leasts))
    if leasts[worst] < np.inf:
        return [answers[worst].found]
    return [found for _, found in answers]


def _named(query: int, total: int, rows: int) -> tuple[Literal["lower", "upper", "margin"], int]:
    """Which bound of the report a query is, and its index."""
    cases = total - 2 * rows
    if query < cases:
        return "margin", query
    return ("lower", query - cases) if query < cases + rows else ("upper", query - cases - rows)
