"""The methods of linear programs: their floor, their rows' derivations, and their groups."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from exactly import exactly, model_of, output_at, values_at
from small import SOLVED, random_network
from test_joint_methods import ends, some_property

import hullmark as hm
from hullmark.cuts.cutloop import CutOptions
from hullmark.joint import groups
from hullmark.methods import grouping, programs
from hullmark.methods.names import MethodOptions, check
from hullmark.methods.task import Task
from hullmark.rows import Value
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box
from hullmark.verdict import Deadline

PROGRAMS = ("triangle", "refinezono", "krelu", "kpoly", "multivariate")


@pytest.mark.parametrize("method", ["krelu", "kpoly"])
def test_groups_of_one_are_the_triangle(method: str) -> None:
    for seed in range(3):
        network, box = random_network(3, 5, 5, 2, seed=seed), Box([-1] * 3, [1] * 3)
        alone, pairs = ends(network, box, method, 1), ends(network, box, method, 2)
        assert alone.rows == 0 < pairs.rows
        if method == "kpoly":
            triangle = ends(network, box, "triangle")
            assert alone.lower == pytest.approx(triangle.lower, abs=SOLVED)
        assert np.all(pairs.lower >= alone.lower - SOLVED)


def test_overlap_and_block_choose_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    def noted(lower: np.ndarray, upper: np.ndarray, *numbers: int) -> np.ndarray:
        asked.append(numbers)
        return groups.overlapping(lower, upper, *numbers)

    monkeypatch.setattr(grouping, "overlapping", noted)
    network, box = random_network(3, 12, 1, seed=0), Box([-1] * 3, [1] * 3)
    found = [
        hm.bound(model_of(network), box, method="krelu", groups="overlap", **options).rows
        for options in ({}, {"overlap": 2, "block": 5}, {"overlap": 0, "block": 3, "k": 2})
    ]
    assert asked[0] == (3, 1, 50) and asked[-1] == (2, 0, 3) and (3, 2, 5) in asked
    assert all(rows > 0 for rows in found)


def test_the_adaptive_rule_takes_the_largest_k_that_few_calls_allow() -> None:
    rng = np.random.default_rng(0)
    upper = rng.exponential(size=40)
    options = check("krelu", MethodOptions(groups="adaptive"))
    found = grouping.layer_rule(options)(-upper[::-1], upper)
    assert 400 < len(found) <= groups.MOST_CALLS and found.shape[1] == 3
    assert len(grouping.layer_rule(options)(-upper[:2], upper[:2])) == 1
    assert len(grouping.layer_rule(options)(upper[:2], upper[:2])) == 0


@pytest.mark.parametrize("method", ["krelu", "kpoly", "multivariate", "mk"])
def test_a_report_hands_out_rows_that_are_derived(method: str) -> None:
    network, box = random_network(3, 6, 6, 1, seed=4), Box([-1] * 3, [1] * 3)
    exact, rng = exactly(network), np.random.default_rng(0)
    found = ends(network, box, method)
    rows = found.joint_rows()
    assert len(rows) == found.rows > 0
    assert all(row.derived() for row in rows)
    assert not any(replace(row, rhs=row.rhs - 1e-3).derived() for row in rows)
    for _ in range(10):
        x = rng.uniform(box.lower, box.upper)
        at = {0: np.array([Fraction(float(v)) for v in x]), **dict(values_at(exact, x))}
        named = {Value(j, i): v for j, part in at.items() for i, v in enumerate(part)}
        assert all(row.excess(named) <= 0 for row in rows)


@pytest.mark.parametrize(
    ("method", "late"),
    [*[(name, False) for name in PROGRAMS], *[(name, True) for name in (*PROGRAMS, "mk")]],
)
def test_no_linear_program_is_worse_than_alpha(
    method: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nothing but `alpha` had its time."""
    network, box = random_network(3, 8, 8, 8, 2, seed=1), Box([-1] * 3, [1] * 3)
    prop = some_property(network, box)
    alpha = hm.bound(model_of(network), prop, method="alpha")
    whole = programs._alpha

    def last(task: Task) -> programs.Alpha:
        found = whole(task)
        object.__setattr__(task.clock, "started", -1e9)
        return found

    if late:
        monkeypatch.setattr(programs, "_alpha", last)
    found = hm.bound(model_of(network), prop, method=method, seconds=600)
    assert found.complete == (not late)
    for own, floor in ((found.lower, alpha.lower), (-found.upper, -alpha.upper)):
        assert np.all(own >= floor)
    assert np.all(found.margins >= alpha.margins)
    assert late or np.any(found.margins > alpha.margins + 1e-3)


def test_queries_without_a_program_get_the_rows_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When time is up after the first program, whose rows are there for all."""
    network, box = random_network(3, 10, 10, 10, 3, seed=1), Box([-1] * 3, [1] * 3)
    alpha, whole = ends(network, box, "alpha"), ends(network, box, "krelu")
    options = programs._cuts

    asked: list[Deadline] = []

    def once(clock: Deadline) -> CutOptions:
        asked.append(clock)
        return replace(options(clock), stop=lambda: len(asked) > 1)

    monkeypatch.setattr(programs, "_cuts", once)
    found = ends(network, box, "krelu")
    gained = np.append(found.lower - alpha.lower, alpha.upper - found.upper)
    # One by its program, and others too.
    assert np.all(gained >= 0) and np.sum(gained > 1e-3) > 1
    assert found.rows == len(found.joint_rows()) > 0
    exact = exactly(network)
    for x in np.random.default_rng(0).uniform(-1, 1, size=(30, 3)):
        for low, v, high in zip(found.lower, output_at(exact, x), found.upper, strict=True):
            assert Fraction(low) <= v <= Fraction(high)
    assert np.all(whole.lower >= found.lower - 0.05)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("method", ["krelu", "kpoly", "multivariate"])
def test_a_case_without_constraints_has_no_bound(
    method: str, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, box = random_network(3, 6, 6, 2, seed=1), Box([-1] * 3, [1] * 3)
    asked = [0]

    def once(clock: Deadline, first: bool = first) -> CutOptions:
        asked[0] += 1
        return CutOptions(stop=lambda: first and asked[0] > 1)

    monkeypatch.setattr(programs, "_cuts", once)
    rows = (Constraint.of({}, {0: 1, 1: Fraction(-1, 3)}, Fraction(1, 10)),)
    cases = (Case(box, rows, 2), Case(box, (), 2))
    found = hm.bound(model_of(network), Property(3, 2, cases, "none"), method=method)
    assert found.margins[1] == -np.inf and not found.proved and np.isfinite(found.margins[0])
