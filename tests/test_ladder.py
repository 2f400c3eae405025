"""The ladder: every rung is what its name says, and holds the truth."""

import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ladders import (
    BARRIER,
    DIFFERENCE,
    MAXIMUM,
    SEGMENT,
    UNIT,
    bounds_of,
    ends,
    exactly,
    floats_of,
    random_layers,
    rung,
    saved,
)
from numpy.typing import NDArray

import hullmark as hm
from hullmark.errors import BadInput, Unsupported
from hullmark.ladder.exactly import parts_of
from hullmark.ladder.quantity import quantity_of
from hullmark.ladder.rungs import ORDER, Real, settled
from hullmark.methods.names import METHODS
from hullmark.network.onnx import load_onnx
from hullmark.spec.property import Case, Constraint, Property
from hullmark.theory.relaxations import RELAXATIONS


def test_fact_1_the_ladder_of_the_maximum(tmp_path: Path) -> None:
    ladder = hm.ladder(saved(tmp_path, MAXIMUM), UNIT, seconds=30)
    found = ends(ladder)
    assert found["ibp"] == (0, 2)
    assert found["triangle"] == (0, Fraction(3, 2))
    for name in ("mk k=1", "multivariate", "p1", "exact"):
        assert found[name] == (0, 1)
    assert all(rung.kind == "exact" for rung in ladder.rungs)
    assert {rung.name for rung in ladder.rungs if rung.attained} >= {"mk k=1", "p1", "exact"}
    assert {rung.name: rung.attained for rung in ladder.rungs}["triangle"] is False
    assert ladder.ended == "complete"
    assert not ladder.skipped
    assert ladder.truth == next(rung for rung in ladder.rungs if rung.name == "exact")


def test_fact_2_groups_of_two_close_the_gap_of_a_difference(tmp_path: Path) -> None:
    found = bounds_of(*exactly(saved(tmp_path, DIFFERENCE), SEGMENT, None))
    assert found["ibp"] == (-1, 1)
    assert found["triangle"] == (Fraction(-1, 2), Fraction(1, 2))
    assert found["mk k=2"] == found["exact"] == (0, 0)


def test_fact_5_the_barrier_stops_p1_and_not_windows_of_two_layers(tmp_path: Path) -> None:
    found = bounds_of(*exactly(saved(tmp_path, BARRIER), SEGMENT, None), "p1", "pr r=2", "exact")
    assert found["p1"][0] == -1
    assert found["pr r=2"] == found["exact"] == (0, 0)


@pytest.fixture(scope="module")
def goldens(data: Path) -> list[dict[str, Any]]:
    return json.loads((data / "goldens/networks.json").read_text())


def check_golden(golden: dict[str, Any], folder: Path) -> None:
    layers = [
        (
            [[Fraction(v) for v in row] for row in layer["weight"]],
            [Fraction(v) for v in layer["bias"]],
        )
        for layer in golden["layers"]
    ]
    lower, upper = zip(*golden["box"], strict=True)
    box = hm.Box([Fraction(v) for v in lower], [Fraction(v) for v in upper])
    path = saved(folder, layers)
    for output, _ in enumerate(golden["exact"]):
        found = bounds_of(*exactly(path, box, output), "ibp", "triangle", "p1", "exact")
        for name, pair in found.items():
            assert pair == tuple(Fraction(v) for v in golden[name][output]), (golden["name"], name)


