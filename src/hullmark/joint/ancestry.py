"""Which joint rows a bound was proved with: those that had multipliers in its backward pass.

Every joint row has a number, see `store.Archive`. A pass also rests on the bounds of the neurons
that it meets; these were proved by passes of their own and are not repeated here.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hullmark.bounds.alpha import Ascended
from hullmark.bounds.relaxation import Relaxation
from hullmark.relax.octahedra import octahedral_rows

Array = NDArray[Any]
Groups = NDArray[np.intp]

NONE = np.empty(0, dtype=np.int32)


def used_rows(relaxation: Relaxation, seen: Ascended) -> Array:
    """For each query of an ascent the numbers of the rows that its bound uses.

    Arguments:
        relaxation: of one domain, with the pools that the ascent had.

    Returns:
        Objects `(Q,)`, each an array of int32. Rows of pools without numbers are left out.

    Trust: exactly the numbered rows whose multiplier in the charged pass is not 0.
    """
    found = np.empty(seen.lower.shape[1], dtype=object)
    pools = {p: relaxation.pools[p].numbers for p in seen.best.gamma}
    known = {p: numbers for p, numbers in pools.items() if numbers is not None}
    if not known:
        found.fill(NONE)
        return found
    used = np.concatenate([(seen.best.gamma[p][0] > 0).cpu().numpy() for p in known], axis=1)
    numbers = np.concatenate(list(known.values()))[used.nonzero()[1]]
    ends = used.sum(axis=1).cumsum()
    for query, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        found[query] = numbers[begin:end]
    return found


@dataclass(frozen=True, eq=False)
class Sums:
    """Upper bounds of octahedral sums of groups, and what they rest on.

    `bounds` `(G, 3^k - 1)` in the order of `octahedral_rows(k)`. `uses`: objects of the same shape,
    the numbers of the rows that had a multiplier in the pass that gave the bound; None where it is
    the sum of what bounds the members, or no bound.
    """

    bounds: Array
    uses: Array


@dataclass
class Ledger:
    """What the optimised bounds of neurons rest on.

    `upper[j]` and `lower[j]`: objects `(size,)` for a pre-activation, each the numbers of the rows
    that had a multiplier in the pass that gave the bound which holds now.
    """

    upper: dict[int, Array] = field(default_factory=dict[int, Array])
    lower: dict[int, Array] = field(default_factory=dict[int, Array])

    def copied(self) -> "Ledger":
        """The same, to be changed apart."""
        return Ledger(*({j: a.copy() for j, a in s.items()} for s in (self.upper, self.lower)))

    def refine(self, relaxation: Relaxation, node: int, neurons: Tensor, seen: Ascended) -> None:
        """Improve bounds of a pre-activation, and note what the better ones rest on.

        Arguments:
            relaxation: of one domain, with the pools that the ascent had.
            neurons: flat indices `(n,)`.
            seen: an ascent over them, and then over their negations.
        """
        old = [b.flatten()[neurons] for b in relaxation.bounds[node]]
        low, high = seen.lower.chunk(2, dim=1)
        relaxation.refine(node, neurons, low, -high)
        uses = np.split(used_rows(relaxation, seen), 2)
        for side, before, after, rows in zip(
            (self.lower, self.upper), old, relaxation.bounds[node], uses, strict=True
        ):
            if node not in side:
                side[node] = np.empty(after.numel(), dtype=object)
                side[node].fill(NONE)
            better = (after.flatten()[neurons] != before).cpu().numpy()
            side[node][neurons.cpu().numpy()[better]] = rows[better]

    def completed(self, node: int, groups: Groups, sums: Sums) -> Array:
        """The uses of all sums of groups `(G, k)`; those of members are added up."""
        uses = sums.uses.copy()
        ways = octahedral_rows(groups.shape[1])
        members = [[(u, int(row[u])) for u in row.nonzero()[0].tolist()] for row in ways]
        missing = np.array([rows is None for rows in uses.flat]).reshape(uses.shape)
        missing &= np.isfinite(sums.bounds)
        for index, way in zip(*(at.tolist() for at in missing.nonzero()), strict=True):
            parts = [self._of(node, int(groups[index, u]), sign) for u, sign in members[way]]
            joined = parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
            uses[index, way] = joined
        return uses

    def _of(self, node: int, coordinate: int, sign: int) -> Array:
        """Of the upper or lower bound of a neuron; no row is used for values that pass it."""
        side = (self.upper if sign > 0 else self.lower).get(node)
        return NONE if side is None or coordinate >= len(side) else side[coordinate]
