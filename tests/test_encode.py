"""Networks as linear programs: every point of the network is feasible, exactly."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from exactly import (
    Rng,
    exactly,
    fractions,
    mixed_network,
    rectified_network,
    values_at,
)
from hypothesis import given
from hypothesis import strategies as st
from small import relaxed

from hullmark.bounds.linear import Dual, backward
from hullmark.bounds.objective import output_objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.encode import Encoding, Inequalities, Query, encode
from hullmark.encode.matrices import affine_map
from hullmark.errors import BadInput
from hullmark.lp.highs import solve
from hullmark.lp.program import Sparse, Vector
from hullmark.lp.safe import safe_bound
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.rows import Propagated, Row, Value

Values = dict[int, Vector]


def exact_values(network: Network, x: Vector) -> Values:
    """Fractions at every node."""
    return {0: fractions(x), **dict(values_at(exactly(network), x))}


def placed_point(encoding: Encoding, values: Values) -> list[Fraction]:
    """The columns of the program at exact node values."""
    point: list[Fraction | None] = [None] * encoding.columns
    for i, form in encoding.forms.items():
        if i == encoding.top:
            continue
        single = np.flatnonzero(np.diff(form.matrix.start) == 1)
        part = form.matrix.take(single)
        for neuron, column, factor in zip(single, part.index, part.value, strict=True):
            found = values[i].ravel()[neuron] / Fraction(float(factor))
            assert point[column] in (None, found)
            point[column] = found
    assert all(v is not None for v in point)
    return [v for v in point if v is not None]


def exact_times(matrix: Sparse, point: list[Fraction]) -> list[Fraction]:
    total = [Fraction(0)] * matrix.rows
    entries = zip(matrix.row.tolist(), matrix.index.tolist(), matrix.value.tolist(), strict=True)
    for i, j, value in entries:
        total[i] += Fraction(value) * point[j]
    return total


def check_feasible(encoding: Encoding, point: list[Fraction]) -> None:
    program = encoding.program
    for v, low, high in zip(point, program.lower, program.upper, strict=True):
        assert low <= v <= high
    sides = zip(program.row_lower, program.row_upper, strict=True)
    for v, (low, high) in zip(exact_times(program.matrix, point), sides, strict=True):
        assert low <= v <= high


def check_goals(encoding: Encoding, values: Values, point: list[Fraction], rng: Rng) -> None:
    top, inputs = values[encoding.top].ravel(), values[0].ravel()
    for whole in (False, True):
        y, x = rng.normal(size=(2, len(top))), rng.normal(size=(2, len(inputs)))
        y = np.round(y) if whole else y
        query = Query(y, x, rng.normal(size=2))
        goals = query.goals(encoding)
        for i, goal in enumerate(goals):
            exact = fractions(y[i]) @ top + fractions(x[i]) @ inputs - Fraction(query.level[i])
            cost = sum(Fraction(c) * v for c, v in zip(goal.cost, point, strict=True))
            assert cost + Fraction(goal.constant) <= exact
            assert cost + Fraction(goal.constant) >= exact - Fraction(1, 10**6) * (1 + abs(exact))


@given(st.integers(0, 2**32))
def test_every_point_of_a_rectified_network_is_feasible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = rectified_network(rng, 3)
    lower = rng.normal(size=3)
    width = rng.choice([0.0, 0.1, 2.0])
    encoding = encode(relaxed(network, lower, lower + width))
    for _ in range(3):
        x = np.clip(lower + width * rng.choice([0, 0.3, 1.0], 3), lower, lower + width)
        values = exact_values(network, x)
        point = placed_point(encoding, values)
        check_feasible(encoding, point)
        check_goals(encoding, values, point, rng)


@given(st.integers(0, 2**32))
def test_every_point_of_a_network_of_all_operations_is_feasible(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = mixed_network(rng, spread=1.0)
    size = network.input_size
    lower = rng.normal(size=size)
    encoding = encode(relaxed(network, lower, lower + 0.5))
    x = np.clip(lower + 0.5 * rng.random(size), lower, lower + 0.5)
    values = exact_values(network, x)
    point = placed_point(encoding, values)
    check_feasible(encoding, point)
    floats = np.array([float(v) for v in point])
    for i, found in encoding.values(floats).items():
        wanted = values[i].ravel().astype(float)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * (1 + abs(wanted).max()))


def test_coefficients_that_are_not_exact_have_room() -> None:
    """Any coefficients within the roundoff give feasible points, and none outside it."""
    rng = np.random.default_rng(0)
    tight = 0
    for _ in range(30):
        builder = Builder((3,))
        weight, bias = rng.normal(size=(4, 3)), rng.normal(size=4)
        slack = ops.Roundoff(2.0**-20, np.full(4, 2.0**-18))
        at = builder.add(ops.Dense(weight, bias, slack), 0)
        at = builder.add(ops.Rectifier(), at)
        at = builder.add(
            ops.Dense(rng.normal(size=(2, 4)), np.zeros(2), ops.Roundoff(2.0**-30)), at
        )
        network = builder.build(at)
        lower = np.full(3, -1.0)
        encoding = encode(relaxed(network, lower, -lower))
        sign = rng.choice([-1.0, 1.0], weight.shape)
        corner = rng.choice([-1.0, 1.0], 3)
        for share, inside in ((1.0, True), (1.5, False)):
            moved = np.vectorize(Fraction)(weight) * (
                1 + Fraction(2.0**-20 * share) * fractions(sign)
            )
            shifted = np.vectorize(Fraction)(bias) + Fraction(2.0**-18 * share)
            true = exactly(network)
            nodes = list(true.nodes)
            nodes[1] = replace(nodes[1], op=ops.Dense(moved, shifted))
            values = {
                i: v.ravel()
                for i, v in enumerate(Network(tuple(nodes)).values(fractions(corner)[None]))
            }
            point = placed_point(encoding, values)
            if inside:
                check_feasible(encoding, point)
                continue
            terms = exact_times(encoding.program.matrix, point)
            sides = zip(encoding.program.row_lower, encoding.program.row_upper, strict=True)
            tight += any(not a <= v <= b for v, (a, b) in zip(terms, sides, strict=True))
    assert tight > 10


def test_curves_and_products_are_at_least_as_tight_as_backward_bounds() -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        builder = Builder((3,))
        parts: list[int] = []
        for op in (ops.Tanh(), ops.Sigmoid(), ops.Rectifier(np.array(0.1))):
            weight = ops.Dense(rng.normal(size=(4, 3)), rng.normal(size=4))
            parts.append(builder.add(op, builder.add(weight, 0)))
        at = builder.add(ops.Product(), parts[0], parts[1])
        at = builder.add(ops.Add((1, -1)), at, parts[2])
        at = builder.add(ops.Dense(rng.normal(size=(2, 4)), rng.normal(size=2)), at)
        network, lower = builder.build(at), np.full(3, -1.0)
        relaxation = relaxed(network, lower, -lower)
        encoding = encode(relaxation)
        objective = output_objective(relaxation.program)
        start = objective.mixed(relaxation, torch.ones_like(objective.bound))
        known = backward(relaxation, *start).lower[0].numpy()
        points = rng.uniform(-1, 1, size=(10, 3))
        for q in range(objective.queries):
            query = Query.of(objective, q)
            program, constant = encoding.minimum(query.goals(encoding))
            solution = solve(program)
            assert solution is not None
            bound = safe_bound(program, solution.duals) + constant
            assert bound >= known[q] - 1e-6
            assert all(bound <= query.value(relaxation.program, encoding.top, x) for x in points)


CASES: list[tuple[ops.Affine, tuple[ops.Shape, ...]]] = [
    (ops.Dense(np.arange(6.0).reshape(2, 3), np.ones(2)), ((4, 3),)),
    (ops.Scale(np.arange(3.0), np.ones((2, 1))), ((2, 3),)),
    (ops.Select(np.array([[2, -1], [0, 2]])), ((3,),)),
    (ops.Reshape((6,)), ((2, 3),)),
    (ops.Concat(1), ((2, 1, 2), (2, 3, 2))),
    (ops.Add((1, -1, 1)), ((2, 2),) * 3),
    (ops.ReduceSum((0, 2)), ((2, 3, 2),)),
]


def window_cases(rng: Rng) -> list[tuple[ops.Affine, tuple[ops.Shape, ...]]]:
    found: list[tuple[ops.Affine, tuple[ops.Shape, ...]]] = []
    for rank, groups, stride, dilation in product((1, 2), (1, 2), (1, 2), (1, 2)):
        kernel = (3, 2)[:rank]
        pads = ((1, 0), (2, 1))[:rank]
        steps, gaps = (stride, 1)[:rank], (dilation, 1)[:rank]
        weight = rng.normal(size=(4, 2, *kernel))
        conv = ops.Conv(weight, rng.normal(size=4), steps, pads, gaps, groups)
        found.append((conv, ((2 * groups, 7, 5)[: rank + 1],)))
        extra = (stride - 1, 0)[:rank]
        turned = ops.ConvTranspose(
            weight, rng.normal(size=2 * groups), steps, pads, gaps, extra, groups
        )
        found.append((turned, ((4, 4, 3)[: rank + 1],)))
    return found


def test_matrices_are_the_operations() -> None:
    rng = np.random.default_rng(1)
    for op, shapes in CASES + window_cases(rng):
        # Eighths: every product and sum is exact.
        inputs = [rng.integers(-8, 8, size=(2, *s)) / 8 for s in shapes]
        if isinstance(op, ops.Conv | ops.ConvTranspose):
            weight, bias = np.round(op.weight * 8) / 8, np.round(op.bias * 8) / 8
            op = replace(op, weight=weight, bias=bias)
        found = affine_map(op, shapes)
        wanted = op.apply(*inputs).reshape(2, -1)
        for b in range(2):
            parts = [m.times(x[b].ravel()) for m, x in zip(found.matrices, inputs, strict=True)]
            np.testing.assert_array_equal(sum(parts) + found.bias, wanted[b], err_msg=str(op))


def test_fractions_have_no_program_in_floats() -> None:
    with pytest.raises(BadInput):
        affine_map(ops.Dense(fractions(np.ones((1, 1))), np.zeros(1)), ((1,),))


def two_layers(rng: Rng) -> tuple[Network, Vector]:
    builder, at = Builder((3,)), 0
    for width in (5, 4):
        weight = rng.normal(size=(width, builder.shape(at)[0]))
        at = builder.add(ops.Dense(weight, rng.normal(size=width) * 0.3), at)
        at = builder.add(ops.Rectifier(), at)
    last = ops.Dense(rng.normal(size=(2, 4)), rng.normal(size=2))
    return builder.build(builder.add(last, at)), np.full(3, -1.0)


def test_rows_say_the_same_over_columns() -> None:
    """At exact points the excess of a row over values and over columns is one number, or more
    where a value has no column."""
    rng = np.random.default_rng(2)
    dropped = 0
    for _ in range(20):
        network, lower = two_layers(rng)
        relaxation = relaxed(network, lower * 0.2, -lower * 0.2)
        encoding = encode(relaxation)
        names = [Value(j, int(rng.integers(network.nodes[j].size))) for j in (0, 1, 2, 3, 4)]
        factors = rng.normal(size=(2, 5))
        given_rows = [
            Row(tuple(zip(names, f.tolist(), strict=True)), 0.5, frozenset(), Propagated())
            for f in factors
        ]
        matrix, rhs = encoding.rows(inequalities(given_rows))
        x = rng.uniform(-0.2, 0.2, 3)
        values = exact_values(network, x)
        terms = exact_times(matrix, placed_point(encoding, values))
        known = all(encoding.forms[n.node].known[n.neuron] for n in names)
        dropped += not known
        for row, left, right in zip(given_rows, terms, rhs, strict=True):
            excess = row.excess({n: values[n.node].ravel()[n.neuron] for n in names})
            if known:
                assert left - Fraction(right) == excess
            else:
                assert left - Fraction(right) <= excess
    assert 0 < dropped < 20


def test_rows_may_be_taken_and_joined() -> None:
    rng = np.random.default_rng(3)
    names = [[Value(1, 0), Value(5, 2)], [Value(5, 1)], [Value(1, 3), Value(1, 4), Value(5, 0)]]
    rows = [
        Row(tuple((n, float(rng.normal())) for n in some), 0.5, frozenset(), Propagated())
        for some in names
    ]
    found = inequalities(rows)
    values = {j: rng.normal(size=6) for j in (1, 5)}
    exact = {n: Fraction(values[n.node][n.neuron]) for some in names for n in some}
    wanted = np.array([float(row.excess(exact)) for row in rows])
    np.testing.assert_allclose(found.excess(values), wanted)
    joined = Inequalities.joined([Inequalities.none(), found.take(np.array([2])), found])
    np.testing.assert_allclose(joined.excess(values), wanted[[2, 0, 1, 2]])
    assert joined.all_proofs() == (None,) * 4 and joined.derived() == ()


def inequalities(rows: Sequence[Row]) -> Inequalities:
    """Rows over values, without their derivations."""
    terms = [term for row in rows for term in row.terms]
    return Inequalities(
        np.cumsum([0, *(len(row.terms) for row in rows)]),
        np.array([name.node for name, _ in terms], dtype=np.intp),
        np.array([name.neuron for name, _ in terms], dtype=np.intp),
        np.array([c for _, c in terms]),
        np.array([row.rhs for row in rows]),
    )


def test_what_has_no_column_is_refused() -> None:
    network, lower = two_layers(np.random.default_rng(4))
    relaxation = relaxed(network, lower, -lower)
    encoding = encode(relaxation, 3, np.array([1]))
    with pytest.raises(BadInput):
        encoding.goal(np.ones(4))
    with pytest.raises(BadInput):
        encoding.rows(inequalities([_row(Value(3, 1))]))
    both = torch.cat([relaxation.lower, relaxation.lower])
    with pytest.raises(BadInput):
        encode(Relaxation(relaxation.program, both, both))


def _row(name: Value) -> Row:
    return Row(((name, 1.0),), 1.0, frozenset(), Propagated())


def test_a_backward_pass_with_the_slopes_of_the_multipliers_attains_the_optimum() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        network, lower = two_layers(rng)
        relaxation = relaxed(network, lower, -lower)
        encoding = encode(relaxation)
        objective = output_objective(relaxation.program)
        for q in range(objective.queries):
            goals = Query.of(objective, q).goals(encoding)
            program, constant = encoding.minimum(goals)
            solution = solve(program)
            assert solution is not None
            bound = safe_bound(program, solution.duals) + constant
            slopes: dict[int, torch.Tensor] = {}
            for i, found in encoding.slopes(program, solution.duals).items():
                own = relaxation.lines[i].lower_slope[0].numpy()
                chosen = np.where(np.isnan(found), own, found)
                slopes[i] = torch.as_tensor(chosen).reshape(1, 1, -1)
            part = objective.select(slice(q, q + 1))
            start = part.mixed(relaxation, torch.ones_like(part.bound))
            again = float(backward(relaxation, *start, Dual(slopes)).lower[0, 0])
            assert again == pytest.approx(bound, abs=1e-7)


@given(st.integers(0, 2**32))
def test_the_largest_of_several_rows(seed: int) -> None:
    """The bound of a conjunction is below its value everywhere, and above each row's own."""
    rng = np.random.default_rng(seed)
    network, lower = two_layers(rng)
    relaxation = relaxed(network, lower, -lower)
    encoding = encode(relaxation)
    query = Query(rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), rng.normal(size=3), 2.0**-30)
    goals = query.goals(encoding)
    program, constant = encoding.minimum(goals)
    solution = solve(program)
    assert solution is not None
    bound = safe_bound(program, solution.duals) + constant
    for goal in goals:
        alone, offset = encoding.minimum([goal])
        least = solve(alone)
        assert least is not None
        assert safe_bound(alone, least.duals) + offset <= bound + 1e-6
    for x in rng.uniform(-1, 1, size=(4, 3)):
        assert bound <= query.value(relaxation.program, encoding.top, x)


