"""Which neurons of a layer to relax jointly.

Every rule returns groups as arrays of indices `(G, k)`, each row ascending and no row twice. The
indices are flat indices of neurons in their layer. Which groups are taken decides how much is
gained, never whether a row holds.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import combinations
from math import ceil, comb, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hullmark.errors import BadInput

Array = NDArray[Any]
Groups = NDArray[np.intp]

Grouping = Callable[[Array, Array], Groups]
"""From lower and upper bounds `(n,)` of a layer's pre-activations to groups `(G, k)`."""

MOST_CALLS = 500
"""How many groups of three the experiments of [kReLU §5] allow in a layer."""

OVERLAP = 1
BLOCK = 50
"""How many neurons overlapping groups may share, and the least block that [PRIMA] names."""

CROWDING = 1.5
"""How much more often than the average candidate a neuron may be in the groups of `by_gain`."""


def by_area(lower: Array, upper: Array, k: int) -> Groups:
    """Unstable neurons in order of the areas of their triangles, `k` at a time [kReLU §4.1].

    Arguments:
        lower, upper: bounds of the pre-activations, `(n,)`.
        k: the size of a group.

    Returns:
        `(ceil(u / k), k)` for `u >= k` unstable neurons, otherwise none. Groups are disjoint, but
        for the last, which takes the last `k` neurons of the order.

    Raises:
        BadInput: if `k < 1` or the shapes do not fit.
    """
    _check_size(k)
    return _in_blocks(_by_area(lower, upper), k)


def overlapping(lower: Array, upper: Array, k: int, overlap: int, block: int) -> Groups:
    """Blocks of unstable neurons, each covered by groups that share few neurons [PRIMA].

    Neurons are ranked by `-lower * upper`, cut into blocks, and in each block groups are taken
    greedily such that no two have more than `overlap` neurons in common.

    Arguments:
        lower, upper, k: as for `by_area`.
        overlap: at most `k - 1`; 0 makes groups disjoint, and `k - 1` takes all of a block.
        block: the number of neurons of a block; 50 to 100 in [PRIMA].

    Raises:
        BadInput: if `k < 1`, the overlap is not between 0 and `k - 1`, or the shapes do not fit.
    """
    _check_size(k)
    if not 0 <= overlap < k or block < k:
        raise BadInput(f"groups of {k} cannot overlap in {overlap} within blocks of {block}")
    order = _by_area(lower, upper)
    found = [np.empty((0, k), dtype=np.intp)]
    for start in range(0, len(order), block):
        members = order[start : start + block]
        found.append(members[_cover(len(members), k, overlap)])
    return _distinct(np.concatenate(found))


def by_gain(weights: Array, gap: Array, incoming: Array, k: int, limit: int) -> Groups:
    """Groups that the present objectives ask for: where they lose most, and lose it together.

    Candidates are the neurons with the largest sums of `|weight| * gap` over the objectives. A
    pair gains where both lose to the same objective and depend on the same inputs: its score is
    `sum_q sqrt(loss_qi * loss_qj)` times the share of their incoming weights that they have in
    common, once for agreeing and once for opposite signs, and the lesser of the two once more:
    a neuron's own hull over its inputs already knows the pairs whose signs all agree. Larger
    groups are grown from the best pairs by the neuron that scores most with the members. No
    neuron is in many more groups than others, since its rows would repeat each other.

    Arguments:
        weights: coefficients of the objectives on the post-activations, `(Q, n)`.
        gap: by how much the relaxation exceeds the function at each objective's point, `(Q, n)`.
        incoming: weights of the layer, `(n, d)`, each column times the radius of its input.
        k: the size of a group, at least 2.
        limit: the largest number of groups.

    Returns:
        The best first.

    Raises:
        BadInput: if `k < 2` or the shapes do not fit.
    """
    if k < 2 or np.shape(weights) != np.shape(gap) or len(incoming) != np.shape(gap)[1]:
        shapes = f"{np.shape(weights)}, {np.shape(gap)} and {np.shape(incoming)}"
        raise BadInput(f"groups of {k} from arrays of shapes {shapes}")
    loss = np.nan_to_num(np.abs(weights) * np.maximum(gap, 0.0), nan=0.0, posinf=0.0)
    total = loss.sum(axis=0)
    # Twice as many pairs as groups are wanted, so that there is a choice.
    most = 2 * ceil(sqrt(max(limit, 0))) + k
    chosen = np.argsort(-total, kind="stable")[:most]
    chosen = np.sort(chosen[total[chosen] > 0])
    if len(chosen) < k or limit < 1:
        return np.empty((0, k), dtype=np.intp)
    root = np.sqrt(loss[:, chosen])
    score = (root.T @ root) * _related(incoming[chosen])
    np.fill_diagonal(score, 0.0)
    return chosen[_grown(score, k, limit)]


def random_groups(n: int, k: int, seed: int) -> Groups:
    """A random partition of `0, ..., n - 1`, the baseline of [kReLU §5]; as `by_area` at the end.

    Raises:
        BadInput: if `k < 1`.
    """
    _check_size(k)
    return _in_blocks(np.random.default_rng(seed).permutation(n), k)


def shuffled(k: int, seed: int = 0) -> Grouping:
    """The rule that groups the unstable neurons at random; see `random_groups`.

    Raises:
        BadInput: if `k < 1`.
    """
    _check_size(k)

    def group(lower: Array, upper: Array) -> Groups:
        unstable = np.flatnonzero((lower < 0) & (upper > 0))
        return unstable[random_groups(len(unstable), k, seed)]

    return group


