"""How the runs of a benchmark are timed, shared between processes, and kept line by line."""

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar, get_type_hints

import torch
from inputs import table

# Seconds, and the share of the limit, at most kept for finishing a step that has begun.
RESERVE = (1.0, 0.1)

Entry = TypeVar("Entry")
Item = TypeVar("Item")


class Clock:
    """Seconds of one run, by the wall and of this processor, and whether its limit is over."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._began = time.perf_counter(), time.process_time()

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._began[0]

    @property
    def cpu(self) -> float:
        return time.process_time() - self._began[1]

    def over(self) -> bool:
        """Whether the processor time of the run is used up, but for a reserve."""
        return self.spent() >= 1

    def spent(self) -> float:
        """The share of the time that is gone."""
        return self.cpu / (self.limit - min(RESERVE[0], RESERVE[1] * self.limit))


class Ledger(Generic[Entry]):
    """Lines in a file, each a dataclass of words and numbers; processes may append at once."""

    def __init__(self, path: Path, kind: type[Entry]) -> None:
        self.path = path
        self._kind = kind
        self._types = get_type_hints(kind)

    def lines(self) -> list[Entry]:
        """All lines that are there."""
        if not self.path.exists():
            return []
        return [
            self._kind(**{name: self._types[name](word) for name, word in entry.items()})
            for entry in table(self.path)
        ]

    def add(self, line: Entry) -> None:
        """Append a line."""
        try:
            with self.path.open("x") as file:
                file.write(",".join(self._types) + "\n")
        except FileExistsError:
            pass
        values = [getattr(line, name) for name in self._types]
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(values)


def conclude(
    wanted: argparse.Namespace,
    kind: type[Entry],
    report: Callable[[list[Entry]], None],
    measure: Callable[[argparse.Namespace, Ledger[Entry]], None],
) -> None:
    """Print what is in the file `wanted.out` if `wanted.report`, or else measure on one core."""
    torch.set_num_threads(1)
    ledger = Ledger(wanted.out, kind)
    if wanted.report:
        report(ledger.lines())
    else:
        measure(wanted, ledger)


def part_of(items: Sequence[Item], part: str) -> Sequence[Item]:
    """The share of a process: `i/n` is every n-th, from the i-th."""
    first, every = (int(number) for number in part.split("/"))
    return items[first - 1 :: every]
