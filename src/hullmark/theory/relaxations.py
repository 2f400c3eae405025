"""Every relaxation by its name: bounds of a small network's outputs, exactly as defined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput, Unsupported, VacuousProperty
from hullmark.relax.exact import Array
from hullmark.theory.formulation import Form, Formulation, combined, hull_by_support
from hullmark.theory.hulls import layerwise_points, window_formulation
from hullmark.theory.joint import Choice, Groups, krelu_layer, mk_layer, mko_layer
from hullmark.theory.net import ExactNet
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import Range, Region, input_set, minimiser, ranges_of, regions
from hullmark.theory.search import LastLayer
from hullmark.theory.single import (
    Rule,
    Signs,
    boxed,
    deeppoly_layer,
    interval_layer,
    multivariate_layer,
    triangle_layer,
)

RELAXATIONS = (
    "ibp",
    "deepz",
    "deeppoly0",
    "deeppoly1",
    "deeppoly",
    "triangle",
    "krelu",
    "multivariate",
    "mk",
    "mko",
    "p1",
    "pr",
    "exact",
)
"""The names of the relaxations, roughly from weak to strong (`theory.md` calls it the ladder)."""

NONE: Mapping[int, Signs] = MappingProxyType({})
"""No sign is fixed."""

_LINES = {"deepz": "zonotope", "deeppoly0": "0", "deeppoly1": "1", "deeppoly": "area"}
_PLAIN: dict[str, Rule] = {
    "ibp": interval_layer,
    "triangle": triangle_layer,
    "multivariate": multivariate_layer,
    **{name: deeppoly_layer(rule) for name, rule in _LINES.items()},
}
_GROUPED = {"krelu": krelu_layer, "mk": mk_layer, "mko": mko_layer}


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What a relaxation says of a network on an input set.

    `bounds` holds the least and the largest value of each output, `rows` the number of linear
    constraints of its program; of "exact", the number of regions. `signs` are those that were
    fixed: everything is about the inputs that have them.

    Trust: exact.
    """

    net: ExactNet
    whole: Polytope
    relaxation: str
    bounds: list[Range]
    rows: int
    signs: Mapping[int, Signs]
    _points: list[tuple[Array | None, Array | None]]
    projections: Mapping[str, Callable[[], Polytope]]

    @cached_property
    def attained(self) -> list[tuple[Array | None, Array | None]]:
        """For each output an input at which its lower, and one at which its upper bound is taken.

        None where the network takes the bound at no input. The optimum's own input is tried
        first, then the exact range.

        Raises:
            Unsupported: if the exact range is needed and out of reach.
        """
        pieces: list[Region] | None = None
        found: list[tuple[Array | None, Array | None]] = []
        for output, (bound, guess) in enumerate(zip(self.bounds, self._points, strict=True)):
            pair: list[Array | None] = []
            for side in (0, 1):
                if self._takes(guess[side], output, bound[side]):
                    pair.append(guess[side])
                    continue
                pieces = pieces or regions(self.net, self.whole)
                try:
                    best = minimiser(pieces, output, 1 - 2 * side, self._admits)
                except VacuousProperty:
                    best = None
                pair.append(best if self._takes(best, output, bound[side]) else None)
            found.append((pair[0], pair[1]))
        return found

    def _admits(self, x: Array) -> bool:
        """Whether an input has the signs that were fixed."""
        states = self.net.states(x[None]) if self.signs else []
        return all(
            self.net.layers[depth].before(states[depth])[0, index] * sign >= 0
            for depth, fixed in self.signs.items()
            for index, sign in fixed.items()
        )

    def _takes(self, x: Array | None, output: int, bound: Fraction) -> bool:
        """Whether an input counts, and the network takes a value there."""
        if x is None or not self._admits(x):
            return False
        return self.net.evaluate(x[None])[0, output] == bound

    @property
    def exact(self) -> bool:
        """Whether every bound is attained."""
        return all(x is not None for pair in self.attained for x in pair)

    def project(self, what: str = "outputs") -> Polytope:
        """The feasible set's projection.

        Arguments:
            what: "outputs", or "graph" for inputs and outputs together.

        Raises:
            BadInput: if it is neither.
            Unsupported: if the relaxation keeps no inputs, and the graph is asked for; if the
                projection is too large.

        Trust: exact.
        """
        if what not in ("outputs", "graph"):
            raise BadInput(f"a projection is on 'outputs' or 'graph', not on {what!r}")
        if what not in self.projections:
            raise Unsupported(f"{self.relaxation} keeps no relation to the inputs")
        return self.projections[what]()