def adaptive(lower: Array, upper: Array, size: int = 3, most: int = MOST_CALLS) -> Groups:
    """All `size`-subsets of blocks by area, with the largest blocks that give at most `most`.

    This is [kReLU §5] with (7): a block of `k` neurons stands for `k`-ReLU. If even blocks of
    `size` neurons are too many, those of largest area are taken.

    Arguments:
        lower, upper: as for `by_area`.
        size: the size `l` of the groups.
        most: how many groups may be returned.

    Raises:
        BadInput: if `size < 2` or the shapes do not fit.
    """
    if size < 2:
        raise BadInput(f"groups have at least two neurons, not {size}")
    unstable = len(_by_area(lower, upper))
    best = by_area(lower, upper, size)[:most]
    for k in range(size + 1, unstable + 1):
        if comb(k, size) > most:
            break
        # Whole blocks are disjoint; the last one may share groups with the one before.
        if (unstable // k) * comb(k, size) <= most:
            found = subsets(by_area(lower, upper, k), size)
            best = found if len(found) <= most else best
    return best


def subsets(groups: Groups, size: int) -> Groups:
    """All subsets of that size of each group: (7) of [kReLU §3.3] for `k >= 4`.

    Raises:
        BadInput: if the size is not between 1 and that of the groups.
    """
    if not 1 <= size <= groups.shape[1]:
        raise BadInput(f"groups of {groups.shape[1]} have no subsets of {size}")
    places = np.array(list(combinations(range(groups.shape[1]), size)), dtype=np.intp)
    return _distinct(groups[:, places].reshape(-1, size))


def _check_size(k: int) -> None:
    if k < 1:
        raise BadInput(f"a group has at least one neuron, not {k}")


def _by_area(lower: Array, upper: Array) -> Array:
    """The unstable neurons, largest triangle first; its area is `-lower * upper / 2`."""
    if np.ndim(lower) != 1 or np.shape(lower) != np.shape(upper):
        raise BadInput(f"bounds have shapes {np.shape(lower)} and {np.shape(upper)}, not (n,)")
    unstable = np.flatnonzero((lower < 0) & (upper > 0))
    return unstable[np.argsort(lower[unstable] * upper[unstable], kind="stable")]


def _in_blocks(order: Array, k: int) -> Groups:
    if len(order) < k:
        return np.empty((0, k), dtype=np.intp)
    whole = len(order) // k * k
    blocks = order[:whole].reshape(-1, k)
    if whole < len(order):
        blocks = np.concatenate([blocks, order[None, -k:]])
    return _distinct(blocks)


def _distinct(groups: Array) -> Groups:
    """Each row ascending, and only the first of equal rows, in the given order."""
    ordered = np.sort(groups, axis=1).astype(np.intp)
    first = np.unique(ordered, axis=0, return_index=True)[1]
    return ordered[np.sort(first)]


def _related(incoming: Array) -> Array:
    """How much of their incoming weights two neurons share; `(m, m)`, between 0 and 3/2."""
    norms = np.linalg.norm(incoming, axis=1, keepdims=True)
    unit = incoming / np.where(norms > 0, norms, 1.0)
    signed, total = unit @ unit.T, np.abs(unit) @ np.abs(unit).T
    agreeing, opposed = (total + signed) / 2, (total - signed) / 2
    return total + np.minimum(agreeing, opposed)


def _grown(score: Array, k: int, limit: int) -> Groups:
    """Groups grown from the pairs with the largest scores, none with a neuron used too often."""
    count = len(score)
    most = ceil(CROWDING * k * limit / count)
    uses = np.zeros(count, dtype=np.intp)
    found: dict[tuple[int, ...], None] = {}
    first, second = np.triu_indices(count, 1)
    for pair in np.argsort(-score[first, second], kind="stable"):
        group = [int(first[pair]), int(second[pair])]
        while len(group) < k:
            sums = np.where(uses < most, score[group].sum(axis=0), -1.0)
            sums[group] = -2.0
            group.append(int(np.argmax(sums)))
        members = tuple(sorted(group))
        if members in found or np.any(uses[group] >= most):
            continue
        found[members] = None
        uses[group] += 1
        if len(found) == limit:
            break
    return np.array(list(found), dtype=np.intp).reshape(-1, k)


@lru_cache(maxsize=64)
def _cover(n: int, k: int, overlap: int) -> Groups:
    """The `k`-subsets of `0, ..., n - 1` in lexicographic order that a greedy choice keeps.

    Two groups that share at most `overlap` neurons have no subset of one more in common, and each
    group is the first with its smallest `overlap + 1` members.
    """
    share = overlap + 1
    used: set[tuple[int, ...]] = set()
    found: list[tuple[int, ...]] = []
    for prefix in combinations(range(n), share):
        if prefix in used:
            continue
        group = _completed(prefix, n, k, used, share)
        if group is not None:
            found.append(group)
            used.update(combinations(group, share))
    return np.array(found, dtype=np.intp).reshape(-1, k)


def _completed(
    prefix: tuple[int, ...], n: int, k: int, used: set[tuple[int, ...]], share: int
) -> tuple[int, ...] | None:
    """The first group with that beginning none of whose parts of `share` members is used."""
    if len(prefix) == k:
        return prefix
    for member in range(prefix[-1] + 1, n - (k - len(prefix)) + 1):
        if any((*part, member) in used for part in combinations(prefix, share - 1)):
            continue
        group = _completed((*prefix, member), n, k, used, share)
        if group is not None:
            return group
    return None
