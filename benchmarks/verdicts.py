"""Run the command line on many instances, each in a fresh process on one core, one at a time.

Each verdict is compared with what most other tools say (`peer-results.csv`, `peers-here.csv`).
With `--peers` the instances are those that other tools were measured on, on a like machine, and
the table says how much longer or shorter this one takes than the fastest of them.

    python benchmarks/verdicts.py acasxu --timeout 20 --limit 10 --csv verdicts.csv
    python benchmarks/verdicts.py --peers
"""

import argparse
import csv
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from inputs import Instance, data_root, families, instances, markdown, table

Key = tuple[str, str, str]

MEANING = {
    0: "proved",
    10: "refuted",
    11: "refuted up to rounding",
    20: "unknown",
    21: "timeout",
    22: "interrupted",
    23: "memory",
}
SAID = {"proved": "unsat", "refuted": "sat"}
# Seconds after which a run that overstays its timeout is killed, and counts as overdue.
GRACE = 30.0


@dataclass(frozen=True)
class Run:
    """One run: wall and processor seconds of the whole process, and its peak memory."""

    family: str
    onnx: str
    vnnlib: str
    timeout: float
    verdict: str
    wall: float
    cpu: float
    megabytes: float
    peers: str
    detail: str

    @property
    def key(self) -> Key:
        """What other lists know the instance by."""
        return self.family, self.onnx, self.vnnlib

    @property
    def disagrees(self) -> bool:
        """Whether most other tools say the opposite."""
        return self.verdict in SAID and self.peers not in ("", SAID[self.verdict])


@dataclass(frozen=True)
class Peer:
    """The least wall and processor seconds that any other tool took to decide an instance."""

    wall: float
    cpu: float


def majority(rows: Iterable[dict[str, str]]) -> dict[Key, str]:
    """For each instance the answer that more rows give than the other."""
    votes: dict[Key, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["result"] in ("sat", "unsat"):
            votes[_key(row)][row["result"]] += 1
    return {
        key: max(count, key=lambda answer: count[answer])
        for key, count in votes.items()
        if count["sat"] != count["unsat"]
    }


def fastest(rows: Iterable[dict[str, str]]) -> dict[Key, Peer]:
    """For each instance that some tool decided the least times."""
    found: dict[Key, Peer] = {}
    for row in rows:
        if row["result"] in ("sat", "unsat"):
            wall, cpu = float(row["wall"]), float(row["cpu"])
            old = found.get(_key(row), Peer(math.inf, math.inf))
            found[_key(row)] = Peer(min(wall, old.wall), min(cpu, old.cpu))
    return found


def run(instance: Instance, timeout: float, core: int | None, said: str) -> Run:
    """Verify one instance in a process of its own."""
    program = [str(Path(sys.executable).with_name("hullmark")), "verify", "--quiet"]
    program += [str(instance.network), str(instance.question), "--timeout", f"{timeout:g}"]
    taskset = shutil.which("taskset")
    if taskset is not None and core is not None:
        program = [taskset, "-c", str(core), *program]
    threads = {n: "1" for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        child = subprocess.Popen(
            program, stdout=out, stderr=subprocess.STDOUT, env=os.environ | threads
        )
        killer = threading.Timer(timeout + GRACE, child.kill)
        killer.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        killer.cancel()
        # The process has been waited for here, so that its object need not do so.
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = out.read().strip().splitlines()
    verdict = MEANING.get(child.returncode, f"exit code {child.returncode}")
    detail = "" if child.returncode in MEANING or not lines else lines[-1]
    cpu = usage.ru_utime + usage.ru_stime
    megabytes = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    figures = (round(wall, 2), round(cpu, 2), round(megabytes))
    return Run(*instance.key, timeout, verdict, *figures, said, detail)


def summary(name: str, runs: Sequence[Run], peers: dict[Key, Peer] | None) -> list[str]:
    """One line of the table."""
    count = Counter(r.verdict for r in runs)
    decided = [r for r in runs if r.verdict in SAID]
    line = [name, str(len(runs)), str(len(decided)), str(count["proved"]), str(count["refuted"])]
    rounded = count["refuted up to rounding"]
    failed = sum(n for verdict, n in count.items() if verdict.startswith("exit code"))
    unknown = len(runs) - len(decided) - rounded - failed
    line += [str(n) for n in (rounded, unknown, failed, sum(r.disagrees for r in runs))]
    line.append(f"{statistics.median(r.wall for r in decided):.1f}" if decided else "")
    if peers is None:
        return line
    both = [(r, peers[r.key]) for r in decided if r.key in peers]
    answered = sum(r.key in peers for r in runs)
    wall = [r.wall / p.wall for r, p in both]
    cpu = [r.cpu / p.cpu for r, p in both]
    ratios = [
        f"{statistics.geometric_mean(x):.2f} (at most {max(x):.1f})" for x in (wall, cpu) if x
    ]
    return [*line, str(answered), *(ratios or ["", ""])]


def report(runs: Sequence[Run], peers: dict[Key, Peer] | None) -> str:
    """The table, a line for each family and one for all."""
    head = ["family", "instances", "decided", "proved", "refuted", "refuted up to rounding"]
    head += ["unknown", "failed", "disagreeing", "median s"]
    if peers is not None:
        head += ["decided by a peer", "wall / best peer", "cpu / best peer"]
    names = list(dict.fromkeys(r.family for r in runs))
    rows = [summary(name, [r for r in runs if r.family == name], peers) for name in names]
    return markdown(head, [*rows, summary("all", runs, peers)] if len(names) > 1 else rows)


def _key(row: dict[str, str]) -> Key:
    return row["family"], row["onnx"], row["vnnlib"]


def _chosen(
    root: Path, wanted: argparse.Namespace, measured: list[dict[str, str]]
) -> list[Instance]:
    listed = {_key(row) for row in measured}
    found: list[Instance] = []
    for family in wanted.families or families(root):
        some = [i for i in instances(root, family) if not wanted.peers or i.key in listed]
        found += some[: wanted.limit]
    return found


def main() -> None:
    """Run, tell every verdict as it comes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", help="all by default")
    parser.add_argument("--peers", action="store_true", help="only what peers were measured on")
    parser.add_argument("--timeout", type=float, help="instead of each instance's own")
    parser.add_argument("--limit", type=int, help="only so many instances of each family")
    parser.add_argument("--core", type=int, default=0, help="to run on")
    parser.add_argument("--csv", type=Path, help="where to write every run")
    wanted = parser.parse_args()
    root = data_root()
    measured = table(root / "benchmarks" / "peers-here.csv")
    said = majority([*table(root / "benchmarks" / "peer-results.csv"), *measured])
    limits = {_key(row): float(row["timeout"]) for row in measured} if wanted.peers else {}
    runs: list[Run] = []
    with wanted.csv.open("w", newline="") if wanted.csv else open(os.devnull, "w") as file:
        writer = csv.writer(file)
        writer.writerow([f.name for f in fields(Run)])
        for instance in _chosen(root, wanted, measured):
            timeout = wanted.timeout or limits.get(instance.key, instance.timeout)
            done = run(instance, timeout, wanted.core, said.get(instance.key, ""))
            runs.append(done)
            writer.writerow(astuple(done))
            file.flush()
            mark = "DISAGREES with " + done.peers if done.disagrees else done.detail
            print(
                f"{'/'.join(instance.key)}: {done.verdict} {done.wall:.1f} s {mark}",
                file=sys.stderr,
            )
    print(report(runs, fastest(measured) if wanted.peers else None))


if __name__ == "__main__":
    main()
