"""What a climb knows so far; written by the climb, and read by whoever ends it."""

from __future__ import annotations

import math

from hullmark.exact import nearest
from hullmark.ladder.quantity import Quantity
from hullmark.ladder.rungs import Ended, Ladder, Real, Rung, Skipped, is_finite, place, settled
from hullmark.verdict import Deadline, Monitor, Progress

SPARE = 0.03
"""The part of the time that nothing is planned for."""


class Log:
    """The rungs of a climb, what it had to skip, and the real values it met.

    Arguments:
        clock: of the whole climb.
        monitor: told about progress.
    """

    def __init__(self, clock: Deadline, monitor: Monitor) -> None:
        self.clock = clock
        self.quantity: Quantity | None = None
        self.real = Real()
        self.met_in = 0.0
        self._monitor = monitor
        self._rungs: dict[str, Rung] = {}
        self._skipped: dict[str, str] = {}

    @property
    def left(self) -> float:
        """Seconds that may be planned for."""
        return max(self.clock.remaining() - SPARE * (self.clock.timeout or 0.0), 0.0)

    def has(self, name: str) -> bool:
        """Whether there is a rung of this name."""
        return name in self._rungs

    def add(self, rung: Rung) -> None:
        """Keep a rung."""
        self._rungs[rung.name] = rung
        self._skipped.pop(rung.name, None)

    def skip(self, name: str, why: str) -> None:
        """Keep why there is no rung of this name."""
        self._skipped[name] = why

    def tell(self, name: str, left: int) -> None:
        """Tell the monitor what is tried next, and how many rungs are left, this one included."""
        lower = -math.inf
        if self.quantity is not None and not self.quantity.two_sided:
            lower = max((nearest(rung.lower) for rung in self._rungs.values()), default=lower)
        done, seconds = len(self._rungs), self.clock.elapsed()
        self._monitor.update(Progress(name, lower, left, done, 0.0, seconds, self.clock.timeout))

    def ladder(self, ended: Ended) -> Ladder:
        """What is known by now. May be called from another thread."""
        quantity, rungs, real = self.quantity, dict(self._rungs), self.real
        two_sided = quantity is not None and quantity.two_sided
        if "exact" not in rungs and is_finite(real.least):
            top = real.greatest if two_sided else real.least
            rungs["real"] = Rung("real", "real", real.least, top, 0, self.met_in)
        skipped = sorted(dict(self._skipped).items(), key=lambda item: place(item[0]))
        return Ladder(
            "nothing yet" if quantity is None else quantity.name,
            two_sided,
            settled(list(rungs.values()), real, two_sided),
            tuple(Skipped(name, why) for name, why in skipped),
            self.clock.elapsed(),
            ended,
        )
