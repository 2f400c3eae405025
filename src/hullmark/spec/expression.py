"""From s-expressions to formulas: comparisons of linear terms, joined by and, or and not."""

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

from hullmark.errors import BadInput
from hullmark.spec.assemble import Assertions
from hullmark.spec.formula import And, Formula, Literal, Or
from hullmark.spec.numbers import as_fraction, parse_number
from hullmark.spec.property import Constraint
from hullmark.spec.sexpr import Expression, Form, SimpleBound, Source, Token


class Scope(Protocol):
    """What the names of a file stand for."""

    def lookup(self, name: str) -> tuple[bool, int]:
        """Whether `name` is an input rather than an output, and its index, from 0.

        Raises:
            BadInput: if there is no such input or output.
        """
        ...


@dataclass
class _Linear:
    """`constant + sum of x[i] * X_i + sum of y[j] * Y_j`, being added up."""

    constant: Fraction = Fraction(0)
    x: dict[int, Fraction] = field(default_factory=dict[int, Fraction])
    y: dict[int, Fraction] = field(default_factory=dict[int, Fraction])

    def add(self, other: "_Linear", factor: Fraction) -> None:
        if other.constant:
            self.constant += other.constant * factor
        for mine, theirs in ((self.x, other.x), (self.y, other.y)):
            for i, coefficient in theirs.items():
                product = coefficient * factor
                mine[i] = mine[i] + product if i in mine else product

    @property
    def is_constant(self) -> bool:
        return not self.x and not self.y


