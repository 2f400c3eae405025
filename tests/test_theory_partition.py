"""Structural partition counts, and the leaves of branch and bound, exactly."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from exact_nets import integer_net, references

from hullmark.errors import BadInput
from hullmark.theory.branch import Branching, BranchTree, branch
from hullmark.theory.convex import uncovered
from hullmark.theory.encodings import nested_max
from hullmark.theory.net import ExactNet, mlp
from hullmark.theory.partition import P1Count, structural_p1, structural_single
from hullmark.theory.polytope import Polytope, rank
from hullmark.theory.regions import exact_range, regions
from hullmark.theory.relaxations import bounds

MAXIMUM = nested_max(2)
BENT = mlp([([[1], [-1]], [0, 0]), ([[-1, -1]], [1]), ([[-1]], [0])])
"""x -> -relu(1 - |x|), behind an image that is an L."""

MULTI = (("p1", None), ("mk", 1), ("mk", 2), ("krelu", 2))


@pytest.mark.parametrize("size", range(2, 9))
def test_fact_8_nested_max_has_2_to_the_d_minus_1_regions_and_is_one_piece(size: int) -> None:
    net, lower, upper = nested_max(size), [0] * size, [1] * size
    assert structural_single(net, lower, upper) == 2 ** (size - 1)
    count = structural_p1(net, lower, upper)
    assert (count.lower, count.upper, count.proved) == (1, 1, True)
    assert count.check(net, lower, upper)


@pytest.mark.parametrize("size", range(2, 6))
def test_fact_8_holds_of_nested_max_as_a_chain_too(size: int) -> None:
    lower, upper = [0] * size, [1] * size
    net = nested_max(size, lower, upper)
    assert structural_single(net, lower, upper) == 2 ** (size - 1)
    assert structural_p1(net, lower, upper).upper == 1


def fewest_intervals(net: ExactNet, lower: int, upper: int) -> int:
    """The fewest intervals on which all images are straight, by a table over the breakpoints."""
    cells = [piece.cell.vertices for piece in regions(net, [lower], [upper])]
    ends = sorted({x for cell in cells for x in cell.ravel().tolist()})
    states = net.states(np.array([[x] for x in ends], dtype=object))
    best = [0] + [len(ends)] * (len(ends) - 1)
    for last in range(1, len(ends)):
        for first in range(last):
            parts = [u[first : last + 1] for u in states]
            if all(rank(part[1:] - part[0]) <= 1 for part in parts):
                best[last] = min(best[last], best[first] + 1)
    return best[-1]


@pytest.mark.parametrize("seed", range(16))
def test_fact_8_with_one_input_the_count_of_p1_is_the_minimum(seed: int) -> None:
    net = integer_net(seed, 1, 3, 3, 1)
    count = structural_p1(net, [-3], [3])
    assert count.proved
    assert count.upper == fewest_intervals(net, -3, 3) <= structural_single(net, [-3], [3])


@pytest.mark.parametrize("seed", range(6))
def test_fact_8_p1_needs_at_most_as_many_pieces_as_there_are_regions(seed: int) -> None:
    net = integer_net(seed, 2, 3, 2, 1)
    lower, upper = [-1, -1], [1, 1]
    count = structural_p1(net, lower, upper)
    assert count.lower <= count.upper <= structural_single(net, lower, upper)
    assert count.check(net, lower, upper)
    # [Barrier Prop. 5.3]: on such pieces P_1 is exact, and so on the whole.
    ranges = [bounds(net, piece, None, "p1")[0] for piece in count.pieces]
    assert ranges == [exact_range(net, piece)[0] for piece in count.pieces]
    ends = min(low for low, _ in ranges), max(high for _, high in ranges)
    assert [ends] == exact_range(net, lower, upper)


def test_a_count_with_a_wrong_claim_does_not_pass_its_check() -> None:
    segment = Polytope.box([-1], [1])
    count = structural_p1(BENT, segment)
    left, right = count.pieces
    assert count.check(BENT, segment)
    assert not P1Count((left,), count.dent, count.apart).check(BENT, segment)
    assert not P1Count((segment,), count.dent, count.apart).check(BENT, segment)
    near = np.array([[Fraction(1)], [Fraction(1, 2)]], dtype=object)
    assert not P1Count(count.pieces, count.dent, near).check(BENT, segment)
    # Of a network that is convex as a whole, the dent and the distance are not true.
    rectifier = mlp([([[1]], [0]), ([[1]], [0])])
    assert P1Count((right, left), None, count.apart[:0]).check(rectifier, segment)
    assert not P1Count((right, left), count.dent, count.apart[:0]).check(rectifier, segment)


def leaves(tree: BranchTree) -> int:
    assert tree.closed and not tree.stuck
    return len(tree.leaves)


def maximum_leaves(size: int, order: str, relaxation: str, k: int | None = None) -> int:
    rule = Branching(relaxation, "signs", order, "upper", k)
    tree = branch(nested_max(size), [0] * size, [1] * size, rule)
    assert tree.bound == 1
    return leaves(tree)


@pytest.mark.parametrize("size", range(2, 6))
def test_fact_8_leaves_of_nested_max(size: int) -> None:
    assert maximum_leaves(size, "last", "triangle") == size
    assert maximum_leaves(size, "first", "triangle") == 2 ** (size - 1)
    assert maximum_leaves(size, "first", "p1") == 1
    assert maximum_leaves(size, "first", "mk", 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize("size", range(6, 9))
def test_fact_8_leaves_of_nested_max_in_more_dimensions(size: int) -> None:
    test_fact_8_leaves_of_nested_max(size)


def test_section_6_item_6_an_exact_triangle_does_not_enumerate_the_regions() -> None:
    rectifier = mlp([([[1]], [0]), ([[1]], [0])])
    assert structural_single(rectifier, [-1], [1]) == 2
    for side in ("lower", "upper"):
        assert leaves(branch(rectifier, [-1], [1], Branching("triangle", side=side))) == 1
    # A chosen order makes even nested max cheap: linear, against 2^(d-1) regions.
    net = nested_max(6)
    assert structural_single(net, [0] * 6, [1] * 6) == 32
    assert maximum_leaves(6, "last", "triangle") == 6


def test_fact_8_cutting_the_inputs_of_nested_max_takes_all_regions_with_the_triangle() -> None:
    # The last ReLU is affine only where all before are stable: this split has no good order.
    for order in ("first", "last"):
        rule = Branching("triangle", "polytopes", order, "upper")
        assert leaves(branch(nested_max(4), [0] * 4, [1] * 4, rule)) == 8


@pytest.mark.parametrize("p", [Fraction(1, 3), Fraction(1, 4), Fraction(2, 7)])
def test_section_6_the_box_of_the_summary_under_ibp(p: Fraction) -> None:
    assert bounds(MAXIMUM, [1 - p] * 2, [1, 1], "ibp")[0][1] == 1 + p
    # The summary's p is this one's complement: the box [p, 1]^2.
    assert bounds(MAXIMUM, [p, p], [1, 1], "ibp")[0][1] == 2 - p


@pytest.mark.parametrize("order", ["widest", "first", (1, 0)])
def test_section_6_boxes_never_close_max_under_ibp(order) -> None:
    p = Fraction(1, 3)
    gaps = []
    for limit in (1, 4, 16, 64):
        rule = Branching("ibp", "inputs", order, "upper", limit=limit)
        tree = branch(MAXIMUM, [1 - p] * 2, [1, 1], rule)
        assert not tree.closed and len(tree.leaves) == limit and tree.target == 1
        gaps.append(tree.gap)
        # The reason: the box in the corner gets 1 + its height, however small it is.
        corner = next(leaf for leaf in tree.leaves if leaf.part.contains([1, 1]))
        assert corner.bound == 2 - corner.part.vertices[:, 1].min() > 1
    assert gaps[0] == p and gaps == sorted(set(gaps), reverse=True)


def compare(net: ExactNet, rule: Branching, most: int) -> list[int]:
    """The leaves of the triangle, then those of the relaxations of several neurons."""
    box = [-1] * net.input_size, [1] * net.input_size
    tree = branch(net, *box, rule)
    assert len(tree.leaves) <= most
    found = [len(tree.leaves)]
    for relaxation, k in MULTI:
        other = Branching(relaxation, rule.split, rule.order, rule.side, k, rule.limit)
        multi = branch(net, *box, other)
        assert multi.target == tree.target == exact_range(net, *box)[0][rule.side == "upper"]
        if rule.split != "inputs":
            assert multi.closed and not multi.stuck
        found.append(len(multi.leaves))
    return found


def no_more_leaves(seed: int, orders: tuple[str, ...]) -> bool:
    """Checks a random network; whether several neurons at once saved a leaf somewhere."""
    net = integer_net(seed, 2, 3, 3, 3, 1)
    count = structural_single(net, [-1, -1], [1, 1])
    saved = False
    for order in orders:
        for split in ("signs", "polytopes", "inputs"):
            for side in ("lower", "upper"):
                limit = 12 if split == "inputs" else 1000
                # Signs and polytopes: every leaf holds a region of its own.
                most = limit if split == "inputs" else count
                rule = Branching("triangle", split, order, side, limit=limit)
                single, *multi = compare(net, rule, most)
                assert max(multi) <= single, (rule, single, multi)
                saved |= min(multi) < single
    return saved


@pytest.mark.parametrize("seed", [0, 3, 24])
def test_section_5_relaxations_of_several_neurons_need_no_more_leaves(seed: int) -> None:
    assert no_more_leaves(seed, ("first",))


@pytest.mark.slow
def test_section_5_relaxations_of_several_neurons_save_leaves_on_many_networks() -> None:
    assert sum(no_more_leaves(seed, ("first", "last")) for seed in range(16)) > 5


@pytest.mark.parametrize("split", ["signs", "polytopes", "inputs"])
def test_leaves_are_sound_and_cover_the_inputs(split: str) -> None:
    net, whole = integer_net(7, 2, 3, 3, 1), Polytope.box([-1, -1], [1, 1])
    tree = branch(net, whole, None, Branching("triangle", split, limit=20))
    assert net.evaluate(tree.witness[None])[0, 0] == tree.target
    assert tree.bound == min(tree.target, *(leaf.bound for leaf in tree.leaves))
    if split != "signs":
        assert uncovered(whole, [leaf.part for leaf in tree.leaves]) is None
    for leaf in tree.leaves:
        inside = [
            piece.cell.centre()
            for piece in regions(net, leaf.part)
            if all(
                net.layers[i].before(net.states(piece.cell.centre()[None])[i])[0, j] * sign >= 0
                for (i, j), sign in leaf.signs.items()
            )
        ]
        assert inside
        assert all(net.evaluate(x[None])[0, 0] >= leaf.bound for x in inside)


def test_without_a_split_the_bounds_are_the_reference_values(data: Path) -> None:
    for known in references(data)[:12]:
        for name in ("p1", "triangle", "ibp"):
            for output in range(known.net.output_size):
                for place, side in enumerate(("lower", "upper")):
                    rule = Branching(name, "inputs", side=side, limit=1)
                    tree = branch(known.net.selected(output), known.lower, known.upper, rule)
                    assert tree.target == known.ranges["exact"][output][place]
                    assert tree.bound == known.ranges[name][output][place]


def test_fact_8_counts_of_the_reference_networks(data: Path) -> None:
    small = [known for known in references(data) if known.patterns <= 4]
    assert len(small) > 12
    for known in small:
        question = known.net, known.lower, known.upper
        assert structural_single(*question) == known.patterns
        count = structural_p1(*question)
        assert count.lower <= count.upper <= known.patterns
        assert count.check(*question)


def test_without_tries_the_pieces_are_the_regions() -> None:
    net, box = integer_net(3, 2, 3, 2, 1), ([-1, -1], [1, 1])
    count = structural_p1(net, *box, tries=0)
    assert count.upper == structural_single(net, *box) > count.lower
    assert count.check(net, *box)
    with pytest.raises(BadInput, match="-1 tries"):
        structural_p1(net, *box, tries=-1)


def test_an_affine_network_is_one_piece_and_one_leaf() -> None:
    net, box = mlp([([[2, -1]], [3])]), ([0, 0], [1, 1])
    assert structural_single(net, *box) == structural_p1(net, *box).upper == 1
    for split in ("signs", "polytopes", "inputs"):
        tree = branch(net, *box, Branching("triangle", split))
        assert leaves(tree) == 1
        assert tree.bound == 2


def test_ibp_is_stuck_where_nothing_is_left_to_cut() -> None:
    cancelling = mlp([([[1], [1]], [2, 2]), ([[1, -1]], [0])])
    tree = branch(cancelling, [-1], [1], Branching("ibp", "polytopes"))
    assert (tree.stuck, len(tree.leaves), tree.target, tree.bound) == (1, 1, 0, -2)
    assert not tree.closed


def test_the_given_order_goes_first() -> None:
    net = nested_max(3)
    box = [0] * 3, [1] * 3
    last = branch(net, *box, Branching("triangle", order=((1, 0),), side="upper"))
    first = branch(net, *box, Branching("triangle", order=((0, 0), (1, 0)), side="upper"))
    assert (len(last.leaves), len(first.leaves)) == (3, 4)


def test_ibp_does_not_close_max_by_signs_either() -> None:
    tree = branch(MAXIMUM, [0, 0], [1, 1], Branching("ibp", "signs", side="upper"))
    assert (len(tree.leaves), tree.bound, tree.target) == (2, 2, 1)
    assert tree.stuck and not tree.closed


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"split": "neurons"}, "no split 'neurons'"),
        ({"side": "left"}, "'lower' or 'upper'"),
        ({"order": "widest"}, "no order 'widest'"),
        ({"order": "best", "split": "inputs"}, "no order 'best'"),
        ({"limit": 0}, "limit is 0"),
        ({"order": ((4, 0),)}, r"ReLU \(4, 0\)"),
        ({"order": (2,), "split": "inputs"}, "coordinate 2"),
        ({"order": (), "split": "inputs"}, "no coordinate"),
        ({"relaxation": "pr"}, "needs a window"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule, words) -> None:
    with pytest.raises(BadInput, match=words):
        branch(MAXIMUM, [0, 0], [1, 1], Branching(**rule))


def test_one_output_is_branched_at_a_time() -> None:
    with pytest.raises(BadInput, match="has 2"):
        branch(mlp([([[1], [1]], [0, 0])]), [0], [1])
