"""When a subproblem is closed, and what a promising point is worth.

A search asks its judge for the threshold that a bound must exceed, and offers it the points that
its relaxations suggest.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from hullmark.search.witness import Replay
from hullmark.verdict import Witness

# How many points of a batch are replayed.
REPLAYED = 2


# Points of a hunt.
HUNTED = 24

Hunt = Callable[[Tensor, Tensor], Witness | None]


class Judge(Protocol):
    """Decides which bounds suffice, and takes points in."""

    @property
    def threshold(self) -> float:
        """A subproblem is closed when its lower bound exceeds this."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the search may end at once."""
        ...

    def offer(self, x: Tensor, margin: Tensor, case: Tensor) -> None:
        """Consider inputs `(N, n)`, their margins `(N,)` and the cases `(N,)` they belong to."""
        ...

    def hunt(self, x: Tensor, margin: Tensor, case: Tensor) -> None:
        """Look for better points near these, as for `offer`; called now and then."""
        ...


class WitnessJudge:
    """Looks for a counterexample: a margin of at most 0 that replays exactly.

    Arguments:
        replay: turns points into witnesses.
        hunt: local search from points `(N, n)` of the cases `(N,)`.
    """

    threshold = 0.0

    def __init__(self, replay: Replay, hunt: Hunt) -> None:
        self._replay = replay
        self._hunt = hunt
        self.witness: Witness | None = None

    @property
    def finished(self) -> bool:
        return self._replay.settles(self.witness)

    def take(self, witness: Witness | None) -> None:
        """Keep a witness if it is the first, or better than the one there is."""
        if witness is not None and (self.witness is None or not witness.rounding):
            self.witness = witness

    def offer(self, x: Tensor, margin: Tensor, case: Tensor) -> None:
        """Replay the points that violate their case in this precision, the worst first."""
        for k in torch.argsort(margin)[:REPLAYED].tolist():
            if self.finished or float(margin[k]) > 0:
                return
            self.take(self._replay.confirm(x[k].double().cpu().numpy(), int(case[k])))

    def hunt(self, x: Tensor, margin: Tensor, case: Tensor) -> None:
        """Descend from the points that are nearest to a violation."""
        if not self.finished:
            near = torch.argsort(margin)[:HUNTED]
            self.take(self._hunt(x[near], case[near]))


class IncumbentJudge:
    """Looks for the least margin, to within `gap`.

    Arguments:
        gap: absolute; the search ends when every bound is within it of the incumbent.

    Trust: the incumbent is a float evaluation, so only good to its rounding.
    """

    finished = False

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self.incumbent = torch.inf
        self.point: Tensor | None = None

    @property
    def threshold(self) -> float:
        return self.incumbent - self._gap

    def offer(self, x: Tensor, margin: Tensor, case: Tensor) -> None:
        """Keep the best point."""
        k = int(torch.argmin(margin))
        if float(margin[k]) < self.incumbent:
            self.incumbent, self.point = float(margin[k]), x[k].clone()

    def hunt(self, x: Tensor, margin: Tensor, case: Tensor) -> None:
        """Nothing more than `offer` does."""
