"""What floating point costs is paid for: no bound is ever above the exact value, by any amount.

On a box that is one point every relaxation is exact, so that nothing but the charges for
rounding stands between a bound and the exact value. All comparisons are between fractions.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from exactly import (
    exactly,
    fractions,
    mixed_network,
    output_at,
    rectified_network,
    singly,
    values_at,
)

from hullmark.bounds import objective as objective_module
from hullmark.bounds import relaxation as relaxation_module
from hullmark.bounds.alpha import Ascent, Multipliers, ascend
from hullmark.bounds.linear import backward, propagate
from hullmark.bounds.methods import bound_cases
from hullmark.bounds.objective import objective_of, output_objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import certain, down, gamma, tiny, unit, up
from hullmark.errors import Unsupported
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.network.ops import Array
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box

PRECISIONS = (torch.float64, torch.float32)


def related(
    network: Network, lower: Array, upper: Array, dtype: torch.dtype, sieve: bool = True
) -> Relaxation:
    program = Program.compile(network, "cpu", dtype)
    low, high = program.enclosing(lower, upper)
    relaxation = Relaxation(program, low.unsqueeze(0), high.unsqueeze(0))
    propagate(relaxation, sieve=sieve)
    relaxation.advance(len(network.nodes) - 1)
    return relaxation


def outputs(relaxation: Relaxation) -> tuple[Array, Array]:
    found = ascend(relaxation, output_objective(relaxation.program), Ascent(steps=0)).lower[0]
    low, high = found.double().numpy().reshape(2, -1)
    return low, -high


def crossings(network: Network, x: Array, dtype: torch.dtype) -> int:
    """How many bounds of outputs, pre-activations and intervals at a point exclude its values."""
    relaxation = related(network, x, x, dtype)
    last = len(network.nodes) - 1
    wrong = 0
    for i, exact in values_at(exactly(network), x):
        enclosures = [tuple(b.flatten().tolist() for b in relaxation.interval(i))]
        if i == last:
            enclosures.append(tuple(b.tolist() for b in outputs(relaxation)))
        for low, high in enclosures:
            wrong += sum(
                not (a == -np.inf or Fraction(a) <= v) or not (b == np.inf or v <= Fraction(b))
                for a, v, b in zip(low, exact, high, strict=True)
            )
    return wrong


def points(seeds: range, dtype: torch.dtype) -> list[tuple[Network, Array]]:
    """Networks and inputs, half of them of numbers that the precision holds exactly."""
    found: list[tuple[Network, Array]] = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        network = mixed_network(rng) if seed % 2 else rectified_network(rng, 3)
        x = rng.normal(size=network.input_size) * 10.0 ** rng.uniform(-3, 3)
        if dtype == torch.float32 and seed % 4 < 2:
            network, x = singly(network), x.astype(np.float32).astype(np.float64)
        found.append((network, x))
    return found


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_no_bound_excludes_the_exact_value_of_a_point(dtype: torch.dtype) -> None:
    for network, x in points(range(60), dtype):
        assert crossings(network, x, dtype) == 0


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_charges_are_small(dtype: torch.dtype) -> None:
    """Bounds so wide that they hold anyhow would pass every other test here."""
    for network, x in points(range(60), dtype):
        relaxation = related(network, x, x, dtype)
        low, high = outputs(relaxation)
        reach = relaxation.magnitude[len(network.nodes) - 1].flatten().double().numpy()
        assert np.all(high - low <= 2e5 * unit(dtype) * reach)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_without_the_charges_bounds_are_wrong(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(terms: int, dtype: torch.dtype) -> float:
        return 0.0

    monkeypatch.setattr(relaxation_module, "gamma", free)
    monkeypatch.setattr(objective_module, "gamma", free)
    wrong = sum(crossings(network, x, dtype) for network, x in points(range(20), dtype))
    assert wrong > 10


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_long_chains_of_affine_maps(dtype: torch.dtype) -> None:
    """Twelve layers whose values neither grow nor shrink, so that every layer's rounding shows."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        builder, at = Builder((4,)), 0
        for _ in range(12):
            turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
            at = builder.add(ops.Dense(turn, rng.normal(size=4) * 0.1), at)
        network = builder.build(at)
        x = rng.normal(size=4)
        low, high = outputs(related(network, x, x, dtype))
        exact = output_at(exactly(network), x)
        assert np.all(fractions(low) <= exact) and np.all(exact <= fractions(high))
        assert np.all(high - low <= 1e7 * unit(dtype))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_boxes_hold_the_exact_values_of_their_points(dtype: torch.dtype) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        network = rectified_network(rng, 3)
        lower = rng.normal(size=3)
        upper = lower + rng.uniform(size=3) * rng.choice([1e-12, 1e-3, 1.0])
        low, high = outputs(related(network, lower, upper, dtype, sieve=bool(seed % 2)))
        exact = exactly(network)
        for x in (lower, upper, *np.clip(rng.uniform(lower, upper, (4, 3)), lower, upper)):
            y = output_at(exact, x)
            assert np.all(fractions(low) <= y) and np.all(y <= fractions(high))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_mixed_rows_bound_the_largest_row(dtype: torch.dtype) -> None:
    """Whatever the weights, and although floats never quite sum to 1."""
    for seed in range(25):
        rng = np.random.default_rng(seed)
        network = rectified_network(rng, 2, outputs=3)
        x = rng.normal(size=2)
        y = output_at(exactly(network), x)
        rows = [
            {int(j): float(c) for j, c in enumerate(rng.normal(size=3))}
            for _ in range(int(rng.integers(2, 9)))
        ]
        # Bounds at which all rows have one value, so that the best mix is any mix.
        level = Fraction(float(rng.normal()))
        cases = tuple(
            Constraint.of({}, row, sum((Fraction(c) * y[j] for j, c in row.items()), -level))
            for row in rows
        )
        relaxation = related(network, x, x, dtype)
        objective = objective_of(relaxation.program, (Case(Box(x, x), cases, 3),))
        mix = torch.rand(1, 1, len(rows), generator=torch.Generator().manual_seed(seed))
        found = ascend(relaxation, objective, Ascent(steps=0), Multipliers({}, mix=mix.to(dtype)))
        assert Fraction(float(found.lower)) <= level
        assert float(found.lower) > float(level) - 1e7 * unit(dtype)


