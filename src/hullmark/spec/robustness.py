"""Questions asked without a file: balls around an input, boxes and polytopes, linear claims."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput
from hullmark.spec.assemble import Assertions
from hullmark.spec.formula import And, Literal, Or
from hullmark.spec.numbers import Values, as_array, as_fraction, flatten
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box

Row = tuple[Values, object]
"""Coefficients `c`, one per output, and a bound `b`: the inequality `c . y <= b`."""


@dataclass(frozen=True, eq=False)
class Polytope:
    """The inputs of a box with `A @ x <= b`; `A` is `(m, n)`, `b` is `(m,)`.

    Entries are numbers of any kind: floats, `Fraction`, `Decimal` or decimal strings.

    Trust: exact; a float stands for the number it is.
    """

    A: Sequence[Values] | NDArray[Any]
    b: Values
    box: Box

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """One constraint a row.

        Raises:
            BadInput: if the shapes do not fit, or an entry is not a finite number.
        """
        rows, bounds = [flatten(row) for row in self.A], flatten(self.b)
        if len(rows) != len(bounds):
            raise BadInput(f"a polytope has {len(rows)} rows but {len(bounds)} bounds")
        for i, row in enumerate(rows):
            if len(row) != self.box.size:
                raise BadInput(
                    f"row {i} of the polytope has {len(row)} entries for {self.box.size} inputs"
                )
        return tuple(
            Constraint.of(dict(enumerate(row)), {}, bound)
            for row, bound in zip(rows, bounds, strict=True)
        )

    def contains(self, x: NDArray[Any]) -> bool:
        """Whether `x` is in the box and meets every row. **Trust**: exact."""
        flat = np.asarray(x).reshape(-1)
        return self.box.contains(flat) and all(c.holds(flat, ()) for c in self.constraints)


@dataclass(frozen=True, eq=False)
class Robustness:
    """Does every input of a box get the class `label`, or at least never `target`?

    The unsafe set is that some other output (or that of `target`) is at least as large as that
    of `label`: a tie counts as unsafe, as in the public benchmarks. `classes` is the number of
    outputs expected, if it is known. The sizes are checked when the property is made.
    """

    box: Box
    label: int
    target: int | None = None
    classes: int | None = None

    def property(self, input_size: int, output_size: int) -> Property:
        """The property for a network of these sizes.

        Raises:
            BadInput: if the box, the number of classes, the label or the target does not fit.
        """
        if self.box.size != input_size:
            raise BadInput(f"{self.box.size} inputs are given, but the network has {input_size}")
        if self.classes is not None and self.classes != output_size:
            raise BadInput(f"{self.classes} classes are given, but there are {output_size} outputs")
        if output_size < 2:
            raise BadInput("a label needs a network of at least two outputs")
        for name, index in (("label", self.label), ("target", self.target)):
            if index is not None and not 0 <= index < output_size:
                raise BadInput(f"the {name} {index} is not among the {output_size} outputs")
        others = range(output_size) if self.target is None else (self.target,)
        cases = tuple(
            Case(self.box, (Constraint.of({}, {self.label: 1, j: -1}, 0),), output_size)
            for j in others
            if j != self.label
        )
        return Property(input_size, output_size, cases, f"label {self.label}")


def Linf(  # noqa: N802 - the ball's own name
    x: Values, eps: object, clip: tuple[object, object] | None = (0, 1)
) -> Box:
    """The closed ball `|x_i - x0_i| <= eps` of the maximum norm, cut off at `clip`.

    Arguments:
        x: the centre, numbers of any shape, row-major.
        eps: the radius, at least 0; one number, or one for every entry of `x`.
        clip: the least and the greatest value an input may take, or `None`.

    Raises:
        BadInput: if a number is not finite, `eps` is negative or of another length.
        VacuousProperty: if the ball lies outside of `clip`.

    Trust: exact; `eps=0.1` is the float nearest to a tenth, `eps="0.1"` a tenth.
    """
    shape = as_array(x).shape
    centre = [as_fraction(value) for value in flatten(x)]
    radii = [as_fraction(value) for value in flatten(np.asarray(eps, dtype=object))]
    if len(radii) == 1:
        radii *= len(centre)
    if len(radii) != len(centre):
        raise BadInput(f"{len(radii)} radii do not match {len(centre)} inputs")
    if any(radius < 0 for radius in radii):
        raise BadInput("eps must not be negative")
    lower = [c - r for c, r in zip(centre, radii, strict=True)]
    upper = [c + r for c, r in zip(centre, radii, strict=True)]
    if clip is not None:
        least, greatest = (as_fraction(value) for value in clip)
        lower = [max(value, least) for value in lower]
        upper = [min(value, greatest) for value in upper]
    sides = [np.array(side, dtype=object).reshape(shape) for side in (lower, upper)]
    return Box(sides[0], sides[1])


def robust(
    image: Values,
    label: int,
    eps: object,
    clip: tuple[object, object] | None = (0, 1),
    classes: int | None = None,
    target: int | None = None,
) -> Robustness:
    """Does every input within `eps` of `image` get the class `label`?

    Arguments:
        image: the centre, of any shape, row-major.
        label: the index of the output that must be the largest.
        eps, clip: as for `Linf`.
        classes: the number of outputs, to be checked, if it is known.
        target: ask only that this output never reaches that of `label`.

    Raises:
        BadInput: as for `Linf` and `classified`.
        VacuousProperty: as for `Linf`.

    Trust: exact.
    """
    return classified(Linf(image, eps, clip), label, classes, target)


def classified(
    box: Box, label: int, classes: int | None = None, target: int | None = None
) -> Robustness:
    """Does every input of `box` get the class `label`? Arguments as for `robust`.

    Raises:
        BadInput: if `label` or `target` is not an index, or both are the same.
    """
    label = _index(label, "label")
    target = None if target is None else _index(target, "target")
    if label == target:
        raise BadInput(f"the label and the target are both {label}")
    return Robustness(box, label, target, classes)


def unsafe(inputs: Box | Polytope, disjuncts: Sequence[Sequence[Row]]) -> Property:
    """The property that no input gets an output in a union of polyhedra.

    Arguments:
        inputs: the set of inputs.
        disjuncts: for each polyhedron its rows `(c, b)`, meaning `c . y <= b`; all rows have one
            coefficient per output.

    Raises:
        BadInput: if rows differ in length, none is given, or a number is not finite.
        VacuousProperty: if no input is left by the rows of a polytope, each by itself.

    Trust: exact; a float stands for the number it is.
    """
    coded = [[_row(row) for row in rows] for rows in disjuncts]
    lengths = {length for rows in coded for _, length in rows}
    if not lengths or not all(coded):
        raise BadInput("an unsafe set needs at least one row in every disjunct")
    if len(lengths) > 1:
        raise BadInput(f"rows over {sorted(lengths)} outputs do not fit together")
    return _property(inputs, [[c for c, _ in rows] for rows in coded], lengths.pop())


def holds(inputs: Box | Polytope, claims: Sequence[Row]) -> Property:
    """The property that every input gets an output with `c . y <= b`, for every `(c, b)` given.

    Arguments:
        inputs: the set of inputs.
        claims: the rows `(c, b)`, each with one coefficient per output.

    Raises:
        BadInput: if rows differ in length, none is given, or a number is not finite.
        VacuousProperty: if no input is left by the rows of a polytope, each by itself.

    Trust: exact; the unsafe set of a claim is `c . y > b`, strictly.
    """
    coded = [_row(row) for row in claims]
    lengths = {length for _, length in coded}
    if not lengths:
        raise BadInput("at least one claim is needed")
    if len(lengths) > 1:
        raise BadInput(f"rows over {sorted(lengths)} outputs do not fit together")
    broken = [[Constraint.of({}, {j: -v for j, v in c.y}, -c.bound, strict=True)] for c, _ in coded]
    return _property(inputs, broken, lengths.pop())


def _property(
    inputs: Box | Polytope, disjuncts: list[list[Constraint]], output_size: int
) -> Property:
    box = inputs if isinstance(inputs, Box) else inputs.box
    assertions = Assertions(box)
    if isinstance(inputs, Polytope):
        for constraint in inputs.constraints:
            assertions.add(Literal(constraint, about_inputs=True))
    parts = tuple(And(tuple(Literal(c, about_inputs=False) for c in rows)) for rows in disjuncts)
    assertions.add(Or(parts))
    return assertions.build(box.size, output_size, "the question")


def _row(row: Row) -> tuple[Constraint, int]:
    coefficients = flatten(row[0])
    return Constraint.of({}, dict(enumerate(coefficients)), row[1]), len(coefficients)


def _index(value: object, name: str) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < 0:
        raise BadInput(f"the {name} must be the index of an output, not {value!r}")
    return int(value)
