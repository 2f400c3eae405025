"""What a method is given, and what it gives back."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.network.ops import Array


@dataclass(frozen=True)
class Clock:
    """Says when it is time to stop; `until` is a reading of `time.perf_counter()`."""

    until: float

    def __call__(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self.until

    def left(self) -> float:
        """The seconds that are left, at least 0."""
        return max(0.0, self.until - time.perf_counter())

    def share(self, part: float) -> "Clock":
        """A clock for that part of the time that is left."""
        return Clock(time.perf_counter() + part * self.left())


@dataclass(frozen=True, eq=False)
class Task:
    """The queries of a question over one box.

    `lower`, `upper` `(n,)`: the box, of the program's device and precision; `margins`: one query
    for each case of a property, None if there is none; `values`: linear functions of the outputs,
    one row a query.
    """

    program: Program
    lower: Tensor
    upper: Tensor
    margins: Objective | None
    values: Objective
    clock: Clock

    @property
    def cases(self) -> int:
        """The number of margins."""
        return 0 if self.margins is None else self.margins.queries

    def parts(self) -> tuple[Objective, ...]:
        """Margins and values, in this order, which is that of all queries."""
        return (self.values,) if self.margins is None else (self.margins, self.values)


class Attained(NamedTuple):
    """An input at which a query is at most `gap` above its bound, which is therefore exact to
    that gap; the least value of the query lies between the two."""

    input: Array
    gap: float


@dataclass(frozen=True, eq=False)
class Bounded:
    """Lower bounds `(Q,)` of all queries of a task, margins first.

    `positive`: whether all margins are shown to be positive; `rows`: how many joint rows the bound
    of the worst margin rests on (without margins: all bounds together); `complete`: whether the
    method did all that it would have done with more time; `attained`: by query.

    Trust: every bound holds in real arithmetic, those of margins by `mined` as `duals.mined` says.
    """

    lower: Array
    positive: bool
    rows: int = 0
    complete: bool = True
    attained: Mapping[int, Attained] = field(default_factory=dict[int, Attained])

    @staticmethod
    def plain(task: Task, lower: Array) -> "Bounded":
        """Bounds that say all there is."""
        return Bounded(lower, bool(np.all(lower[: task.cases] > 0)))
