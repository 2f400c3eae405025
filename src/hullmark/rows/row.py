"""The row, the derivations that it may have, and their exact check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import inf, isfinite

from hullmark.errors import BadInput
from hullmark.exact import round_up
from hullmark.rows.forms import Form, Intervals, View
from hullmark.rows.names import Kink, Name, Split, Terms, Value


@dataclass(frozen=True, eq=False)
class Propagated:
    """Proved by a backward pass over the network, in which the rows of `uses` had multipliers."""

    uses: tuple[Row, ...] = ()


@dataclass(frozen=True, eq=False)
class Defined:
    """One direction of the network's own equation of that value, an affine form of others."""

    value: Value


@dataclass(frozen=True, eq=False)
class Assumed:
    """`-sign * pre <= 0`: the split itself."""

    split: Split


@dataclass(frozen=True, eq=False)
class Combined:
    """For each sign pattern of the kinks, parents and signs with multipliers that imply the row.

    `patterns` has one entry for each pattern in the order of `product((-1, 1), repeat=k)`: pairs
    of a member and its multiplier `>= 0`. Member `i < len(parents)` is a parent, and
    `len(parents) + j` the row `-sign_j * pre_j <= 0`. Where a pattern holds, `post_j` is a slope
    times `pre_j` and the indicator of `pre_j` is 1 or 0. What the members leave over of a row is
    charged against the intervals that parents with one term and the signs give.
    """

    parents: tuple[Row, ...]
    kinks: tuple[Kink, ...]
    patterns: tuple[tuple[tuple[int, float], ...], ...]

    def implied(self, terms: Terms) -> Fraction | float:
        """The least right-hand side that the multipliers prove for `sum coefficient * term`.

        Returns:
            A fraction; `inf` if they prove none; `-inf` if they prove every pattern impossible.

        Trust: exact, given the parents and the kinks.
        """
        if len(self.patterns) != 2 ** len(self.kinks):
            return inf
        signs = product((-1, 1), repeat=len(self.kinks))
        pairs = zip(signs, self.patterns, strict=True)
        return max(self._bound(terms, sign, chosen) for sign, chosen in pairs)

    def _bound(
        self, terms: Terms, signs: tuple[int, ...], chosen: tuple[tuple[int, float], ...]
    ) -> Fraction | float:
        """`implied` where the kinks have these signs."""
        view = View(self.kinks, signs)
        members = len(self.parents) + len(self.kinks)
        total = Form()
        for member, multiplier in chosen:
            if not (0 <= member < members and 0 <= multiplier < inf):
                return inf
            if member < len(self.parents):
                form = view.form(self._exact[member])
            else:
                form = view.sign(member - len(self.parents))
            total.add(form, Fraction(multiplier))
        intervals = Intervals()
        for form in (*map(view.form, self._units), *map(view.sign, range(len(signs)))):
            intervals.learn(form)
        if intervals.empty or intervals.largest(total.scaled(Fraction(-1))) < 0:
            return -inf
        goal = view.form(Form.of(terms, 0.0))
        goal.add(total, Fraction(-1))
        return intervals.largest(goal)

    @cached_property
    def _exact(self) -> tuple[Form, ...]:
        return tuple(Form.of(parent.terms, parent.rhs) for parent in self.parents)

    @cached_property
    def _units(self) -> tuple[Form, ...]:
        return tuple(form for form in self._exact if len(form.terms) == 1)


Derivation = Propagated | Defined | Assumed | Combined


@dataclass(frozen=True, eq=False)
class Row:
    """`sum coefficient * term <= rhs` at each point of the network where every split holds.

    No name appears twice in `terms`, and all numbers are finite.

    Raises:
        BadInput: if that is not so; shows the term.

    Trust: as good as the derivation; `derived` checks one step of it, `ancestry` lists them.
    """

    terms: Terms
    rhs: float
    scope: frozenset[Split]
    derivation: Derivation

    def __post_init__(self) -> None:
        seen: set[Name] = set()
        for name, coefficient in self.terms:
            if name in seen or not isfinite(coefficient):
                raise BadInput(f"a row has the term {coefficient} * {name}, or has it twice")
            seen.add(name)
        if not isfinite(self.rhs):
            raise BadInput(f"a row has the right-hand side {self.rhs}")

    def derived(self) -> bool:
        """Whether the derivation proves the row from its parents, in the row's scope.

        Trust: exact. Leaves (`Propagated`, `Defined`) are the network's business and only
        checked for their scope, and so are a combination's kinks.
        """
        match self.derivation:
            case Propagated(uses):
                return scope_of(uses) <= self.scope
            case Defined(value):
                return any(name == value for name, _ in self.terms)
            case Assumed(split):
                terms = ((Value(split.node, split.neuron), -split.sign),)
                known = abs(split.sign) == 1 and split in self.scope
                return known and self.terms == terms and self.rhs >= 0
            case Combined(parents) as combined:
                return scope_of(parents) <= self.scope and combined.implied(self.terms) <= self.rhs

    def ancestry(self) -> tuple[Row, ...]:
        """The row and all rows that it rests on, each once, parents before their children."""
        done: dict[int, Row] = {}
        stack: list[tuple[Row, bool]] = [(self, False)]
        while stack:
            row, ready = stack.pop()
            if id(row) in done:
                continue
            if ready:
                done[id(row)] = row
                continue
            stack.append((row, True))
            stack.extend((parent, False) for parent in _parents(row.derivation))
        return tuple(done.values())

    def excess(self, values: Mapping[Name, Fraction]) -> Fraction:
        """How far a point is beyond the row; at most 0 where the row holds. Exact."""
        total = -Fraction(self.rhs)
        for name, coefficient in self.terms:
            total += Fraction(coefficient) * values[name]
        return total


def combine(terms: Terms, scope: frozenset[Split], combined: Combined) -> Row | None:
    """The row with these terms and the least right-hand side in floats that is proved for it.

    Returns:
        None if the combination proves nothing, or more than any row says.

    Trust: exact; the right-hand side is rounded up.
    """
    bound = combined.implied(terms)
    if not isinstance(bound, Fraction) or not isfinite(round_up(bound)):
        return None
    return Row(terms, round_up(bound), scope | scope_of(combined.parents), combined)


def _parents(derivation: Derivation) -> tuple[Row, ...]:
    match derivation:
        case Propagated(rows) | Combined(rows):
            return rows
        case Defined() | Assumed():
            return ()


def scope_of(rows: tuple[Row, ...]) -> frozenset[Split]:
    """The splits that all of the rows together need."""
    return frozenset[Split]().union(*(row.scope for row in rows))
