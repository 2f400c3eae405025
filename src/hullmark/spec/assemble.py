"""From a list of asserted formulas to a `Property`: boxes per case, constraints, pruning."""

from fractions import Fraction

from hullmark.errors import BadInput, Unsupported, VacuousProperty
from hullmark.exact import Number
from hullmark.spec.formula import And, Formula, Literal, Or, disjuncts
from hullmark.spec.numbers import as_fraction
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box


class Assertions:
    """Formulas that describe the unsafe set together, collected one by one."""

    def __init__(self, box: Box | None = None) -> None:
        """Start from `box`, or without any bound."""
        lower, upper = (box.exact_lower, box.exact_upper) if box is not None else ((), ())
        self._bounds = _Bounds(dict(enumerate(lower)), dict(enumerate(upper)))
        self._common: list[Literal] = []
        self._open: list[Formula] = []

    def tighten(self, index: int, number: Number, *, upper: bool) -> None:
        """Bound an input from above or below, for all cases."""
        self._bounds.tighten(index, number, upper=upper)

    def add(self, formula: Formula) -> None:
        """Add a condition that all cases must meet."""
        match formula:
            case And(parts):
                for part in parts:
                    self.add(part)
            case Or((only,)):
                self.add(only)
            case Or():
                self._open.append(formula)
            case Literal():
                if _bounds_an_input(formula):
                    self._bounds.apply(formula.constraint)
                if not _is_plain_bound(formula):
                    self._common.append(formula)

    def build(self, input_size: int, output_size: int, source: str) -> Property:
        """The property whose unsafe set is what has been asserted.

        A case whose inputs are impossible is left out, and so is one with a constant condition
        that never holds.

        Raises:
            BadInput: if a case leaves an input without a bound; names it.
            VacuousProperty: if no case is left with any input.
            Unsupported: if there are too many cases.

        Trust: exact. An input constraint over several variables is held against the box one at a
        time, so that a polytope which is empty for a deeper reason is not noticed here.
        """
        try:
            cases = self._cases(input_size, output_size)
        except (BadInput, Unsupported) as error:
            raise type(error)(f"{source}: {error}") from None
        return Property(input_size, output_size, cases, source)

    def _cases(self, input_size: int, output_size: int) -> tuple[Case, ...]:
        cases: list[Case] = []
        boxes: dict[tuple[Constraint, ...], Box | VacuousProperty] = {}
        empty: VacuousProperty | None = None
        reachable = False
        for conjunction in disjuncts(And(tuple(self._open))):
            own = tuple(literal.constraint for literal in conjunction if _bounds_an_input(literal))
            if own not in boxes:
                boxes[own] = self._box(own, input_size)
            box = boxes[own]
            if isinstance(box, VacuousProperty):
                empty = box
                continue
            literals = [*self._common, *(each for each in conjunction if not _is_plain_bound(each))]
            if any(each.about_inputs and _fails_on(each.constraint, box) for each in literals):
                empty = VacuousProperty("no input meets the conditions on the inputs")
                continue
            reachable = True
            if any(_never_holds(each.constraint) for each in literals):
                continue
            kept = tuple(each.constraint for each in literals if not each.constraint.is_constant)
            cases.append(Case(box, kept, output_size))
        if not reachable and empty is not None:
            raise empty
        return tuple(cases)

    def _box(self, own: tuple[Constraint, ...], input_size: int) -> Box | VacuousProperty:
        bounds = self._bounds.copy() if own else self._bounds
        for constraint in own:
            bounds.apply(constraint)
        try:
            return Box(
                [bounds.lower.get(i) for i in range(input_size)],
                [bounds.upper.get(i) for i in range(input_size)],
            )
        except VacuousProperty as empty:
            return empty


class _Bounds:
    """The tightest bounds so far, by input; absent where there are none."""

    def __init__(self, lower: dict[int, Number], upper: dict[int, Number]) -> None:
        self.lower = lower
        self.upper = upper

    def copy(self) -> "_Bounds":
        return _Bounds(dict(self.lower), dict(self.upper))

    def tighten(self, index: int, number: Number, *, upper: bool) -> None:
        side = self.upper if upper else self.lower
        known = side.get(index)
        if known is None or (number < known if upper else number > known):
            side[index] = number

    def apply(self, constraint: Constraint) -> None:
        ((index, coefficient),) = constraint.x
        self.tighten(index, constraint.bound / coefficient, upper=coefficient > 0)


def _bounds_an_input(literal: Literal) -> bool:
    return len(literal.constraint.x) == 1 and not literal.constraint.y


def _is_plain_bound(literal: Literal) -> bool:
    """Whether the closed box says all that the constraint says."""
    return _bounds_an_input(literal) and not literal.constraint.strict


def _never_holds(constraint: Constraint) -> bool:
    return constraint.is_constant and not constraint.holds((), ())


def _fails_on(constraint: Constraint, box: Box) -> bool:
    """Whether a constraint on inputs alone holds nowhere in the box."""
    least = Fraction(0)
    for i, coefficient in constraint.x:
        end = box.exact_lower[i] if coefficient > 0 else box.exact_upper[i]
        least += coefficient * as_fraction(end)
    return least >= constraint.bound if constraint.strict else least > constraint.bound
