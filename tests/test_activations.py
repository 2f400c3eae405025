"""Lines around activations: they hold exactly, and they touch.

Floats are rationals, so that a line is checked with `Fraction`; tanh and sigmoid come from
mpmath at 400 bits, whose error is far below `MP_SLACK`.
"""

import itertools
from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch

from hullmark.bounds import scurves
from hullmark.bounds.activations import (
    adjustable,
    image,
    product_image,
    product_lines,
    relax,
    strip,
    tangent_lines,
)
from hullmark.bounds.extremes import offsets
from hullmark.errors import BadInput, Unsupported
from hullmark.network.ops import Elementwise, Reciprocal, Rectifier, Sigmoid, Sign, Tanh

MP = mpmath.MPContext()
MP.prec = 400
MP_SLACK = Fraction(1, 10**100)
DTYPES = [torch.float32, torch.float64]
RULES = ["area", "zero", "one"]
# A line may miss its function by this much of the largest value involved: some units in the
# last place of float32. Whatever is smaller than every float32 is no gap.
TOUCH = Fraction(1, 10**6)
DUST = Fraction(1, 10**36)


def rectifier(negative: float, positive: float) -> Rectifier:
    return Rectifier(np.array(negative), np.array(positive))


RECTIFIERS = {
    "relu": Rectifier(),
    "leaky": rectifier(0.01, 1.0),
    "absolute": rectifier(-1.0, 1.0),
    "steep": rectifier(0.3, 7.7),
    "concave": rectifier(1.0, 0.1),
    "negated": rectifier(0.0, -1.0),
    "straight": rectifier(0.1, 0.1),
}
SMOOTH: dict[str, Sigmoid | Tanh] = {"sigmoid": Sigmoid(), "tanh": Tanh()}
OPS: dict[str, Elementwise] = {**RECTIFIERS, **SMOOTH, "sign": Sign(), "reciprocal": Reciprocal()}


def rational(x: mpmath.mpf) -> Fraction:
    mantissa, exponent = x.man_exp
    size = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -size if x < 0 else size


def value(op: Elementwise, x: Fraction, index: int = 0) -> tuple[Fraction, Fraction]:
    """An enclosure of `op(x)`."""
    match op:
        case Rectifier(negative=n, positive=p):
            slope = Fraction(float((n if x < 0 else p).reshape(-1)[index]))
            return slope * x, slope * x
        case Sign():
            y = Fraction((x > 0) - (x < 0))
            return y, y
        case Reciprocal():
            return 1 / x, 1 / x
        case Sigmoid() if x < -2000:
            return Fraction(0), MP_SLACK
        case _:
            z = MP.mpf(x.numerator) / MP.mpf(x.denominator)
            y = rational(MP.tanh(z) if isinstance(op, Tanh) else 1 / (1 + MP.exp(-z)))
            slack = abs(y) * MP_SLACK
            return max(y - slack, Fraction(-1)), min(y + slack, Fraction(1))


def critical(op: Elementwise, slope: Fraction) -> list[Fraction]:
    """Where `op(x) - slope * x` can be extreme inside an interval, or close to it."""
    match op:
        case Reciprocal():
            if slope >= 0:
                return []
            root = rational(1 / MP.sqrt(-MP.mpf(slope.numerator) / MP.mpf(slope.denominator)))
            return [root, -root]
        case Sigmoid() | Tanh():
            s = MP.mpf(slope.numerator) / MP.mpf(slope.denominator)
            s, wide = (4 * s, 2) if isinstance(op, Sigmoid) else (s, 1)
            if not 0 < s <= 1:
                return [Fraction(0)]
            root = rational(wide * MP.acosh(1 / MP.sqrt(s)))
            return [Fraction(0), root, -root]
        case _:
            return [Fraction(0)]


def points(op: Elementwise, low: Fraction, high: Fraction, slope: Fraction) -> list[Fraction]:
    inside = [x for x in critical(op, slope) if low <= x <= high]
    steps = [low + (high - low) * Fraction(k, 4) for k in range(1, 4)]
    if isinstance(op, Sign):
        # Next to 0 on both sides, as close as makes no difference.
        inside += [x for x in (Fraction(1, 10**400), -Fraction(1, 10**400)) if low <= x <= high]
    return [low, high, *inside, *steps]


