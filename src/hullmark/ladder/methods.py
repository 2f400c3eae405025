"""A climb in floats: the named methods by their cost, and a search with what time is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hullmark.errors import HullmarkError
from hullmark.ladder.exactly import Part, real_of
from hullmark.ladder.floats import Bounds, Floats
from hullmark.ladder.log import Log
from hullmark.ladder.rungs import Rung
from hullmark.verdict import Deadline
from hullmark.verify import out_of_memory

COST = (
    "ibp",
    "deepz",
    "deeppoly0",
    "deeppoly1",
    "deeppoly",
    "crown",
    "best",
    "alpha",
    "mined",
    "krelu",
    "prima",
    "triangle",
    "kpoly",
    "refinezono",
    "multivariate",
    "mk",
)
"""The methods, cheap ones first."""

REAL_SHARE, SEARCH_SHARE = 0.1, 0.2
"""The parts of the time that looking for real values may take, and that a search is left."""


def climb_by_floats(
    log: Log, floats: Floats, parts: Sequence[Part], wanted: Mapping[str, str], instead: str
) -> None:
    """Climb by the named methods, and by a search.

    Arguments:
        parts: a small network in exact numbers, so that real values are exact; else nothing.
        wanted: names of rungs. With each of them why it was out of reach in exact numbers, if it
            was tried: "exact" is searched for instead.
        instead: why other rungs cannot be climbed in floats, for those that were not tried.
    """
    route = _Route(log, floats, parts)
    if not log.has("exact"):
        started = time.perf_counter()
        log.tell("real", len(wanted))
        floats.meet(Deadline(started, REAL_SHARE * log.left))
        route.look()
        log.met_in = time.perf_counter() - started
    methods = sorted((n for n in wanted if n.split()[0] in COST), key=_cost)
    for name in wanted:
        if name not in (*methods, "search", "real"):
            log.skip(name, wanted[name] or instead)
    search = "search" in wanted or bool(wanted.get("exact"))
    kept = SEARCH_SHARE * log.left if search else 0.0
    for done, name in enumerate(methods):
        left = len(methods) - done
        log.tell(name, left + search)
        method, *size = name.split(" k=")
        k = int(size[0]) if size else None
        share = 2 * max(log.left - kept, 0.0) / (left + 1)
        note = f"exactly: {wanted[name]}" if wanted[name] else ""
        route.climb(name, note, partial(floats.bound, method, k, share))
    if search:
        log.tell("search", 1)
        note = f"branch and bound; exactly: {wanted['exact']}" if wanted.get("exact") else ""
        route.climb("search", note or "branch and bound", partial(floats.search, log.left))


@dataclass(frozen=True, eq=False)
class _Route:
    """Where the rungs of floats go."""

    log: Log
    floats: Floats
    parts: Sequence[Part]

    def look(self) -> None:
        """Note which values are known to be real."""
        if not self.log.has("exact"):
            points = self.floats.points
            self.log.real = real_of(self.parts, points) if self.parts else self.floats.real

    def climb(self, name: str, note: str, bound: Callable[[], Bounds]) -> None:
        """One rung, if there is time for it and it is not too large."""
        if not self.log.left:
            self.log.skip(name, _joined("no time was left", note))
            return
        started = time.perf_counter()
        try:
            found = bound()
        except HullmarkError as error:
            self.log.skip(name, str(error))
            return
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self.log.skip(name, "out of memory")
            return
        spent = time.perf_counter() - started
        self.look()
        lower, upper = found.ends(self.floats.quantity)
        stopped = "" if found.complete else "stopped when its time was up"
        shown = "shown to be positive" if found.positive and lower <= 0 else ""
        told = _joined(note, shown, stopped)
        kept = (found.rows, spent, None, told, found.complete)
        self.log.add(Rung(name, "sound float", lower, upper, *kept))


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _cost(name: str) -> tuple[int, str]:
    return COST.index(name.split()[0]), name
