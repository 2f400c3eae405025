"""Mined joint rows in networks and numbers at the edge of what there is, and limits of time."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from exactly import exactly, fractions
from mining import PLAN, Calls, dense, margins_on, mined, miner_of, moved, plain
from segments import pieces, wire
from test_pools import DTYPES, LOWER, UPPER, asked

from hullmark.bounds.alpha import Ascent
from hullmark.bounds.objective import objective_of
from hullmark.bounds.program import Program
from hullmark.joint.krelu import Scheme, krelu_margins, prima
from hullmark.joint.store import Layer
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.spec.property import Case, Constraint
from hullmark.spec.sets import Box


def odd_networks() -> Iterator[tuple[str, Network]]:
    yield "input", Builder((2,)).build(0)
    yield "affine", dense(2, 2)
    builder = Builder((2,))
    yield "rectified input", builder.build(builder.add(ops.Rectifier(), 0))
    builder = Builder((2,))
    turn = builder.add(ops.Dense(np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2)), 0)
    yield "rectified output", builder.build(builder.add(ops.Rectifier(), turn))
    yield "sigmoid", dense(2, 4, 4, 2, op=ops.Sigmoid())
    builder = Builder((2,))
    first = builder.add(ops.Dense(np.array([[1.0, 2.0], [1.0, -1.0], [2.0, 1.0]]), np.zeros(3)), 0)
    both = builder.add(ops.Concat(0), builder.add(ops.Rectifier(), first), first)
    second = builder.add(ops.Dense(np.linspace(-1, 1, 18).reshape(3, 6), np.full(3, 0.1)), both)
    mixed = builder.add(ops.Product(), builder.add(ops.Rectifier(), second), first)
    yield "product", builder.build(builder.add(ops.Dense(np.ones((2, 3)), np.zeros(2)), mixed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "network"), list(odd_networks()))
def test_networks_of_odd_shape(name: str, network: Network, dtype: str) -> None:
    rng = np.random.default_rng(0)
    box = Box([-1, -1], [1, 1])
    x = np.concatenate([rng.uniform(-1, 1, (3000, 2)), np.indices((2, 2)).reshape(2, -1).T * 2 - 1])
    y = network.evaluate(x).reshape(len(x), -1)
    for over_x in ({}, {0: 1, 1: -2}):
        values = y @ [1.0, -2.0] + sum(c * x[:, i] for i, c in over_x.items())
        one = Constraint.of(over_x, {0: 1, 1: -2}, Fraction(float(values.min())) - Fraction(1, 8))
        # Equal queries, and one whose row is half of another's.
        half = Constraint.of({i: c / 2 for i, c in over_x.items()}, {0: 0.5, 1: -1}, one.bound / 2)
        cases = tuple(Case(box, (row,), 2) for row in (one, one, half))
        calls = Calls(4000)
        lower, _ = mined(network, cases, dtype, replace(PLAN, stop=calls))
        assert not calls.over
        assert min(lower) <= 1 / 16 + 1e-12
        if name in ("input", "affine"):
            assert min(lower) >= 1 / 16 - 1e-2
        wanted = moved(cases, Fraction(-1, 4))
        assert min(mined(network, wanted, dtype)[0]) <= -1 / 8 + 1e-12


def test_a_last_layer_of_rectifiers_is_mined() -> None:
    """Also where counterexamples are assumed, of which the last node tells."""
    first, second = dense(2, 5), dense(5, 5)
    builder = Builder((2,))
    at = builder.add(ops.Rectifier(), builder.add(first.nodes[1].op, 0))
    at = builder.add(ops.Rectifier(), builder.add(second.nodes[1].op, at))
    network = builder.build(at)
    y = np.array([[[[1.0, -1.0, 1.0, -1.0, 1.0]], [[-1.0, 1.0, -1.0, 1.0, -1.0]]]])
    # Without rows of groups beforehand.
    miner = miner_of(network, Box([-1, -1], [1, 1]), "float64", replace(PLAN, fill=0))
    miner.propagate()
    objective = plain(miner.relaxation.program, y)
    alone = miner.bound(objective, 0).lower
    found = miner.bound(objective).lower
    count = len(miner.mines[at].found)
    assert count > 0 and len(miner.relaxation.pools[at].rhs) == count
    assert bool((found >= alone - 1e-6).all()) and float((found - alone).max()) > 1e-3
    case = miner.assuming(objective, int(found.argmin()))
    assert len(case.relaxation.pools[at].rhs) == count
    assert set(case.relaxation.pools) == {*miner.relaxation.pools, at + 1}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("scale", [1e-100, 1e70, 1e110, 1e160])
def test_numbers_at_the_ends_of_float(scale: float) -> None:
    """The end comes by itself, and an overflow is no bound."""
    network = dense(2, 5, 5, 1, scale=scale)
    box = Box([-1, -1], [1, 1])
    exact, rng = exactly(network), np.random.default_rng(1)
    values = exact.evaluate(fractions(rng.uniform(-1, 1, (20, 2))))[:, 0]
    for sign in (1, -1):
        cases = tuple(Case(box, (Constraint.of({}, {0: s}, 0),), 1) for s in (sign, 2 * sign))
        calls = Calls(3000)
        lower, _ = mined(network, cases, plan=replace(PLAN, stop=calls))
        assert not calls.over
        truth = min(sign * v for v in values)
        assert lower[0] == -np.inf or Fraction(lower[0]) <= truth


@pytest.mark.parametrize("kind", ["many", "both"])
def test_time_may_run_out_anywhere(kind: str) -> None:
    """It stops at the n-th question, and for good: nothing that was not finished counts."""
    network = wire(np.random.default_rng(3))
    known = pieces(network, LOWER, UPPER)
    cases = asked(np.random.default_rng(3), known, kind)
    margins = margins_on(cases, known)
    for slack in (Fraction(1, 100),):
        wanted = moved(cases, slack - margins.min())
        ends: set[bool] = set()
        for looks in (0, 1, 2, 4, 8, 14, 21, 33, 50, 80):
            calls = Calls(looks)
            lower, _ = mined(network, wanted, plan=replace(PLAN, stop=calls))
            assert Fraction(max(min(lower), -1e300)) <= slack
            ends.add(calls.over)
        assert True in ends


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_chosen_beforehand(dtype: str) -> None:
    rows = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = wire(rng)
        known = pieces(network, LOWER, UPPER)
        cases = asked(rng, known, "many")
        least = margins_on(cases, known).min(axis=1)
        program = Program.compile(network, dtype=DTYPES[dtype])
        box = program.enclosing(cases[0].box.lower, cases[0].box.upper)
        short = Ascent(5)
        for facets in (False, True):
            scheme = Scheme(prima(3, 2, 4), facets, short, short, short)
            found = krelu_margins(program, *box, objective_of(program, cases), scheme)
            rows += sum(found.rows.values())
            for bound, truth in zip(found.lower.double().tolist(), least, strict=True):
                assert Fraction(bound) <= truth
    assert rows > 30


def test_groups_of_a_network_without_rectifiers() -> None:
    program = Program.compile(dense(2, 2))
    objective = plain(program, np.ones((1, 1, 1, 2)))
    box = program.enclosing(np.zeros(2), np.zeros(2))
    found = krelu_margins(program, *box, objective, Scheme(prima()))
    assert float(found.lower) == pytest.approx(
        float(program.network.evaluate(np.zeros((1, 2))).sum())
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_are_those_of_the_network(dtype: str) -> None:
    """In whatever precision bounds are computed: rows are about the network itself."""
    builder, slopes = Builder((2,)), (np.array([0.1, -0.7]), np.array(1.3))
    network = builder.build(builder.add(ops.Rectifier(*slopes), 0))
    layer = Layer.of(Program.compile(network, dtype=DTYPES[dtype]), 1)
    assert layer.negative.tolist() == [0.1, -0.7] and layer.positive.tolist() == [1.3, 1.3]
