"""Linear forms in rationals: the arithmetic behind the check of a derivation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf

from hullmark.rows.names import Indicator, Kink, Name, Terms, Value


@dataclass(slots=True)
class Form:
    """`sum terms <= rhs`, in rationals; a workspace that is added to."""

    terms: dict[Name, Fraction]
    rhs: Fraction

    def __init__(self) -> None:
        self.terms, self.rhs = {}, Fraction(0)

    @classmethod
    def of(cls, terms: Terms, rhs: float) -> Form:
        """Floats as the rationals that they are."""
        form = cls()
        form.terms = {name: Fraction(c) for name, c in terms}
        form.rhs = Fraction(rhs)
        return form

    def add(self, other: Form, factor: Fraction) -> None:
        """Add a multiple of another form."""
        for name, c in other.terms.items():
            self.terms[name] = self.terms.get(name, Fraction(0)) + factor * c
        self.rhs += factor * other.rhs

    def scaled(self, factor: Fraction) -> Form:
        """A multiple of the form, which is an inequality only if the factor is at least 0."""
        form = Form()
        form.add(self, factor)
        return form


class View:
    """Forms as they read where the kinks have given signs."""

    def __init__(self, kinks: tuple[Kink, ...], signs: tuple[int, ...]) -> None:
        self._kinks, self._signs = kinks, signs
        self._values: dict[Name, tuple[Value, Fraction]] = {}
        self._indicators: dict[Name, int] = {}
        for kink, sign in zip(kinks, signs, strict=True):
            slope = kink.positive if sign > 0 else kink.negative
            self._values[kink.post] = (kink.pre, Fraction(slope))
            self._indicators[Indicator(*kink.pre)] = int(sign > 0)

    def form(self, form: Form) -> Form:
        """The form over pre-activations: posts and indicators of the kinks are replaced."""
        seen = Form()
        seen.rhs = form.rhs
        for name, c in form.terms.items():
            if name in self._indicators:
                seen.rhs -= c * self._indicators[name]
                continue
            if name in self._values:
                name, slope = self._values[name]
                c *= slope
            seen.terms[name] = seen.terms.get(name, Fraction(0)) + c
        return seen

    def sign(self, index: int) -> Form:
        """The row `-sign * pre <= 0` of one kink."""
        return Form.of(((self._kinks[index].pre, -self._signs[index]),), 0.0)


class Intervals:
    """What is known of each value by itself; `empty` once two bounds contradict each other."""

    def __init__(self) -> None:
        self._lower: dict[Name, Fraction] = {}
        self._upper: dict[Name, Fraction] = {}
        self.empty = False

    def learn(self, form: Form) -> None:
        """Take in a form with at most one term."""
        name, c = next(iter(form.terms.items()), (None, Fraction(0)))
        if name is None or c == 0:
            self.empty |= form.rhs < 0
            return
        end = form.rhs / c
        if c > 0:
            self._upper[name] = min(end, self._upper.get(name, end))
        else:
            self._lower[name] = max(end, self._lower.get(name, end))
        if name in self._lower and name in self._upper:
            self.empty |= self._lower[name] > self._upper[name]

    def largest(self, form: Form) -> Fraction | float:
        """The largest value of `terms - rhs` over the intervals; infinite if one is missing."""
        total = -form.rhs
        for name, c in form.terms.items():
            if c == 0:
                continue
            ends = self._upper if c > 0 else self._lower
            default = Fraction(int(c > 0)) if isinstance(name, Indicator) else None
            end = ends.get(name, default)
            if end is None:
                return inf
            total += c * end
        return total