def test_fact_7_the_rungs_of_golden_networks(goldens: list[Any], tmp_path: Path) -> None:
    assert len(goldens) == 56
    for golden in goldens:
        check_golden(golden, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_exact_rungs_are_nested_as_their_definitions_are(seed: int, tmp_path: Path) -> None:
    path = saved(tmp_path, random_layers(2, 3, 3, 1, seed=seed))
    found = bounds_of(*exactly(path, hm.Box([-1, -1], [1, 1]), None))

    def within(inner: str, outer: str) -> bool:
        return found[outer][0] <= found[inner][0] <= found[inner][1] <= found[outer][1]

    assert all(within("exact", name) for name in found)
    for name in ("deeppoly0", "deeppoly1", "deeppoly"):
        assert within("triangle", name)
    for name in ("krelu k=2", "krelu k=3", "multivariate", "mk k=1", "mk k=2", "mk k=3"):
        assert within(name, "triangle")
        assert within("p1", name)
    assert within("pr r=2", "p1")
    # Both hidden layers lie in one window.
    assert found["pr r=2"] == found["exact"]


def margin(case: Case, x: NDArray[Any], y: NDArray[Any]) -> Fraction:
    return max(
        sum((v * x[i] for i, v in c.x), Fraction(0))
        + sum((v * y[j] for j, v in c.y), Fraction(0))
        - c.bound
        for c in case.constraints
    )


def several_constraints(box: hm.Box) -> Property:
    rows = [
        Constraint.of({0: 1}, {0: 1, 1: -1}, "0.25"),
        Constraint.of({}, {2: 2}, 1),
        Constraint.of({0: -1, 1: "0.5"}, {1: 1}, 0),
    ]
    cases = (Case(box, tuple(rows), 3), Case(box, (rows[0],), 3), Case(box, tuple(rows[1:]), 3))
    return Property(2, 3, cases, "a test")


def test_margins_of_several_constraints_are_folded_into_the_network(tmp_path: Path) -> None:
    box = hm.Box([-1, 0], [1, "1.5"])
    prop = several_constraints(box)
    path = saved(tmp_path, random_layers(2, 3, 3, seed=3))
    parts, quantity = exactly(path, prop, None)
    network = load_onnx(path).network
    rng = np.random.default_rng(0)
    points = [np.array([Fraction(int(v), 8) for v in rng.integers(-8, 13, 2)]) for _ in range(20)]
    # The single constraint comes first, then the others, each in a network of its own.
    for part, number in zip(parts, (1, 0, 2), strict=True):
        for x in points:
            y = network.evaluate(x[None])[0]
            assert part.net.evaluate(x[None])[0].tolist() == [margin(prop.cases[number], x, y)]
    found = bounds_of(parts, quantity)
    lowest = min(
        margin(case, x, network.evaluate(x[None])[0])
        for case in prop.cases
        for x in points
        if box.contains(x)
    )
    assert found["exact"][0] <= lowest
    assert all(low <= found["exact"][0] for low, _ in found.values())
    # The lower side of a maximum costs a triangle nothing: three constraints are no worse
    # bounded than the best of them alone.
    alone = [
        bounds_of(*exactly(path, Property(2, 3, (Case(box, (c,), 3),), "one"), None), "triangle")
        for c in prop.cases[0].constraints
    ]
    folded = exactly(path, Property(2, 3, prop.cases[:1], "all"), None)
    assert bounds_of(*folded, "triangle")["triangle"][0] >= max(a["triangle"][0] for a in alone)


def test_the_worst_margin_of_robustness_is_exact(tmp_path: Path) -> None:
    path = saved(tmp_path, random_layers(2, 4, 3, seed=8))
    question = hm.robust([0.5, 0.5], label=1, eps="0.25")
    ladder = hm.ladder(path, question, seconds=30, methods=("ibp", "triangle", "exact"))
    verdict = hm.verify(path, question)
    truth = ladder.rungs[-1]
    assert truth.lower == truth.upper
    assert isinstance(verdict, hm.Proved) == (truth.lower > 0)
    if isinstance(verdict, hm.Refuted):
        assert verdict.witness.margin >= float(truth.lower) - 1e-6
    # One-sided: the upper end of every rung is the least margin that is real.
    assert all(rung.upper == truth.lower for rung in ladder.rungs)
    assert all(rung.gap == truth.lower - rung.lower for rung in ladder.rungs)


@pytest.mark.parametrize("output", [None, 1])
def test_floats_hold_the_exact_bounds(output: int | None, tmp_path: Path) -> None:
    path = saved(tmp_path, random_layers(2, 5, 5, 3, seed=2))
    question = hm.robust([0.25, 0.5], label=0, eps="0.25")
    floats = floats_of(path, question, output)
    parts, quantity = exactly(path, question, output)
    low, high = bounds_of(parts, quantity, "exact")["exact"]
    for method in ("ibp", "deepz", "deeppoly", "alpha", "krelu", "prima", "mined", "mk"):
        lower, upper = floats.bound(method, None, 10.0).ends(quantity)
        assert lower <= low, method
        assert output is None or upper >= high, method
    floats.meet(hm.Options(10.0).deadline())
    assert floats.real.least >= low
    assert output is None or floats.real.greatest <= high
    lower, upper = floats.search(20.0).ends(quantity)
    assert low - Fraction(1, 10**5) <= lower <= low
    assert floats.real.least <= low + Fraction(1, 10**5)
    if output is not None:
        assert high <= upper <= high + Fraction(1, 10**5)
        assert floats.real.greatest >= high - Fraction(1, 10**5)


def test_relaxations_agree_in_both_kinds_of_numbers(tmp_path: Path) -> None:
    path = saved(tmp_path, random_layers(2, 4, 4, 1, seed=5))
    box = hm.Box([-1, -1], [1, 1])
    exact = bounds_of(*exactly(path, box, None), "ibp", "deeppoly0", "deeppoly1", "triangle")
    floats = floats_of(path, box, None)
    for name, pair in exact.items():
        found = floats.bound(name, None, 10.0).ends(floats.quantity)
        # What a linear program's solver leaves, and rounding.
        assert np.allclose(np.array(found), np.array(pair, dtype=float), atol=1e-5), name


def test_a_large_network_is_bounded_in_floats(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(12, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3)
    ).double()
    question = hm.robust([0.5] * 12, label=0, eps=0.05)
    methods = ("ibp", "deeppoly", "alpha", "krelu", "mined", "p1", "search")
    ladder = hm.ladder(module, question, seconds=30, methods=methods)
    assert [rung.name for rung in ladder.rungs] == [
        *("ibp", "deeppoly", "alpha", "krelu", "mined", "search", "real")
    ]
    assert {skip.name for skip in ladder.skipped} == {"p1"}
    real = ladder.rungs[-1]
    assert real.kind == "real"
    assert ladder.truth == real
    assert all(rung.lower <= real.lower == rung.upper for rung in ladder.rungs)
    lowers = [rung.lower for rung in ladder.rungs[:3]]
    assert lowers == sorted(lowers)
    assert ladder.rungs[-2].attained


def test_what_is_attained_follows_from_all_rungs_together() -> None:
    rungs = [
        rung("triangle", Fraction(0), Fraction(3, 2)),
        rung("ibp", Fraction(-1), Fraction(2)),
        rung("p1", Fraction(0), Fraction(1)),
    ]
    told = {r.name: r.attained for r in settled(rungs, Real(Fraction(0), Fraction(1)), True)}
    assert told == {"ibp": False, "triangle": False, "p1": True}
    # Without real values the best bound is not known to be attained, and others are not.
    told = {r.name: r.attained for r in settled(rungs, Real(), True)}
    assert told == {"ibp": False, "triangle": False, "p1": None}
    assert [r.name for r in settled(rungs, Real(), True)] == ["ibp", "triangle", "p1"]


def test_a_float_bound_is_attained_up_to_its_tolerance_and_a_fraction_only_exactly() -> None:
    near = Fraction(1) - Fraction(1, 10**9)
    told = settled(
        [rung("ibp", near, Fraction(9)), rung("p1", Fraction(1), Fraction(9))],
        Real(Fraction(1)),
        False,
    )
    assert [r.attained for r in told] == [False, True]
    told = settled([rung("ibp", float(near), 9.0, "sound float")], Real(Fraction(1)), False)
    assert [r.attained for r in told] == [True]
    assert told[0].upper == 1


def test_gaps_are_exact_or_rounded_up() -> None:
    assert rung("p1", Fraction(1, 3), Fraction(1)).gap == Fraction(2, 3)
    assert rung("alpha", -0.1, 0.2).gap >= Fraction(0.2) + Fraction(0.1)
    assert rung("alpha", -np.inf, 1.0).gap == np.inf


def test_every_name_has_its_place() -> None:
    assert {*METHODS, *RELAXATIONS, "search", "real"} == set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "say which"),
        ({"output": 3}, "output 3"),
        ({"output": -1}, "output -1"),
        ({"output": 0, "objective": [1, 0, 0]}, "not both"),
        ({"objective": [1, 0]}, "2 entries"),
        ({"objective": [1, 0, float("nan")]}, "nan"),
        ({"output": 0, "methods": ("ibp", "foo")}, "unknown method 'foo'"),
        ({"output": 0, "methods": ()}, "at least one"),
        ({"output": 0, "seconds": float("inf")}, "finite"),
        ({"output": 0, "seconds": -1}, "positive"),
    ],
)
def test_what_cannot_be_asked_is_bad_input(
    options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, random_layers(2, 2, 3, seed=0))
    with pytest.raises(BadInput, match=says):
        hm.ladder(path, UNIT, **options)


