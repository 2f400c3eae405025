"""The rungs of any network in floats: the named methods, then a search, then real inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
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
        """Bounds by branch and bound, worst case first.

        A case that is known to be no worse than a value met elsewhere is left as it is, and so
        are those that no time is left for.

        Raises:
            BadInput, MemoryError: as `minimise`.
            Unsupported: if a margin is no linear function of the outputs.
        """
        clock, complete = Deadline(time.perf_counter(), seconds), True
        down, cases = self.quantity.downwards, list(self.quantity.cases())
        order = sorted(range(len(cases)), key=lambda q: self._known[q])
        rows, lower = [_row(case) for _, case in cases], self._known.copy()
        for done, q in enumerate(order):
            met = min(m for m, d in zip(self._met.tolist(), down, strict=True) if d == down[q])
            if self._known[q] >= met:
                continue
            if clock.expired():
                complete = False
                break
            share = max(2 * clock.remaining() / (len(cases) - done + 1), 1e-3)
            limit = Deadline(time.perf_counter(), share)
            lower[q] = self._minimise(q, *cases[q], rows[q], share)
            complete = complete and not limit.expired()
        self._known = np.fmax(self._known, lower)
        return Bounds(lower, complete=complete)

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
