"""Joint rows in backward passes: whatever rows hold and whatever the multipliers, exactly."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from exactly import Rng, fractions
from segments import Pieces, pieces, round_up, wire

from hullmark.bounds.aims import Forms, Neurons
from hullmark.bounds.alpha import Ascent, Multipliers, ascend
from hullmark.bounds.linear import Dual, backward, propagate
from hullmark.bounds.objective import Objective, objective_of
from hullmark.bounds.pools import Pool
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.joint.store import Block, Layer, LayerRows
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.relax.separate import JointRows
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box

DTYPES = {"float64": torch.float64, "float32": torch.float32}
LOWER, UPPER = -1.0, 1.5


def relaxed(network: Network, dtype: str) -> Relaxation:
    program = Program.compile(network, dtype=DTYPES[dtype])
    box = program.enclosing(np.array([[LOWER]]), np.array([[UPPER]]))
    relaxation = Relaxation(program, *box)
    propagate(relaxation)
    relaxation.advance(len(network.nodes) - 1)
    return relaxation


def some_terms(rng: Rng, network: Network, count: int) -> dict[int, np.ndarray]:
    """Coefficients that float32 holds, on some values of one to three nodes: `(count, *shape)`."""
    chosen = rng.choice(len(network.nodes), size=int(rng.integers(1, 4)), replace=False)
    found: dict[int, np.ndarray] = {}
    for i in chosen.tolist():
        shape = (count, *network.nodes[i].shape)
        c = rng.normal(size=shape) * (rng.random(shape) < 0.7)
        found[i] = c.astype(np.float32).astype(np.float64)
    return found


def tight_pool(rng: Rng, program: Program, known: Pieces, count: int) -> Pool:
    """Rows that hold with the least right-hand side that the precision has."""
    terms = some_terms(rng, program.network, count)
    kind = np.float64 if program.dtype == torch.float64 else np.float32
    rhs = [
        round_up(max(known.form({i: c[r] for i, c in terms.items()})), kind) for r in range(count)
    ]
    coefficients = {i: program.tensor(c) for i, c in terms.items()}
    return Pool(coefficients, torch.as_tensor(rhs, dtype=program.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_right_hand_sides_of_a_layer_are_rounded_up(dtype: str) -> None:
    """To the next number of the precision, though of a size at which the charges hide it."""
    rng = np.random.default_rng(0)
    program = relaxed(wire(rng), dtype).program
    at = next(i for i, n in enumerate(program.network.nodes) if isinstance(n.op, ops.Rectifier))
    rows = LayerRows(Layer.of(program, at))
    count = 60
    for rhs in (rng.normal(size=count), np.linspace(-2, 3, count), np.zeros(count)):
        x, y = np.zeros((count, 1)), np.ones((count, 1))
        none = np.zeros((count, 2, 2))
        found = JointRows(np.arange(count), x, y, rhs, none.astype(np.intp), none)
        rows.add(Block(np.zeros((count, 1), dtype=np.intp), np.ones((count, 2)), found))
    kind = np.float64 if dtype == "float64" else np.float32
    wanted = [round_up(Fraction(v), kind) for b in rows.blocks for v in b.rows.rhs.tolist()]
    assert rows.pool(program).rhs.tolist() == wanted


def some_gamma(rng: Rng, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Multipliers of any size, many of them 0."""
    size = 10.0 ** rng.choice([-20, -3, 0, 0, 3, 8, 20], size=shape)
    values = rng.random(shape) * size * (rng.random(shape) < 0.6)
    return torch.as_tensor(values, dtype=dtype)


