"""What a search shares with whoever watches it: time, progress, and the bound so far."""

import math
import time
from dataclasses import dataclass

from hullmark.verdict import Deadline, Monitor, Progress

# Seconds between two reports to the monitor.
INTERVAL = 0.1


@dataclass(eq=False)
class Effort:
    """Counts and bounds of a running search; the one place that is written to while it runs.

    Arguments:
        deadline: when to stop.
        monitor: who watches.
        limit: bytes that open subproblems may occupy.

    `lower` is the proven bound of the part that is being searched, `elsewhere` that of the rest.
    """

    deadline: Deadline
    monitor: Monitor
    limit: int
    method: str = "bounds"
    lower: float = -math.inf
    elsewhere: float = math.inf
    domains: int = 0
    leaves: int = 0
    open: int = 0
    attack_points: int = 0
    _last: float = 0.0

    @property
    def bound(self) -> float:
        """The proven lower bound of the worst margin."""
        return min(self.lower, self.elsewhere)

    def report(self, phase: str) -> None:
        """Tell the monitor, unless it was told a moment ago."""
        now = time.perf_counter()
        if now - self._last < INTERVAL:
            return
        self._last = now
        seconds = self.deadline.elapsed()
        rate = self.domains / max(seconds, 1e-9)
        self.monitor.update(
            Progress(
                phase, self.bound, self.open, self.domains, rate, seconds, self.deadline.timeout
            )
        )
