"""What a method is given, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.cutloop import Optimum
from hullmark.encode import Proof
from hullmark.network.ops import Array
from hullmark.verdict import Deadline


@dataclass(frozen=True, eq=False)
class Task:
    """The queries of a question over one box.

    `lower`, `upper` `(n,)`: the box, of the program's device and precision; `objective`: first one
    query for each of the `cases` of a property, then linear functions of the outputs, one row a
    query.
    """

    program: Program
    lower: Tensor
    upper: Tensor
    objective: Objective
    cases: int
    clock: Deadline

    @property
    def margins(self) -> Objective | None:
        """The cases of the property, None if there are none."""
        return self.objective.select(slice(self.cases)) if self.cases else None

    @property
    def values(self) -> Objective:
        """The linear functions, without the padding that cases of several rows bring."""
        found = self.objective.select(slice(self.cases, None))
        return Objective(
            found.y[:, :, :1],
            None if found.x is None else found.x[:, :, :1],
            found.bound[:, :, :1],
            found.used[:, :, :1],
            found.roundoff,
        )

    def parts(self) -> tuple[Objective, ...]:
        """Margins and values, in this order, which is that of all queries."""
        margins = self.margins
        return (self.values,) if margins is None else (margins, self.values)

    def relaxation(self) -> Relaxation:
        """The relaxation of the box, nothing bounded yet."""
        return Relaxation(self.program, self.lower.unsqueeze(0), self.upper.unsqueeze(0))


@dataclass(frozen=True, eq=False)
class Bounded:
    """Lower bounds `(Q,)` of all queries of a task, margins first.

    `positive`: whether all margins are shown to be positive; `rows`: how many joint rows the bound
    of the worst margin rests on (without margins: all bounds together); `complete`: whether the
    method did all that it would have done with more time; `attained`: by query; `proofs`: of the
    joint rows, None where there is none.

    Trust: every bound holds in real arithmetic; those of margins by `mined` as `bound_by_duals`
    says.
    """

    lower: Array
    positive: bool
    rows: int = 0
    complete: bool = True
    attained: Mapping[int, Optimum] = field(default_factory=dict[int, Optimum])
    proofs: tuple[Proof | None, ...] = ()

    @staticmethod
    def plain(task: Task, lower: Array, complete: bool) -> "Bounded":
        """Bounds that rest on no joint rows."""
        positive = bool(np.all(lower[: task.cases] > 0))
        return Bounded(lower, positive, complete=complete)