def test_an_objective_is_bounded_from_both_sides(tmp_path: Path) -> None:
    path = saved(tmp_path, random_layers(2, 2, 3, seed=0))
    network = load_onnx(path).network
    quantity = quantity_of(network, UNIT, [Fraction(1), Fraction(-2), Fraction(1, 3)], None)
    low, high = bounds_of(parts_of(network, quantity), quantity, "exact")["exact"]
    x = np.array([[Fraction(1, 3), Fraction(3, 4)]])
    y = network.evaluate(x)[0]
    assert low <= y[0] - 2 * y[1] + y[2] / 3 <= high
    assert quantity.two_sided


def test_a_property_without_anything_to_bound_is_bad_input() -> None:
    with pytest.raises(BadInput, match="no case"):
        quantity_of(load(), Property(2, 1, (), "nothing"), None, None)
    empty = Property(2, 1, (Case(UNIT, (), 1),), "anything")
    with pytest.raises(BadInput, match="no constraints"):
        quantity_of(load(), empty, None, None)


def load() -> Any:
    from small import network_of

    return network_of(([[1, -1], [0, 1]], [0, 0]), ([[1, 1]], [0]))


def test_a_search_refuses_margins_that_are_not_linear(tmp_path: Path) -> None:
    path = saved(tmp_path, random_layers(2, 3, 3, seed=3))
    floats = floats_of(path, several_constraints(UNIT), None)
    lower, _ = floats.bound("alpha", None, 10.0).ends(floats.quantity)
    assert np.isfinite(lower)
    with pytest.raises(Unsupported, match="linear functions"):
        floats.search(1.0)


