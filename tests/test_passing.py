"""Values that pass a layer as members of its groups: which, and that their rows hold exactly."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from exactly import Rng, exactly, fractions
from joint_rows import implied, random_bounds
from mining import miner_of, plain
from segments import round_up
from test_miner import check_bounds, excess_of
from test_pools import DTYPES, exact_excess

from hullmark.bounds.alpha import Ascent
from hullmark.bounds.linear import propagate
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.joint.krelu import Scheme, area, krelu_propagate
from hullmark.joint.octahedron import octahedral_bounds
from hullmark.joint.passing import passing_pairs, passing_triples
from hullmark.joint.store import Block, Layer, LayerRows
from hullmark.joint.through import FEW, Coordinates, incoming
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.relax.fasthull import all_facets
from hullmark.relax.octahedra import octahedral_rows
from hullmark.relax.separate import JointRows
from hullmark.rows import Combined, Kink, Value
from hullmark.spec.sets import Box

BOX = Box([-1, -1, -1], [1, 1, 0.5])


def skipping(rng: Rng) -> Network:
    """Two layers of leaky neurons that read few values, the inputs skipping the first."""

    def leaky(size: int) -> ops.Rectifier:
        return ops.Rectifier(rng.uniform(-0.3, 0.6, size), rng.uniform(0.7, 1.4, size))

    def weight(*shape: int) -> np.ndarray:
        chosen = rng.choice([0.0, 1.0, -1.0, 0.3, -1.7], size=shape)
        return chosen * (rng.random(shape) < 0.8)

    builder = Builder((3,))
    first = builder.add(ops.Dense(weight(4, 3), rng.normal(size=4) / 2), 0)
    both = builder.add(ops.Concat(0), builder.add(leaky(4), first), 0)
    second = builder.add(ops.Dense(weight(4, 7), rng.normal(size=4) / 2), both)
    third = builder.add(leaky(4), builder.add(ops.Add((1, -1)), second, first))
    return builder.build(builder.add(ops.Dense(weight(2, 4), np.zeros(2)), third))


def relaxed(network: Network, box: Box, dtype: str = "float64") -> Relaxation:
    program = Program.compile(network, dtype=DTYPES[dtype])
    low, high = program.enclosing(box.lower, box.upper)
    relaxation = Relaxation(program, low.unsqueeze(0), high.unsqueeze(0))
    propagate(relaxation)
    relaxation.advance(len(network.nodes) - 1)
    return relaxation


def values_at(network: Network, rng: Rng) -> list[np.ndarray]:
    """Exact values `(N, size)` of all nodes at corners of the box and between them."""
    x = np.concatenate([rng.uniform(BOX.lower, BOX.upper, (12, 3)), [[-1, 1, 0.5], [1, 1, -1]]])
    return [v.reshape(len(x), -1) for v in exactly(network).values(fractions(x))]


def test_coordinates_count_values_after_neurons() -> None:
    builder = Builder((3,))
    dense = builder.add(ops.Dense(np.ones((3, 3)), np.zeros(3)), 0)
    total = builder.add(ops.Add((1, 1, -1)), dense, 0, dense)
    network = builder.build(total)
    space = Coordinates.of(network, total)
    assert space.nodes == (total, dense, 0) and space.starts == (0, 3, 6, 9)
    assert [space.value(c) for c in (2, 3, 8)] == [Value(total, 2), Value(dense, 0), Value(0, 2)]
    flat = torch.arange(18.0).reshape(2, 9)
    parts = {j: v.numpy() for j, v in space.split(flat).items()}
    assert np.array_equal(space.joined(parts), flat.numpy())
    assert Coordinates.of(network, total, passing=False).starts == (0, 3)
    # What is read twice with opposite signs is not read.
    weights = incoming(Program.compile(network), total)
    assert weights is None
    assert Coordinates.of(network, 0).nodes == (0,)


def test_weights_of_layers_that_read_few_values() -> None:
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(size=(2, FEW + 1)), rng.normal(size=(3, FEW))
    builder = Builder((FEW + 1,))
    assert (
        incoming(Program.compile(builder.build(builder.add(ops.Dense(wide, np.zeros(2)), 0))), 1)
        is None
    )
    mixed = np.concatenate([wide, np.pad(narrow, ((0, 0), (1, 0)))])
    builder = Builder((FEW + 1,))
    found = incoming(
        Program.compile(builder.build(builder.add(ops.Dense(mixed, np.zeros(5)), 0))), 1
    )
    assert found is not None
    assert not found[:2].any() and np.array_equal(found[2:], mixed[2:])
    builder = Builder((2, 3))
    scaled = builder.add(ops.Scale(np.full((2, 3), 2.0), np.zeros((2, 3))), 0)
    total = builder.add(ops.Add((1, -1)), scaled, 0)
    program = Program.compile(builder.build(total))
    # Each reads one value alone.
    assert incoming(program, scaled) is None
    found = incoming(program, total)
    assert found is not None
    assert np.array_equal(found, np.concatenate([np.eye(6), -np.eye(6)], axis=1))
    assert incoming(program, 0) is None


WEIGHT = np.array(
    [
        [0.7, -1.2, 0.0, 0.01],  # open
        [0.0, 1.2, 1.0, 0.0],  # open, shares the second value
        [0.0, 1.2, 0.01, 0.0],  # stable: the first two and it are moved less together
        [0.0, 1.0, 0.0, 0.0],  # stable, the second value itself
        [0.0, 2.0, 2.0, 0.0],  # stable: moved too much
        [0.0, 0.0, 2.0, 0.0],  # open, reads one value
        [0.0, 1.2, 0.01, 0.0],  # stable, and constant after the layer
        [0.0, 0.0, 0.99, 0.0],  # the same of the third value
    ]
)


def test_which_values_pass() -> None:
    v = 8 + np.arange(4)
    near = [(0, 2), (1, 2)]
    for skips, alone, expected in (
        ((), False, [(0, v[1]), (1, v[1]), *near]),
        ((), True, []),
        (("affine",), False, [(0, v[0]), (0, v[1]), (1, v[1]), (1, v[2]), *near]),
        (("bent",), False, [(0, v[1]), (1, v[1]), *near]),
    ):
        weight = WEIGHT[[0, 1, 5]] if alone else WEIGHT
        bias = np.array([0.0, 0.5, 0] if alone else [0.0, 0.5, 9, 9, 9, 0, -9, -9])
        v_at = len(weight) - 8
        builder = Builder((4,))
        doubled = builder.add(ops.Scale(np.full(4, 2.0), np.zeros(4)), 0)
        if "bent" in skips:
            doubled = builder.add(ops.Rectifier(), doubled)
        pre = builder.add(ops.Dense(weight, bias), 0)
        post = builder.add(ops.Rectifier(), pre)
        both = builder.add(ops.Concat(0), post, doubled) if skips else post
        network = builder.build(both)
        relaxation = relaxed(network, Box([-1] * 4, [1] * 4))
        (post,) = (i for i in relaxation.program.slopes if network.nodes[i].size == len(weight))
        layer = Layer.of(relaxation.program, post)
        open_neurons = np.array([0, 1, 2] if alone else [0, 1, 5])
        pairs = passing_pairs(relaxation, layer, open_neurons)
        assert sorted(map(tuple, pairs.tolist())) == sorted(
            (a, b + v_at * (b >= 8)) for a, b in expected
        )
        triples = passing_triples(layer, pairs).tolist()
        assert triples == ([[0, 1, v[1]]] if expected else [])
        assert passing_pairs(relaxation, layer, open_neurons[2:]).shape == (0, 2)


def test_neurons_that_rounding_leaves_open_pass() -> None:
    builder = Builder((2,))
    weight = np.array([[1.0, -1.0], [0.0, 1.2], [0.5, 1.0]])
    pre = builder.add(ops.Dense(weight, np.array([0.0, 1.2, 1.5])), 0)
    network = builder.build(builder.add(ops.Rectifier(), pre))
    relaxation = relaxed(network, Box([-1, -1], [1, 1]))
    lower, upper = (b.clone() for b in relaxation.bounds[1])
    lower[0, 1:] = -1e-14
    relaxation.set_bounds(1, lower, upper)
    layer = Layer.of(relaxation.program, 2)
    # The second carries its value past the layer. The last is paired with nothing, nor itself.
    assert passing_pairs(relaxation, layer, np.arange(3)).tolist() == [[0, 4]]


def test_no_coordinate_comes_twice() -> None:
    builder = Builder((2,))
    pre = builder.add(ops.Dense(np.eye(2), np.zeros(2)), 0)
    program = Program.compile(builder.build(builder.add(ops.Rectifier(), pre)))
    bounds = np.ones((1, 8))
    block = Block.of(np.array([[1, 1]]), bounds, all_facets(bounds))
    with pytest.raises(ValueError, match="twice"):
        LayerRows(Layer.of(program, 2)).add(block)


def test_coordinates_that_pass_are_not_bent() -> None:
    builder = Builder((4,))
    pre = builder.add(ops.Dense(WEIGHT[:7], np.zeros(7)), 0)
    network = builder.build(builder.add(ops.Rectifier(), pre))
    layer = Layer.of(Program.compile(network), 2)
    negative, positive = layer.slopes(np.array([[0, 7], [1, 2]]))
    assert negative.tolist() == [[0, 1], [0, 0]] and positive.tolist() == [[1, 1], [1, 1]]
    assert layer.kink(8) == Kink(Value(0, 1), Value(0, 1), 1.0, 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_neurons_and_values(dtype: str) -> None:
    signs = octahedral_rows(3)
    tight = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = skipping(rng)
        relaxation, values = relaxed(network, BOX, dtype), values_at(network, rng)
        for node in (1, 4, 5):
            space = Coordinates.of(network, node)
            size, total = space.starts[1], space.starts[-1]
            groups = np.array([[0, size, total - 1], [1, 2, size + 1], [size, size + 1, size + 2]])
            found = octahedral_bounds(relaxation, node, groups, Ascent(4))
            joined = space.joined(dict(enumerate(values)))
            sums = joined[:, groups] @ fractions(signs.astype(float)).T
            for g, r in np.ndindex(found.shape):
                assert max(sums[:, g, r]) <= fractions(found)[g, r]
            if node == 1:
                # Affine: the support function of the box.
                start, side = np.abs(BOX.upper - BOX.lower) / 2, (BOX.upper + BOX.lower) / 2
                op = network.nodes[1].op
                assert isinstance(op, ops.Dense)
                forms = np.concatenate([op.weight, np.eye(3)])[groups]
                normals = np.einsum("rk,gkd->grd", signs.astype(float), forms)
                shift = np.concatenate([op.bias, np.zeros(3)])[groups] @ signs.T.astype(float)
                truth = normals @ side.astype(float) + np.abs(normals) @ start.astype(float) + shift
                np.testing.assert_allclose(found, truth, atol=1e-4)
                tight += 1
    assert tight == 4


def rows_of(network: Network, dtype: str, how: str) -> Iterator[tuple[Relaxation, LayerRows]]:
    if how == "mined":
        miner = miner_of(network, BOX, dtype)
        miner.propagate()
        miner.bound(plain(miner.relaxation.program, np.array([[[[1.0, -2.0]], [[-1.0, 1.0]]]])))
        for i, mine in miner.mines.items():
            if i in miner.relaxation.pools:
                yield miner.relaxation, mine.found
        return
    relaxation = relaxed(network, BOX, dtype).renewed()
    short = Ascent(4)
    found = krelu_propagate(relaxation, Scheme(area(2), how == "facets", True, short, short, short))
    for rows in found.values():
        yield relaxation, rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["few", "facets", "mined"])
def test_rows_with_passing_values_hold_exactly(how: str, dtype: str) -> None:
    passing, tight = 0, 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        network = skipping(rng)
        values = values_at(network, rng)
        for relaxation, found in rows_of(network, dtype, how):
            layer, pool = found.layer, relaxation.pools[found.layer.post]
            for k in range(len(values[0])):
                excess = exact_excess(pool, {j: v[k] for j, v in enumerate(values)})
                assert len(excess) == len(found) and max(excess) <= 0
                tight += max(excess) > -1e-3
            for block in found.blocks:
                used = block.groups >= layer.size
                assert not block.rows.y[used].any()
                passing += int(used.any(axis=1).sum())
            rows = found.rows()
            for row in rows[:: 1 + len(rows) // 20]:
                assert isinstance(row.derivation, Combined) and row.derived()
                for parent in (row, *row.derivation.parents):
                    assert all(excess_of(parent, values, k) <= 0 for k in range(len(values[0])))
    assert passing > 20 and tight > 10


def test_bounds_over_passing_values_hold_exactly() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        network = skipping(rng)
        values = values_at(network, rng)
        miner = miner_of(network, BOX, "float64")
        krelu_propagate(miner.relaxation, Scheme(area(2), neurons=Ascent(8), forms=Ascent(4)))
        check_bounds(miner, values, list(range(len(values[0]))))


def test_what_a_sum_loses_in_single_precision_is_charged() -> None:
    rng = np.random.default_rng(0)
    builder = Builder((3,))
    pre = builder.add(ops.Dense(rng.choice([-1.0, 1.0], size=(3, 3)), np.zeros(3)), 0)
    program = Program.compile(builder.build(builder.add(ops.Rectifier(), pre)))
    layer, groups = Layer.of(program, 2), np.array([[0, 1, 4]]).repeat(20, axis=0)
    bounds = 1000 * random_bounds(20, 3, rng)
    slopes = layer.slopes(groups)
    block = Block.of(groups, bounds, all_facets(bounds, *slopes))
    # Not those that only say that a value passes.
    bent = np.abs(block.rows.y[:, :2]).any(axis=1)
    block = block.selected(np.flatnonzero(bent))
    # A share of what the value has, moved behind the layer.
    share = rng.uniform(-0.5, 0.5, len(block.groups)).astype(np.float32)
    x, y = block.rows.x.copy(), block.rows.y.copy()
    x[:, 2], y[:, 2] = (x[:, 2] - share).astype(np.float32), share
    normals, sides = octahedral_rows(3), (slopes[0][0], slopes[1][0])
    parted = replace(block.rows, x=x, y=y)
    count = range(len(x))
    rhs = [round_up(implied(parted, i, normals, block.bounds[i], sides), np.float64) for i in count]
    rows = LayerRows(layer)
    rows.add(replace(block, rows=replace(parted, rhs=np.array(rhs))))
    (folded,) = rows.blocks
    assert not folded.rows.y[:, 2].any()
    charged = 0
    for i in count:
        after = implied(folded.rows, i, normals, folded.bounds[i], sides)
        assert after <= fractions(folded.rows.rhs)[i]
        charged += after > rhs[i]
    assert charged > 10
    np.testing.assert_allclose(folded.rows.rhs, rhs, rtol=1e-5, atol=1e-3)


def test_what_nothing_is_lost_of_needs_no_bound() -> None:
    """Only one neuron has no upper bound: rows hold as they are, but for those that lose some of
    what has none."""
    rng = np.random.default_rng(0)
    builder = Builder((3,))
    pre = builder.add(ops.Dense(rng.choice([-1.0, 1.0], size=(3, 3)), np.zeros(3)), 0)
    program = Program.compile(builder.build(builder.add(ops.Rectifier(), pre)))
    layer, groups = Layer.of(program, 2), np.array([[0, 1, 4]]).repeat(3, axis=0)
    bounds, normals = np.ones((3, 26)), octahedral_rows(3)
    for row, coordinate in ((1, 0), (2, 2)):
        bounds[row, (normals == np.eye(3)[coordinate]).all(axis=1)] = np.inf
    # What is before and after a layer adds up to a float32 of another magnitude.
    x, y = np.tile([0.0, 0.5, 1.0], (3, 1)), np.tile([-1.0, 0.0, 2.0**-24], (3, 1))
    none = np.zeros((3, 8, 1))
    found = JointRows(np.arange(3), x, y, np.ones(3), none.astype(np.intp), none)
    rows = LayerRows(layer)
    rows.add(Block.of(groups, bounds, found))
    (folded,) = rows.blocks
    assert np.isinf(bounds).sum() == 2 and len(folded.groups) == 2
    assert folded.rows.rhs[0] == folded.rows.rhs[1] and 1 < folded.rows.rhs[0] < 1 + 1e-6


def test_sums_of_what_has_bounds_have_bounds() -> None:
    """Though the last value of the layer, which no group has, is not bounded, and time is up."""
    network = skipping(np.random.default_rng(0))
    relaxation = relaxed(network, BOX)
    node = next(j for j in relaxation.program.pre_activations if j)
    low, high = (b.clone() for b in relaxation.bounds[node])
    size = network.nodes[node].size
    low[..., -1], high[..., -1] = -np.inf, np.inf
    relaxation.set_bounds(node, low, high)
    ascent = Ascent(0, stop=lambda: True)
    bounds = octahedral_bounds(relaxation, node, np.array([range(3)]), ascent)
    assert size == 4 and np.isfinite(bounds).all()
