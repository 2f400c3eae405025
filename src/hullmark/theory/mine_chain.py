"""The bodies and layers that a relaxation of a network consists of, from the input to the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from hullmark.errors import BadInput
from hullmark.relax.exact import Array
from hullmark.theory.formulation import ZERO
from hullmark.theory.joint import Choice
from hullmark.theory.mine_image import Image
from hullmark.theory.mine_stage import Ends, Stage
from hullmark.theory.mine_vertices import image_vertices
from hullmark.theory.net import ExactNet, Layer
from hullmark.theory.polytope import Polytope
from hullmark.theory.pricing import Body, Effort, corners
from hullmark.theory.regions import Range

LOOSE = Fraction(1, 256)
"""Ranges that only guide the search may be off by this share of their width."""

SHARP = Fraction(1, 2**30)
"""Ranges that define a relaxation; they are exact if all numbers of the network are short."""

SHORT = 24
"""Bits of a short number."""


class Chain(NamedTuple):
    """The last layer over the body that it reads, and the goal over what it yields.

    `decided`: it is the relaxation asked for; if not, it is a looser one.
    """

    stage: Stage
    row: Array
    decided: bool = True


def layerwise_chain(goal: ExactNet, whole: Polytope, effort: Effort) -> Chain:
    """P_1: the convex hull of every layer's image, and a search behind the last [Barrier].

    Arguments:
        goal: a network with one output.
    """
    body: Body = corners(whole)
    layers = goal.layers or (_nothing(goal.input_size),)
    for depth, layer in enumerate(layers[:-1]):
        listed = None if depth else image_vertices(whole, layer, effort.deadline)
        body = listed or Image(Stage(body, layer, effort, tolerance=LOOSE))
    return Chain(Stage(body, layers[-1], effort, tolerance=LOOSE), goal.weight[0])


def joint_chain(goal: ExactNet, whole: Polytope, choice: Choice, effort: Effort) -> Chain:
    """M_k: in each layer the hull of a group with all that it reads, and triangles [MN-v1 §3].

    The k neurons of largest area are chosen as far as the ranges tell them apart. The others
    have triangles, which makes the relaxation looser.

    Arguments: as of `layerwise_chain`.
    """
    layers = goal.layers or (_nothing(goal.input_size),)
    chain = _Joint(whole, choice, effort, ZERO if _short(layers) else SHARP)
    stage, place = chain.layer(corners(whole), 0, layers[0], range(whole.size))
    for depth, layer in enumerate(layers[1:], start=1):
        stage, place = chain.layer(Image(stage), depth, layer, place)
    row = np.full(len(place), ZERO, dtype=object)
    row[place] = goal.weight[0]
    return Chain(stage, row, chain.decided)


@dataclass(eq=False)
class _Joint:
    """What all layers of M_k have in common; `sharp` is the tolerance of their ranges.

    `decided`: the groups so far are those of M_k. If not, the layers so far allow more than M_k,
    and values that they allow say nothing of the ranges under M_k.
    """

    whole: Polytope
    choice: Choice
    effort: Effort
    sharp: Fraction
    decided: bool = True

    def layer(
        self, body: Body, depth: int, layer: Layer, place: Sequence[int]
    ) -> tuple[Stage, list[int]]:
        """One layer over a body.

        Arguments:
            place: where the body has what the layer reads.

        Returns:
            The triangles, over the hull of the group; and where these have what the layer yields.
        """
        wide = _placed(layer, place, body.size)
        probe = Stage(body, wide, self.effort, tolerance=self.sharp)
        found = [probe.range(j) for j in range(wide.size)]
        joint = self._group(depth, layer, found)
        if joint:
            part = _part(wide, joint, body.size, range(body.size))
            listed = None if depth else image_vertices(self.whole, part, self.effort.deadline)
            body = listed or Image(Stage(body, part, self.effort, tolerance=LOOSE))
        rest = [j for j in range(layer.size) if j not in joint]
        # The group's ReLUs are the last coordinates of the body.
        end = body.size - len(joint)
        kept = [place[j] for j in layer.keep] + list(range(end, body.size))
        stage = Stage(body, _part(wide, rest, body.size, kept), self.effort, True, self.sharp)
        stage.ends.update({i: found[j] for i, j in enumerate(rest)})
        skipped = len(layer.keep)
        order = [*range(skipped), *(skipped + j for j in [*joint, *rest])]
        return stage, [order.index(i) for i in range(layer.outputs)]

    def _group(self, depth: int, layer: Layer, found: Sequence[Ends]) -> list[int]:
        """The unstable members of the group; without one, the `k` of largest area.

        Raises:
            BadInput: if there are several groups.
        """
        groups = self.choice.of(depth, layer)
        if groups is None:
            k = self.choice.k or 1
            largest = _largest(layer, found, k, self.decided)
            loose = sum(not ends.stable for ends in found)
            self.decided = self.decided and len(largest) == min(k, loose)
            return largest
        if len(groups) > 1:
            raise BadInput(
                f"M_k relaxes one group of a layer, not {len(groups)} of layer {depth + 1}"
            )
        return [j for group in groups for j in group if not found[j].stable]


def _short(layers: Sequence[Layer]) -> bool:
    """Whether exact ranges have numbers that are not long either."""
    numbers = [v for layer in layers for v in [*layer.weight.ravel(), *layer.bias]]
    return all(v.numerator.bit_length() + v.denominator.bit_length() <= SHORT for v in numbers)


def _nothing(size: int) -> Layer:
    """The layer that does nothing."""
    weight = np.full((0, size), ZERO, dtype=object)
    return Layer(weight, np.full(0, ZERO, dtype=object), tuple(range(size)))


def _placed(layer: Layer, place: Sequence[int], size: int) -> Layer:
    """A layer that reads its values from among others."""
    weight = np.full((layer.size, size), ZERO, dtype=object)
    weight[:, list(place)] = layer.weight
    return Layer(weight, layer.bias)


def _part(layer: Layer, neurons: Sequence[int], size: int, keep: Sequence[int]) -> Layer:
    """Some neurons of a layer, over a body that may have got more coordinates."""
    picked = list(neurons)
    added = np.full((len(picked), size - layer.inputs), ZERO, dtype=object)
    weight = np.concatenate([layer.weight[picked], added], axis=1)
    return Layer(weight, layer.bias[picked], tuple(keep))


def _largest(layer: Layer, found: Sequence[Ends], k: int, attained: bool) -> list[int]:
    """Those neurons that surely are among the `k` unstable ones of largest area.

    Neurons of equal area rank by their place. A stable one among fewer than `k` does no harm.

    Arguments:
        attained: whether the ends of inner ranges are surely taken.
    """
    loose = [j for j, ends in enumerate(found) if not ends.stable]
    least = {j: _area(found[j].inner) if attained else ZERO for j in loose}
    most = {j: _area(found[j].outer) for j in loose}
    kinds = {j: _kind(layer, j) for j in loose}

    def precedes(i: int, j: int) -> bool:
        if kinds[i] == kinds[j]:
            return i < j
        return (least[i], -i) > (most[j], -j)

    def rivals(j: int) -> int:
        return sum(i != j and not precedes(j, i) for i in loose)

    return [j for j in sorted(loose, key=lambda j: (-most[j], j)) if rivals(j) < k]


def _kind(layer: Layer, index: int) -> tuple[Fraction, ...]:
    """The same for neurons that are equal up to sign, and so have the same area."""
    entries = (*layer.weight[index], layer.bias[index])
    return max(entries, tuple(-v for v in entries))


def _area(ends: Range) -> Fraction:
    low, high = ends
    return max(-low * high, ZERO) if low < 0 else ZERO