def test_the_demonstration_is_bounded(tmp_path: Path) -> None:
    demo = Path(__file__).resolve().parent.parent / "demo"
    ladder = hm.ladder(
        demo / "digits_fc.onnx",
        demo / "properties/test03_eps0.14.vnnlib",
        seconds=20,
        methods=("ibp", "deeppoly", "alpha", "search"),
    )
    found = {rung.name: rung for rung in ladder.rungs}
    assert found["ibp"].lower < found["deeppoly"].lower < found["alpha"].lower < 0
    assert found["search"].lower > 0
    assert found["search"].attained
    assert found["deeppoly"].attained is False


@pytest.mark.slow
def test_an_mnist_network_is_bounded_in_a_minute(data: Path) -> None:
    folder = data / "benchmarks/kpoly"
    begun = time.perf_counter()
    spec = folder / "vnnlib/mnist_6x100_img4_eps0.026.vnnlib"
    ladder = hm.ladder(folder / "onnx/mnist_6x100.onnx", spec, seconds=60)
    assert time.perf_counter() - begun < 75
    found = {rung.name: rung for rung in ladder.rungs}
    assert found["ibp"].lower < found["deepz"].lower < found["deeppoly"].lower
    assert found["deeppoly"].lower < found["alpha"].lower < found["mined"].lower
    assert all(rung.lower <= found["real"].lower for rung in ladder.rungs)