@pytest.mark.parametrize(
    ("method", "dtype"), [("deeppoly", "float64"), ("alpha", "float64"), ("deeppoly", "float32")]
)
def test_underflow_is_paid_for(method: str, dtype: str) -> None:
    """A small coefficient of the property makes products of it with weights vanish."""
    least = 2.0**-1074 if dtype == "float64" else 2.0**-149
    scale = 2.0**60
    weights = np.full((1, 20), -0.4 * (least * scale))
    builder = Builder((1,))
    many = builder.add(ops.Dense(np.ones((20, 1)), np.zeros(20)), 0)
    network = builder.build(builder.add(ops.Dense(weights, np.array([4 * (least * scale)])), many))
    box = Box([1], [1])
    case = Case(box, (Constraint.of({}, {0: 1 / scale}, 0),), 1)
    exact = output_at(exactly(network), np.ones(1))[0] / Fraction(scale)
    assert exact < 0
    assert bound_cases(network, box, (case,), method, dtype=dtype)[0] <= exact


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_readers_pay_for_the_rounding_of_what_they_read(dtype: torch.dtype) -> None:
    """Large coefficients cancel, in every neuron and between neurons; only the coefficients of
    the neurons themselves still show how large they were."""
    size = 1e8 if dtype == torch.float64 else 1e3
    for seed in range(20):
        rng = np.random.default_rng(seed)
        weight = np.array([[size, -size]] * 2) + rng.normal(size=(2, 2))
        third = rng.uniform(0.2, 0.4)
        builder = Builder((2,))
        hidden = builder.add(ops.Dense(weight, np.array([3.0, 3.0])), 0)
        last = ops.Dense(np.array([[third, -third]]), np.zeros(1))
        network = builder.build(builder.add(last, builder.add(ops.Rectifier(), hidden)))
        if dtype == torch.float32:
            network = singly(network)
        x = np.array([0.75, 0.75])
        low, high = outputs(related(network, x, x, dtype))
        exact = output_at(exactly(network), x)
        assert np.all(fractions(low) <= exact) and np.all(exact <= fractions(high))


