"""The joint rows that a report hands out: which, of which methods, and that they are derived."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exactly import exactly, fractions, model_of
from small import MAXIMUM, random_network
from test_miner import excess_of

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import hullmark as hm
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.cuts.cutloop import CutBound
from hullmark.methods import programs
from hullmark.methods.ask import bound_queries
from hullmark.methods.names import MethodOptions
from hullmark.methods.task import Task
from hullmark.rows import Combined
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box

UNIT = Box([0, 0], [1, 1])
BOX = Box([-1, -1], [1, 1])


def at_most(bound: float, box: Box = UNIT) -> Property:
    """Is the first output always below the bound?"""
    case = Case(box, (Constraint.of({}, {0: -1}, -bound),), 1)
    return Property(2, 1, (case,), "at most")


@pytest.mark.parametrize("asked", ["box", "property"])
@pytest.mark.parametrize("method", ["mined", "prima"])
def test_rows_of_backward_methods_are_derived(method: str, asked: str) -> None:
    network = random_network(2, 6, 6, 1, seed=1)
    found = hm.bound(
        model_of(network), BOX if asked == "box" else at_most(0.1, BOX), method=method, seconds=5
    )
    rows = found.joint_rows()
    assert len(rows) == found.rows == len(found.proofs) > 0
    points = np.random.default_rng(0).uniform(-1, 1, (4, 2))
    values = [v.reshape(4, -1) for v in exactly(network).values(fractions(points))]
    posts = set[int]()
    for row in rows[:: 1 + len(rows) // 30]:
        assert isinstance(row.derivation, Combined)
        posts.add(row.derivation.kinks[0].post.node)
        for each in row.ancestry()[-20:]:
            assert each.derived() and not each.scope
            assert all(excess_of(each, values, k) <= 0 for k in range(4))
    assert len(posts) == 2
    # Each row is made once.
    assert all(a is b for a, b in zip(rows, found.joint_rows(), strict=True))


def test_rows_count_where_their_program_won(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of `max(x, y) <= 1` needs rows, unless something else says it first."""
    net, asked = model_of(MAXIMUM), at_most(2)
    free = hm.bound(net, asked, method="krelu", k=2)
    assert free.margin == pytest.approx(1, abs=1e-6)
    assert len(free.joint_rows()) == free.rows > 0
    real, start = programs.bound_again, programs._alpha

    def poor(relaxation, objective: Objective, cut: CutBound) -> float:
        return -np.inf

    monkeypatch.setattr(programs, "bound_again", poor)
    assert hm.bound(net, asked, method="krelu", k=2).rows == free.rows

    def exact(relaxation, objective: Objective, cut: CutBound) -> float:
        return max(real(relaxation, objective, cut), cut.lower) + 1e-5

    # No bound, but what the multipliers of a program say once more would count as its own.
    monkeypatch.setattr(programs, "bound_again", exact)
    again = hm.bound(net, asked, method="krelu", k=2)
    assert again.margin > free.margin and again.rows == free.rows

    def ahead(task: Task) -> programs.Alpha:
        found = start(task)
        return found._replace(floor=np.full_like(found.floor, 1.5))

    monkeypatch.setattr(programs, "_alpha", ahead)
    for method in ("krelu", "kpoly", "mk"):
        found = hm.bound(net, asked, method=method, k=2)
        assert found.margin == 1.5
        assert found.rows == 0 and found.joint_rows() == ()


def test_rows_of_earlier_programs_count_where_these_won(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mk` starts from kPoly; here its own programs say nothing."""
    real = programs.cut_queries

    def useless(*arguments) -> list[CutBound | None]:
        return [None if c is None else replace(c, lower=-np.inf) for c in real(*arguments)]

    monkeypatch.setattr(programs, "cut_queries", useless)
    monkeypatch.setattr(programs, "bound_again", lambda *_: -np.inf)
    found = hm.bound(model_of(MAXIMUM), at_most(2), method="mk", k=2)
    assert found.margin == pytest.approx(1, abs=1e-6)
    assert len(found.joint_rows()) == found.rows > 0
    assert all(row.derived() for row in found.joint_rows())
    base = hm.bound(model_of(MAXIMUM), at_most(2), method="kpoly", k=2)
    assert (base.rows, base.margin) == (found.rows, found.margin)


@pytest.mark.parametrize("method", ["mined", "prima", "krelu"])
def test_nothing_is_known_of_a_case_without_constraints(method: str) -> None:
    network = random_network(2, 6, 6, 1, seed=1)
    some = (Constraint.of({}, {0: -1}, -5),)
    cases = [Case(BOX, some, 1), Case(BOX, (), 1)]
    found = bound_queries(
        Program.compile(network), BOX, cases, cases[:1], method, MethodOptions(seconds=5)
    )
    assert found.lower[1] == -np.inf and not found.positive
    assert np.isfinite(found.lower[[0, 2]]).all()
