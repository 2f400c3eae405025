"""Boolean combinations of linear constraints, and their disjunctive normal form."""

from dataclasses import dataclass

from hullmark.errors import Unsupported
from hullmark.spec.property import Constraint

_MOST_CASES = 200_000


@dataclass(frozen=True)
class Literal:
    """A constraint, and whether it was written about inputs alone.

    The latter is kept since terms may cancel: `X_0 - X_0 <= -1` empties the input set.
    """

    constraint: Constraint
    about_inputs: bool


@dataclass(frozen=True)
class And:
    """All parts hold."""

    parts: "tuple[Formula, ...]"


@dataclass(frozen=True)
class Or:
    """Some part holds."""

    parts: "tuple[Formula, ...]"


Formula = Literal | And | Or
Conjunction = tuple[Literal, ...]


def disjuncts(formula: Formula) -> list[Conjunction]:
    """The conjunctions whose disjunction the formula is.

    Raises:
        Unsupported: if there would be more than 200,000.

    Trust: exact; by distribution alone, nothing is simplified.
    """
    match formula:
        case Literal():
            return [(formula,)]
        case Or(parts):
            found: list[Conjunction] = []
            for part in parts:
                found.extend(disjuncts(part))
                _guard(len(found))
            return found
        case And(parts):
            product: list[Conjunction] = [()]
            for part in parts:
                factor = disjuncts(part)
                _guard(len(product) * len(factor))
                if len(factor) == 1 and len(product) == 1:
                    product = [product[0] + factor[0]]
                else:
                    product = [left + right for left in product for right in factor]
            return product


def _guard(count: int) -> None:
    if count > _MOST_CASES:
        raise Unsupported(
            f"written as a disjunction the property has more than {_MOST_CASES:,} cases"
        )
