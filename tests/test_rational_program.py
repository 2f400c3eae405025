"""Exact linear programs: every answer comes with multipliers that prove it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hullmark.errors import BadInput
from hullmark.lp import simplex
from hullmark.lp.rational import Infeasible, Optimum, RationalProgram

numbers = st.fractions(-4, 4, max_denominator=6)
sides = st.none() | st.fractions(-3, 3, max_denominator=4)


@st.composite
def programs(draw):
    """A program with bounded columns, as data: columns, rows and cost."""
    count = draw(st.integers(1, 5))
    columns = [sorted((draw(numbers), draw(numbers))) for _ in range(count)]
    rows = []
    for _ in range(draw(st.integers(0, 7))):
        ends = draw(sides), draw(sides)
        if None not in ends:
            ends = min(ends), max(ends)
        rows.append(([draw(numbers) for _ in range(count)], *ends))
    return columns, rows, [draw(numbers) for _ in range(count)]


def made(columns, rows) -> RationalProgram:
    program = RationalProgram()
    for lower, upper in columns:
        program.column(lower, upper)
    for row, low, high in rows:
        program.row(dict(enumerate(row)), low, high)
    return program


def proved(columns, rows, cost, duals) -> Fraction:
    """The bound of the cost that multipliers prove; each must have a side to rest on."""
    total, reduced = Fraction(0), list(cost)
    for i, y in duals.items():
        row, low, high = rows[i]
        side = low if y > 0 else high
        assert side is not None
        total += y * side
        reduced = [c - y * a for c, a in zip(reduced, row, strict=True)]
    ends = zip(reduced, columns, strict=True)
    return total + sum(d * (low if d > 0 else high) for d, (low, high) in ends)


def check(columns, rows, cost, found) -> None:
    if isinstance(found, Infeasible):
        assert proved(columns, rows, [Fraction(0)] * len(columns), found.duals) > 0
        return
    assert isinstance(found, Optimum)
    for x, (low, high) in zip(found.point, columns, strict=True):
        assert low <= x <= high
    for row, low, high in rows:
        value = sum(a * x for a, x in zip(row, found.point, strict=True))
        assert (low is None or low <= value) and (high is None or value <= high)
    assert sum(c * x for c, x in zip(cost, found.point, strict=True)) == found.value
    assert proved(columns, rows, cost, found.duals) == found.value


@settings(max_examples=150, deadline=None)
@given(programs())
def test_every_answer_is_proved_by_its_multipliers(asked) -> None:
    columns, rows, cost = asked
    check(columns, rows, cost, made(columns, rows).minimise(dict(enumerate(cost))))


@settings(max_examples=100, deadline=None)
@given(programs(), st.randoms(use_true_random=False))
def test_a_solver_that_lies_costs_time_and_nothing_else(asked, random) -> None:
    columns, rows, cost = asked
    program = made(columns, rows)

    def lie(_goal):
        return [random.choice([-1, 0, 1]) for _ in [*columns, *rows]]

    program._proposal = lie  # type: ignore[method-assign]
    check(columns, rows, cost, program.minimise(dict(enumerate(cost))))
    program._proposal = lambda _goal: None  # type: ignore[method-assign]
    check(columns, rows, cost, program.minimise(dict(enumerate(cost))))


def test_a_difference_that_floats_do_not_see() -> None:
    tiny = Fraction(1, 10**30)
    columns, rows = [(Fraction(0), Fraction(1))], [([Fraction(1)], 1 - tiny, None)]
    found = made(columns, rows).minimise({0: Fraction(1)})
    assert isinstance(found, Optimum) and found.value == 1 - tiny
    rows.append(([Fraction(1)], None, 1 - 2 * tiny))
    check(columns, rows, [Fraction(1)], made(columns, rows).minimise({0: Fraction(1)}))
    assert isinstance(made(columns, rows).minimise({0: Fraction(1)}), Infeasible)


def test_coefficients_beyond_what_the_float_solver_takes() -> None:
    huge = Fraction(10) ** 40
    columns = [(Fraction(-1), Fraction(1))] * 2
    rows = [([huge, -huge], Fraction(0), Fraction(0)), ([1 / huge, 1 / huge], None, 1 / huge)]
    found = made(columns, rows).minimise({0: -huge, 1: Fraction(-1)})
    assert isinstance(found, Optimum)
    assert found.point == (Fraction(1, 2), Fraction(1, 2))


def test_rows_come_and_go() -> None:
    program = made([(Fraction(0), Fraction(2))], [])
    goal = {0: Fraction(-1)}
    first = program.rows
    program.row({0: Fraction(3)}, None, Fraction(1))
    found = program.minimise(goal)
    assert isinstance(found, Optimum) and found.value == Fraction(-1, 3)
    program.drop_rows(first)
    found = program.minimise(goal)
    assert isinstance(found, Optimum) and found.value == -2
    twin = program.copy()
    twin.row({0: Fraction(1)}, Fraction(3))
    assert isinstance(twin.minimise(goal), Infeasible)
    assert isinstance(program.minimise(goal), Optimum)


def test_a_cost_without_a_least_value_is_named() -> None:
    program = RationalProgram()
    program.column()
    with pytest.raises(BadInput, match="no least value"):
        program.minimise({0: Fraction(1)})
    with pytest.raises(BadInput, match="sides of a column"):
        program.column(Fraction(1), Fraction(0))
    with pytest.raises(BadInput, match="names a column"):
        program.row({1: Fraction(1)})


def test_many_degenerate_steps_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cube cut by rows that all meet in one of its vertices, from a start without any hint."""
    monkeypatch.setattr(simplex, "STALL", 0)
    rng = np.random.default_rng(0)
    columns = [(Fraction(0), Fraction(1))] * 4
    rows = [
        ([Fraction(int(v)) for v in rng.integers(0, 5, 4)], None, Fraction(0)) for _ in range(9)
    ]
    program = made(columns, rows)
    program._proposal = lambda _goal: None  # type: ignore[method-assign]
    cost = [Fraction(-1)] * 4
    check(columns, rows, cost, program.minimise(dict(enumerate(cost))))


def test_the_solver_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    made([(Fraction(0), Fraction(1))], []).minimise({0: Fraction(1)})
    assert capfd.readouterr().out == ""