def check_line(
    op: Elementwise, low: float, high: float, line: tuple[float, float], upper: bool, touch: bool
) -> None:
    a, b = Fraction(low), Fraction(high)
    slope, offset = line
    assert np.isfinite(slope)
    if not np.isfinite(offset):
        assert offset == (np.inf if upper else -np.inf)
        overflows = isinstance(op, Reciprocal) and min(abs(low), abs(high)) < 1e-38
        assert not touch or max(abs(low), abs(high)) > 1e30 or overflows
        return
    s, o = Fraction(slope), Fraction(offset)
    gaps: list[Fraction] = []
    for x in points(op, a, b, s):
        below, above = value(op, x)
        gaps.append(s * x + o - above if upper else below - s * x - o)
    assert min(gaps) >= 0, (op, low, high, line, upper)
    if touch:
        ends = [value(op, x)[0] for x in (a, b)]
        size = max(abs(v) for v in (s * a, s * b, o, *ends))
        size = max(size, Fraction(1)) if isinstance(op, Sigmoid | Tanh) else size
        assert min(gaps) <= TOUCH * size + DUST, (op, low, high, line, upper)


def intervals(op: Elementwise, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """All pairs of nasty numbers, and random intervals of every size."""
    info = torch.finfo(dtype)
    sizes = [info.smallest_normal / 4, info.smallest_normal, 1e-20, 1e-3, 0.5, 1.0]
    sizes += [1 + info.eps, 3.0, 18.0, 700.0, 1e4, 1e30]
    nasty = torch.tensor([-x for x in sizes] + [0.0] + sizes, dtype=dtype).sort().values
    pairs = [(float(a), float(b)) for a, b in itertools.combinations_with_replacement(nasty, 2)]
    rng = np.random.default_rng(3)
    middle = rng.normal(size=60) * 10.0 ** rng.uniform(-3, 1.5, size=60)
    width = np.abs(rng.normal(size=60)) * 10.0 ** rng.uniform(-9, 1.5, size=60)
    pairs += zip(middle - width, middle + width, strict=True)
    lower = torch.tensor([a for a, _ in pairs], dtype=dtype)
    upper = torch.tensor([b for _, b in pairs], dtype=dtype)
    if isinstance(op, Reciprocal):
        kept = (lower > 0) | (upper < 0)
        lower, upper = lower[kept], upper[kept]
    return lower, upper


def each(op: Elementwise, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    lower, upper = intervals(op, dtype)
    return lower.reshape(1, -1), upper.reshape(1, -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPS)
def test_lines_hold_and_touch(name: str, dtype: torch.dtype) -> None:
    op = OPS[name]
    lower, upper = each(op, dtype)
    for rule in RULES if name in RECTIFIERS else RULES[:1]:
        lines = relax(op, lower, upper, rule)
        assert all(part.dtype == dtype and part.shape == lower.shape for part in lines)
        for k in range(lower.shape[1]):
            low, high = lower[0, k].item(), upper[0, k].item()
            ls, lo, us, uo = (part[0, k].item() for part in lines)
            check_line(op, low, high, (ls, lo), upper=False, touch=True)
            check_line(op, low, high, (us, uo), upper=True, touch=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPS)
def test_strips_and_images_hold(name: str, dtype: torch.dtype) -> None:
    op = OPS[name]
    lower, upper = each(op, dtype)
    found = strip(op, lower, upper)
    least, greatest = image(op, lower, upper)
    for k in range(lower.shape[1]):
        low, high = lower[0, k].item(), upper[0, k].item()
        slope, down, up = (part[0, k].item() for part in found)
        check_line(op, low, high, (slope, down), upper=False, touch=True)
        check_line(op, low, high, (slope, up), upper=True, touch=True)
        check_line(op, low, high, (0.0, least[0, k].item()), upper=False, touch=True)
        check_line(op, low, high, (0.0, greatest[0, k].item()), upper=True, touch=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SMOOTH)
def test_lines_at_any_points_hold(name: str, dtype: torch.dtype) -> None:
    op = SMOOTH[name]
    lower, upper = each(op, dtype)
    rng = np.random.default_rng(5)
    p, q = (torch.as_tensor(rng.normal(size=lower.shape) * 5, dtype=dtype) for _ in range(2))
    lines = tangent_lines(op, lower, upper, p, q)
    for k in range(lower.shape[1]):
        low, high = lower[0, k].item(), upper[0, k].item()
        ls, lo, us, uo = (part[0, k].item() for part in lines)
        check_line(op, low, high, (ls, lo), upper=False, touch=True)
        check_line(op, low, high, (us, uo), upper=True, touch=True)


@pytest.mark.parametrize("name", SMOOTH)
def test_tangents_touch_where_asked(name: str) -> None:
    op = SMOOTH[name]
    lower, upper = torch.tensor([[0.5, -4.0]]).double(), torch.tensor([[3.0, -1.0]]).double()
    point = torch.tensor([[1.25, -2.0]]).double()
    lines = tangent_lines(op, lower, upper, point, point)
    y = torch.from_numpy(op.apply(point.numpy()))
    above = lines.upper_slope * point + lines.upper_offset
    below = lines.lower_slope * point + lines.lower_offset
    # Concave on the first interval, convex on the second.
    assert abs(above[0, 0] - y[0, 0]) < 1e-12
    assert abs(below[0, 1] - y[0, 1]) < 1e-12


@pytest.mark.parametrize("name", SMOOTH)
def test_lines_hold_however_badly_points_are_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scurves._stationary
    monkeypatch.setattr(scurves, "_stationary", lambda slope: 1.3 * found(slope) + 0.1)
    op = SMOOTH[name]
    lower, upper = (side[:, -60:] for side in each(op, torch.float64))
    slope = torch.linspace(-0.3, 1.2, 60).double().reshape(lower.shape)
    low, high = offsets(op, lower, upper, slope)
    lines = relax(op, lower, upper)
    for k in range(lower.shape[1]):
        a, b, s = lower[0, k].item(), upper[0, k].item(), slope[0, k].item()
        ls, lo, us, uo = (part[0, k].item() for part in lines)
        check_line(op, a, b, (s, low[0, k].item()), upper=False, touch=False)
        check_line(op, a, b, (s, high[0, k].item()), upper=True, touch=False)
        check_line(op, a, b, (ls, lo), upper=False, touch=False)
        check_line(op, a, b, (us, uo), upper=True, touch=False)


def test_the_straight_piece_of_the_envelope_is_found() -> None:
    for low, high in [(-1e-3, 1.0), (-0.5, 2.0), (-1.0, 0.3), (-8.0, 9.0), (-1e6, 1e6)]:
        a, b = torch.tensor([low, high]).double()
        grid = np.concatenate([np.linspace(0, high, 20001), np.linspace(0, min(high, 20), 20001)])
        steepest = ((np.tanh(grid) - np.tanh(low)) / (grid - low)).max()
        slope = scurves.tanh_support_slope(a, b, a).item()
        assert slope == pytest.approx(steepest, rel=1e-6)
        assert slope >= steepest - 1e-12


@pytest.mark.parametrize("name", [*SMOOTH, "reciprocal", "sign"])
def test_lines_at_the_middle_meet_the_envelope(name: str) -> None:
    op = OPS[name]
    rng = np.random.default_rng(11)
    lower = rng.normal(size=20) * 2
    upper = lower + rng.uniform(0.1, 6, size=20)
    if name == "reciprocal":
        lower, upper = np.abs(lower) + 0.1, np.abs(lower) + 0.1 + upper - lower
    lines = relax(op, torch.as_tensor(lower)[None], torch.as_tensor(upper)[None])
    for k in range(20):
        middle = (lower[k] + upper[k]) / 2
        left, right = np.linspace(lower[k], middle, 400), np.linspace(middle, upper[k], 400)[1:]
        fl, fr = op.apply(left)[:, None], op.apply(right)[None, :]
        weight = (middle - left[:, None]) / (right[None, :] - left[:, None])
        chords = fl * (1 - weight) + fr * weight
        above = lines.upper_slope[0, k] * middle + lines.upper_offset[0, k]
        below = lines.lower_slope[0, k] * middle + lines.lower_offset[0, k]
        # The grid's hull is that close to the function's.
        close = 0.02 if name == "sign" else 2e-3
        assert chords.max() - 1e-12 <= above <= chords.max() + close
        assert chords.min() - close <= below <= chords.min() + 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPS)
def test_adjusted_lines_hold(name: str, dtype: torch.dtype) -> None:
    op = OPS[name]
    lower, upper = each(op, dtype)
    lines, free = relax(op, lower, upper), adjustable(op, lower, upper)
    crossing = (lower < 0) & (upper > 0)
    if name in ("relu", "leaky", "absolute", "steep"):
        assert torch.equal(free.lower, crossing)
        assert not free.upper.any()
    if name in ("concave", "negated"):
        assert torch.equal(free.upper, crossing)
        assert not free.lower.any()
    rng = np.random.default_rng(7)
    for k in torch.nonzero((free.lower | free.upper)[0]).flatten().tolist():
        low, high = lower[0, k].item(), upper[0, k].item()
        least, greatest = free.least[0, k], free.greatest[0, k]
        mixed = torch.lerp(least, greatest, rng.uniform()).clamp(least, greatest)
        for slope in (least, greatest, mixed):
            offset = (lines.lower_offset if free.lower[0, k] else lines.upper_offset)[0, k]
            line = (slope.item(), offset.item())
            check_line(op, low, high, line, bool(free.upper[0, k]), touch=True)


def test_relu_rules() -> None:
    lower, upper = torch.tensor([[-1.0, -2.0, 1.0, -3.0]]), torch.tensor([[2.0, 1.0, 2.0, -1.0]])
    slopes = {
        rule: relax(Rectifier(), lower, upper, rule).lower_slope[0].tolist() for rule in RULES
    }
    assert slopes == {"area": [1, 0, 1, 0], "zero": [0, 0, 1, 0], "one": [1, 1, 1, 0]}
    with pytest.raises(BadInput, match="smallest"):
        relax(Rectifier(), lower, upper, "smallest")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["relu", "absolute"])
