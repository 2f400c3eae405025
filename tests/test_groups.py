"""Grouping rules: sizes, overlaps, and that they take what they promise to take."""

from itertools import combinations, pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hullmark.errors import BadInput
from hullmark.joint.groups import (
    adaptive,
    by_area,
    by_gain,
    overlapping,
    random_groups,
    subsets,
)


def bounds(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middle, radius = rng.normal(size=n), rng.exponential(size=n)
    return middle - radius, middle + radius


def is_valid(groups: np.ndarray, allowed: set[int], k: int) -> bool:
    rows = [tuple(row) for row in groups.tolist()]
    ascending = all(list(row) == sorted(set(row)) for row in rows)
    known = all(set(row) <= allowed for row in rows)
    whole = groups.dtype == np.intp and groups.shape == (len(rows), k)
    return whole and ascending and known and len(set(rows)) == len(rows)


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 5))
def test_by_area(seed: int, n: int, k: int) -> None:
    lower, upper = bounds(seed, n)
    unstable = set(np.flatnonzero((lower < 0) & (upper > 0)).tolist())
    groups = by_area(lower, upper, k)
    assert is_valid(groups, unstable, k)
    if len(unstable) < k:
        assert len(groups) == 0
        return
    assert set(groups.ravel().tolist()) == unstable
    whole = groups[: len(unstable) // k]
    assert len(np.unique(whole)) == whole.size
    area = (-lower * upper)[whole]
    assert all(a.min() >= b.max() for a, b in pairwise(area))


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(2, 4), st.data())
def test_overlapping(seed: int, n: int, k: int, data) -> None:
    overlap = data.draw(st.integers(0, k - 1))
    block = data.draw(st.integers(k, 12))
    lower, upper = bounds(seed, n)
    unstable = np.flatnonzero((lower < 0) & (upper > 0))
    groups = overlapping(lower, upper, k, overlap, block)
    assert is_valid(groups, set(unstable.tolist()), k)
    for first, second in combinations(groups.tolist(), 2):
        assert len(set(first) & set(second)) <= overlap
    ranked = unstable[np.argsort(lower[unstable] * upper[unstable], kind="stable")].tolist()
    blocks = [set(ranked[i : i + block]) for i in range(0, len(ranked), block)]
    assert all(any(set(group) <= one for one in blocks) for group in groups.tolist())
    # Nothing more fits: any other set of k neurons overlaps too much with one that was taken.
    for one in blocks:
        for other in combinations(sorted(one), k):
            assert any(len(set(other) & set(g)) > overlap for g in groups.tolist())


def test_overlapping_counts() -> None:
    """All subsets at one end, disjoint ones at the other; pairs of triples share at most one."""
    lower, upper = -np.arange(1.0, 21.0), np.ones(20)
    assert len(overlapping(lower, upper, 3, 2, 20)) == comb(20, 3)
    assert len(overlapping(lower, upper, 3, 0, 20)) == 6
    triples = overlapping(lower, upper, 3, 1, 20)
    # No more than 190 / 3 triples can have no pair in common.
    assert 40 <= len(triples) <= 63
    assert set(triples.ravel().tolist()) == set(range(20))


@pytest.mark.parametrize(("n", "k"), [(9, 9), (40, 10), (170, 5), (1500, 3), (2000, 3)])
def test_adaptive(n: int, k: int) -> None:
    """The largest `k` with `n / k` blocks of `C(k, 3)` triples each, at most 500 in all."""
    lower, upper = -np.arange(1.0, n + 1), np.ones(n)
    groups = adaptive(lower, upper)
    assert is_valid(groups, set(range(n)), 3)
    assert len(groups) <= 500
    if n <= 1500:
        expected = subsets(by_area(lower, upper, k), 3)
        assert len(subsets(by_area(lower, upper, k + 1), 3)) > 500 or k == n
        assert groups.tolist() == expected.tolist()
    else:
        assert groups.tolist() == by_area(lower, upper, 3)[:500].tolist()


