"""What climbing a ladder ends with: the rungs, what they are worth, and what was out of reach."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hullmark.exact import figures, round_down, round_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Number: TypeAlias = Fraction | float
Kind: TypeAlias = Literal["exact", "sound float", "real"]
Ended: TypeAlias = Literal["complete", "timeout", "interrupted"]

ATTAINED = 1e-6
"""A float bound that the network comes as near to as this, relative to its size beyond 1, is
taken to be attained."""

LONGEST = 4000
"""Letters of a fraction that is written as one into a record; Python itself writes no integer of
over 4300 digits."""

ORDER = (
    "ibp",
    "deepz",
    "deeppoly0",
    "deeppoly1",
    "deeppoly",
    "crown",
    "best",
    "alpha",
    "triangle",
    "refinezono",
    "krelu",
    "kpoly",
    "multivariate",
    "mk",
    "mko",
    "prima",
    "mined",
    "p1",
    "pr",
    "search",
    "exact",
    "real",
)
"""All names that a rung can have, from the foot of the ladder to its top."""


@dataclass(frozen=True)
class Rung:
    """What one relaxation says of the quantity that a ladder is about.

    Arguments:
        name: the method or relaxation, with its option, as "krelu k=2".
        kind: "exact" where `lower` and `upper` are the relaxation's own bounds, as fractions;
            "sound float" where they are floats, rounded outwards; "real" where they are values
            that the network takes, so that they bound the truth from inside.
        lower, upper: the bounds. Of a worst margin only `lower` is a bound of the relaxation's,
            and `upper` is the least margin that is known to be real, infinity if none is.
        rows: of "exact" the linear constraints of all programs together; of "sound float" the
            joint rows that the bounds rest on; 0 for what solves none.
        seconds: wall-clock time.
        attained: whether the network takes the bounds, so that no method can do better; of a
            float bound, to `ATTAINED`. None if that is not known.
        note: one line for a person, possibly empty.
        complete: False if time cut the method short, so that with more of it the bounds may
            become better.

    Trust: as the kind says; `attained` follows from bounds and values that are sound.
    """

    name: str
    kind: Kind
    lower: Number
    upper: Number
    rows: int
    seconds: float
    attained: bool | None = None
    note: str = ""
    complete: bool = True

    @property
    def gap(self) -> Number:
        """How far the ends are apart; a float is rounded up."""
        if not (is_finite(self.lower) and is_finite(self.upper)):
            return math.inf
        difference = Fraction(self.upper) - Fraction(self.lower)
        both = isinstance(self.lower, Fraction) and isinstance(self.upper, Fraction)
        return difference if both else round_up(difference)

    def roundings(self, two_sided: bool) -> tuple[bool, bool]:
        """Whether `lower`, and whether `upper`, is rounded up where it is rounded.

        A bound is rounded outwards, and what is met inwards.
        """
        real = self.kind == "real"
        return real, not (real and two_sided)

    def record(self, two_sided: bool) -> dict[str, Any]:
        """The rung as plain values, as `Ladder.record` says."""
        up_lower, up_upper = self.roundings(two_sided)
        gap = self.gap
        return {
            "name": self.name,
            "kind": self.kind,
            "lower": _plain(self.lower, up_lower),
            "upper": _plain(self.upper, up_upper),
            "gap": _plain(gap, True),
            "rounded": any(_is_long(value) for value in (self.lower, self.upper, gap)),
            "rows": self.rows,
            "seconds": self.seconds,
            "attained": self.attained,
            "complete": self.complete,
            "note": self.note,
        }


@dataclass(frozen=True)
class Skipped:
    """A rung that was not climbed, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Ladder:
    """One quantity of a network on an input set, bounded from IBP to exact.

    Arguments:
        quantity: what is bounded, as "worst margin" or "Y_0".
        two_sided: False for a worst margin, which is only bounded from below.
        rungs: in the order of the theory, from weak to strong. The order of their bounds may
            differ: not all relaxations can be compared.
        skipped: what was out of reach, in the same order.
        seconds: wall-clock time, loading included.
        ended: "complete", or what cut the climb short: "timeout" or "interrupted".

    Trust: that of each rung.
    """

    quantity: str
    two_sided: bool
    rungs: tuple[Rung, ...]
    skipped: tuple[Skipped, ...]
    seconds: float
    ended: Ended = "complete"

    @property
    def truth(self) -> Rung | None:
        """The rung that says which values are real: "exact", or else "real"; None without both."""
        named = {rung.name: rung for rung in self.rungs}
        return named.get("exact") or named.get("real")

    def table(self, width: int | None = None) -> str:
        """The rungs as text, one line each.

        Arguments:
            width: of a line, in letters; as wide as it needs to be if None.
        """
        from hullmark.ladder.table import table_text

        return table_text(self, width)

    def plot(self) -> Figure:
        """The rungs as bars from lower to upper bound, over what is real.

        Raises:
            BadInput: if matplotlib is not installed, or there is no rung.
        """
        from hullmark.ladder.picture import draw

        return draw(self)

    def record(self) -> dict[str, Any]:
        """All of it as plain values: fractions as text, infinities as None.

        Fractions of more than `LONGEST` letters are floats, bounds rounded outwards; their rung
        is marked as `rounded`.
        """
        return {
            "quantity": self.quantity,
            "two_sided": self.two_sided,
            "ended": self.ended,
            "seconds": self.seconds,
            "rungs": [rung.record(self.two_sided) for rung in self.rungs],
            "skipped": [{"name": skip.name, "why": skip.why} for skip in self.skipped],
        }


