"""Ways in which a verdict could once be wrong, or a search end in a crash; and parts of a search
against fractions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from exactly import exactly, fractions, model_of, output_at

from hullmark.bounds.linear import Pass
from hullmark.bounds.objective import Objective
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.search import judge as judge_module
from hullmark.search import strategy
from hullmark.search.boxes import Forms, best_mix, clip
from hullmark.search.frontier import Frontier
from hullmark.search.optimum import minimise
from hullmark.search.strategy import decide
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box
from hullmark.verdict import Options, Proved, Silent, Unknown


@pytest.fixture(autouse=True)
def _blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """No counterexample is ever found, so that nothing hides a proof that is wrong."""

    def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(strategy, "attack", nothing)
    monkeypatch.setattr(strategy, "descend", nothing)
    monkeypatch.setattr(judge_module.WitnessJudge, "offer", nothing)


def asks(network: Network, box: Box, *constraints: Constraint) -> Property:
    return Property(
        network.input_size,
        network.output_size,
        (Case(box, constraints, network.output_size),),
        "prop",
    )


@pytest.mark.parametrize("inputs", [2, 25])
@pytest.mark.parametrize("scale", [1e155, 1e300])
def test_bounds_that_overflow_prove_nothing(inputs: int, scale: float) -> None:
    """A bound that is NaN is not a bound that exceeds 0, nor is a row with such a score lost."""
    rng = np.random.default_rng(0)
    builder, at, width = Builder((inputs,)), 0, inputs
    for factor in (scale, scale):
        layer = ops.Dense(rng.normal(size=(30, width)) * factor, np.zeros(30))
        at, width = builder.add(ops.Rectifier(), builder.add(layer, at)), 30
    network = builder.build(
        builder.add(ops.Dense(rng.normal(size=(1, 30)) / scale, np.zeros(1)), at)
    )
    box = Box([-1] * inputs, [1] * inputs)
    # At 0 the output is 0.
    prop = asks(network, box, Constraint.of({}, {0: 1}, 0))
    verdict = decide(model_of(network), prop, Options(0.4), Silent())
    assert isinstance(verdict, Unknown) and verdict.lower <= 0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_that_vanish_prove_nothing(dtype: str) -> None:
    """Weights times a small coefficient of the property underflow, and their sum is not 0."""
    least = 2.0**-1074 if dtype == "float64" else 2.0**-149
    scale = 2.0**60
    builder = Builder((1,))
    many = builder.add(ops.Dense(np.ones((20, 1)), np.zeros(20)), 0)
    weights = np.full((1, 20), -0.4 * (least * scale))
    last = ops.Dense(weights, np.array([4 * (least * scale)]))
    network = builder.build(builder.add(last, many))
    box = Box([1], [Fraction(3, 2)])
    prop = asks(network, box, Constraint.of({}, {0: 1 / scale}, 0))
    assert output_at(exactly(network), np.ones(1))[0] < 0
    options = Options(0.3, dtype="float32" if dtype == "float32" else "float64")
    assert isinstance(decide(model_of(network), prop, options, Silent()), Unknown)


def test_a_network_that_is_its_input() -> None:
    """Its rows over inputs do not take the place of those over outputs."""
    network = Builder((2,)).build(0)
    box = Box([0, 0], [1, 1])
    for bound, proved in ((Fraction(-19, 10), False), (Fraction(-21, 10), True)):
        # `x0 - 3 y0` is `-2 x0`, and at least -2.
        prop = asks(network, box, Constraint.of({0: 1}, {0: -3}, bound))
        verdict = decide(model_of(network), prop, Options(0.3), Silent())
        assert isinstance(verdict, Proved) == proved


def shared() -> Network:
    """Two rectifiers that read one node, one of them concave, and that node itself."""
    builder = Builder((2,))
    rng = np.random.default_rng(1)
    at = builder.add(ops.Dense(rng.normal(size=(4, 2)), rng.normal(size=4) * 0.2), 0)
    first = builder.add(ops.Rectifier(), at)
    second = builder.add(ops.Rectifier(np.array(1.5), np.array(0.5)), at)
    joined = builder.add(ops.Concat(0), first, second, at)
    at = builder.add(ops.Dense(rng.normal(size=(4, 12)), rng.normal(size=4) * 0.2), joined)
    both = builder.add(ops.Add((1, -1)), builder.add(ops.Rectifier(), at), first)
    return builder.build(builder.add(ops.Dense(rng.normal(size=(1, 4)), np.zeros(1)), both))


def rectified_input() -> Network:
    """Rectifiers that read the input itself."""
    builder = Builder((2,))
    pieces = builder.add(ops.Rectifier(np.array([-1.0, 0.1])), 0), builder.add(ops.Rectifier(), 0)
    at = builder.add(ops.Add((-1, 1)), *pieces)
    hidden = builder.add(ops.Dense(np.array([[1.0, -2.0], [0.5, 1.0]]), np.zeros(2)), at)
    hidden = builder.add(ops.Rectifier(), hidden)
    return builder.build(builder.add(ops.Dense(np.array([[1.0, -1.0]]), np.zeros(1)), hidden))


def affine() -> Network:
    builder = Builder((2,))
    return builder.build(builder.add(ops.Dense(np.array([[1.0, -3.0]]), np.ones(1)), 0))


@pytest.mark.parametrize("splitting", ["neurons", "inputs"])
@pytest.mark.parametrize("network", [shared(), rectified_input(), affine()])
def test_searches_end_whatever_rectifiers_read(network: Network, splitting: str) -> None:
    box = Box([-1, -1], [1, Fraction(3, 4)])
    x = np.random.default_rng(0).uniform(box.lower, box.upper, (20_000, 2))
    sampled = float(network.evaluate(x).min())
    # Splitting inputs closes in on kinks slowly.
    gap = 1e-6 if splitting == "neurons" else 1e-3
    way = "neurons" if splitting == "neurons" else "inputs"
    found = minimise(network, box, np.ones(1), gap, way, Options(10))
    assert found.lower <= sampled and found.upper - found.lower <= 2 * gap
    assert found.upper >= sampled - 0.05


@pytest.mark.parametrize("splitting", ["neurons", "inputs"])
@pytest.mark.parametrize("sliver", [1e-1, 1e-2, 1e-3, 1e-5])
def test_a_sliver_beyond_a_kink(splitting: str, sliver: float) -> None:
    """`3 x - 2 |x|` is least at the end of the box that lies just below 0; what is added to it is
    0, but only seen to be so once `w` is split."""
    builder = Builder((2,))
    turn = ops.Dense(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, -1.0]]), np.zeros(4))
    slopes = np.array([-1.0, -1.0, 0.0, 0.0])
    pieces = builder.add(ops.Rectifier(slopes), builder.add(turn, 0))
    joined = builder.add(ops.Concat(0), pieces, 0)
    last = ops.Dense(np.array([[-2.0, -2.0, 2.0, 2.0, 3.0, 0.0]]), np.zeros(1))
    network = builder.build(builder.add(last, joined))
    way = "neurons" if splitting == "neurons" else "inputs"
    box = Box([-sliver, -1], [1, 1])
    found = minimise(network, box, np.ones(1), sliver / 10, way, Options(5))
    assert found.lower <= -5 * sliver <= found.upper


@pytest.mark.parametrize("splitting", ["neurons", "inputs"])
def test_a_point_whose_bound_does_not_suffice(splitting: str) -> None:
    """Rounding alone keeps the bound of a box of one point from its value."""
    builder = Builder((3,))
    parts = [
        builder.add(ops.Dense(row[None], np.zeros(1)), 0) for row in np.eye(3) * [1e16, 1, 1e16]
    ]
    total = builder.add(ops.Rectifier(), builder.add(ops.Add((1, 1, -1)), *parts))
    network = builder.build(builder.add(ops.Dense(-np.ones((1, 1)), np.zeros(1)), total))
    way = "neurons" if splitting == "neurons" else "inputs"
    found = minimise(network, Box([1, 1, 1], [1, 1, 1]), np.ones(1), 1e-6, way, Options(2))
    assert found.lower <= -1 <= found.upper


def test_a_frontier_loses_no_row_whatever_its_score() -> None:
    rng = np.random.default_rng(0)
    frontier, inside, count = Frontier(), set[int](), 0
    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0], dtype=torch.float64)
    for _ in range(60):
        size = int(rng.integers(0, 40))
        score = torch.as_tensor(rng.normal(size=size))
        strange = torch.as_tensor(rng.random(size) < 0.4)
        score[strange] = odd[torch.as_tensor(rng.integers(0, 4, int(strange.sum())))]
        number = torch.arange(count, count + size)
        frontier.push({"score": score, "number": number})
        inside |= set(number.tolist())
        count += size
        taken = frontier.pop(int(rng.integers(1, 30)))["number"].tolist() if inside else []
        assert len(set(taken)) == len(taken) and set(taken) <= inside
        inside -= set(taken)
        assert len(frontier) == len(inside)
    while len(frontier):
        inside -= set(frontier.pop(50)["number"].tolist())
    assert not inside


def some_forms(seed: int) -> tuple[Box, Forms, torch.Tensor, torch.Tensor]:
    """Linear forms of coefficients of very different sizes on a random box."""
    rng = np.random.default_rng(seed)
    rows, size = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    slope = rng.normal(size=(1, rows, size)) * 10.0 ** rng.uniform(-8, 8, (1, rows, size))
    slope[rng.random(slope.shape) < 0.2] = 0.0
    lower = rng.normal(size=size) * 10.0 ** rng.uniform(-3, 3)
    upper = lower + rng.uniform(size=size) * rng.choice([0.0, 1e-9, 1.0])
    middle = rng.uniform(lower, upper)
    constant = -(slope[0] @ middle)[None] + rng.normal(size=(1, rows)) * 1e-9
    at_corner = np.minimum(slope * lower, slope * upper).sum(axis=2) + constant
    least = at_corner - 1e-9 * np.abs(at_corner) - 1e-9
    nothing = torch.zeros(1)
    forms = Forms(
        torch.as_tensor(slope),
        torch.as_tensor(constant),
        torch.as_tensor(least),
        Pass(nothing, {}, nothing, nothing, 0),
    )
    low, high = torch.as_tensor(lower)[None], torch.as_tensor(upper)[None]
    return Box(lower, upper), forms, low, high


def largest(forms: Forms, x: np.ndarray) -> Fraction:
    slope, constant = fractions(forms.slope[0].numpy()), fractions(forms.constant[0].numpy())
    return max(slope @ fractions(x) + constant)


def some_points(box: Box, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    inside = rng.uniform(box.lower, box.upper, (6, box.size))
    corners = np.where(rng.random((6, box.size)) < 0.5, box.lower, box.upper)
    return [np.clip(x, box.lower, box.upper) for x in (*inside, *corners)]


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_clipping_loses_no_counterexample(start: int) -> None:
    kept = 0
    for seed in range(start, start + 50):
        box, forms, low, high = some_forms(seed)
        for x in some_points(box, seed):
            # At this threshold the point itself only just is one.
            value = largest(forms, x)
            threshold = float(value)
            if Fraction(threshold) < value:
                threshold = float(np.nextafter(threshold, np.inf))
            new_low, new_high, gone = clip(low, high, forms, threshold)
            assert not bool(gone)
            assert np.all(new_low[0].numpy() <= x) and np.all(x <= new_high[0].numpy())
            kept += bool((new_low > low).any() or (new_high < high).any())
    assert kept > 50


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_a_mix_of_forms_is_below_the_largest(start: int) -> None:
    for seed in range(start, start + 50):
        box, forms, low, high = some_forms(seed)
        rows = forms.constant.shape[1]
        used = torch.ones(1, 1, rows, dtype=torch.bool)
        objective = Objective(torch.zeros(1, 1, rows, 1), None, torch.zeros(1, 1, rows), used, 0.0)
        _, bound = best_mix(low, high, forms, objective)
        if np.isfinite(float(bound)):
            lower = Fraction(float(bound))
            assert all(lower <= largest(forms, x) for x in some_points(box, seed))
