"""What a ladder is about: a worst margin, or one linear function of the outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput
from hullmark.network.graph import Network
from hullmark.spec.numbers import as_fraction, flatten
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box


@dataclass(frozen=True, eq=False)
class Quantity:
    """The least margin of all cases; if `two_sided`, also the greatest value.

    `parts` holds each box with its cases. A two-sided quantity `c . y` has two cases in each
    box, whose margins are `c . y` and `-c . y`.
    """

    name: str
    parts: tuple[tuple[Box, tuple[Case, ...]], ...]
    two_sided: bool

    @property
    def linear(self) -> bool:
        """Whether every margin is a linear function."""
        return all(len(case.constraints) == 1 for _, case in self.cases())

    def cases(self) -> Iterator[tuple[Box, Case]]:
        """All cases in order, with their boxes."""
        for box, cases in self.parts:
            for case in cases:
                yield box, case

    @property
    def downwards(self) -> list[bool]:
        """For each case whether it is about the lower end."""
        return [not (self.two_sided and number % 2) for number, _ in enumerate(self.cases())]


def quantity_of(
    network: Network,
    question: Property | Box,
    objective: ArrayLike | None,
    output: int | None,
) -> Quantity:
    """What is to be bounded.

    Arguments:
        question: a property, whose worst margin is bounded unless an output or an objective is
            named; then only its boxes matter. Or a box.
        objective: the row `c` of `c . y`, `(output_size,)`.
        output: the index of an output.

    Raises:
        BadInput: if a size or index does not fit, both an objective and an output are given, it
            is not said what of a box is to be bounded, or there is nothing to bound.
    """
    boxes = [question] if isinstance(question, Box) else [box for box, _ in question.groups]
    row = _row(network.output_size, objective, output)
    if row is None and isinstance(question, Box):
        if network.output_size != 1:
            raise BadInput(
                f"the network has {network.output_size} outputs; say which is to be bounded, by "
                "output= or objective="
            )
        row, output = [Fraction(1)], 0
    if not boxes:
        raise BadInput("the property has no case, so that there is nothing to bound")
    if row is not None:
        name = "the objective" if output is None else f"Y_{output}"
        parts = tuple((box, _both_sides(box, row)) for box in boxes)
        return Quantity(name, parts, True)
    if isinstance(question, Box):
        raise BadInput("a box alone asks nothing")
    for number, case in enumerate(question.cases):
        if not case.constraints:
            raise BadInput(f"case {number} has no constraints, so that there is nothing to bound")
    parts = tuple((box, tuple(question.cases[i] for i in group)) for box, group in question.groups)
    return Quantity("worst margin", parts, False)


def _row(outputs: int, objective: ArrayLike | None, output: int | None) -> list[Fraction] | None:
    if objective is not None and output is not None:
        raise BadInput("give an output or an objective, not both")
    if output is not None:
        if not 0 <= output < outputs:
            raise BadInput(f"the output {output} is not among the {outputs} outputs")
        return [Fraction(int(j == output)) for j in range(outputs)]
    if objective is None:
        return None
    given = flatten(np.asarray(objective))
    if len(given) != outputs:
        raise BadInput(f"an objective of {len(given)} entries does not fit {outputs} outputs")
    return [as_fraction(value) for value in given]


def _both_sides(box: Box, row: Sequence[Fraction]) -> tuple[Case, ...]:
    return tuple(
        Case(box, (Constraint.of({}, {j: sign * v for j, v in enumerate(row)}, 0),), len(row))
        for sign in (1, -1)
    )
