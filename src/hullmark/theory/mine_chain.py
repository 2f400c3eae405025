"""The bodies and layers that a relaxation of a network consists of, from the input to the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

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

LOOSE = Fraction(1, 256)
"""Ranges that only guide the search may be off by this share of their width."""

SHARP = Fraction(1, 2**30)
"""Ranges that define a relaxation; they are exact if all numbers of the network are short."""

SHORT = 24
"""Bits of a short number."""


def layerwise_chain(goal: ExactNet, whole: Polytope, effort: Effort) -> tuple[Stage, Array]:
    """P_1: the convex hull of every layer's image, and a search behind the last [Barrier].

    Arguments:
        goal: a network with one output.

    Returns:
        The last layer over the body that it reads, and the goal as a function of what it yields.
    """
    body: Body = corners(whole)
    layers = goal.layers or (_nothing(goal.input_size),)
    for depth, layer in enumerate(layers[:-1]):
        listed = None if depth else image_vertices(whole, layer, effort.deadline)
        body = listed or Image(Stage(body, layer, effort, tolerance=LOOSE))
    return Stage(body, layers[-1], effort, tolerance=LOOSE), goal.weight[0]


def joint_chain(
    goal: ExactNet, whole: Polytope, choice: Choice, effort: Effort
) -> tuple[Stage, Array]:
    """M_k: in each layer the hull of some groups with all that it reads, then triangles [MN-v1 §3].

    Arguments and Returns: as of `layerwise_chain`.
    """
    layers = goal.layers or (_nothing(goal.input_size),)
    chain = _Joint(whole, choice, effort, ZERO if _short(layers) else SHARP)
    stage, place = chain.layer(corners(whole), 0, layers[0], range(whole.size))
    for depth, layer in enumerate(layers[1:], start=1):
        stage, place = chain.layer(Image(stage), depth, layer, place)
    row = np.full(len(place), ZERO, dtype=object)
    row[place] = goal.weight[0]
    return stage, row


@dataclass(frozen=True, eq=False)
class _Joint:
    """What all layers of M_k have in common; `sharp` is the tolerance of their ranges."""

    whole: Polytope
    choice: Choice
    effort: Effort
    sharp: Fraction

    def layer(
        self, body: Body, depth: int, layer: Layer, place: Sequence[int]
    ) -> tuple[Stage, list[int]]:
        """One layer over a body.

        Arguments:
            place: where the body has what the layer reads.

        Returns:
            The triangles, over the hulls of the groups; and where these have what the layer yields.
        """
        wide = _placed(layer, place, body.size)
        probe = Stage(body, wide, self.effort, tolerance=self.sharp)
        found = [probe.range(j) for j in range(wide.size)]
        joint: list[int] = []
        for group in _groups(self.choice, depth, layer, found):
            part = _part(wide, group, body.size, range(body.size))
            first = not depth and not joint
            listed = image_vertices(self.whole, part, self.effort.deadline) if first else None
            body = listed or Image(Stage(body, part, self.effort, tolerance=LOOSE))
            joint += group
        rest = [j for j in range(layer.size) if j not in joint]
        # The groups' ReLUs are the last coordinates of the body.
        end = body.size - len(joint)
        kept = [place[j] for j in layer.keep] + list(range(end, body.size))
        stage = Stage(body, _part(wide, rest, body.size, kept), self.effort, True, self.sharp)
        stage.ends.update({i: found[j] for i, j in enumerate(rest)})
        skipped = len(layer.keep)
        order = [*range(skipped), *(skipped + j for j in [*joint, *rest])]
        return stage, [order.index(i) for i in range(layer.outputs)]


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


def _groups(choice: Choice, depth: int, layer: Layer, found: Sequence[Ends]) -> list[list[int]]:
    """The unstable members of the groups; without groups, the `k` of largest area.

    Raises:
        BadInput: if a neuron is in two groups.
    """
    groups = choice.of(depth, layer)
    if groups is None:
        order = sorted(range(layer.size), key=lambda j: (-_area(found[j]), j))
        groups = [[j for j in order if not found[j].stable][: choice.k]]
    members = [j for group in groups for j in group]
    if len(set(members)) < len(members):
        raise BadInput(f"a neuron of layer {depth + 1} is in two groups")
    live = [[j for j in group if not found[j].stable] for group in groups]
    return [group for group in live if group]


def _area(ends: Ends) -> Fraction:
    low, high = ends.outer
    return ZERO if ends.stable else -low * high
