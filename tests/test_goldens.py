"""Bounds and optima against exact ranges, which an independent program computed."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import goldens as script
from inputs import Ends, Golden, goldens

from hullmark.bounds.methods import METHODS
from hullmark.search.optimum import minimise

GAP = 1e-6
# What rounding outwards may add to a bound.
OUTWARD = Fraction(1, 10**9)
# On these a minimum lies on a plane of kinks, which takes halving of inputs a million boxes.
KINKS = ("random-11-18-3x3x3x1", "random-11-32-3x3x3x1")


@pytest.fixture(scope="module")
def known(data: Path) -> list[Golden]:
    return goldens(data)


def contains(outer: tuple[Ends, ...], inner: tuple[Ends, ...], slack: Fraction) -> bool:
    return all(
        a <= b + slack and d <= c + slack for (a, c), (b, d) in zip(outer, inner, strict=True)
    )


def test_the_reference_ranges_are_nested(known: list[Golden]) -> None:
    assert len(known) == 56
    none = Fraction(0)
    for golden in known:
        ranges = golden.ranges
        assert contains(ranges["ibp"], ranges["triangle"], none), golden.name
        assert contains(ranges["triangle"], ranges["p1"], none), golden.name
        assert contains(ranges["p1"], ranges["exact"], none), golden.name


@pytest.mark.parametrize("method", METHODS)
def test_every_method_contains_the_exact_range(known: list[Golden], method: str) -> None:
    for golden in known:
        found = script.method_ranges(golden, method)
        assert contains(found, golden.ranges["exact"], Fraction(0)), golden.name


def test_intervals_are_those_of_the_reference(known: list[Golden]) -> None:
    for golden in known:
        found = script.method_ranges(golden, "ibp")
        assert contains(found, golden.ranges["ibp"], Fraction(0)), golden.name
        assert contains(golden.ranges["ibp"], found, OUTWARD), golden.name


def test_intervals_contain_deeppoly0(known: list[Golden]) -> None:
    for golden in known:
        found = script.method_ranges(golden, "deeppoly0")
        assert contains(golden.ranges["ibp"], found, OUTWARD), golden.name


@pytest.mark.parametrize(
    "method", ["deepz", "deeppoly0", "deeppoly1", "deeppoly", "crown", "alpha"]
)
def test_neuron_by_neuron_methods_contain_the_triangle(known: list[Golden], method: str) -> None:
    for golden in known:
        found = script.method_ranges(golden, method)
        assert contains(found, golden.ranges["triangle"], OUTWARD), golden.name


def test_the_ascent_comes_near_the_triangle(known: list[Golden]) -> None:
    """The optimum over all slopes is the triangle's: at least half of the networks get there."""
    near = [
        contains(golden.ranges["triangle"], script.method_ranges(golden, "alpha"), Fraction(1, 100))
        for golden in known
    ]
    assert sum(near) >= len(known) // 2


@pytest.mark.parametrize("part", range(4))
def test_neuron_splitting_ends_at_the_exact_minima(known: list[Golden], part: int) -> None:
    for golden in known[part::4]:
        for exact, lower, upper in script.minima(golden, "neurons"):
            assert lower <= exact <= upper, golden.name
            assert upper - lower <= GAP, golden.name


@pytest.mark.parametrize("part", range(4))
def test_input_splitting_ends_at_the_exact_minima(known: list[Golden], part: int) -> None:
    for golden in known[part::4]:
        if golden.name in KINKS:
            continue
        for exact, lower, upper in script.minima(golden, "inputs"):
            assert lower <= exact <= upper, golden.name
            assert upper - lower <= GAP, golden.name


@pytest.mark.parametrize("splitting", ["neurons", "inputs"])
@pytest.mark.parametrize("timeout", [1e-9, 0.003, 0.01, 0.03])
def test_bounds_hold_whenever_time_runs_out(
    known: list[Golden], splitting: str, timeout: float
) -> None:
    for golden in known[18::7]:
        for exact, lower, upper in script.minima(golden, splitting, timeout=timeout):
            assert lower <= exact <= upper, golden.name


@pytest.mark.parametrize("splitting", ["neurons", "inputs"])
def test_the_point_is_in_the_box_and_attains_the_upper_bound(
    known: list[Golden], splitting: str
) -> None:
    for golden in known[:8]:
        row = np.ones(golden.network.output_size)
        found = minimise(golden.network, golden.box, row, 1e-6, splitting)
        assert found.point is not None and golden.box.contains(found.point)
        value = sum(golden.network.evaluate(found.point.reshape(1, -1))[0])
        assert found.lower <= value + 1e-12 and value <= found.upper + 1e-12
        assert found.upper - value <= 1e-9
