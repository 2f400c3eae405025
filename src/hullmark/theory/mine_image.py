"""The convex hull of a layer's image of a body, known by the points that pricing finds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from hullmark.relax.exact import Array
from hullmark.theory.formulation import ZERO
from hullmark.theory.mine_stage import Mixture, Stage
from hullmark.theory.mine_tree import Tree
from hullmark.theory.pricing import Floats, Price, Seen, floats
from hullmark.theory.regions import Range

MOST_PROPOSED = 12
"""Of the known points below a target, no more are proposed."""


class Image:
    """A body: what a stage yields, with its convex hull taken.

    A price is the end of a search over the body below; the point that attains it is kept.

    Trust: exact.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._points: list[Array] = []
        self._sources: list[Array] = []
        self._found: dict[tuple[Fraction, ...], int] = {}
        self._floats = np.zeros((0, self.size))

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return self._stage.layer.outputs

    @property
    def known(self) -> int:
        """The number of points found."""
        return len(self._points)

    @property
    def ends(self) -> list[Range]:
        """A box around it."""
        layer = self._stage.layer
        kept = [self._stage.body.ends[k] for k in layer.keep]
        crude = [self._stage.crude(j) for j in range(layer.size)]
        return kept + [(max(low, ZERO), max(high, ZERO)) for low, high in crude]

    def rows(self, picked: Sequence[int]) -> Floats:
        """Some of the points, nearly."""
        return self._floats[list(picked)]

    def point(self, index: int) -> Array:
        """A point."""
        return self._points[index]

    def source(self, index: int) -> Array:
        """The mean of the inputs that a point comes from."""
        return self._sources[index]

    @property
    def complete(self) -> bool:
        """No: there are more points than those found."""
        return False

    def lowest(self, direction: Floats) -> list[Seen]:
        """As of every `Body`."""
        values = self._floats @ direction
        order = np.argsort(values, kind="stable")[:MOST_PROPOSED]
        return [Seen(int(k), float(values[k])) for k in order]

    def least(self, direction: Array, tolerance: Fraction, target: float = -np.inf) -> Price:
        """As of every `Body`: by a search over the body below."""
        tree = Tree(self._stage, direction)
        tree.run(tolerance, target)
        return Price(tree.lower, [self._keep(tree, mixture) for mixture in tree.mixtures])

    def _keep(self, tree: Tree, mixture: Mixture) -> int:
        body = self._stage.body
        point = self._stage.after(tree.point(mixture), tree.raised)
        key = tuple(point)
        if key not in self._found:
            self._found[key] = len(self._points)
            self._points.append(point)
            self._sources.append(mixture.of([body.source(k) for k in mixture.points]))
            self._floats = np.concatenate([self._floats, floats(point)[None]])
        return self._found[key]
