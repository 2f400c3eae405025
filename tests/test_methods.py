"""Every named method bounds every kind of case from below, and is what its name says."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

import hullmark as hm
from hullmark.bounds.methods import METHODS, bound_cases, bound_margins, bound_outputs
from hullmark.bounds.objective import objective_of, output_objective
from hullmark.bounds.program import Program
from hullmark.errors import BadInput, Unsupported
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box

Rng = np.random.Generator
RELU = ("deepz", "deeppoly0", "deeppoly1", "deeppoly", "alpha", "best")


def dense(*sizes: int, seed: int, op: ops.Op | None = None) -> Network:
    """A fully connected network, with `op` (a ReLU) between its layers."""
    rng = np.random.default_rng(seed)
    builder, node = Builder((sizes[0],)), 0
    for k, (n, m) in enumerate(pairwise(sizes)):
        if k:
            node = builder.add(op or ops.Rectifier(), node)
        node = builder.add(ops.Dense(rng.normal(size=(m, n)), rng.normal(size=m)), node)
    return builder.build(node)


def convolutional() -> Network:
    """A residual network that ends in an image, so that its output is not flat."""
    rng = np.random.default_rng(5)
    builder = Builder((2, 4, 4))
    weight = rng.normal(size=(2, 2, 3, 3))
    conv = ops.Conv(weight, rng.normal(size=2), (1, 1), ((1, 1), (1, 1)), (1, 1))
    first = builder.add(ops.Rectifier(np.array(0.1)), builder.add(conv, 0))
    added = builder.add(ops.Add((1, -1)), builder.add(conv, first), 0)
    return builder.build(builder.add(ops.Rectifier(), added))


def bilinear() -> Network:
    """`relu(W x + b) * tanh(V x)`: a product and a smooth operation."""
    rng = np.random.default_rng(6)
    builder = Builder((3,))
    left = builder.add(
        ops.Rectifier(), builder.add(ops.Dense(rng.normal(size=(4, 3)), np.ones(4)), 0)
    )
    right = builder.add(ops.Tanh(), builder.add(ops.Dense(rng.normal(size=(4, 3)), np.zeros(4)), 0))
    both = builder.add(ops.Product(), left, right)
    return builder.build(builder.add(ops.Dense(rng.normal(size=(2, 4)), np.zeros(2)), both))


NETWORKS = {
    "relu": dense(3, 6, 6, 2, seed=1),
    "affine": dense(3, 2, seed=2),
    "absolute": dense(3, 5, 5, 2, seed=3, op=ops.Rectifier(np.array(-1.0))),
    "concave": dense(3, 5, 5, 2, seed=3, op=ops.Rectifier(np.array(1.5))),
    "sigmoid": dense(3, 5, 5, 2, seed=4, op=ops.Sigmoid()),
    "image": convolutional(),
    "product": bilinear(),
}


def some_cases(network: Network, box: Box) -> tuple[Case, ...]:
    """Single rows, several rows of which one has to hold, and rows over inputs and outputs."""
    n, k = network.input_size, network.output_size
    first, last = {0: 1}, {k - 1: 1}
    one = Constraint.of({}, {0: 1, k - 1: Fraction(-1, 3)}, Fraction(1, 10))
    rows = (
        Constraint.of({}, first, -1),
        Constraint.of({}, last, 2),
        Constraint.of({}, {0: -1, k - 1: -1}, 1),
    )
    both = (Constraint.of({0: 2, n - 1: -1}, first, Fraction(1, 3)), Constraint.of({}, last, 0))
    only_inputs = (Constraint.of({0: 1}, {}, 1),)
    return tuple(Case(box, c, k) for c in ((one,), rows, both, only_inputs))


def margins_at(cases: tuple[Case, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Margins `(cases, N)` at inputs `(N, n)` with outputs `(N, k)`."""
    found = []
    for case in cases:
        rows = case.rows
        values = rows.y @ y.T - rows.bound[:, None]
        if rows.x is not None:
            values = values + rows.x @ x.T
        found.append(values.max(axis=0))
    return np.array(found)


