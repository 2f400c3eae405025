"""Hulls of octahedral groups of ReLUs: how fast, how precise, and beside general tools.

Random groups of the kind that a network makes: the bounds are the exact support function of an
affine image of a box, or of a polytope given by its vertices, and every neuron is unstable. One
core; all times are processor time in one process, medians, and the tools that are named got the
same vertices. SciPy is needed for the measurements; pycddlib and pplpy are used where they are
installed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from math import lcm
from typing import Any

import numpy as np
from inputs import markdown
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls
from scipy.spatial import ConvexHull

from hullmark.relax.fasthull import all_facets, fast_hull
from hullmark.relax.hull import relu_hull
from hullmark.relax.octahedra import Octahedra, octahedra, octahedral_rows
from hullmark.relax.separate import JointRows, separate
from hullmark.rows import Kink, Value, octahedral_group, rows_of_group

Array = NDArray[np.float64]
Rng = np.random.Generator
RUNS = 3


def random_groups(count: int, k: int, seed: int) -> Array:
    """Octahedral bounds `(count, 3^k - 1)` of images of boxes and of polytopes, in turn."""
    rng = np.random.default_rng(seed)
    rows = octahedral_rows(k).astype(np.float64)
    bounds = np.empty((count, len(rows)))
    for index in range(count):
        weight = rng.normal(size=(k, int(rng.integers(8, 31)))) * rng.lognormal(size=(k, 1))
        if index % 2 == 0:
            reach = np.abs(weight).sum(axis=1)
            center = rng.uniform(-0.8, 0.8, k) * reach
            bounds[index] = rows @ center + np.abs(rows @ weight).sum(axis=1)
        else:
            low, high = weight.min(axis=1), weight.max(axis=1)
            zero = low + rng.uniform(0.1, 0.9, k) * (high - low)
            bounds[index] = (rows @ (weight - zero[:, None])).max(axis=1)
    return bounds


def triangles(bounds: Array, k: int) -> tuple[Array, Array]:
    """The octahedral rows of a group and its triangles, over `(x, y)`: matrix and offsets."""
    rows = octahedral_rows(k).astype(np.float64)
    upper = np.array([bounds[(rows == unit).all(axis=1)][0] for unit in np.eye(k)])
    lower = -np.array([bounds[(rows == -unit).all(axis=1)][0] for unit in np.eye(k)])
    slope = upper / (upper - lower)
    zero, eye = np.zeros((k, k)), np.eye(k)
    blocks = [[rows, np.zeros_like(rows)], [zero, -eye], [eye, -eye], [-np.diag(slope), eye]]
    return np.block(blocks), np.concatenate([bounds, np.zeros(2 * k), -slope * lower])


def share_closed(bounds: Array, points: Array, rows: tuple[Array, Array], rng: Rng) -> list[float]:
    """How much of the gap between triangles and exact hull the rows close, in 20 directions."""
    matrix, offsets = triangles(bounds, points.shape[1] // 2)
    both = np.concatenate([matrix, rows[0]]), np.concatenate([offsets, rows[1]])
    shares: list[float] = []
    for _ in range(20):
        goal = rng.normal(size=points.shape[1]) / np.ptp(points, axis=0)
        least = (points @ goal).max()
        loose, tight = (_maximum(goal, *system) for system in ((matrix, offsets), both))
        if loose - least > 1e-7:
            shares.append((loose - tight) / (loose - least))
    return shares


def _maximum(goal: Array, matrix: Array, offsets: Array) -> float:
    found = linprog(-goal, matrix, offsets, bounds=(None, None), method="highs")
    return -float(found.fun)


def distance(points: Array, point: Array) -> float:
    """From a point to the convex hull of others, by nonnegative least squares."""
    away = points - point
    size = np.abs(away).max()
    # Weights that do not add up to one cost more than any distance gains.
    weight, _ = nnls(np.vstack([away.T / size, np.full(len(points), 1e4)]), _last(away.shape[1]))
    return float(np.linalg.norm(weight @ away) / weight.sum())


def _last(width: int) -> Array:
    goal = np.zeros(width + 1)
    goal[-1] = 1e4
    return goal


def points_of(batch: Octahedra, group: int) -> Array:
    """The lifted vertices of a group, in its own units, each once."""
    chosen = slice(batch.start[group], batch.start[group + 1])
    return batch.lifted()[chosen][batch.first[chosen]] * batch.scale[group]


def outside(bounds: Array, batch: Octahedra, rng: Rng) -> tuple[Array, Array]:
    """For each group a point of its octahedron and triangles, above the graph."""
    k = batch.k
    x = np.empty((len(bounds), k))
    for index in range(len(bounds)):
        points = points_of(batch, index)[:, :k]
        x[index] = rng.dirichlet(np.full(len(points), 0.1)) @ points
    rows = octahedral_rows(k)
    upper = np.stack([bounds[:, (rows == unit).all(axis=1)][:, 0] for unit in np.eye(k)], axis=1)
    lower = -np.stack([bounds[:, (rows == -unit).all(axis=1)][:, 0] for unit in np.eye(k)], axis=1)
    return x, upper / (upper - lower) * (x - lower)


def timed(work: Callable[[], Any], times: int = 1) -> tuple[Any, float]:
    """A result and its milliseconds of processor time, the median of some runs."""
    result, spent = None, list[float]()
    for _ in range(times):
        start = time.process_time()
        result = work()
        spent.append(1e3 * (time.process_time() - start))
    return result, float(np.median(spent))


def proof_times(bounds: Array, rows: JointRows, count: int) -> Iterator[float]:
    """Milliseconds to write down the derivation of one row and to check it in rationals."""
    k = rows.x.shape[1]
    kinks = tuple(Kink(Value(1, j), Value(2, j)) for j in range(k))
    template = octahedral_rows(k)
    for index in range(0, len(rows.group), max(1, len(rows.group) // count)):
        one = slice(index, index + 1)

        def derive(one: slice = one, d: Array = bounds[rows.group[index]]) -> bool:
            group = octahedral_group(kinks, template, d)
            sides = (rows.x[one], rows.y[one])
            evidence = (rows.members[one], rows.multipliers[one])
            return rows_of_group(group, sides, rows.rhs[one], *evidence)[0].derived()

        valid, spent = timed(derive)
        if not valid:
            raise SystemExit(f"row {index} is not proved by its multipliers")
        yield spent


def facets_by_qhull(points: Array) -> int:
    """How many facets SciPy's Qhull finds: simplices of one facet have the same equation."""
    return len(np.unique(ConvexHull(points).equations.round(7), axis=0))