@dataclass(frozen=True)
class Reader:
    """Reads the assertions of one file, in which names mean what `scope` says."""

    source: Source
    scope: Scope
    _seen: dict[tuple[str, ...], Formula] = field(default_factory=dict[tuple[str, ...], Formula])

    def assertion(self, command: Form | SimpleBound, into: Assertions) -> None:
        """Add the condition of an `assert` command to `into`.

        Raises:
            BadInput: if it is not a formula over known names, or not linear; names the line.
            Unsupported: if it uses another operator; names the line.
        """
        if isinstance(command, SimpleBound):
            self._bound(command, into)
            return
        if len(command.items) != 2:
            raise self.source.bad(command.offset, "assert takes exactly one condition")
        try:
            into.add(self._formula(command.items[1], negated=False))
        except RecursionError:
            raise self.source.bad(command.offset, "the condition is nested too deeply") from None

    def _bound(self, bound: SimpleBound, into: Assertions) -> None:
        is_input, index = self._lookup(bound.name, bound.offset)
        number = self._number(bound.number, bound.offset)
        if number is None:
            raise self.source.bad(bound.offset, f"{bound.number!r} is not a number")
        if is_input:
            into.tighten(index, number, upper=bound.is_upper)
            return
        sign = 1 if bound.is_upper else -1
        constraint = Constraint.of({}, {index: sign}, sign * as_fraction(number))
        into.add(Literal(constraint, about_inputs=False))

    def _formula(self, expression: Expression, *, negated: bool) -> Formula:
        operator, operands = self._operation(expression, "a condition")
        if operator == "not":
            if len(operands) != 1:
                raise self.source.bad(expression.offset, "not takes exactly one condition")
            return self._formula(operands[0], negated=not negated)
        if operator in ("and", "or"):
            parts = tuple(self._formula(part, negated=negated) for part in operands)
            if not parts:
                raise self.source.bad(expression.offset, f"{operator} needs a condition")
            return And(parts) if (operator == "and") != negated else Or(parts)
        if operator not in ("<=", ">=", "<", ">", "=", "==", "!="):
            raise self.source.unsupported(
                expression.offset, f"the operator {operator!r} is not supported in a condition"
            )
        if len(operands) < 2 or (operator == "!=" and len(operands) > 2):
            raise self.source.bad(expression.offset, f"{operator} needs two terms to compare")
        # Files repeat the comparisons of two words from case to case.
        words = tuple(operand.text for operand in operands if isinstance(operand, Token))
        key = (operator, *words, "not" if negated else "")
        if len(words) < len(operands):
            return self._compared(operator, operands, negated=negated)
        if key not in self._seen:
            self._seen[key] = self._compared(operator, operands, negated=negated)
        return self._seen[key]

    def _compared(
        self, operator: str, operands: tuple[Expression, ...], *, negated: bool
    ) -> Formula:
        terms = [self._linear(operand) for operand in operands]
        compared = tuple(_compare(operator, a, b, negated=negated) for a, b in pairwise(terms))
        if len(compared) == 1:
            return compared[0]
        return Or(compared) if negated else And(compared)

    def _linear(self, expression: Expression) -> _Linear:
        if isinstance(expression, Token):
            return self._leaf(expression)
        total = _Linear()
        # A stack of summands rather than recursion, since sums may be nested thousands deep.
        pending: list[tuple[Expression, Fraction]] = [(expression, Fraction(1))]
        while pending:
            part, factor = pending.pop()
            if isinstance(part, Token):
                total.add(self._leaf(part), factor)
                continue
            operator, operands = self._operation(part, "a term")
            if not operands:
                raise self.source.bad(part.offset, f"{operator} needs a term")
            if operator == "+":
                pending.extend((operand, factor) for operand in operands)
            elif operator == "-" and len(operands) == 1:
                pending.append((operands[0], -factor))
            elif operator == "-":
                pending.append((operands[0], factor))
                pending.extend((operand, -factor) for operand in operands[1:])
            elif operator in ("*", "/"):
                total.add(self._product(operator, operands, part.offset), factor)
            else:
                raise self.source.unsupported(
                    part.offset, f"the operator {operator!r} is not supported in a term"
                )
        return total

    def _product(self, operator: str, operands: tuple[Expression, ...], offset: int) -> _Linear:
        result = self._linear(operands[0])
        for operand in operands[1:]:
            factor = self._linear(operand)
            if operator == "/":
                if not factor.is_constant or not factor.constant:
                    raise self.source.bad(offset, "a term is divided by what is not a number")
                scaled, by = result, 1 / factor.constant
            elif factor.is_constant:
                scaled, by = result, factor.constant
            elif result.is_constant:
                scaled, by = factor, result.constant
            else:
                raise self.source.bad(offset, "a product of variables is not linear")
            result = _Linear()
            result.add(scaled, by)
        return result

    def _leaf(self, token: Token) -> _Linear:
        number = self._number(token.text, token.offset)
        if number is not None:
            return _Linear(as_fraction(number))
        is_input, index = self._lookup(token.text, token.offset)
        one = {index: Fraction(1)}
        return _Linear(x=one) if is_input else _Linear(y=one)

    def _operation(self, expression: Expression, what: str) -> tuple[str, tuple[Expression, ...]]:
        if isinstance(expression, Token):
            raise self.source.bad(expression.offset, f"{expression.text!r} is not {what}")
        if not expression.items or not isinstance(expression.items[0], Token):
            raise self.source.bad(expression.offset, f"{what} must begin with an operator")
        return expression.items[0].text, expression.items[1:]

    def _number(self, text: str, offset: int) -> Decimal | None:
        try:
            return parse_number(text)
        except BadInput as error:
            raise self.source.bad(offset, str(error)) from None

    def _lookup(self, name: str, offset: int) -> tuple[bool, int]:
        try:
            return self.scope.lookup(name)
        except BadInput as error:
            raise self.source.bad(offset, str(error)) from None


def _compare(operator: str, a: _Linear, b: _Linear, *, negated: bool) -> Formula:
    """The formula `a operator b`, or its negation."""
    if operator in ("=", "==", "!="):
        below, above = (
            _at_most(left, right, strict=(operator == "!=") != negated)
            for left, right in ((a, b), (b, a))
        )
        return Or((below, above)) if (operator == "!=") != negated else And((below, above))
    if operator in (">=", ">"):
        a, b = b, a
    strict = operator in ("<", ">")
    return _at_most(b, a, strict=not strict) if negated else _at_most(a, b, strict=strict)


def _at_most(a: _Linear, b: _Linear, *, strict: bool) -> Literal:
    difference = _Linear(a.constant, dict(a.x), dict(a.y))
    difference.add(b, Fraction(-1))
    constraint = Constraint.of(difference.x, difference.y, -difference.constant, strict=strict)
    return Literal(constraint, about_inputs=bool(difference.x) and not difference.y)
