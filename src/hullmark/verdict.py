"""What a question ends with: `Proved`, `Refuted` or `Unknown`, and what belongs to each.

The margin of a case of the unsafe set at a point is `max(row value - bound)` over its
constraints, so that the point lies in the case only if the margin is at most 0. The *worst
margin* is the least margin over all cases and all admitted inputs: the property holds if it is
positive. Also here is what a search is given (`Options`, `Deadline`) and what it tells while it
runs (`Progress`, `Monitor`).
"""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from hullmark.errors import BadInput

if TYPE_CHECKING:
    from hullmark.network.ops import Array

Reason: TypeAlias = Literal["timeout", "interrupted", "memory", "incomplete"]
Precision: TypeAlias = Literal["float64", "float32"]


@dataclass(frozen=True)
class Stats:
    """How a verdict was reached.

    Arguments:
        method: "bounds", "attack", "input splitting" or "relu splitting".
        domains: how many subproblems were bounded in total.
        leaves: how many subproblems closed the proof.
        attack_points: how many inputs the attack evaluated.
    """

    method: str
    domains: int = 0
    leaves: int = 0
    attack_points: int = 0


@dataclass(frozen=True, eq=False)
class Witness:
    """An input on which the original network, as its own runtime computes it, is unsafe.

    Arguments:
        input: shape `(n,)`, in the dtype of the model's input.
        output: shape `(k,)`, as the original runtime gave it for this one input.
        case: index of the violated case in the property.
        rounding: 0 if the input lies in the closed input set exactly as its decimals are
            written; otherwise some coordinate's interval holds no representable float and this
            is the largest distance of the input from the set, rounded up.
        margin: the largest `row value - bound` of the violated case, never positive.

    Trust: membership and violation are decided in exact arithmetic on these very numbers;
    `margin` is rounded to the nearest float for display.
    """

    input: "Array"
    output: "Array"
    case: int
    rounding: float
    margin: float


@dataclass(frozen=True)
class Proved:
    """No admitted input is unsafe.

    Arguments:
        margin: a proven lower bound of the worst margin. A search stops as soon as every
            subproblem is positive, so that this may be far below the true worst margin, and 0
            where a subproblem was closed by being empty; infinity if no case is left.
        seconds: wall-clock time, from the start that the options name.
        stats: how it was reached.

    Trust: holds for the real function of the stored coefficients; every rounding error is
    charged outwards.
    """

    margin: float
    seconds: float
    stats: Stats


@dataclass(frozen=True)
class Refuted:
    """An admitted input is unsafe, and here it is.

    Arguments:
        witness: the input, replayed on the original network.
        seconds: wall-clock time, from the start that the options name.
        stats: how it was found.
    """

    witness: Witness
    seconds: float
    stats: Stats

    @property
    def up_to_rounding(self) -> bool:
        """Whether the witness is the nearest float to an input set that holds no float."""
        return self.witness.rounding > 0


@dataclass(frozen=True)
class Unknown:
    """Neither proved nor refuted.

    Arguments:
        reason: what ended the search: "timeout", "interrupted", "memory", or "incomplete" where
            the chosen method has nothing further to try.
        lower: the best proven lower bound of the worst margin; minus infinity if there is none.
        open_domains: how many subproblems were still open.
        seconds: wall-clock time, from the start that the options name.
        stats: what was done so far.
        detail: one line for a person, possibly empty.
    """

    reason: Reason
    lower: float
    open_domains: int
    seconds: float
    stats: Stats
    detail: str = ""


Verdict: TypeAlias = Proved | Refuted | Unknown


@dataclass(frozen=True)
class Progress:
    """Where a running search stands.

    Arguments:
        phase: what it is doing, e.g. "attack", "root bounds", "relu splitting".
        lower: the best proven lower bound of the worst margin so far.
        open, done: numbers of subproblems.
        rate: subproblems bounded per second.
        seconds: since the start that the options name.
        timeout: seconds allowed since the same start; None for no limit.
    """

    phase: str
    lower: float
    open: int
    done: int
    rate: float
    seconds: float
    timeout: float | None


class Monitor(Protocol):
    """Whoever watches a search; called from the searching thread, and quick to return."""

    def update(self, progress: Progress) -> None:
        """Take note of `progress`; called as often as the search likes."""
        ...


@dataclass(frozen=True)
class Silent:
    """A monitor that looks away."""

    def update(self, progress: Progress) -> None:
        """Do nothing."""


class Recorder:
    """A monitor that keeps the latest progress and passes it on.

    Arguments:
        inner: who else watches.
    """

    def __init__(self, inner: Monitor) -> None:
        self._inner = inner
        self.last: Progress | None = None

    def update(self, progress: Progress) -> None:
        """Keep `progress` and pass it on."""
        self.last = progress
        self._inner.update(progress)

    def unknown(self, reason: Reason, seconds: float, detail: str) -> Unknown:
        """What is known if the search ends here, from outside.

        Trust: the bound is that of the latest progress, which its search had proven.
        """
        last = self.last
        if last is None:
            return Unknown(reason, -math.inf, 0, seconds, Stats("none"), detail)
        stats = Stats(last.phase, domains=last.done)
        return Unknown(reason, last.lower, last.open, seconds, stats, detail)


@dataclass(frozen=True)
class Deadline:
    """A limit on wall-clock time.

    Arguments:
        started: a reading of `time.perf_counter()`.
        timeout: seconds allowed since then; None for no limit.
    """

    started: float
    timeout: float | None

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def remaining(self) -> float:
        """Seconds left, never negative; infinity without a limit."""
        return math.inf if self.timeout is None else max(self.timeout - self.elapsed(), 0.0)

    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() <= 0


@dataclass(frozen=True)
class Options:
    """What a search may use.

    Arguments:
        timeout: seconds of wall-clock time since `started`; None for no limit.
        device: where tensors live, e.g. "cpu" or "cuda".
        dtype: precision of the bounds; either is rounded outwards.
        seed: of everything random.
        memory: limit in bytes that the search aims to stay under; None for no limit.
        started: the reading of `time.perf_counter()` that the timeout counts from; None for
            the moment `deadline` is called.

    Raises:
        BadInput: if the timeout or the memory limit is not positive, or the precision unknown.
    """

    timeout: float | None = None
    device: str = "cpu"
    dtype: Precision = "float64"
    seed: int = 0
    memory: int | None = None
    started: float | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise BadInput(f"the timeout must be positive, not {self.timeout}")
        if self.memory is not None and self.memory <= 0:
            raise BadInput(f"the memory limit must be positive, not {self.memory}")
        if self.dtype not in ("float64", "float32"):
            raise BadInput(f"the precision must be float64 or float32, not {self.dtype}")

    def deadline(self) -> Deadline:
        """The limit these options set."""
        start = time.perf_counter() if self.started is None else self.started
        return Deadline(start, self.timeout)
