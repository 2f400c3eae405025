"""The rungs of any network in floats: the named methods, then a search, then real inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hullmark.bounds.program import Program
from hullmark.errors import Unsupported
from hullmark.exact import round_down
from hullmark.ladder.quantity import Quantity
from hullmark.ladder.real import descend, value_at
from hullmark.ladder.rungs import Real
from hullmark.methods.ask import bound_queries
from hullmark.methods.names import MethodOptions
from hullmark.network.ops import Array
from hullmark.search.optimum import minimise
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box
from hullmark.verdict import Deadline, Options

GAP = 1e-7
"""A search ends when its bounds are this near to each other, relative to values beyond 1."""

FIRST_ROUND = 0.3
"""The part of its time in which a search has tried every open case once."""

LEAST_SHARE = 0.01
"""Seconds that a case gets at least."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """A lower bound of the margin of every case; `rows` joint rows together are behind them.

    `positive`: whether the margins are shown to be positive, be it by no number that is known;
    asked of margins only.
    """

    lower: Array
    rows: int = 0
    complete: bool = True
    positive: bool = False

    def ends(self, quantity: Quantity) -> tuple[float, float]:
        """The bounds of the quantity; infinity above a worst margin."""
        down = np.array(quantity.downwards)
        upper = -self.lower[~down].min() if quantity.two_sided else np.inf
        return float(self.lower[down].min()), float(upper)


class Floats:
    """Bounds of a quantity in floats, and the values that are met on the way.

    Arguments:
        program: the compiled network.
        quantity: what is bounded, kept under this name.
        options: the device and the seed.

    Trust: every bound is rounded outwards and holds for the boxes rounded outwards to floats; a
    real value is that of an input of such a box, rounded to the safe side.
    """

    def __init__(self, program: Program, quantity: Quantity, options: Options) -> None:
        self._program = program
        self.quantity = quantity
        self._options = options
        cases = [case for _, case in quantity.cases()]
        self._known = np.full(len(cases), -np.inf)
        self._met = np.full(len(cases), np.inf)
        self._points: dict[int, Array] = {}

    @property
    def points(self) -> list[Array]:
        """The inputs of the least margins known, one for each case at most."""
        return list(self._points.values())

    @property
    def real(self) -> Real:
        """The values known so far."""
        ends = Bounds(self._met).ends(self.quantity)
        return Real(ends[0], ends[1] if self.quantity.two_sided else -math.inf)

    def bound(self, method: str, k: int | None, seconds: float) -> Bounds:
        """Bounds by a method of `METHODS`.

        Raises:
            Unsupported: if the network is too large for it, or has operations it cannot bound.
        """
        clock = Deadline(time.perf_counter(), seconds)
        lower: list[Array] = []
        rows, complete, positive = 0, True, True
        parts = self.quantity.parts
        for done, (box, cases) in enumerate(parts):
            # The boxes that are left share the time that is left.
            share = max(clock.remaining() / (len(parts) - done), 1e-3)
            options = MethodOptions(k=k, seconds=share, seed=self._options.seed)
            # What a method may assume of a counterexample helps `mined`; others only lose time
            # on a second kind of query.
            margins = not self.quantity.linear or (
                method == "mined" and not self.quantity.two_sided
            )
            asked = (cases, _nothing(box, cases)) if margins else ((), cases)
            found = bound_queries(self._program, box, *asked, method, options)
            bounds = found.lower[: len(cases)]
            first = sum(len(part) for part in lower)
            for query, optimum in found.attained.items():
                if query < len(cases):
                    self._meet(first + query, box, cases[query], optimum.input)
            lower.append(bounds)
            rows, complete = rows + found.rows, complete and found.complete
            positive = positive and margins and found.positive
        bounds = np.concatenate(lower)
        self._known = np.fmax(self._known, bounds)
        return Bounds(bounds, rows, complete, positive)

    def meet(self, clock: Deadline) -> None:
        """Look for extreme values by descents from random inputs, until time is up at most."""
        first, parts = 0, self.quantity.parts
        for done, (box, cases) in enumerate(parts):
            share = Deadline(time.perf_counter(), clock.remaining() / (len(parts) - done))
            points = descend(self._program, box, cases, self._options.seed, share.expired)
            for number, (case, x) in enumerate(zip(cases, points, strict=True)):
                self._meet(first + number, box, case, x)
            first += len(cases)

    def search(self, seconds: float) -> Bounds:
        """Bounds by branch and bound of all cases that may be the worst, until none is open.

        A case that is known to be no worse than a value met elsewhere is left as it is. The first
        round takes the worst cases first, for the values that it meets, and only a part of the
        time. Later rounds take the easiest first, so that the time that these leave over goes to
        the worst. Every case keeps the best bound that any method has found.

        Raises:
            BadInput, MemoryError: as `minimise`.
            Unsupported: if a margin is no linear function of the outputs.
        """
        clock = Deadline(time.perf_counter(), seconds)
        cases = list(self.quantity.cases())
        rows = [_row(case) for _, case in cases]
        unsettled, first = set(range(len(cases))), True
        while (turn := self._open(unsettled)) and not clock.expired():
            planned = FIRST_ROUND * clock.remaining() if first else clock.remaining()
            end = Deadline(time.perf_counter(), planned)
            for done, q in enumerate(turn if first else turn[::-1]):
                if end.expired():
                    break
                if not self._open({q}):
                    continue
                share = max(end.remaining() / (len(turn) - done), LEAST_SHARE)
                limit = Deadline(time.perf_counter(), share)
                found = self._minimise(q, *cases[q], rows[q], share)
                self._known[q] = np.fmax(self._known[q], found)
                if not limit.expired():
                    unsettled.discard(q)
            first = False
        return Bounds(self._known.copy(), complete=not turn)

    def _open(self, among: Set[int]) -> list[int]:
        """The cases that may be worse than all values met, those with the worst bounds first."""
        down = np.array(self.quantity.downwards)
        least = np.where(down, self._met[down].min(), self._met[~down].min(initial=np.inf))
        return [
            q
            for q in np.argsort(self._known, kind="stable")
            if q in among and self._known[q] < least[q]
        ]

    def _minimise(self, q: int, box: Box, case: Case, row: Array, seconds: float) -> float:
        options = Options(seconds, self._options.device, seed=self._options.seed)
        scale = max(1.0, abs(float(self._met[q]))) if math.isfinite(self._met[q]) else 1.0
        found = minimise(self._program.network, box, row, GAP * scale, None, options)
        if found.point is not None:
            self._meet(q, box, case, found.point)
        if not math.isfinite(found.lower):
            return -math.inf
        return round_down(Fraction(found.lower) - case.constraints[0].bound)

    def _meet(self, q: int, box: Box, case: Case, x: Array) -> None:
        value = value_at(self._program, box, case, x)
        if value < self._met[q]:
            self._met[q], self._points[q] = value, x


def _nothing(box: Box, cases: Sequence[Case]) -> tuple[Case, ...]:
    """A linear function to ask for where only margins are wanted: 0."""
    return (Case(box, (Constraint.of({}, {}, 0),), cases[0].output_size),)


def _row(case: Case) -> Array:
    """The row of a case that has a single one, over outputs only and exact in floats."""
    rows = case.rows
    if len(rows.y) != 1 or rows.x is not None or rows.roundoff:
        raise Unsupported("only linear functions of the outputs are searched for their minimum")
    return rows.y[0]
