"""The methods of joint rows: values that must come out, who contains whom, options and time."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from exactly import exactly, margin_at, model_of, output_at, rectified_network
from small import DIFFERENCE, FIGURE_2, MAXIMUM, SOLVED, network_of, random_network

import hullmark as hm
from hullmark.bounds.program import Program
from hullmark.errors import BadInput, Unsupported
from hullmark.methods import duals, programs
from hullmark.methods.ask import bound_queries
from hullmark.methods.names import JOINT, METHODS, MethodOptions
from hullmark.methods.report import Answer, report_of
from hullmark.methods.task import Bounded
from hullmark.network import ops
from hullmark.network.graph import Builder, Network
from hullmark.results import bound_headline, bound_lines
from hullmark.spec.property import Case, Constraint, Property
from hullmark.spec.sets import Box

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from inputs import Golden, goldens

EVERYWHERE = {name: JOINT[name] for name in JOINT if name not in ("mk", "multivariate")}


MAXIMUM_3 = network_of(
    ([[0, 1, -1], [0, 0, 1], [1, 0, 0]], [0, 0, 0]),
    ([[1, 1, -1], [0, 0, 1]], [0, 0]),
    ([[1, 1]], [0]),
)


def ends(network: Network, box: Box, method: str, k: int | None = None) -> hm.BoundReport:
    return hm.bound(model_of(network), box, method=method, k=k)


@pytest.mark.parametrize(("network", "triangle"), [(MAXIMUM, 1.5), (MAXIMUM_3, 1.9)])
def test_the_maximum_over_the_unit_box(network: Network, triangle: float) -> None:
    box = Box(np.zeros(network.input_size), np.ones(network.input_size))
    single = ends(network, box, "triangle")
    assert (single.lower[0], single.upper[0]) == pytest.approx((0, triangle), abs=SOLVED)
    for k in (1, 2):
        found = ends(network, box, "mk", k)
        assert (found.lower[0], found.upper[0]) == pytest.approx((0, 1), abs=SOLVED)
        assert {a.end for a in found.attained} == {"lower", "upper"}


def test_a_difference_of_equals() -> None:
    box = Box([-1], [1])
    for method, k, half in (
        ("triangle", None, 0.5),
        ("refinezono", None, 0.5),
        ("multivariate", None, 0.5),
        ("mk", 1, 0.5),
        ("krelu", 2, 0.0),
        ("kpoly", 2, 0.0),
        ("mk", 2, 0.0),
    ):
        found = ends(DIFFERENCE, box, method, k)
        assert (found.lower[0], found.upper[0]) == pytest.approx((-half, half), abs=SOLVED), method
        assert {a.end for a in found.attained} == (set() if half else {"lower", "upper"})
    for method in ("mined", "prima"):
        found = ends(DIFFERENCE, box, method)
        assert -0.51 < found.lower[0] <= 0 <= found.upper[0] < 0.51


def test_the_diamond() -> None:
    """`2 y1 + 2 y2 - x1 - x2 <= 2` wherever `|x1 +- x2| <= 2`."""
    builder = Builder((2,))
    pre = builder.add(ops.Dense(np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros(2)), 0)
    both = builder.add(ops.Concat(0), pre, builder.add(ops.Rectifier(), pre))
    model = model_of(builder.build(builder.add(ops.Scale(np.ones(4), np.zeros(4)), both)))
    row = np.array([-1.0, -1.0, 2.0, 2.0])
    for method, most in (("triangle", 4.0), ("krelu", 2.0), ("mk", 2.0)):
        found = hm.bound(model, Box([-1, -1], [1, 1]), method=method, objective=row)
        assert found.upper[0] == pytest.approx(most, abs=SOLVED)


def test_the_figure_of_the_paper_is_proved_with_pairs() -> None:
    """Of [kReLU Fig. 2]: `x9 <= 4`."""
    question = hm.holds(Box([-1, -1], [1, 1]), [(np.array([1.0, 0.0]), Fraction(41, 10))])
    for method in METHODS:
        if method in ("deepz", "ibp"):
            continue
        found = hm.bound(model_of(FIGURE_2), question, method=method)
        proves = method in ("krelu", "kpoly", "mk", "multivariate")
        # Ascents may or may not come near enough to 4.
        assert found.proved == (found.margin > 0) or (method == "mined" and found.margin == 0)
        if method not in ("mined", "prima"):
            assert found.proved == proves, method
        if proves:
            assert found.margin == pytest.approx(0.1, abs=SOLVED)
            assert found.upper[0] == pytest.approx(4, abs=SOLVED)


@pytest.fixture(scope="module")
def known(data: Path) -> list[Golden]:
    return goldens(data)[:7]


def range_of(golden: Golden, method: str, k: int | None = None) -> np.ndarray:
    """Lower and upper ends, `(outputs, 2)`."""
    found = ends(golden.network, golden.box, method, k)
    assert found.complete
    return np.stack([found.lower, found.upper], axis=1)


def given(golden: Golden, kind: str) -> np.ndarray:
    return np.array([[float(low), float(high)] for low, high in golden.ranges[kind]])


def within(inner: np.ndarray, outer: np.ndarray, slack: float = SOLVED) -> bool:
    room = slack * (1 + np.abs(outer))
    return bool(
        np.all(inner[:, 0] >= (outer - room)[:, 0]) and np.all(inner <= outer + room, axis=0)[1]
    )


@pytest.mark.parametrize("method", JOINT)
def test_every_method_contains_the_exact_range(known: list[Golden], method: str) -> None:
    for golden in known:
        found = ends(golden.network, golden.box, method)
        for (low, high), least, most in zip(
            golden.ranges["exact"], found.lower, found.upper, strict=True
        ):
            assert Fraction(least) <= low and high <= Fraction(most), golden.name


def test_the_ladder(known: list[Golden]) -> None:
    """Each rung lies within those that theory puts above it."""
    tighter = 0
    for golden in known:
        of = {m: range_of(golden, m) for m in ("alpha", "triangle", "multivariate", "prima")}
        of |= {f"{m}{k}": range_of(golden, m, k) for m in ("kpoly", "mk") for k in (2, 3)}
        of |= {"mined": range_of(golden, "mined"), "krelu3": range_of(golden, "krelu", 3)}
        assert within(given(golden, "triangle"), of["triangle"], 1e-5), golden.name
        assert within(of["triangle"], given(golden, "triangle"), 1e-5), golden.name
        # An ascent ends a little before its optimum.
        for inner, outer, slack in (
            ("triangle", "alpha", SOLVED),
            ("kpoly2", "triangle", SOLVED),
            ("kpoly3", "triangle", SOLVED),
            ("mk2", "kpoly2", SOLVED),
            ("mk3", "kpoly3", SOLVED),
            ("krelu3", "alpha", SOLVED),
            ("multivariate", "alpha", SOLVED),
            ("mined", "alpha", 0.02),
            ("prima", "alpha", 0.02),
        ):
            assert within(of[inner], of[outer], slack), (golden.name, inner, outer)
        width = {name: float((ends[:, 1] - ends[:, 0]).sum()) for name, ends in of.items()}
        tighter += width["mk3"] < width["kpoly3"] - 1e-3
        tighter += width["kpoly3"] < width["triangle"] - 1e-3
    assert tighter >= 4


def test_groups_of_whole_layers_are_the_convex_hulls_of_layers(known: list[Golden]) -> None:
    """On chains M_k of all unstable neurons bounds the outputs as P_1 does."""
    for golden in known:
        found, hulls = range_of(golden, "mk", 4), given(golden, "p1")
        assert within(hulls, found), golden.name
        assert within(found, hulls, 1e-4), golden.name


def test_one_layer_of_groups_lies_within_the_triangle() -> None:
    """With one hidden layer all methods know the same, exact bounds of its neurons."""
    for seed in range(2):
        network, box = random_network(3, 6, 2, seed=seed), Box([-1] * 3, [1] * 3)
        triangle = ends(network, box, "triangle")
        for method, k in (("krelu", 2), ("krelu", 3), ("krelu", 4), ("multivariate", None)):
            found = ends(network, box, method, k)
            assert np.all(found.lower >= triangle.lower - SOLVED)
            assert np.all(found.upper <= triangle.upper + SOLVED)
            if method == "krelu":
                assert np.any(found.upper < triangle.upper - 1e-3)
                assert found.rows > 0


def some_property(network: Network, box: Box) -> Property:
    """Cases of one row and of several, and rows over inputs and outputs."""
    n, k = network.input_size, network.output_size
    rows = (
        (Constraint.of({}, {0: 1, k - 1: Fraction(-1, 3)}, Fraction(1, 10)),),
        (Constraint.of({}, {0: 1}, -1), Constraint.of({}, {k - 1: -1}, Fraction(1, 2))),
        (Constraint.of({0: 2, n - 1: -1}, {0: 1}, Fraction(1, 3)),),
    )
    return Property(n, k, tuple(Case(box, c, k) for c in rows), "some")


@pytest.mark.parametrize("seconds", [0.3, 1e-3, 0.05])
@pytest.mark.parametrize("method", JOINT)
def test_margins_hold_at_exact_points_whatever_the_time(method: str, seconds: float) -> None:
    for seed in range(2):
        rng = np.random.default_rng(seed)
        network = rectified_network(rng, 3) if method in EVERYWHERE else None
        network = network or random_network(3, 4, 4, 2, seed=seed)
        box = Box([-1] * 3, [1] * 3)
        prop = some_property(network, box)
        found = hm.bound(model_of(network), prop, method=method, seconds=seconds)
        assert found.margin == found.margins.min()
        exact = exactly(network)
        for _ in range(30):
            x = rng.choice([-1.0, 1.0, rng.uniform(-1, 1)], size=3)
            y = output_at(exact, x)
            assert all(
                Fraction(a) <= v <= Fraction(b)
                for a, v, b in zip(found.lower, y, found.upper, strict=True)
            )
            margins = [margin_at(case, exact, x) for case in prop.cases]
            assert Fraction(found.margin) <= min(margins)
            assert not found.proved or min(margins) > 0
            if method != "mined":
                assert all(Fraction(m) <= v for m, v in zip(found.margins, margins, strict=True))
        if seconds == 1e-3:
            assert not found.complete


def test_what_is_attained_is_nearly_the_value_there() -> None:
    for seed in range(2):
        network, box = random_network(2, 4, 4, 2, seed=seed), Box([-1, -1], [1, 1])
        exact, prop = exactly(network), some_property(network, box)
        prop = Property(2, 2, (prop.cases[0], prop.cases[2]), "single rows")
        found = hm.bound(model_of(network), prop, method="mk", k=3)
        for end, index, x, gap in ((a.end, a.index, a.input, a.gap) for a in found.attained):
            assert box.contains(x) and 0 <= gap < 1e-5
            if end == "margin":
                excess = margin_at(prop.cases[index], exact, x) - Fraction(found.margins[index])
            elif end == "lower":
                excess = output_at(exact, x)[index] - Fraction(found.lower[index])
            else:
                excess = Fraction(found.upper[index]) - output_at(exact, x)[index]
            assert 0 <= excess <= Fraction(gap)


@pytest.mark.parametrize("method", ["krelu", "kpoly", "prima", "mk"])
def test_every_rule_of_grouping(method: str) -> None:
    network, box = random_network(2, 4, 4, 1, seed=1), Box([-1, -1], [1, 1])
    plain = ends(network, box, "alpha")
    found = {
        rule: hm.bound(model_of(network), box, method=method, k=k, groups=rule, seed=2)
        for rule in JOINT[method].rules
        for k in (None if rule == "adaptive" else 2,)
    }
    for rule, report in found.items():
        assert report.rows > 0 or method == "kpoly", rule
        assert np.all(report.lower >= plain.lower - 0.02), rule
    assert len({float(r.lower[0]) for r in found.values()}) > 1


def test_boxes_share_the_property() -> None:
    network = random_network(2, 6, 6, 2, seed=2)
    boxes = Box([-1, -1], [0, 0]), Box([0, 0], [1, 1])
    row = (Constraint.of({}, {0: 1, 1: -1}, 0),)
    prop = Property(2, 2, tuple(Case(box, row, 2) for box in (*boxes, boxes[0])), "two")
    for method in ("kpoly", "mined"):
        seconds = 60 if method == "kpoly" else 1
        both = hm.bound(model_of(network), prop, method=method, seconds=seconds)
        assert both.margins.shape == (3,)
        assert both.margin == both.margins.min()
        if method == "kpoly":
            assert both.margins[0] == pytest.approx(both.margins[2], abs=1e-6)
            single = [hm.bound(model_of(network), box, method=method) for box in boxes]
            lower = np.minimum(single[0].lower, single[1].lower)
            assert both.lower == pytest.approx(lower, abs=1e-3)


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("milp", {}, r"unknown method 'milp'; known are ibp, .*, mk$"),
        ("ibp", {"k": 2}, "method ibp relaxes no groups and takes no k$"),
        ("alpha", {"groups": "area"}, "method alpha relaxes no groups and takes no groups"),
        ("triangle", {"k": 1}, "method triangle relaxes no groups and takes no k"),
        ("kpoly", {"k": 7}, "method kpoly takes a k from 1 to 6, not 7"),
        ("krelu", {"k": 0}, "method krelu takes a k from 1 to 6, not 0"),
        ("krelu", {"k": 4, "groups": "adaptive"}, "adaptive choose k themselves and take none$"),
        ("prima", {"groups": "adaptive"}, "prima takes groups by overlap, area, random, not 'ad"),
        ("alpha", {"overlap": 1}, "method alpha relaxes no groups and takes no overlap$"),
        ("krelu", {"block": 60}, "groups by area take no block; groups by overlap do$"),
        ("prima", {"groups": "random", "overlap": 0}, "by random take no overlap; groups by over"),
        ("prima", {"overlap": 3}, "groups of 3 share from 0 to 2 neurons, not 3$"),
        ("kpoly", {"groups": "overlap", "overlap": -1}, "share from 0 to 2 neurons, not -1$"),
        ("prima", {"block": 2}, "a block of 2 neurons has no groups of 3$"),
        ("prima", {"k": 4}, "method prima takes a k from 2 to 3, not 4"),
        ("mined", {"groups": "area"}, "method mined takes groups by gain, not 'area'"),
        ("kpoly", {"groups": "gain"}, "groups by area, overlap, adaptive, random, not 'gain'"),
        ("mk", {"groups": "luck"}, "takes groups by area, overlap, gain, random, not 'luck'"),
        ("mined", {"seconds": 0}, "a time limit must be positive, not 0"),
        ("alpha", {"seconds": float("nan")}, "a time limit must be positive, not nan"),
    ],
)
def test_what_a_method_does_not_take_is_named(method: str, options: dict, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        hm.bound(model_of(MAXIMUM), Box([0, 0], [1, 1]), method=method, **options)


def test_ascents_end_when_time_is_up() -> None:
    model, box = model_of(random_network(3, 20, 20, 2, seed=0)), Box([-1] * 3, [1] * 3)
    whole = hm.bound(model, box, method="alpha", seconds=60)
    short = hm.bound(model, box, method="alpha", seconds=1e-3)
    plain = hm.bound(model, box, method="deeppoly", seconds=1e-3)
    assert whole.complete and not short.complete and plain.complete
    assert np.all(short.lower >= plain.lower - 1e-9) and np.all(whole.lower >= short.lower - 1e-9)
    assert np.any(whole.lower > short.lower + 1e-3)


def test_no_limit_is_a_limit_too() -> None:
    found = hm.bound(model_of(MAXIMUM), Box([0, 0], [1, 1]), method="kpoly", seconds=float("inf"))
    assert found.complete


def test_what_is_too_large_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, box = model_of(random_network(3, 30, 30, 1, seed=0)), Box([-1] * 3, [1] * 3)
    monkeypatch.setattr(programs, "LARGEST_PROGRAM", 1000)
    with pytest.raises(Unsupported, match=r"kpoly solves linear programs over the network's 1,\d"):
        hm.bound(model, box, method="kpoly")
    monkeypatch.setattr(programs, "LARGEST_CUT", 4000)
    with pytest.raises(Unsupported, match="mk solves linear programs over 4 times the network's"):
        hm.bound(model, box, method="mk")
    monkeypatch.setattr(duals, "LARGEST_PASS", 1000)
    for method in ("mined", "prima"):
        with pytest.raises(Unsupported, match=f"{method} bounds all 30 neurons of a layer at once"):
            hm.bound(model, box, method=method)


@pytest.mark.parametrize("op", [ops.Rectifier(np.array(0.1)), ops.Tanh()])
def test_other_functions(op: ops.Rectifier | ops.Tanh) -> None:
    rng = np.random.default_rng(0)
    builder = Builder((2,))
    at = builder.add(
        ops.Rectifier(), builder.add(ops.Dense(rng.normal(size=(4, 2)), np.ones(4) / 3), 0)
    )
    at = builder.add(op, builder.add(ops.Dense(rng.normal(size=(4, 4)), np.zeros(4)), at))
    network = builder.build(builder.add(ops.Dense(rng.normal(size=(1, 4)), np.zeros(1)), at))
    box = Box([-1, -1], [1, 1])
    x = rng.uniform(-1, 1, size=(500, 2))
    values = network.evaluate(x)
    for method in JOINT:
        if isinstance(op, ops.Rectifier) and method in ("mk", "multivariate"):
            with pytest.raises(
                Unsupported, match="node Rectifier_4 is no ReLU; use krelu or mined"
            ):
                ends(network, box, method)
            continue
        found = ends(network, box, method)
        assert found.lower[0] <= values.min() and values.max() <= found.upper[0]
        assert np.isfinite(found.lower[0]) and np.isfinite(found.upper[0])


def test_positive_without_a_number() -> None:
    shown = Bounded(np.array([0.0, 1.0, -2.0]), True, rows=1, complete=False)
    report = report_of([Answer((0,), shown)], 1, 1, "mined", 2.0)
    assert report.proved and report.margin == 0
    assert bound_headline(report) == "mined stopped after 2.00 s   worst margin > 0   1 joint row"
    assert list(bound_lines(report)) == ["Y_0   [1, 2]"]
    open_ = Bounded(np.array([-1.0, 1.0, -2.0]), False, rows=7)
    both = report_of([Answer((1,), shown), Answer((0,), open_)], 1, 2, "mined", 2.0)
    assert not both.proved and both.rows == 7 and both.margins.tolist() == [-1, 0]
    assert bound_headline(both).endswith("worst margin ≥ -1   7 joint rows")


@pytest.mark.parametrize("method", JOINT)
def test_linear_functions_may_have_a_constant_and_inputs(method: str) -> None:
    """What is bounded is the margin of a row over inputs and outputs, its bound included."""
    network, box = random_network(2, 4, 2, seed=3), Box([0.25, -1], [1, 1])
    row = Constraint.of({1: Fraction(1, 2)}, {0: 1, 1: -2}, Fraction(701, 7))
    case = Case(box, (row,), 2)
    program = Program.compile(network)
    found = bound_queries(program, box, (), (case,), method, MethodOptions(seconds=5))
    exact, rng = exactly(network), np.random.default_rng(0)
    points = rng.uniform(box.lower, box.upper, size=(200, 2))
    least = min(margin_at(case, exact, x) for x in points)
    assert least - 1 < Fraction(found.lower[0]) <= least
