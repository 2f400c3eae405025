"""What a joint row rests on: the rows of lower layers whose multipliers its bounds need."""

from copy import copy

import numpy as np
import pytest
import torch
from exactly import exactly, fractions
from mining import PLAN, dense, miner_of, plain
from test_miner import excess_of

from hullmark.bounds.alpha import Ascended, Ascent
from hullmark.bounds.linear import Dual, backward
from hullmark.bounds.pools import Pool
from hullmark.bounds.relaxation import Relaxation
from hullmark.cuts.proofs import GroupProof
from hullmark.joint import ancestry, krelu, octahedron, tighten
from hullmark.joint.krelu import Scheme, area, krelu_propagate
from hullmark.joint.store import LayerRows, stored_proofs
from hullmark.joint.tighten import Miner
from hullmark.network.graph import Network
from hullmark.rows import Combined, Propagated, Row
from hullmark.spec.sets import Box

BOX = Box([-1, -1, -1], [1, 1, 0.5])
WAYS = ["mined", "krelu"]


def network_of() -> Network:
    return dense(3, 9, 9, 9, 2, scale=0.6)


def layers_of(how: str, network: Network) -> list[LayerRows]:
    """The rows of three layers."""
    miner = miner_of(network, BOX, "float64", PLAN)
    with torch.no_grad():
        if how == "krelu":
            long = Ascent(10, row_rate=0.1)
            scheme = Scheme(area(3), neurons=long, forms=long)
            return list(krelu_propagate(miner.relaxation, scheme).values())
        miner.propagate()
        y = np.random.default_rng(0).normal(size=(1, 3, 1, 2))
        miner.bound(plain(miner.relaxation.program, y))
        miner.again()
    return [mine.found for mine in miner.mines.values()]


def post_of(row: Row) -> int:
    """The layer of a joint row."""
    assert isinstance(row.derivation, Combined)
    return row.derivation.kinks[0].post.node


def joint_rows_below(row: Row) -> list[Row]:
    return [r for r in row.ancestry()[:-1] if isinstance(r.derivation, Combined)]