@dataclass(frozen=True)
class Real:
    """The least and the greatest value that the network is known to take."""

    least: Number = math.inf
    greatest: Number = -math.inf

    def joined(self, other: Real) -> Real:
        """What is known from both."""
        return Real(min(self.least, other.least), max(self.greatest, other.greatest))


def place(name: str) -> tuple[int, str]:
    """Where a name stands on the ladder: a key to sort by."""
    return ORDER.index(name.split()[0]), name


def settled(rungs: list[Rung], real: Real, two_sided: bool) -> tuple[Rung, ...]:
    """The rungs in order, each with what all of them together tell about it.

    Of a worst margin, `upper` becomes the least margin known. A bound is attained if a real value
    is as near to it as the kind of the rung asks for, and is not if another rung's bound is
    better by more than that.
    """
    bounds = [rung for rung in rungs if rung.kind != "real"]
    lower = max((rung.lower for rung in bounds), default=-math.inf)
    upper = min((rung.upper for rung in bounds), default=math.inf) if two_sided else math.inf
    found: list[Rung] = []
    for rung in sorted(rungs, key=lambda rung: place(rung.name)):
        if rung.kind == "real":
            found.append(rung)
            continue
        sides = [_attained(rung, rung.lower, real.least, lower)]
        if two_sided:
            sides.append(_attained(rung, -rung.upper, -real.greatest, -upper))
        attained = False if False in sides else None if None in sides else True
        top = rung.upper if two_sided else real.least
        found.append(replace(rung, upper=top, attained=attained))
    return tuple(found)


def _attained(rung: Rung, bound: Number, real: Number, best: Number) -> bool | None:
    """Whether a lower bound is attained, given a real value and the best bound known."""
    if not is_finite(bound):
        return False if best > bound else None
    slack = 0 if rung.kind == "exact" else Fraction(ATTAINED) * max(1, abs(Fraction(bound)))
    reach = Fraction(bound) + slack
    if real <= reach:
        return True
    return False if best > reach else None


def is_finite(value: Number) -> bool:
    """Whether a number is finite; a fraction is, also beyond the range of floats."""
    return isinstance(value, Fraction) or math.isfinite(value)


def _is_long(value: Number) -> bool:
    return isinstance(value, Fraction) and figures(value, LONGEST) is None


def _plain(value: Number, up: bool) -> float | str | None:
    if isinstance(value, Fraction):
        text = figures(value, LONGEST)
        if text is not None:
            return text
        value = round_up(value) if up else round_down(value)
    return value if math.isfinite(value) else None