def sampled(box: Box, count: int, rng: Rng) -> np.ndarray:
    """Points of a box, half of them corners."""
    inside = rng.uniform(box.lower, box.upper, size=(count, box.size))
    corners = np.where(rng.random((count, box.size)) < 0.5, box.lower, box.upper)
    return np.concatenate([inside, corners])


@pytest.mark.parametrize("radius", [0.0, 0.05, 1.5])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_a_bound_is_below_every_margin(method: str, name: str, dtype: str, radius: float) -> None:
    network = NETWORKS[name]
    rng = np.random.default_rng(7)
    centre = rng.normal(size=network.input_size)
    box = Box(centre - radius, centre + radius)
    cases = some_cases(network, box)
    found = bound_cases(network, box, cases, method, dtype=dtype)
    x = sampled(box, 300, rng)
    least = margins_at(cases, x, network.evaluate(x).reshape(len(x), -1)).min(axis=1)
    assert found.shape == (len(cases),) and np.isfinite(found).all()
    # The margins sampled are float64 themselves, good to a few units in the last place.
    assert (found <= least + 1e-12 * (1 + np.abs(least))).all()
    if radius == 0.0:
        # A single point leaves only rounding between a bound and the margin.
        assert (found >= least - (1e-9 if dtype == "float64" else 1e-2)).all()


