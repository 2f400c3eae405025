"""The same function as another network, which a relaxation bounds otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hullmark.relax.exact import identity, zeros
from hullmark.theory.encodings import lattice
from hullmark.theory.lattice import lattice_form
from hullmark.theory.net import ExactNet, Layer
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import exact_range, input_set


def lower_exact(
    net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> ExactNet:
    """The network as a minimum of maxima: P_1's lower bound is exact on every polytope within a
    fixed domain.

    The network equals `min over i of max over j of l_ij` there, by `lattice_form`. Each layer
    carries the inputs x and the minimum r of the maxima that are finished, and grows the maximum
    c by one piece (`lattice`). In every hull `c >= c(x)`, for c(x), a maximum of pieces, is
    convex; and r stays at or above its least value on the input set, which is a half-space.

    Arguments:
        net: with one output.
        lower, upper: the domain: the ends of a box, or a `Polytope` alone. Outside of it the
            result is another function, and its carried values are not stable.

    Raises:
        BadInput, VacuousProperty: if the domain is none.
        Unsupported: if there is more than one output, or there are too many affine pieces; says
            how many.

    Trust: exact.
    """
    whole = input_set(net, lower, upper)
    return lattice(lattice_form(net, whole, outer="min"), whole)


def upper_exact(
    net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> ExactNet:
    """The network as a maximum of minima: P_1's upper bound is exact on every polytope within a
    fixed domain.

    With `lower_exact` both bounds are exact. Arguments and errors as there.

    Trust: exact.
    """
    whole = input_set(net, lower, upper)
    return lattice(lattice_form(net, whole, outer="max"), whole)


def copied_inputs(
    net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None
) -> ExactNet:
    """The network with copies of its inputs in every layer, which nothing reads.

    This makes no bound tighter: P_1 bounds the part that is read as before, since the projection
    of a hull is the hull of the projection [Barrier Lemma 3.2]. It is how the proof of
    [Barrier Thm 5.1] is sketched.

    Arguments:
        lower, upper: the domain on which the copies are stable: the ends of a box, or a
            `Polytope` alone.

    Raises:
        BadInput, VacuousProperty: if the domain is none.

    Trust: exact.
    """
    size = net.input_size
    least = input_set(net, lower, upper).vertices.min(axis=0)
    layers: list[Layer] = []
    for layer in net.layers:
        # The first layer copies the inputs, which it reads anyway; the others copy the copies.
        shift = zeros(size) if layers else -least
        rows = [[layer.weight], [identity(size)]]
        if layers:
            rows = [
                [layer.weight, zeros(layer.size, size)],
                [zeros(size, layer.inputs), identity(size)],
            ]
        layers.append(Layer(np.block(rows), np.concatenate([layer.bias, shift]), layer.keep))
    unused = zeros(net.output_size, size if layers else 0)
    return ExactNet(size, tuple(layers), np.concatenate([net.weight, unused], axis=1), net.bias)


def clamped(net: ExactNet, lower: ArrayLike | Polytope, upper: ArrayLike | None = None) -> ExactNet:
    """The network with every output clamped to its exact range on one input set.

    That makes even intervals exact on this set, whatever the network: `w - relu(w - relu(y - a))`
    lies between 0 and w. It says nothing of the network, for the range has to be known before,
    and nothing of other sets, parts of this one included.

    Raises:
        BadInput, VacuousProperty: if the input set is none.
        Unsupported: if the network has too many regions.

    Trust: exact.
    """
    ends = np.array(exact_range(net, lower, upper), dtype=object)
    least, width = ends[:, 0], ends[:, 1] - ends[:, 0]
    eye = identity(net.output_size)
    tail = (Layer(net.weight, net.bias - least), Layer(-eye, width))
    return ExactNet(net.input_size, net.layers + tail, -eye, least + width)


def mirrored(net: ExactNet) -> ExactNet:
    """The network with every `relu(t)` written as `t + relu(-t)`; each layer keeps what it reads.

    DeepPoly-1 bounds it on every input set as DeepPoly-0 bounds the original, and the other way
    round: a lower line 0 of `relu(-t)` gives `t`, a lower line `-t` gives 0, and the chord is the
    same. So the two express the same functions.

    Trust: exact.
    """
    # What the original's layers yield, as affine functions of what the new ones do.
    weight, bias = identity(net.input_size), zeros(net.input_size)
    layers: list[Layer] = []
    for layer in net.layers:
        before = np.dot(layer.weight, weight)
        offset = np.dot(layer.weight, bias) + layer.bias
        layers.append(Layer(-before, -offset, tuple(range(before.shape[1]))))
        keep = list(layer.keep)
        weight = np.block(
            [[weight[keep], zeros(len(keep), layer.size)], [before, identity(layer.size)]]
        )
        bias = np.concatenate([bias[keep], offset])
    last = np.dot(net.weight, bias) + net.bias
    return ExactNet(net.input_size, tuple(layers), np.dot(net.weight, weight), last)