def relax(  # noqa: PLR0913 (the options of all relaxations)
    net: ExactNet,
    lower: ArrayLike | Polytope,
    upper: ArrayLike | None = None,
    relaxation: str = "p1",
    *,
    k: int | None = None,
    groups: Sequence[Groups] | None = None,
    window: int | None = None,
    signs: Mapping[tuple[int, int], int] | None = None,
) -> Relaxed:
    """Relax a small network, exactly.

    Arguments:
        lower, upper: the ends of a box, `(input_size,)` each; or a `Polytope` alone.
        relaxation: one of `RELAXATIONS`.
        k: of "krelu", "mk" and "mko": how many neurons are relaxed together, those of largest
            area first ("krelu": all unstable ones in such groups; the others: one group).
        groups: instead of `k`: for each layer of ReLUs its groups of neurons.
        window: of "pr": the number of consecutive layers.
        signs: `{(layer, neuron): 1 or -1}`: consider only where these pre-activations are not
            negative, or not positive. Not for "pr" and "exact".

    Raises:
        BadInput: for another name, or an option that the relaxation needs or does not take.
        VacuousProperty: if the input set is empty, or no point has these signs.
        Unsupported: if it is too large to be exact; says how large.

    Trust: exact.
    """
    whole = input_set(net, lower, upper)
    fixed = _signs(net, relaxation, signs)
    _check(relaxation, k, groups, window)
    if groups is not None and len(groups) > len(net.layers):
        raise BadInput(f"groups of {len(groups)} layers for {len(net.layers)} layers of ReLUs")
    if relaxation == "exact":
        return _exact(net, whole)
    if relaxation == "p1":
        return _layerwise(net, whole, fixed)
    if relaxation == "pr":
        made = window_formulation(net, whole, 1 if window is None else window)
        return _solved(net, whole, relaxation, made)
    made = boxed(Formulation.of(whole)) if relaxation == "ibp" else Formulation.of(whole)
    if relaxation in _PLAIN:
        return _solved(
            net, whole, relaxation, _layered(net, made, _plain(relaxation), fixed), fixed
        )
    grouped = partial(_GROUPED[relaxation], Choice(k, groups))
    found = _solved(net, whole, relaxation, _layered(net, made, grouped, fixed), fixed)
    if relaxation != "mk":
        return found

    def graph() -> Polytope:
        tied = partial(mk_layer, Choice(k, groups), tied=True)
        made = _layered(net, Formulation.of(whole), tied, fixed)
        return made.project(made.inputs + _outputs(net, made))

    return replace(found, projections={**found.projections, "graph": graph})


def _plain(relaxation: str) -> Callable[[int], Rule]:
    return lambda _: _PLAIN[relaxation]


def _layered(
    net: ExactNet,
    made: Formulation,
    rules: Callable[[int], Rule],
    signs: Mapping[int, Signs],
) -> Formulation:
    """A formulation of the inputs, grown by the rule of each layer."""
    for depth, layer in enumerate(net.layers):
        rules(depth)(made, layer, signs.get(depth, {}))
    return made


def bounds(
    net: ExactNet,
    lower: ArrayLike | Polytope,
    upper: ArrayLike | None = None,
    relaxation: str = "p1",
    **options: Any,
) -> list[Range]:
    """The bounds of every output under a relaxation; arguments and errors as of `relax`.

    Returns:
        One pair of fractions `(lower, upper)` for each output.

    Trust: exact.
    """
    return relax(net, lower, upper, relaxation, **options).bounds


def _check(
    relaxation: str, k: int | None, groups: Sequence[Groups] | None, window: int | None
) -> None:
    if relaxation not in RELAXATIONS:
        raise BadInput(f"no relaxation {relaxation!r}; there are {', '.join(RELAXATIONS)}")
    if relaxation not in _GROUPED and (k is not None or groups is not None):
        raise BadInput(f"{relaxation} takes no k and no groups")
    if (relaxation == "pr") != (window is not None):
        raise BadInput("'pr' needs a window, and nothing else takes one")