# Two planes below a product are equally near at the middle of its box, so that rounding picks one.
@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "product"])
@pytest.mark.parametrize("method", METHODS)
def test_outputs_over_many_boxes_are_those_over_each(method: str, name: str) -> None:
    program = Program.compile(NETWORKS[name])
    rng = np.random.default_rng(8)
    centre = torch.from_numpy(rng.normal(size=(5, program.network.input_size)))
    radius = torch.tensor([0.0, 1e-3, 0.1, 1.0, 3.0], dtype=torch.float64).unsqueeze(1)
    lower, upper = bound_outputs(program, centre - radius, centre + radius, method)
    for b in range(5):
        one = slice(b, b + 1)
        alone = bound_outputs(program, (centre - radius)[one], (centre + radius)[one], method)
        # The order of sums may depend on the batch, and an ascent follows its own rounding.
        tolerance = 1e-4 if method == "alpha" else 1e-9
        torch.testing.assert_close(alone[0], lower[one], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(alone[1], upper[one], rtol=tolerance, atol=tolerance)
    assert bool((lower <= upper).all())


@pytest.mark.parametrize("method", METHODS)
def test_boxes_in_pieces(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program.compile(NETWORKS["relu"])
    centre = torch.linspace(-1, 1, 21, dtype=torch.float64).reshape(7, 3)
    whole = bound_outputs(program, centre - 0.1, centre + 0.1, method)
    monkeypatch.setattr("hullmark.bounds.methods.CHUNK", 300)
    monkeypatch.setattr("hullmark.bounds.methods.MEMORY", 4000)
    for expected, got in zip(
        whole, bound_outputs(program, centre - 0.1, centre + 0.1, method), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_zonotopes_keep_what_rows_share() -> None:
    """Of `y_0 - y_1` with `y_1 = y_0 = relu(x)` a zonotope leaves nothing, an interval all."""
    builder = Builder((1,))
    twice = ops.Dense(np.ones((2, 1)), np.zeros(2))
    single = builder.add(ops.Rectifier(), 0)
    network = builder.build(builder.add(twice, single))
    box = Box([-1.0], [1.0])
    case = Case(box, (Constraint.of({}, {0: 1, 1: -1}, 0),), 2)
    mixed = Case(box, (Constraint.of({0: -1}, {0: 2}, 0),), 2)
    by = {m: bound_cases(network, box, (case, mixed), m) for m in METHODS}
    for method in RELU:
        assert by[method][0] == pytest.approx(0, abs=1e-9)
    assert by["ibp"][0] == pytest.approx(-1, abs=1e-9)
    # 2 relu(x) - x = |x|: a zonotope knows the input's symbol, an interval does not.
    assert by["deepz"][1] == pytest.approx(0, abs=1e-9)
    assert by["ibp"][1] == pytest.approx(-1, abs=1e-9)


def test_no_method_borrows_from_another() -> None:
    """Of two methods that no theorem orders, each is somewhere better than the other."""
    unordered = [
        ("ibp", "deepz"),
        ("ibp", "deeppoly"),
        ("ibp", "deeppoly1"),
        ("deepz", "deeppoly"),
        ("deepz", "deeppoly0"),
        ("deepz", "deeppoly1"),
        ("deeppoly0", "deeppoly1"),
        ("deeppoly0", "deeppoly"),
        ("deeppoly1", "deeppoly"),
    ]
    better: set[tuple[str, str]] = set()
    for seed in range(30):
        network = dense(2, 4, 4, 1, seed=seed)
        box = Box([-2.0, -2.0], [2.0, 2.0])
        cases = some_cases(network, box)[:1]
        by = {m: float(bound_cases(network, box, cases, m)[0]) for m in METHODS}
        better |= {(a, b) for a in METHODS for b in METHODS if by[a] > by[b] + 1e-3}
        assert by["crown"] == by["deeppoly"]
        assert by["best"] >= max(by["ibp"], by["deepz"], by["deeppoly"]) - 1e-9
        assert by["alpha"] >= by["deeppoly"] - 1e-9
        assert by["deeppoly0"] >= by["ibp"] - 1e-9
    missing = [p for a, b in unordered for p in ((a, b), (b, a)) if p not in better]
    assert not missing


def test_a_mix_of_rows_proves_what_no_row_does() -> None:
    """`x <= -1/2` and `-x <= -1/2` cannot both hold; each alone can."""
    network = dense(1, 1, seed=0, op=None)
    weight = float(network.nodes[1].op.weight[0, 0])  # type: ignore[union-attr]
    bias = float(network.nodes[1].op.bias[0])  # type: ignore[union-attr]
    box = Box([-1.0], [1.0])
    rows = (
        Constraint.of({}, {0: 1}, bias - abs(weight) / 2),
        Constraint.of({}, {0: -1}, -bias - abs(weight) / 2),
    )
    case = (Case(box, rows, 1),)
    assert bound_cases(network, box, case, "deeppoly")[0] < 0
    assert bound_cases(network, box, case, "alpha")[0] > 0


def test_a_case_without_constraints_is_never_excluded() -> None:
    network = NETWORKS["relu"]
    box = Box([0, 0, 0], [0, 0, 0])
    cases = (Case(box, (), 2), some_cases(network, box)[1])
    for method in METHODS:
        found = bound_cases(network, box, cases, method)
        assert found[0] == -np.inf and np.isfinite(found[1])
    assert bound_cases(network, box, (), "ibp").shape == (0,)


@pytest.mark.parametrize("seed", range(12))
def test_numbers_at_the_ends_of_float(seed: int) -> None:
    """Coefficients of any size, so that sums overflow here and vanish there."""
    rng = np.random.default_rng(seed)
    builder, node, sizes = Builder((2,)), 0, (2, 3, 3, 3, 1)
    for k, (n, m) in enumerate(pairwise(sizes)):
        node = builder.add(ops.Rectifier(), node) if k else node
        scale = 10.0 ** rng.choice([0, 0, 0, 60, -60, 110, -110], size=(m, n))
        shift = 10.0 ** rng.choice([0, 50, 100], size=m)
        layer = ops.Dense(rng.normal(size=(m, n)) * scale, rng.normal(size=m) * shift)
        node = builder.add(layer, node)
    network = builder.build(node)
    box = Box([-1, -1], [1, 1])
    cases = tuple(Case(box, (Constraint.of({}, {0: s}, 0),), 1) for s in (1, -1))
    points = [[Fraction(int(k), 4) for k in rng.integers(-4, 5, 2)] for _ in range(40)]
    values = exactly(network, np.array(points, dtype=object))[:, 0]
    for method in METHODS:
        found = bound_cases(network, box, cases, method)
        for bound, least in ((found[0], min(values)), (found[1], -max(values))):
            assert bound == -np.inf or Fraction(float(bound)) <= least, method


def exactly(network: Network, x: np.ndarray) -> np.ndarray:
    """The outputs of a network of dense layers and ReLUs, in rational arithmetic."""
    for node in network.nodes[1:]:
        if isinstance(node.op, ops.Dense):
            x = x @ fractions(node.op.weight).T + fractions(node.op.bias)
        else:
            x = np.maximum(x, Fraction(0))
    return x


def fractions(values: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda v: Fraction(float(v)), otypes=[object])(values)


def test_roundoff_of_rows_is_paid() -> None:
    """A coefficient that is no float is bounded for all numbers it may stand for."""
    network = dense(1, 1, seed=0)
    box = Box([1.0], [1.0])
    exact = exactly(network, np.array([[Fraction(1)]]))[0, 0] / 3
    case = Case(box, (Constraint.of({}, {0: Fraction(1, 3)}, 0),), 1)
    for method in METHODS:
        for dtype in ("float64", "float32"):
            found = bound_cases(network, box, (case,), method, dtype=dtype)[0]
            assert Fraction(float(found)) <= exact


def test_queries_of_the_outputs() -> None:
    program = Program.compile(NETWORKS["relu"])
    lower, upper = program.enclosing(np.full((1, 3), -0.1), np.full((1, 3), 0.1))
    box = Box([-0.1] * 3, [0.1] * 3)
    cases = tuple(Case(box, (Constraint.of({}, {j: s}, 0),), 2) for s in (1, -1) for j in range(2))
    by_case = bound_margins(program, lower, upper, objective_of(program, cases), "deeppoly")
    by_output = bound_margins(program, lower, upper, output_objective(program), "deeppoly")
    torch.testing.assert_close(by_case, by_output)
    report = hm.bound(
        hm.Model(program.network, _Original(program.network), np.dtype(np.float64), "test"), box
    )
    assert (report.lower <= report.upper).all()


class _Original:
    """The network as its own runtime."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def run(self, x: np.ndarray) -> np.ndarray:
        return self._network.evaluate(x)


def test_what_is_not_known_is_named() -> None:
    network = NETWORKS["relu"]
    box = Box([0, 0, 0], [1, 1, 1])
    cases = some_cases(network, box)
    with pytest.raises(BadInput, match=r"unknown method 'milp'; known are ibp, deepz, .*best"):
        bound_cases(network, box, cases, "milp")
    with pytest.raises(BadInput, match="precision must be float64 or float32, not float16"):
        bound_cases(network, box, cases, "ibp", dtype="float16")
    for device in ("abacus", "cuda:99", "meta", ""):
        with pytest.raises(BadInput, match=f"device '{device}' cannot be used: "):
            bound_cases(network, box, cases, "ibp", device)
    builder = Builder((2,))
    soft = builder.build(builder.add(ops.Softmax(0), 0))
    with pytest.raises(Unsupported, match="Softmax_1: softmax can only be dropped"):
        bound_cases(soft, Box([0, 0], [1, 1]), (), "ibp")


def test_float32_boxes_are_rounded_outwards() -> None:
    program = Program.compile(NETWORKS["relu"], dtype=torch.float32)
    values = np.random.default_rng(3).normal(size=1000)
    lower, upper = program.enclosing(values, values)
    assert (lower.double().numpy() <= values).all() and (values <= upper.double().numpy()).all()
    assert float((upper - lower).max()) < 1e-6
    kept = values.astype(np.float32).astype(np.float64)
    lower, upper = program.enclosing(kept, kept)
    assert torch.equal(lower, upper)