def exact_bounds(bounds: torch.Tensor) -> list[Fraction | float]:
    return [Fraction(v) if np.isfinite(v) else v for v in bounds.double().flatten().tolist()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("start", range(0, 60, 20))
def test_any_multipliers_of_valid_rows_are_sound(start: int, dtype: str) -> None:
    finite = 0
    for seed in range(start, start + 20):
        rng = np.random.default_rng(seed)
        relaxation = relaxed(wire(rng), dtype)
        program, network = relaxation.program, relaxation.program.network
        known = pieces(network, LOWER, UPPER)
        gamma: dict[int, torch.Tensor] = {}
        for key in range(int(rng.integers(1, 3))):
            count = int(rng.integers(1, 6))
            relaxation.set_pool(key, tight_pool(rng, program, known, count))
            gamma[key] = some_gamma(rng, (1, 3, count), program.dtype)
        terms = some_terms(rng, network, 3)
        begin = {i: program.tensor(c).unsqueeze(0) for i, c in terms.items()}
        zero = torch.zeros(1, 3, dtype=program.dtype)
        found = backward(relaxation, begin, zero, Dual(gamma=gamma)).lower[0]
        for q, bound in enumerate(exact_bounds(found)):
            assert bound <= min(known.form({i: c[q] for i, c in terms.items()})), seed
            finite += bound > -np.inf
    assert finite == 60


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_rounding_of_rows_is_paid(dtype: str) -> None:
    """Without kinks nothing is relaxed, so that at a point where all rows are tight the bound is
    the value, and rounding alone decides on which side."""
    rng = np.random.default_rng(0)
    close = 0
    for _ in range(150):
        builder = Builder((1,))
        at = builder.add(ops.Dense(rng.normal(size=(4, 1)), rng.normal(size=4)), 0)
        at = builder.add(ops.Dense(rng.normal(size=(3, 4)), rng.normal(size=3)), at)
        relaxation = relaxed(builder.build(at), dtype)
        program = relaxation.program
        known = pieces(program.network, LOWER, UPPER)
        relaxation.set_pool(0, tight_pool(rng, program, known, 3))
        gamma = some_gamma(rng, (1, 1, 3), program.dtype).clamp(max=1e8)
        begin = {at: program.tensor(rng.normal(size=(1, 1, 3)))}
        zero = torch.zeros(1, 1, dtype=program.dtype)
        found = backward(relaxation, begin, zero, Dual(gamma={0: gamma})).lower[0]
        truth = min(known.form({at: begin[at][0, 0].double().numpy()}))
        (bound,) = exact_bounds(found)
        assert bound <= truth
        close += bound > truth - Fraction(1, 1000) * (1 + abs(truth))
    assert close > 20


@pytest.mark.parametrize(
    ("dtype", "small", "large"), [("float32", 47, 126), ("float64", 500, 1000)]
)
def test_charges_do_not_vanish(dtype: str, small: int, large: int) -> None:
    """Coefficients times values underflow, and a large multiplier brings them back."""
    builder, scale = Builder((1,)), 2.0**-small
    at = builder.add(ops.Dense(np.array([[3 * scale], [5 * scale]]), np.zeros(2)), 0)
    relaxation = relaxed(builder.build(at), dtype)
    program = relaxation.program
    known = pieces(program.network, LOWER, UPPER)
    # It is 0 everywhere.
    row = program.tensor([[5.0, -3.0]]) * 2.0 ** -(large - 26)
    zero = torch.zeros(1, dtype=program.dtype)
    relaxation.set_pool(0, Pool({at: row}, zero))
    rng = np.random.default_rng(0)
    for _ in range(20):
        gamma = program.tensor(rng.uniform(1, 2, (1, 1, 1))) * 2.0**large
        begin = {at: -gamma * row.unsqueeze(0)}
        found = backward(relaxation, begin, zero.reshape(1, 1), Dual(gamma={0: gamma})).lower
        truth = min(known.form({at: begin[at][0, 0].double().numpy()}))
        assert exact_bounds(found)[0] <= truth


@pytest.mark.parametrize("dtype", DTYPES)
def test_ascents_with_rows_are_sound_and_gain(dtype: str) -> None:
    gained = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        relaxation = relaxed(wire(rng), dtype)
        program, network = relaxation.program, relaxation.program.network
        known = pieces(network, LOWER, UPPER)
        last = len(network.nodes) - 1
        terms = {last: torch.as_tensor(rng.choice([-1.0, 1.0, 0.0], size=(1, 3, 2)))}
        if seed % 2:
            terms[0] = torch.as_tensor(rng.choice([-1.0, 1.0, 0.0], size=(1, 3, 1)))
        aim = Forms(terms)
        alone = ascend(relaxation, aim, Ascent(20)).lower[0]
        for key in range(2):
            relaxation.set_pool(key, tight_pool(rng, program, known, 8))
        found = ascend(relaxation, aim, Ascent(20, row_rate=0.1)).lower[0]
        again = ascend(
            relaxation,
            aim,
            Ascent(0),
            Multipliers(
                {},
                # No row, and clamped.
                gamma={k: torch.as_tensor(-rng.random((1, 3, 8))) for k in relaxation.pools},
            ),
        ).lower[0]
        for bounds in (alone, found, again):
            for q, bound in enumerate(exact_bounds(bounds)):
                truth = min(known.form({j: c[0, q].numpy() for j, c in terms.items()}))
                assert bound <= truth, seed
        gained += int((found > alone + 1e-3).sum())
    assert gained > 10


def hinge() -> tuple[Relaxation, int]:
    """`relu(2 x)`, and its pre-activation."""
    builder = Builder((1,))
    at = builder.add(ops.Dense(np.array([[2.0]]), np.zeros(1)), 0)
    network = builder.build(builder.add(ops.Rectifier(), at))
    return relaxed(network, "float64"), at


def test_rows_over_the_output_tell_of_what_is_below() -> None:
    relaxation, z = hinge()
    aim = Neurons(z, torch.tensor([0, 0]), torch.tensor([1, -1]))
    ascent = Ascent(60, row_rate=0.2)
    before = ascend(relaxation, aim, ascent).lower[0]
    assert before.tolist() == pytest.approx([-2, -3])
    assert not relaxation.assumes
    one = torch.ones(1, 1, dtype=torch.float64)
    relaxation.set_pool(2, Pool({2: one}, torch.tensor([0.25], dtype=torch.float64)))
    assert relaxation.assumes and relaxation.renewed().assumes
    for each in (relaxation, relaxation.renewed()):
        after = ascend(each, aim, ascent).lower[0]
        # `relu(z) <= 1/4` gives `z <= 1/4`, for `relu(z) >= z`.
        assert after[1] >= -0.3 and after[1] <= -0.25 and -2 >= after[0] >= -2.1


def test_a_row_closes_the_gap_that_it_describes() -> None:
    """`-relu(z)` over `[-2, 3]`: the chord gives `-3` at the end, and the row says `y <= 1`."""
    relaxation, z = hinge()
    one = torch.ones(1, 1, dtype=torch.float64)
    relaxation.set_bounds(z, -2 * one, 3 * one)
    pool = Pool({z: -0.5 * one, z + 1: one}, torch.tensor([1.0], dtype=torch.float64))
    relaxation.set_pool(0, pool)
    start = {z + 1: -one.unsqueeze(0)}
    gamma = Dual(gamma={0: one.unsqueeze(0)})
    zero = torch.zeros(1, 1, dtype=torch.float64)
    # `-y + (y - z/2 - 1) = -z/2 - 1`, at most 3/2 + 1 below 0.
    assert float(backward(relaxation, start, zero, gamma).lower) == pytest.approx(-2.5)
    assert float(backward(relaxation, start, zero).lower) == pytest.approx(-3)


def test_sparse_and_dense_products_agree() -> None:
    rng = np.random.default_rng(0)
    terms = {1: rng.normal(size=(5, 2, 3)), 4: rng.normal(size=(5, 4))}
    terms[4][rng.random((5, 4)) < 0.5] = 0
    rhs = rng.normal(size=5)
    pool = Pool({i: torch.as_tensor(c) for i, c in terms.items()}, torch.as_tensor(rhs))
    assert pool.top == 4 and pool.width == 10
    gamma = torch.as_tensor(rng.random((2, 3, 5)))
    values = {i: torch.as_tensor(rng.normal(size=(2, 3, *c.shape[1:]))) for i, c in terms.items()}
    wide, excess = dict(pool.shares(gamma)), pool.excess(values)
    for b in range(2):
        narrow = dict(pool.shares(gamma[b : b + 1]))
        for i, c in terms.items():
            expected = np.einsum("qr,r...->q...", gamma[b].numpy(), c)
            np.testing.assert_allclose(narrow[i][0], expected)
            np.testing.assert_allclose(wide[i][b], expected)
        one = {i: v[b : b + 1] for i, v in values.items()}
        expected = -rhs + sum(
            np.einsum("q...r,k...r->qk", one[i][0].flatten(1), c.reshape(5, -1))
            for i, c in terms.items()
        )
        np.testing.assert_allclose(pool.excess(one)[0], expected)
        np.testing.assert_allclose(excess[b], expected)
    assert pool.zeros(7).shape == (1, 7, 5) and not pool.zeros(7).any()


def test_renewed_relaxations_keep_rows_and_stop() -> None:
    rng = np.random.default_rng(3)
    relaxation = relaxed(wire(rng), "float64")
    known = pieces(relaxation.program.network, LOWER, UPPER)
    relaxation.set_pool(5, tight_pool(rng, relaxation.program, known, 4))
    relaxation.stop = lambda: True
    twin = relaxation.renewed()
    assert twin.pools.keys() == {5} and twin.pools[5] is relaxation.pools[5]
    assert twin.stop() and twin.reached == relaxation.reached
    torch.testing.assert_close(twin.pool_charge(5), relaxation.pool_charge(5))
    assert bool((twin.pool_charge(5) > 0).all())
    for j, (low, high) in relaxation.bounds.items():
        assert torch.equal(low, twin.bounds[j][0]) and torch.equal(high, twin.bounds[j][1])


def asked(rng: Rng, known: Pieces, kind: str) -> tuple[Case, ...]:
    """Queries that some points of the interval violate; constants beyond what float holds."""
    size = {"huge": 1e12, "small": 1e-12}.get(kind, 1.0)
    count, last = (1, len(known.values) - 1) if kind == "single" else (4, len(known.values) - 1)
    box, cases = Box([LOWER], [UPPER]), list[Case]()
    for _ in range(count):
        rows = list[Constraint]()
        for _ in range(2 if kind == "both" else 1):
            over_y = {
                j: Fraction(float(c)) * Fraction(size) / 3 for j, c in enumerate(rng.normal(size=2))
            }
            over_x = {0: Fraction(float(rng.normal())) / 7} if kind == "inputs" else {}
            value = sum(c * known.values[last][:, j] for j, c in over_y.items())
            value = value + sum(c * known.values[0][:, 0] for c in over_x.values())
            middle = (min(value) + max(value)) / 2
            rows.append(Constraint.of(over_x, over_y, middle))
        cases.append(Case(box, tuple(rows), 2))
    if kind == "equal":
        cases[1] = cases[0]
    return tuple(cases)


def true_rows(case: Case, x: np.ndarray, y: np.ndarray) -> list[Fraction]:
    """The rows as they were asked for: the coefficients are what stands for them in floats."""
    return [
        sum((Fraction(c) * x[i] for i, c in row.x), Fraction(0))
        + sum((Fraction(c) * y[j] for j, c in row.y), Fraction(0))
        - row.bound
        for row in case.constraints
    ]


KINDS = ["many", "single", "both", "inputs", "equal", "huge", "small"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_assumed_holds_at_every_counterexample(kind: str, dtype: str) -> None:
    checked, tight = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        relaxation = relaxed(wire(rng), dtype)
        program, network = relaxation.program, relaxation.program.network
        known = pieces(network, LOWER, UPPER)
        cases, last = asked(rng, known, kind), len(network.nodes) - 1
        objective = objective_of(program, cases)
        pools = [objective.assumption(relaxation, q) for q in range(len(cases))]
        # Between ends of pieces too: the points where two queries swap are there.
        share = fractions(np.linspace(0, 1, 7))
        for k in range(len(known.x) - 1):
            x = known.values[0][k] + np.outer(share, known.values[0][k + 1] - known.values[0][k])
            y = known.values[last]
            for at, out in zip(x, y[k] + np.outer(share, y[k + 1] - y[k]), strict=True):
                rows = [true_rows(case, at, out) for case in cases]
                margins = [max(r) for r in rows]
                q = int(np.argmin(np.array(margins, dtype=object)))
                if margins[q] > 0:
                    continue
                checked += 1
                excess = exact_excess(pools[q], {0: at, last: out})
                assert max(excess) <= 0, seed
                reach = max(map(abs, [*excess, *margins]))
                tight += bool(reach == 0 or max(excess) >= -reach)
    assert checked > 50 and tight > 0


def exact_excess(pool: Pool, values: dict[int, np.ndarray]) -> list[Fraction]:
    total = -fractions(pool.rhs.double().numpy())
    for i, c in pool.coefficients.items():
        total = total + fractions(c.double().flatten(1).numpy()) @ values[i]
    return total.tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_roundoff_is_part_of_what_is_assumed(dtype: str) -> None:
    """Of true rows as far from their floats as `roundoff` says, in either direction."""
    rng = np.random.default_rng(1)
    relaxation = relaxed(wire(rng), dtype)
    program, network = relaxation.program, relaxation.program.network
    known, last = pieces(network, LOWER, UPPER), len(network.nodes) - 1
    for roundoff in (1e-3, 1e-9):
        for _ in range(20):
            y = program.tensor(rng.normal(size=(1, 3, 1, 2)))
            x = program.tensor(rng.normal(size=(1, 3, 1, 1)))
            sign = rng.choice([-1, 1], size=(3, 3))
            shift = Fraction(roundoff) * 9 / 10
            rows = [
                [fractions(y[0, q, 0].double().numpy()), fractions(x[0, q, 0].double().numpy())]
                for q in range(3)
            ]
            values = []
            for q, (over_y, over_x) in enumerate(rows):
                moved = over_y * [1 + shift * int(s) for s in sign[q, :2]]
                other = over_x * [1 + shift * int(sign[q, 2])]
                values.append(known.values[last] @ moved + known.values[0] @ other)
            place = int(rng.integers(len(known.x)))
            # At that point all rows are 0, so that none may be excluded there.
            level = torch.as_tensor([round_up(v[place], np.float32) for v in values])
            bound = level.to(program.dtype).reshape(1, 3, 1)
            objective = Objective(y, x, bound, torch.ones(1, 3, 1, dtype=torch.bool), roundoff)
            at = {0: known.values[0][place], last: known.values[last][place]}
            for q in range(3):
                excess = exact_excess(objective.assumption(relaxation, q), at)
                slack = [abs(Fraction(b)) / 2**20 for b in level.tolist()]
                assert max(excess) <= sum(slack)