def _signs(
    net: ExactNet, relaxation: str, signs: Mapping[tuple[int, int], int] | None
) -> dict[int, dict[int, int]]:
    """The fixed signs of each layer."""
    found: dict[int, dict[int, int]] = {}
    for (depth, index), sign in (signs or {}).items():
        if relaxation in ("pr", "exact"):
            raise BadInput(f"{relaxation} takes no signs")
        if not (0 <= depth < len(net.layers) and 0 <= index < net.layers[depth].size):
            raise BadInput(f"there is no ReLU {index} in layer {depth + 1}")
        if sign not in (1, -1):
            raise BadInput(f"the sign of ReLU {index} in layer {depth + 1} is {sign}, not 1 or -1")
        found.setdefault(depth, {})[index] = sign
    return found


def _outputs(net: ExactNet, made: Formulation) -> list[Form]:
    return [
        combined(zip(row, made.state, strict=True), constant)
        for row, constant in zip(net.weight, net.bias, strict=True)
    ]


def _solved(
    net: ExactNet,
    whole: Polytope,
    relaxation: str,
    made: Formulation,
    signs: Mapping[int, Signs] = NONE,
) -> Relaxed:
    """The bounds of a program's outputs, and where their optima say they are taken."""
    forms = _outputs(net, made)
    projections = {"outputs": partial(made.project, forms)}
    if made.inputs:
        projections["graph"] = partial(made.project, made.inputs + forms)
    found: list[Range] = []
    points: list[tuple[Array | None, Array | None]] = []
    for form in forms:
        low, high = made.least(form), made.most(form)
        found.append((low.value, high.value))
        points.append((_input(made, low.point), _input(made, high.point)))
    return Relaxed(net, whole, relaxation, found, made.program.rows, signs, points, projections)


def _input(made: Formulation, point: Sequence[Fraction]) -> Array | None:
    if not made.inputs:
        return None
    return np.array([form.at(point) for form in made.inputs], dtype=object)


def _layerwise(net: ExactNet, whole: Polytope, signs: Mapping[int, Signs]) -> Relaxed:
    """P_1: all hulls but the last by their vertices, and a search behind the last layer."""
    if not net.layers:
        return _solved(net, whole, "p1", Formulation.of(whole))
    made = Formulation()
    made.state = made.points(layerwise_points(net, whole, signs))
    depth = len(net.layers) - 1
    last = LastLayer(made, net.layers[depth], signs.get(depth, {}))

    def support(direction: Array) -> Array:
        row, constant = np.dot(direction, net.weight), np.dot(direction, net.bias)
        point = last.least([-v for v in row.tolist()], Fraction(-constant)).point
        values = last.real(point)
        return np.dot(net.weight, values) + net.bias

    found: list[Range] = []
    for row, constant in zip(net.weight, net.bias, strict=True):
        low, high = last.least(row, constant), last.least(-row, -constant)
        found.append((low.value, -high.value))
    projections = {
        "outputs": partial(hull_by_support, support, net.output_size),
        "graph": lambda: _solved(
            net, whole, "p1", window_formulation(net, whole, 1, signs), signs
        ).project("graph"),
    }
    return Relaxed(
        net, whole, "p1", found, made.program.rows, signs, _unknown(net.output_size), projections
    )


def _exact(net: ExactNet, whole: Polytope) -> Relaxed:
    """The exact range; its projections are the convex hulls of the outputs and of the graph."""
    pieces = regions(net, whole)

    def hull(inputs: bool) -> Polytope:
        parts = [np.dot(p.cell.vertices, p.weight.T) + p.bias for p in pieces]
        if inputs:
            parts = [
                np.concatenate([p.cell.vertices, part], axis=1)
                for p, part in zip(pieces, parts, strict=True)
            ]
        return Polytope.hull(np.concatenate(parts))

    projections = {"outputs": partial(hull, False), "graph": partial(hull, True)}
    unknown = _unknown(net.output_size)
    return Relaxed(net, whole, "exact", ranges_of(pieces), len(pieces), NONE, unknown, projections)


def _unknown(outputs: int) -> list[tuple[Array | None, Array | None]]:
    return [(None, None)] * outputs
