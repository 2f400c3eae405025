"""Rows over a whole layer: M_k and single neurons over their inputs, in a cut loop."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from exactly import exactly, values_at

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from inputs import Golden, goldens

from hullmark.bounds.linear import propagate
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import faithful_arithmetic
from hullmark.cuts.cutloop import CutBound, CutOptions, CutProgram, cut_loop
from hullmark.cuts.layers import DisjunctiveGroups, NeuronHulls
from hullmark.encode import Encoding, Proof, encode
from hullmark.errors import BadInput
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.rows import Combined, Row, Value

PATIENT = CutOptions(rounds=60, least_gain=-1.0)


def encoded(network: Network, lower, upper) -> Encoding:
    program = Program.compile(network)
    with faithful_arithmetic(), torch.no_grad():
        sides = program.enclosing(np.asarray(lower), np.asarray(upper))
        relaxation = Relaxation(program, *(s.unsqueeze(0) for s in sides))
        propagate(relaxation)
        return encode(relaxation)


def bounded(
    encoding: Encoding, sign: int, rows: str, k: int = 1, options: CutOptions = PATIENT
) -> CutBound:
    """A bound of `sign * output` from below, with rows of every rectifier."""
    program = CutProgram(encoding, (encoding.goal(np.array([float(sign)])),))
    separators = []
    for node, kinks in encoding.kinks.items():
        if rows == "neurons":
            separators.append(NeuronHulls(encoding, node))
        elif len(kinks.neurons) and rows == "layer":
            size = min(k, len(kinks.neurons))
            groups = np.array(list(combinations(kinks.neurons.tolist(), size)), dtype=np.intp)
            separators.append(DisjunctiveGroups(program, node, groups))
    return cut_loop(program, separators, options)


def dense(builder: Builder, node: int, weight, bias=None) -> int:
    matrix = np.array(weight, np.float64)
    offset = np.zeros(len(matrix)) if bias is None else np.array(bias, np.float64)
    return builder.add(ops.Dense(matrix, offset), node)


def nested_max(d: int) -> Network:
    """max(x_1, ..., x_d) as `m + relu(x_i - m)`, one input after the other; inputs are >= 0."""
    builder, node = Builder((d,)), 0
    for left in range(d, 1, -1):
        # Values: the maximum so far, then the inputs that are left, as relu(v) = v.
        step = np.eye(left)
        step[1, 0] = -1.0
        node = builder.add(ops.Rectifier(), dense(builder, node, step))
        merge = np.eye(left)[1:]
        merge[0, 0] = 1.0
        node = dense(builder, node, merge)
    return builder.build(node)


@pytest.mark.parametrize(("d", "triangle"), [(2, "3/2"), (3, "19/10"), (4, "651/290")])
@pytest.mark.parametrize("rows", ["neurons", "layer"])
def test_nested_max(d: int, triangle: str, rows: str) -> None:
    """[0, 1] for M_1; and for the hulls of single neurons over boxes when d = 2 [theory 3.1]."""
    encoding = encoded(nested_max(d), np.zeros(d), np.ones(d))
    plain = -bounded(encoding, -1, "none").lower
    assert plain >= float(Fraction(triangle)) - 1e-9
    upper = -bounded(encoding, -1, rows).lower
    assert 1.0 <= upper < plain - 0.1
    if rows == "layer" or d == 2:
        assert upper == pytest.approx(1.0, abs=1e-6)
    assert bounded(encoding, 1, rows).lower == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("slack_rounds", [1, 5])
def test_all_neurons_of_each_layer_give_p1(data: Path, slack_rounds: int) -> None:
    """On chains M_k on all neurons has the bounds of P_1, here up to the depth of a cut."""
    options = replace(PATIENT, slack_rounds=slack_rounds)
    chosen = [g for g in goldens(data) if g.network.output_size == 1][::4]
    assert len(chosen) >= 10
    for golden in chosen:
        encoding = encoded(golden.network, golden.box.lower, golden.box.upper)
        (low, high) = golden.ranges["p1"][0]
        for sign, p1 in ((1, low), (-1, -high)):
            found = bounded(encoding, sign, "layer", k=4, options=options)
            assert found.lower <= p1, golden.name
            assert found.lower == pytest.approx(float(p1), abs=1e-5), golden.name


def test_rows_that_a_later_layer_builds_on_stay(data: Path) -> None:
    """With a multiplier or without: here the bound of P_1 needs some of the latter."""
    golden = next(g for g in goldens(data) if g.name == "random-11-23-2x4x4x1")
    encoding = encoded(golden.network, golden.box.lower, golden.box.upper)
    program = CutProgram(encoding, (encoding.goal(np.ones(1)),))
    layers = [
        DisjunctiveGroups(program, node, kinks.neurons[None])
        for node, kinks in encoding.kinks.items()
    ]
    found = cut_loop(program, layers, PATIENT)
    assert found.lower == pytest.approx(float(golden.ranges["p1"][0][0]), abs=1e-5)

    solution, _ = program.solve()
    assert solution is not None
    first, second = encoding.kinks

    def rows() -> tuple[set[Proof | None], set[Proof | None]]:
        """The proofs of the rows that end in each layer."""
        added = program.added
        last = np.maximum.reduceat(added.node, added.start[:-1])
        proofs = np.array(added.all_proofs(), dtype=object)
        one, two = (set(proofs[last == n].tolist()) for n in (first, second))
        return one, two

    early, late = rows()
    proofs = np.array(program.added.all_proofs(), dtype=object)
    assert early & set(proofs[program.multipliers(solution) == 0].tolist())
    program.purge(solution, 0)
    assert rows()[0] == early
    assert rows()[1] < late


def leaves_hold(rows: Sequence[Row], golden: Golden, rng: np.random.Generator) -> None:
    """Every row and all that it rests on, at random points in exact arithmetic."""
    exact = exactly(golden.network)
    for _ in range(5):
        x = rng.uniform(golden.box.lower, golden.box.upper)
        at = {0: np.array([Fraction(float(v)) for v in x]), **dict(values_at(exact, x))}
        named = {Value(j, i): v for j, part in at.items() for i, v in enumerate(part)}
        for row in rows:
            assert all(parent.excess(named) <= 0 for parent in row.ancestry())


@pytest.mark.parametrize(("rows", "k"), [("neurons", 1), ("layer", 1), ("layer", 2), ("layer", 3)])
def test_rows_carry_their_derivations(data: Path, rows: str, k: int) -> None:
    rng, total, deep = np.random.default_rng(0), 0, 0
    for golden in [g for g in goldens(data) if g.network.output_size == 1][3::5]:
        encoding = encoded(golden.network, golden.box.lower, golden.box.upper)
        found = bounded(encoding, 1, rows, k).rows
        derived = found.derived()
        assert len(derived) == len(found)
        total += len(derived)
        for row, rhs in zip(derived, found.rhs.tolist(), strict=True):
            assert row.rhs == rhs and row.derived()
            # The right-hand side is the least one, nearly.
            assert not replace(row, rhs=rhs - 1e-5).derived()
            parents = [r for r in row.ancestry() if isinstance(r.derivation, Combined)]
            assert all(parent.derived() for parent in parents)
            deep += any(len(p.derivation.kinks) == k and p is not row for p in parents)
        leaves_hold(derived, golden, rng)
    assert total >= 10
    assert deep > 0 or rows == "neurons"


@pytest.mark.parametrize(("rows", "k"), [("neurons", 1), ("layer", 2)])
def test_no_wrong_multiplier_passes(data: Path, rows: str, k: int) -> None:
    golden = next(g for g in goldens(data) if g.name == "random-11-23-2x4x4x1")
    encoding = encoded(golden.network, golden.box.lower, golden.box.upper)
    changed = 0
    for row in bounded(encoding, 1, rows, k).rows.derived():
        combined = row.derivation
        assert isinstance(combined, Combined)
        for index, pattern in enumerate(combined.patterns):
            for place, (member, weight) in enumerate(pattern):
                for wrong in (-weight, 0.5 * weight, 2 * weight):
                    lie = (*pattern[:place], (member, wrong), *pattern[place + 1 :])
                    patterns = (
                        *combined.patterns[:index], lie, *combined.patterns[index + 1 :]
                    )  # fmt: skip
                    false = replace(row, derivation=replace(combined, patterns=patterns))
                    changed += not false.derived()
                    assert wrong > 0 or not false.derived()
    assert changed > 10


def test_rows_hold_in_a_network_with_convolutions_and_a_skip() -> None:
    rng = np.random.default_rng(0)
    builder = Builder((1, 4, 4))

    def conv(node: int, channels: int) -> int:
        weight = rng.normal(size=(2, channels, 3, 3))
        op = ops.Conv(weight, rng.normal(size=2) * 0.3, (1, 1), ((1, 1), (1, 1)), (1, 1))
        return builder.add(op, node)

    first = builder.add(ops.Rectifier(), conv(0, 1))
    second = builder.add(ops.Rectifier(), builder.add(ops.Add((1, 1)), conv(first, 2), first))
    flat = builder.add(ops.Reshape((32,)), second)
    network = builder.build(dense(builder, flat, rng.normal(size=(1, 32)) / 4))
    middle = rng.normal(size=16)
    encoding = encoded(network, middle - 0.4, middle + 0.4)
    program = CutProgram(encoding, (encoding.goal(np.ones(1)),))
    solution, plain = program.solve()
    assert solution is not None
    values = encoding.values(solution.point)
    exact = exactly(network)
    for node, kinks in encoding.kinks.items():
        assert len(kinks.neurons) >= 2
        hulls = NeuronHulls(encoding, node)(values)
        groups = kinks.neurons[: len(kinks.neurons) // 2 * 2].reshape(-1, 2)[:4]
        cuts = DisjunctiveGroups(program, node, groups)(values)
        assert len(hulls) + len(cuts) > 0
        for found in (hulls, cuts):
            assert np.all(found.excess(values) > 0)
            for _ in range(20):
                x = middle + 0.4 * rng.choice([-1, 1, 0.3], 16)
                at = {0: np.array([Fraction(float(v)) for v in x]), **dict(values_at(exact, x))}
                for r in range(len(found)):
                    terms = range(found.start[r], found.start[r + 1])
                    left = sum(
                        Fraction(float(found.coefficient[t])) * at[found.node[t]][found.neuron[t]]
                        for t in terms
                    )
                    assert left <= Fraction(float(found.rhs[r]))
        program.add(cuts, values, 1e-9)
    assert program.solve()[1] >= plain - 1e-9


def test_what_cannot_be_separated() -> None:
    builder = Builder((1,))
    leaky = builder.add(ops.Rectifier(np.array(0.01), np.array(1.0)), dense(builder, 0, [[1.0]]))
    encoding = encoded(builder.build(dense(builder, leaky, [[1.0]])), [-1.0], [1.0])
    with pytest.raises(BadInput, match="not encoded as ReLUs"):
        NeuronHulls(encoding, leaky)
    encoding = encoded(nested_max(2), np.full(2, 0.1), np.ones(2))
    program = CutProgram(encoding, (encoding.goal(np.ones(1)),))
    with pytest.raises(BadInput, match="not unstable"):
        DisjunctiveGroups(program, 2, np.array([[0]]))