@pytest.mark.parametrize("how", WAYS)
def test_rows_of_lower_layers_are_found_and_hold(how: str) -> None:
    network = network_of()
    first, second, third = layers_of(how, network)
    points = np.random.default_rng(0).uniform(BOX.lower, BOX.upper, (4, 3)).astype(float)
    values = [v.reshape(4, -1) for v in exactly(network).values(fractions(points))]
    rows = third.rows()
    assert len(rows) == len(third) > 0
    lower: set[int] = set()
    for row in rows[:: 1 + len(rows) // 20]:
        every = row.ancestry()
        below = joint_rows_below(row)
        assert {post_of(r) for r in below} <= {first.layer.post, second.layer.post}
        lower |= {post_of(r) for r in below}
        for r in every[:: 1 + len(every) // 40]:
            assert r.derived() and not r.scope
            assert all(excess_of(r, values, k) <= 0 for k in range(len(points)))
    assert lower == {first.layer.post, second.layer.post}
    assert not any(joint_rows_below(row) for row in first.rows())
    # What several rows use is one row.
    used = {id(r): r for row in rows for r in joint_rows_below(row)}
    assert len(used) <= first.archive.count


@pytest.mark.parametrize("how", WAYS)
def test_dropped_rows_are_still_found(how: str) -> None:
    first, second, third = layers_of(how, network_of())
    before = [len(row.ancestry()) for row in third.rows()]
    for layer in (first, second):
        layer.keep(np.zeros(len(layer), dtype=np.bool_))
        assert len(layer) == 0 and layer.rows() == []
    assert [len(row.ancestry()) for row in third.rows()] == before
    assert max(len(joint_rows_below(row)) for row in third.rows()) > 0


class Passes:
    """Sees every ascent whose rows are recorded, and does its charged pass with these alone."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.bounds: dict[int, float] = {}
        self.kept: list[np.ndarray] = []
        self.rows = 0
        self._real = ancestry.used_rows
        self._aims: list = []
        for room, name in (
            (octahedron, "ascend"),
            (tighten, "ascend_in_pieces"),
            (krelu, "ascend_in_pieces"),
        ):
            patch.setattr(room, name, self._watched(getattr(room, name)))
        patch.setattr(octahedron, "used_rows", self._checked)
        patch.setattr(ancestry, "used_rows", self._checked)

    def _watched(self, ascend):
        def watched(relaxation, aim, *others, **named):
            self._aims.append(aim)
            return ascend(relaxation, aim, *others, **named)

        return watched

    def _checked(self, relaxation: Relaxation, seen: Ascended) -> np.ndarray:
        uses, best = self._real(relaxation, seen), seen.best
        aim = self._aims[-1]
        for q, numbers in enumerate(uses):
            self.kept.append(numbers)
            if len(numbers):
                self.bounds[id(numbers)] = -float(seen.lower[0, q])
            if q % max(1, len(uses) // 4):
                continue
            alone, gamma = copy(relaxation), {}
            alone.pools, alone._pool_charges = {}, {}
            for p, g in best.gamma.items():
                pool = relaxation.pools[p]
                some = torch.as_tensor(np.isin(pool.numbers, numbers))
                if bool(some.any()):
                    terms = {j: c[some] for j, c in pool.coefficients.items()}
                    alone.pools[p] = Pool(terms, pool.rhs[some])
                    gamma[p] = g[:, :, some]
                    self.rows += int(some.sum())
                    assert bool((gamma[p][0, q] > 0).all())
            start = aim.mixed(relaxation, aim.uniform().double())
            found = backward(alone, *start, Dual(best.slopes, gamma=gamma)).lower[0, q]
            assert float(found) >= float(seen.lower[0, q]) - 1e-9
        return uses


@pytest.mark.parametrize("how", WAYS)
def test_bounds_need_no_rows_but_those_recorded(how: str, monkeypatch) -> None:
    passes = Passes(monkeypatch)
    layers = layers_of(how, network_of())
    assert passes.rows > 100
    checked = 0
    for block in (b for layer in layers[1:] for b in layer.blocks):
        for bound, numbers in zip(block.bounds.flat, block.uses.flat, strict=True):
            # Each record is of the pass that gave the bound, unless the bound is a sum of others'.
            if id(numbers) in passes.bounds:
                assert passes.bounds[id(numbers)] == bound
                checked += 1
    assert checked > 100


@pytest.mark.parametrize("how", WAYS)
def test_parents_use_what_is_recorded(how: str) -> None:
    layers = layers_of(how, network_of())
    third = layers[-1]
    made = third.archive.rows(range(third.archive.count))
    for at, row in enumerate(third.rows()):
        block = next(b for b in third.blocks if at in range(*_span(third, b)))
        index = at - _span(third, block)[0]
        assert isinstance(row.derivation, Combined)
        for parent, numbers in zip(row.derivation.parents, block.uses[index], strict=True):
            assert isinstance(parent.derivation, Propagated)
            known = [(made[n].terms, made[n].rhs) for n in numbers.tolist()]
            assert [(r.terms, r.rhs) for r in parent.derivation.uses] == known


def _span(rows: LayerRows, block) -> tuple[int, int]:
    """Where the rows of a block are among those of its layer."""
    begin = sum(len(b.groups) for b in rows.blocks[: rows.blocks.index(block)])
    return begin, begin + len(block.groups)


def both_miners() -> tuple[Miner, Miner]:
    """One that mined for an objective, and its twin that did so at counterexamples."""
    miner = miner_of(network_of(), BOX, "float64", PLAN)
    with torch.no_grad():
        miner.propagate()
        objective = plain(miner.relaxation.program, np.array([[[[1.0, -1.0]]]]))
        miner.bound(objective)
        case = miner.assuming(objective, 0)
        case.sweep(10, case.bound(objective, 0).coefficients)
        case.bound(objective, 2)
    return miner, case


def test_rows_that_rest_on_an_assumption_are_not_handed_out() -> None:
    miner, case = both_miners()
    known = {i: len(mine.found) for i, mine in miner.mines.items()}
    assert sum(len(mine.found) for mine in case.mines.values()) > sum(known.values())
    for i, mine in case.mines.items():
        rows = mine.found.rows()
        assert len(rows) == known[i] == len(miner.mines[i].found.rows())
        assert len(mine.found.rows(assumed=True)) == len(mine.found)
    # Neither rows nor records of the case come back.
    assert max(n for b in miner.archive.blocks for n in b[1].numbers) < miner.archive.count
    assert case.archive.count > miner.archive.count


@pytest.mark.parametrize("seed", range(3))
def test_nor_are_they_when_others_are_dropped(seed: int) -> None:
    miner, case = both_miners()
    rng, assumed = np.random.default_rng(seed), 0
    known = miner.archive.rows(range(miner.archive.count))
    for mine in case.mines.values():
        rows = mine.found
        kept = rng.random(len(rows)) < 0.5
        numbers = rows.numbers[kept]
        rows.keep(kept)
        assert rows.numbers.tolist() == numbers.tolist()
        old = numbers[numbers < miner.archive.count].tolist()
        assumed += len(numbers) - len(old)
        assert [(r.terms, r.rhs) for r in rows.rows()] == [
            (known[n].terms, known[n].rhs) for n in old
        ]
        assert len(rows.rows(assumed=True)) == len(numbers)
    assert assumed > 10


def test_a_row_of_a_sum_without_a_bound_is_none() -> None:
    first, *others = layers_of("krelu", network_of())
    lost = first.numbers[:20].tolist()
    # Archives have blocks of their own once rows have been dropped.
    for _, block in first.archive.blocks:
        block.bounds[np.isin(block.numbers, lost), 4] = np.inf
    made = first.archive.rows(range(first.archive.count))
    assert set(range(first.archive.count)) - set(made) == set(lost)
    assert len(first.rows()) == len(first) - len(lost)
    for layer in others:
        assert len(layer.rows()) == len(layer)
        assert all(row.derived() for row in layer.rows()[::20])
    proofs = stored_proofs([first, *others])
    gone = {proof.number for proof in proofs if proof.row() is None}
    assert gone == set(lost) and len(proofs) == len(made) + len(lost)
    for block in first.blocks:
        for i in np.flatnonzero(np.isin(block.numbers, lost)):
            kinks = tuple(map(first.layer.kink, block.groups[i].tolist()))
            joint = block.rows.selected(np.array([i]))
            assert GroupProof(kinks, block.bounds[i], joint).row() is None