def test_stable_neurons_are_exact(name: str, rule: str) -> None:
    op = RECTIFIERS[name]
    lower, upper = torch.tensor([[0.0, 0.3, -2.0]]), torch.tensor([[1.0, 0.7, 0.0]])
    lines = relax(op, lower, upper, rule)
    slope = torch.tensor([[1.0, 1.0, float(op.negative)]])
    zero = torch.zeros_like(slope)
    for part, expected in zip(lines, (slope, zero, slope, zero), strict=True):
        assert torch.equal(part, expected)


def test_slopes_differ_by_channel() -> None:
    op = Rectifier(np.array([[0.0], [0.25], [2.0]]), np.ones((3, 1)))
    lower, upper = torch.full((2, 3, 4), -1.0), torch.full((2, 3, 4), 1.0)
    lines = relax(op, lower, upper, "zero")
    free = adjustable(op, lower, upper)
    assert lines.lower_slope[1, :, 2].tolist() == [0.0, 0.25, 1.5]
    assert lines.upper_slope[1, :, 2].tolist() == [0.5, 0.625, 2.0]
    assert free.lower[0, :, 0].tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu", "leaky", "absolute", "sigmoid", "tanh", "sign"])
def test_infinite_bounds(name: str, dtype: torch.dtype) -> None:
    op = OPS[name]
    lower = torch.tensor([[-torch.inf, -1.0, -torch.inf, 1.0]], dtype=dtype)
    upper = torch.tensor([[1.0, torch.inf, torch.inf, torch.inf]], dtype=dtype)
    low, high = image(op, lower, upper)
    lines = relax(op, lower, upper)
    x = torch.tensor([[-1e30, 1e30, -5.0, 4.0]], dtype=dtype).clamp(lower, upper)
    y = torch.as_tensor(op.apply(x.double().numpy()), dtype=dtype)
    assert not any(part.isnan().any() for part in (low, high, *lines))
    assert (low <= y).all() and (y <= high).all()
    assert (lines.lower_slope * x + lines.lower_offset <= y).all()
    assert (y <= lines.upper_slope * x + lines.upper_offset).all()
    if name in ("sigmoid", "tanh", "sign"):
        assert (lines.upper_offset < 1.000001).all() and (lines.lower_offset > -1.000001).all()