def test_subsets() -> None:
    groups = np.array([[0, 1, 2, 3], [2, 3, 4, 5]], dtype=np.intp)
    pairs = subsets(groups, 2)
    assert is_valid(pairs, set(range(6)), 2)
    assert len(pairs) == 11
    assert subsets(groups, 4).tolist() == groups.tolist()


def test_random_groups_are_a_repeatable_partition() -> None:
    groups = random_groups(20, 3, seed=1)
    assert is_valid(groups, set(range(20)), 3)
    assert len(groups) == 7
    assert set(groups.ravel().tolist()) == set(range(20))
    assert groups.tolist() == random_groups(20, 3, seed=1).tolist()
    assert groups.tolist() != random_groups(20, 3, seed=2).tolist()


def test_by_gain_takes_pairs_that_lose_together_to_one_objective() -> None:
    """Neurons 0 and 1 lose to one objective, 2 and 3 to another; 4 depends on other inputs."""
    weights = np.array([[3.0, -3, 0, 0, 2, 0], [0, 0, 2.0, 2, 0, 5]])
    gap = np.array([[1.0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]])
    incoming = np.array(
        [[1.0, 1, 0, 0], [1, -1, 0, 0], [1, 1, 0, 0], [1, -1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]]
    )
    assert by_gain(weights, gap, incoming, 2, 2).tolist() == [[0, 1], [2, 3]]
    assert by_gain(weights, gap, incoming, 2, 1).tolist() == [[0, 1]]
    everything = by_gain(weights, gap, incoming, 2, 100)
    assert is_valid(everything, {0, 1, 2, 3, 4}, 2)
    assert len(by_gain(weights, gap * 0, incoming, 2, 5)) == 0
    assert len(by_gain(weights, gap, incoming, 6, 5)) == 0


def test_by_gain_prefers_opposite_signs() -> None:
    """Of pairs with the same losses, the one whose signs are mixed gains most."""
    incoming = np.array([[0.0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, -1, 0, 0]])
    ones = np.ones((1, 4))
    assert by_gain(ones, ones, incoming, 2, 2).tolist() == [[2, 3], [0, 1]]


def test_by_gain_spreads_groups_over_neurons() -> None:
    """Without a limit the best neuron would be in each of the triples."""
    rng = np.random.default_rng(0)
    weights = np.append(100.0, np.ones(19))[None]
    triples = by_gain(weights, np.ones((1, 20)), rng.normal(size=(20, 8)), 3, 20)
    assert len(triples) == 20
    uses = np.bincount(triples.ravel(), minlength=20)
    candidates = 2 * 5 + 3
    assert uses.max() <= np.ceil(1.5 * 3 * 20 / candidates)
    assert uses[0] == uses.max()


@given(st.integers(0, 1000), st.integers(2, 4), st.integers(1, 40))
def test_by_gain_shapes(seed: int, k: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    weights, gap = rng.normal(size=(3, 15)), rng.normal(size=(3, 15))
    groups = by_gain(weights, gap, rng.normal(size=(15, 6)), k, limit)
    assert is_valid(groups, set(range(15)), k)
    assert len(groups) <= limit
    lossless = set(np.flatnonzero((gap <= 0).all(axis=0)).tolist())
    assert not lossless & set(groups.ravel().tolist())


@pytest.mark.parametrize(
    "call",
    [
        lambda: by_area(np.zeros(3), np.zeros(4), 2),
        lambda: by_area(np.zeros(3), np.zeros(3), 0),
        lambda: overlapping(-np.ones(5), np.ones(5), 3, 3, 5),
        lambda: overlapping(-np.ones(5), np.ones(5), 3, 1, 2),
        lambda: subsets(np.zeros((1, 3), dtype=np.intp), 4),
        lambda: adaptive(-np.ones(5), np.ones(5), size=1),
        lambda: by_gain(np.ones((2, 5)), np.ones((2, 4)), np.ones((5, 3)), 2, 9),
        lambda: by_gain(np.ones((2, 5)), np.ones((2, 5)), np.ones((5, 3)), 1, 9),
        lambda: random_groups(5, 0, 0),
    ],
)
def test_bad_arguments(call) -> None:
    with pytest.raises(BadInput):
        call()
