"""From a promising input to a witness: replayed on the original network, decided exactly.

A search works on its own copy of the network, in its own precision, over boxes rounded
outwards. What it finds is a candidate. Here a candidate is moved to representable inputs of the
closed set as written, run through the original file's runtime one at a time, as a third party
would, and judged by `Property.violated_case` on the numbers that came out. No tolerance.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hullmark.errors import BadInput
from hullmark.network.model import Model
from hullmark.network.ops import Array
from hullmark.spec.property import Case, Property
from hullmark.spec.sets import Box, Inside
from hullmark.verdict import Witness

# How far outside its box, relative to its size, a candidate may lie and still be meant for it.
NEAR = 1e-6
# How many boxes a candidate that names no case is tried on.
BOXES_TRIED = 4
# A candidate whose replay misses by more than this fraction of its outputs is not repaired.
REPAIRABLE = 1e-3
# How many candidates of a batch are replayed one at a time.
REPLAYS = 16
# Fractions of the box's width within which a coordinate is moved to the end it is near to, and
# fractions of the way that all coordinates are moved to the middle.
SNAPS = (1e-6, 1e-3)
PULLS = (1e-6, 1e-4)


class Replay:
    """Confirms candidates for one model and property; keeps the representable boxes.

    Arguments:
        model: the network together with its original runtime.
        prop: the property, over the same inputs and outputs.

    Raises:
        BadInput: if the sizes of the two differ.
    """

    def __init__(self, model: Model, prop: Property) -> None:
        network = model.network
        if (network.input_size, network.output_size) != (prop.input_size, prop.output_size):
            raise BadInput(
                f"{prop.source} is about {prop.input_size} inputs and {prop.output_size} outputs, "
                f"but {model.source} has {network.input_size} and {network.output_size}"
            )
        self._model = model
        self._groups = tuple(_Group(prop, box, members) for box, members in prop.groups)
        self._group_of = {i: g for g in self._groups for i in g.members}

    def settles(self, witness: Witness | None) -> bool:
        """Whether no better witness can be hoped for.

        One up to input rounding is good enough only where no box holds a representable input.
        """
        if witness is None:
            return False
        dtype = self._model.dtype
        return not witness.rounding or all(g.inside(dtype).rounding.any() for g in self._groups)

    def confirm(self, x: Array, case: int | None = None) -> Witness | None:
        """The witness that `x` leads to, if any.

        Arguments:
            x: shape `(n,)`; may lie slightly outside the box, or violate only nearly.
            case: the case whose box `x` is meant for; any box near `x` if None.

        Returns:
            A witness, preferably one inside the input set as written, or None.

        Trust: a witness is exact as `Witness` says; None says nothing.
        """
        x = np.asarray(x, dtype=np.float64).reshape(-1)
        if not self._groups or not np.isfinite(x).all():
            return None
        best: Witness | None = None
        for group in self._near(x, case):
            witness = self._try_repairs(group, x)
            if witness is not None:
                if not witness.rounding:
                    return witness
                best = best or witness
        return best

    def confirm_any(self, candidates: Array, case: int | None = None) -> Witness | None:
        """The first witness that some of the candidates `(b, n)` lead to, the most violating first.

        Arguments and trust are those of `confirm`. The batch is only used to choose which
        candidates to replay: a runtime may round differently for another batch size.
        """
        candidates = np.asarray(candidates, dtype=np.float64)
        candidates = candidates[np.isfinite(candidates).all(axis=1)]
        if self._groups and len(candidates) > 1:
            margins = self._screen(candidates, case)
            order = np.argsort(margins, kind="stable")
            candidates = candidates[order[:REPLAYS]]
        best: Witness | None = None
        for x in candidates:
            witness = self.confirm(x, case)
            if witness is not None:
                if not witness.rounding:
                    return witness
                best = best or witness
        return best

    def _near(self, x: Array, case: int | None) -> "Sequence[_Group]":
        if case is not None:
            return [self._group_of[case]]
        if len(self._groups) <= 1:
            return self._groups
        excess = [g.excess(x) for g in self._groups]
        order = sorted(range(len(excess)), key=excess.__getitem__)[:BOXES_TRIED]
        return [self._groups[i] for i in order if excess[i] <= max(NEAR, excess[order[0]])]

    def _screen(self, candidates: Array, case: int | None) -> Array:
        """The margin that the original, run on a batch, gives each candidate in its first group."""
        chosen = [self._near(x, case)[0] for x in candidates]
        dtype = self._model.dtype
        points = np.stack([g.project(x, dtype) for g, x in zip(chosen, candidates, strict=True)])
        outputs = self._model.replay(points)
        return np.array(
            [g.float_margin(x, y) for g, x, y in zip(chosen, points, outputs, strict=True)]
        )

    def _try_repairs(self, group: "_Group", x: Array) -> Witness | None:
        """Replay `x` and, if it only just fails, a few inputs next to it."""
        seen: set[bytes] = set()
        for point in group.variants(x, self._model.dtype):
            key = point.tobytes()
            if key in seen:
                continue
            seen.add(key)
            output = self._model.replay(point[None])[0]
            scale = float(np.max(np.abs(output), initial=1.0))
            if group.float_margin(point, output) > REPAIRABLE * scale:
                return None
            witness = group.judge(point, output)
            if witness is not None:
                return witness
        return None


class _Group:
    """The cases over one box, and the representable inputs of that box."""

    def __init__(self, prop: Property, box: Box, members: tuple[int, ...]) -> None:
        self.members = members
        self._box = box
        self._inside: Inside | None = None
        self._rows = _stack([prop.cases[i] for i in members])
        # The same cases as a property of their own, so that its meaning of a violation decides.
        self._property = Property(
            prop.input_size, prop.output_size, tuple(prop.cases[i] for i in members), prop.source
        )

    def inside(self, dtype: np.dtype) -> Inside:
        """The largest representable box, computed once."""
        if self._inside is None:
            self._inside = self._box.float_inside(dtype)
        return self._inside

    def excess(self, x: Array) -> float:
        """How far `x` lies outside the box, relative to the size of its bounds."""
        scale = 1 + np.maximum(np.abs(self._box.lower), np.abs(self._box.upper))
        out = np.maximum(self._box.lower - x, x - self._box.upper) / scale
        return max(float(out.max(initial=0.0)), 0.0)

    def project(self, x: Array, dtype: np.dtype) -> Array:
        """The representable input of the box nearest to `x`, coordinate by coordinate."""
        inside = self.inside(dtype)
        # A value beyond float32 becomes infinite and is then brought back to the box.
        with np.errstate(over="ignore"):
            return np.clip(x.astype(dtype), inside.lower, inside.upper)

    def variants(self, x: Array, dtype: np.dtype) -> Iterator[Array]:
        """The projection of `x`, then inputs near it that may do where it only just fails."""
        lower, upper = self._box.lower, self._box.upper
        yield self.project(x, dtype)
        for snap in SNAPS:
            reach = snap * (upper - lower)
            snapped = np.where(x <= lower + reach, lower, np.where(x >= upper - reach, upper, x))
            yield self.project(snapped, dtype)
        middle = lower + 0.5 * (upper - lower)
        for pull in PULLS:
            yield self.project(x + pull * (middle - x), dtype)

    def float_margin(self, x: Array, y: Array) -> float:
        """The least margin over the cases, in plain floating point: a guide, never a verdict."""
        if not np.isfinite(y).all():
            return math.inf
        rows = self._rows
        if rows is None:
            return -math.inf
        values = rows.y @ y.astype(np.float64) - rows.bound
        if rows.x is not None:
            values = values + rows.x @ x.astype(np.float64)
        return float(np.maximum.reduceat(values, rows.starts).min())

    def judge(self, x: Array, y: Array) -> Witness | None:
        """The witness that `x`, with original output `y`, is; None if it is none.

        Trust: exact. With no coordinate rounded, `x` must lie in the closed box as written;
        otherwise it differs from the box only where the box holds no representable number.
        """
        inside = self.inside(x.dtype)
        rounding = float(inside.rounding.max(initial=0.0))
        found = self._property.violated_case(x, y, box=rounding == 0)
        if found is None:
            return None
        margin = exact_margin(self._property.cases[found], x, y)
        return Witness(x, y, self.members[found], rounding, margin)


def confirm(model: Model, prop: Property, x: Array, case: int | None = None) -> Witness | None:
    """`Replay.confirm` for a single candidate `x` of shape `(n,)`."""
    return Replay(model, prop).confirm(x, case)


def confirm_any(
    model: Model, prop: Property, candidates: Array, case: int | None = None
) -> Witness | None:
    """`Replay.confirm_any` for a single batch of candidates of shape `(b, n)`."""
    return Replay(model, prop).confirm_any(candidates, case)


def exact_margin(case: Case, x: Array, y: Array) -> float:
    """The largest `row value - bound` over the constraints of `case`; minus infinity without any.

    Arguments:
        x, y: finite floats, shapes `(n,)` and `(k,)`.

    Trust: computed exactly, then rounded to the nearest float.
    """
    margins = [
        sum((c * Fraction(float(x[i])) for i, c in constraint.x), Fraction(0))
        + sum((c * Fraction(float(y[j])) for j, c in constraint.y), Fraction(0))
        - constraint.bound
        for constraint in case.constraints
    ]
    return float(max(margins)) if margins else -math.inf


@dataclass(frozen=True, eq=False)
class _Stacked:
    """The rows of several cases one below the other; case i begins at row `starts[i]`."""

    x: Array | None
    y: Array
    bound: Array
    starts: Array


def _stack(cases: Sequence[Case]) -> _Stacked | None:
    """The rows of all cases; None if some case has none, so that its margin is minus infinity."""
    rows = [case.rows for case in cases]
    sizes = [len(r.bound) for r in rows]
    if min(sizes) == 0:
        return None
    x: Array | None = None
    if any(r.x is not None for r in rows):
        n = cases[0].box.size
        x = np.concatenate([np.zeros((len(r.bound), n)) if r.x is None else r.x for r in rows])
    starts = np.cumsum([0, *sizes[:-1]])
    y, bound = np.concatenate([r.y for r in rows]), np.concatenate([r.bound for r in rows])
    return _Stacked(x, y, bound, starts)