@pytest.mark.parametrize("bound", [relax, strip, image])
def test_a_reciprocal_around_zero_is_refused(bound: Callable[..., object]) -> None:
    for low, high in ((-1.0, 2.0), (0.0, 2.0), (-1.0, 0.0)):
        with pytest.raises(Unsupported, match="Reciprocal"):
            bound(Reciprocal(), torch.tensor([[0.5, low]]), torch.tensor([[1.0, high]]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_products(dtype: torch.dtype) -> None:
    numbers = [-3.3, -1.0, -1e-20, 0.0, 0.1, 1.0, 7.7]
    sides = list(itertools.combinations_with_replacement(numbers, 2))
    boxes = torch.tensor(list(itertools.product(sides, sides)), dtype=dtype).reshape(-1, 4)
    lx, ux, ly, uy = boxes.T
    planes, interval = product_lines(lx, ux, ly, uy), product_image(lx, ux, ly, uy)
    assert all(part.dtype == dtype for part in (*planes, *interval))
    for k in range(len(boxes)):
        a, b, c, d = (Fraction(v.item()) for v in boxes[k])
        ax, ay, low, bx, by, high = (Fraction(v[k].item()) for v in planes)
        corners = list(itertools.product((a, b), (c, d)))
        # Both sides are affine in each variable alone, so corners decide.
        below = [x * y - ax * x - ay * y - low for x, y in corners]
        above = [bx * x + by * y + high - x * y for x, y in corners]
        size = max(abs(x * y) for x, y in corners)
        for gaps in (below, above):
            assert min(gaps) >= 0
            assert sorted(gaps)[1] <= TOUCH * size + DUST
        values = [x * y for x, y in corners]
        assert Fraction(interval[0][k].item()) <= min(values)
        assert Fraction(interval[1][k].item()) >= max(values)
        assert min(values) - Fraction(interval[0][k].item()) <= TOUCH * size + DUST
        assert Fraction(interval[1][k].item()) - max(values) <= TOUCH * size + DUST
