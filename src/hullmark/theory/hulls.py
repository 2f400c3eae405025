"""P_1 and P_r: convex hulls of whole layers, by their vertices."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from hullmark.errors import Unsupported, VacuousProperty
from hullmark.relax.exact import Array
from hullmark.relax.polytope import in_order
from hullmark.theory.formulation import ONE, Formulation, combined
from hullmark.theory.net import ExactNet, Layer, positive
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import pieces_behind, split, start
from hullmark.theory.single import Signs


def layer_points(body: Polytope, layer: Layer) -> Array:
    """Points whose convex hull is that of a layer's image of a polytope `(n, outputs)`.

    The layer is affine on every part, so that the parts' vertices are enough.

    Trust: exact.
    """
    parts = split(start(body), layer)
    points = [np.dot(part.cell.vertices, part.weight.T) + part.bias for part in parts]
    return in_order(np.concatenate(points).tolist(), layer.outputs)


def signed_part(body: Polytope, layer: Layer, signs: Signs) -> Polytope:
    """The part of a polytope where neurons of a layer have these signs.

    Raises:
        VacuousProperty: if there is none.
    """
    for index, sign in signs.items():
        part = body.cut(layer.weight[index] * sign, layer.bias[index] * sign)
        if part is None:
            raise VacuousProperty("the relaxation allows no point at all")
        body = part
    return body


def layerwise_points(net: ExactNet, whole: Polytope, signs: Mapping[int, Signs]) -> Array:
    """Points whose hull is what the last layer of ReLUs reads under P_1 [Barrier]: S_{h-1}.

    Arguments:
        net: with at least one layer of ReLUs.
        signs: for each layer, the neurons whose sign is fixed.

    Raises:
        Unsupported: if a hull is too large.

    Trust: exact.
    """
    points = whole.vertices
    for depth, layer in enumerate(net.layers[:-1]):
        body = _hull(points, depth) if depth else whole
        points = layer_points(signed_part(body, layer, signs.get(depth, {})), layer)
    return points


def _hull(points: Array, depth: int) -> Polytope:
    """What the layers so far may yield."""
    try:
        return Polytope.hull(points)
    except Unsupported as error:
        raise Unsupported(
            f"the hull of the {len(points)} points behind layer {depth}: {error}; "
            "mining (`mine`) bounds P_1 without it"
        ) from None


def window_formulation(
    net: ExactNet, whole: Polytope, window: int, signs: Mapping[int, Signs] = MappingProxyType({})
) -> Formulation:
    """P_r of a network: hulls of the graphs of every `window` consecutive layers [Barrier §4].

    Arguments:
        signs: for each layer, the neurons whose sign is fixed; with a window of 1 only.

    Raises:
        BadInput: if the window is no positive whole number.

    Trust: exact. Each hull is over what the windows before allow.
    """
    positive(window, "the window")
    made = Formulation()
    hidden = len(net.layers)
    if not hidden:
        return Formulation.of(whole)
    window = min(window, hidden)
    base, states = whole, []
    for first in range(hidden - window + 1):
        if first:
            base = made.project(states[first])
        base = signed_part(base, net.layers[first], signs.get(first, {}))
        points = _graph_points(base, net.layers[first : first + window])
        forms = made.points(points)
        sizes = [net.layers[first + i].inputs for i in range(window)]
        sizes.append(net.layers[first + window - 1].outputs)
        for offset, size in enumerate(sizes):
            part, forms = forms[:size], forms[size:]
            if first + offset < len(states):
                for mine, theirs in zip(part, states[first + offset], strict=True):
                    made.equal(combined([(ONE, mine), (-ONE, theirs)]))
            else:
                states.append(part)
    made.inputs, made.state = states[0], states[-1]
    return made


def _graph_points(base: Polytope, layers: tuple[Layer, ...]) -> Array:
    """Vertices of the parts on which some layers are affine, with all values in between."""
    points: list[list[Fraction]] = []
    for piece in pieces_behind(base, layers):
        values = [piece.cell.vertices]
        for layer in layers:
            values.append(layer.apply(values[-1]))
        points += np.concatenate(values, axis=1).tolist()
    return in_order(points, len(points[0]))