def test_a_sum_of_many_terms_pays_for_its_rounding() -> None:
    """`1e16 + 1 - 1e16` in floats is 0 or 2; a sum of values that are only moved is not free."""
    builder = Builder((3,))
    parts = [builder.add(ops.Sign(), builder.add(ops.Select(np.array([i])), 0)) for i in range(3)]
    scales = (1e16, 1.0, 1e16)
    parts = [
        builder.add(ops.Scale(np.array([s]), np.zeros(1)), p)
        for p, s in zip(parts, scales, strict=True)
    ]
    total = builder.add(ops.Add((1, 1, -1)), *parts)
    network = builder.build(builder.add(ops.Rectifier(), total))
    for dtype in PRECISIONS:
        relaxation = related(network, np.ones(3), np.ones(3), dtype)
        low, high = relaxation.interval(total)
        assert float(low) <= 1 <= float(high)
        low, high = outputs(relaxation)
        assert low[0] <= 1 <= high[0]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_overflow_leaves_no_bound(dtype: torch.dtype) -> None:
    """Infinity is what is left of an overflow in either direction; neither is a lower bound."""
    large = torch.finfo(dtype).max / 4
    for last in ([1.0, 1.0, -1.0, -1.0], [1.0, 1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 1.0]):
        builder = Builder((1,))
        wide = builder.add(ops.Dense(np.full((4, 1), large), np.full(4, large)), 0)
        wide = builder.add(ops.Dense(np.eye(4) * 8.0, np.full(4, large)), wide)
        network = builder.build(builder.add(ops.Dense(np.array([last]) * 4.0, np.zeros(1)), wide))
        for sieve in (False, True):
            low, high = outputs(related(network, -np.ones(1), np.ones(1), dtype, sieve))
            assert low[0] == -np.inf and high[0] == np.inf


def test_only_finite_numbers_are_bounds() -> None:
    found = certain(torch.tensor([1.0, -torch.inf, torch.inf, torch.nan]))
    assert found.tolist() == [1.0, -np.inf, -np.inf, -np.inf]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_directed_steps_and_gamma(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, 1.0, -1.0, 1e-30], dtype=dtype)
    assert bool((down(x) < x).all()) and bool((up(x) > x).all())
    assert tiny(dtype) == float(torch.finfo(dtype).smallest_normal)
    u = Fraction(unit(dtype))
    for terms in (1, 7, 1000, 50_000):
        exact = terms * u / (1 - terms * u)
        assert exact <= Fraction(gamma(terms, dtype)) <= exact * (1 + Fraction(1, 10**12))


def test_sums_too_long_for_a_precision_are_refused() -> None:
    with pytest.raises(Unsupported, match="use float64"):
        gamma(100_000, torch.float32)


def test_the_value_of_a_start_at_the_input() -> None:
    """A network that is its input: rows over inputs and outputs concern one and the same node."""
    network = Builder((2,)).build(0)
    box = Box([0, 0], [1, 1])
    case = Case(box, (Constraint.of({0: 1}, {0: -3, 1: 1}, Fraction(1, 7)),), 2)
    for dtype in PRECISIONS:
        relaxation = related(network, np.zeros(2), np.ones(2), dtype)
        objective = objective_of(relaxation.program, (case,))
        start = objective.mixed(relaxation, objective.uniform())
        lower = Fraction(float(backward(relaxation, *start).lower))
        least = Fraction(-2) - Fraction(1, 7)
        assert least - Fraction(1, 10**4) <= lower <= least