def facets_by_cdd(points: Array) -> int:
    """How many facets cddlib finds in floats."""
    cdd = import_module("cdd")
    rows = np.column_stack([np.ones(len(points)), points]).tolist()
    generators = cdd.matrix_from_array(rows, rep_type=cdd.RepType.GENERATOR)
    return len(cdd.copy_inequalities(cdd.polyhedron_from_matrix(generators)).array)


def facets_by_ppl(points: Array) -> int:
    """How many facets the Parma Polyhedra Library finds; exact."""
    ppl = import_module("ppl")
    names = [ppl.Variable(j) for j in range(points.shape[1])]
    generators = ppl.Generator_System()
    for row in points.tolist():
        values = [Fraction(value) for value in row]
        common = lcm(*(value.denominator for value in values))
        integers = [int(value * common) for value in values]
        form = sum(v * name for v, name in zip(integers, names, strict=True))
        generators.insert(ppl.point(form, common))
    return len(ppl.C_Polyhedron(generators).minimized_constraints())


def guests(bounds: Array, batch: Octahedra, facets: JointRows) -> list[list[str]]:
    """A table row for each tool that finds facets, one group at a time."""
    k = batch.k
    template = octahedral_rows(k)
    tools: dict[str, Callable[[Array, Array], int]] = {
        "`relu_hull`, exact": lambda _, d: len(relu_hull(template, d).rows),
        "`relu_hull`, floats": lambda _, d: len(relu_hull(template, d, exact=False).rows),
        "Qhull (SciPy), floats": lambda points, _: facets_by_qhull(points),
    }
    if find_spec("cdd"):
        tools["cddlib, floats"] = lambda points, _: facets_by_cdd(points)
    if find_spec("ppl"):
        tools["PPL, exact"] = lambda points, _: facets_by_ppl(points)
    ours = np.bincount(facets.group, minlength=len(bounds))
    table: list[list[str]] = []
    for name, tool in tools.items():
        spent: list[float] = []
        same = failed = 0
        for index, d in enumerate(bounds):
            points = points_of(batch, index)
            try:
                found, ms = timed(lambda tool=tool, points=points, d=d: tool(points, d))
            except RuntimeError:
                failed += 1
                continue
            spent.append(ms)
            same += found == ours[index]
        figures = [f"{np.median(spent):.2f}", f"{max(spent):.2f}"]
        table.append([name, *figures, f"{same} of {len(bounds)}", str(failed)])
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=60, help="groups for the slow measurements")
    parser.add_argument("--size", type=int, default=3, choices=(2, 3))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    bounds = random_groups(chosen.groups, chosen.size, chosen.seed)
    sample = min(chosen.sample, chosen.groups)
    rng = np.random.default_rng(chosen.seed + 1)
    octahedra(bounds[:1])
    batch, vertices_ms = timed(lambda: octahedra(bounds), RUNS)
    x, y = outside(bounds, batch, rng)
    kinds = {"turned onto a facet": True, "deepest": False}
    cuts = {
        name: timed(lambda facets=facets: separate(bounds, x, y, facets=facets), RUNS)
        for name, facets in kinds.items()
    }
    fast, fast_ms = timed(lambda: fast_hull(bounds), RUNS)
    facets, facets_ms = timed(lambda: all_facets(bounds), RUNS)

    depths: dict[str, list[float]] = {name: [] for name in kinds}
    shares: list[float] = []
    for index in range(sample):
        points = points_of(batch, index)
        point = np.concatenate([x[index], y[index]])
        mine = fast.group == index
        rows = np.concatenate([fast.x[mine], fast.y[mine]], axis=1), fast.rhs[mine]
        shares += share_closed(bounds[index], points, rows, rng)
        away = distance(points, point)
        for name, (cut, _) in cuts.items():
            for at in np.flatnonzero(cut.group == index):
                row = np.concatenate([cut.x[at], cut.y[at]])
                beyond = float(row @ point - cut.rhs[at]) / float(np.linalg.norm(row))
                depths[name].append(beyond / away)
    proofs = list(proof_times(bounds, cuts["deepest"][0], 2 * sample))

    def per_group(values: NDArray[np.intp]) -> str:
        return f"{np.median(np.bincount(values, minlength=chosen.groups)):.0f}"

    def each(ms: float) -> str:
        return f"{ms / chosen.groups:.3f}"

    share = f"{np.mean(shares):.1%} of the gap closed on average, {np.median(shares):.1%} median"
    table = [
        ["vertices", each(vertices_ms), per_group(batch.group[batch.first]), ""],
    ]
    for name, (cut, ms) in cuts.items():
        depth = (
            f"depth {np.median(depths[name]):.1%} of the distance, {min(depths[name]):.0%} least"
        )
        table.append([f"one row for a point, {name}", each(ms), per_group(cut.group), depth])
    table += [
        ["fast hull", each(fast_ms), per_group(fast.group), share],
        ["all facets in floats, offsets proved", each(facets_ms), per_group(facets.group), ""],
        ["proof of one row, in rationals", f"{np.median(proofs):.2f}", "", "ms a row"],
    ]
    print(f"{chosen.groups} groups of {chosen.size}; {sample} for precision and other tools\n")
    print(markdown(["step", "ms a group", "found, median", "how good"], table), end="\n\n")
    head = ["all facets, one group at a time", "median ms", "largest", "same count", "failed"]
    print(markdown(head, guests(bounds[:sample], batch, facets)))


if __name__ == "__main__":
    main()