@given(st.integers(0, 2**32))
def test_the_value_of_a_query_is_at_or_above_the_exact_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network, _ = two_layers(rng)
    query = Query(rng.normal(size=(2, 2)), rng.normal(size=(2, 3)), rng.normal(size=2))
    program, x = Program.compile(network), rng.uniform(-1, 1, 3)
    y = exact_values(network, x)[len(network.nodes) - 1].ravel()
    exact = max(
        fractions(query.y[i]) @ y + fractions(query.x[i]) @ fractions(x) - Fraction(query.level[i])
        for i in range(2)
    )
    found = Fraction(query.value(program, len(network.nodes) - 1, x))
    assert exact <= found <= exact + Fraction(1, 10**9)


@given(st.integers(0, 2**32))
def test_coefficients_of_a_query_that_are_not_exact_are_charged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network, lower = two_layers(rng)
    encoding = encode(relaxed(network, lower, -lower))
    program, roundoff = Program.compile(network), 2.0**-20
    query = Query(rng.normal(size=(1, 2)), rng.normal(size=(1, 3)), rng.normal(size=1), roundoff)
    (goal,) = query.goals(encoding)
    values = exact_values(network, rng.choice([-1.0, 1.0], 3))
    point = placed_point(encoding, values)
    cost = sum(Fraction(c) * v for c, v in zip(goal.cost, point, strict=True))
    y, x = values[encoding.top].ravel(), values[0].ravel()
    for sign in (-1, 1):
        exact = -Fraction(query.level[0])
        for factor, value in zip(
            fractions(np.concatenate([query.y[0], query.x[0]])), [*y, *x], strict=True
        ):
            exact += factor * value + sign * abs(factor * value) * Fraction(roundoff)
        assert cost + Fraction(goal.constant) <= exact
        assert exact <= Fraction(query.value(program, encoding.top, x.astype(float)))
