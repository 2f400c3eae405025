"""The least value behind a layer over a body, mined: a proven bound, and a point that is near."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from fractions import Fraction
from itertools import count

import numpy as np

from hullmark.exact import nearest
from hullmark.relax.exact import Array
from hullmark.theory.formulation import ONE, ZERO
from hullmark.theory.mine_node import Cut, Multipliers, Node, Proposal, Terms, settle
from hullmark.theory.mine_stage import Mixture, Stage
from hullmark.theory.pricing import Floats, dotted, floats, power_above

FINEST = 1e-10
"""Float programs are solved no finer than this, in units of the goal's largest coefficient."""

MOST_POINTS = 150
"""A node hands down no more points than this, beyond those that its optimum mixes."""


@dataclass(eq=False)
class _Work:
    """A node whose program is being solved, over some points of the body, as finely as told."""

    node: Node
    terms: Terms
    points: list[int]
    fineness: float
    tolerance: Fraction


class Tree:
    """The search for the least value of a goal behind a layer, over a body.

    Nodes fix signs of neurons whose value is to be large; the others need no branching. A node's
    bound is proved by one inequality of the body, priced; the mixture of points that its program
    ends with is in the body, so that the goal there is a limit for every bound.

    `mixtures` are those that gave limits, each lower than the ones before; `nodes` is how often a
    node was worked on.

    Arguments:
        row: the goal, over what the stage yields.

    Trust: `lower <= least value <= limit`, exactly and at any moment.
    """

    def __init__(self, stage: Stage, row: Array) -> None:
        self.stage = stage
        self.row = row
        self.nodes = 0
        self.mixtures: list[Mixture] = []
        self._scale = float(power_above(row))
        self._order = count()
        self._root = Terms(stage, row)
        self._costs_near = floats(self._root.costs)
        direction, constant = self._root.function([ONE / 2] * self._root.multipliers)
        price = stage.body.least(direction, Fraction(self._scale) / 64)
        root = Node({}, self._crude(), price.points)
        root.raise_by(Cut(direction, price.bound), constant)
        self._heap = [(root.bound, next(self._order), root)]
        self.limit = self._first_limit()

    @property
    def lower(self) -> Fraction:
        """What is proved: the least bound of a leaf."""
        return min(self._heap[0][0], self.limit)

    @property
    def cuts(self) -> list[Cut]:
        """The inequalities of the body that prove it, one for each leaf."""
        return [node.cut for _, _, node in self._heap if node.cut is not None]

    @property
    def raised(self) -> list[int]:
        """The neurons that the goal wants large, if the stage lets them be."""
        return self._root.open if self.stage.relaxed else []

    def point(self, mixture: Mixture) -> Array:
        """The point of the body that a mixture is."""
        return mixture.of([self.stage.body.point(k) for k in mixture.points])

    def run(self, tolerance: Fraction, target: float = -np.inf) -> bool:
        """Search until bound and limit are no farther apart, or the time is over.

        It also ends with a limit that is farther below the target than above the bound.

        Returns:
            False if no further step can be taken.
        """
        fineness = max(float(tolerance) / 8, FINEST * self._scale)
        while self.limit - self.lower > tolerance and not self.stage.effort.deadline.expired():
            if tolerance and nearest(2 * self.limit - self.lower) < target:
                break
            _, _, node = heapq.heappop(self._heap)
            self.nodes += 1
            if node.fineness > fineness and not node.settled:
                self._evaluate(node, fineness, tolerance)
            elif node.split is not None:
                for sign in (1, -1):
                    signs = {**node.signs, node.split: sign}
                    self._push(Node(signs, node.bound, node.points, node.cut))
                continue
            elif node.settled or not self._settle(node):
                self._push(node)
                return False
            self._push(node)
        return True

    def _push(self, node: Node) -> None:
        heapq.heappush(self._heap, (node.bound, next(self._order), node))

    def _crude(self) -> Fraction:
        """A bound from ranges alone."""
        total = ZERO
        for value, place in zip(self.row, self.stage.layer.keep, strict=False):
            low, high = self.stage.body.ends[place]
            total += value * (low if value > 0 else high)
        for j, cost in enumerate(self._root.costs):
            low, high = self.stage.crude(j)
            total += cost * max(low if cost > 0 else high, ZERO)
        return total

    def _first_limit(self) -> Fraction:
        """The limit that the best single point gives."""
        body = self.stage.body
        values = self._values(body.rows(range(body.known)))
        self.mixtures.append(Mixture((int(values.argmin()),), (ONE,)))
        return self._value(self.mixtures[0])

    def _values(self, rows: Floats) -> Floats:
        """The goal at points of the body, nearly."""
        z = self.stage.before(rows)
        y = np.maximum(z, 0.0)
        for j in self.raised:
            slope, offset = floats(self.stage.chord(j))
            y[:, j] = np.maximum(y[:, j], slope * z[:, j] + offset)
        return rows @ self._root.base_near + y @ self._costs_near

    def _value(self, mixture: Mixture) -> Fraction:
        return dotted(self.row, self.stage.after(self.point(mixture), self.raised))

    def _offer(self, mixture: Mixture) -> None:
        value = self._value(mixture)
        if value < self.limit:
            self.limit = value
            self.mixtures.append(mixture)

    def _evaluate(self, node: Node, fineness: float, tolerance: Fraction) -> None:
        """Raise a node's bound until it is that of its program, or closes the node."""
        body, effort = self.stage.body, self.stage.effort
        terms = self._root.under(node.signs)
        work = _Work(node, terms, list(dict.fromkeys(node.points)), fineness, tolerance)
        program = Multipliers(terms, body.rows(work.points), self._scale)
        while not effort.deadline.expired():
            effort.programs += 1
            found = program.solve()
            if found is None:
                # The float solver has given up; rational arithmetic takes over.
                node.fineness = 0.0
                break
            weights = found.weights
            mixed = self._glance(work, found)
            fresh = self._price(work, found)
            node.active = {k for k, w in zip(work.points, weights, strict=True) if w}
            if node.bound < self.limit - tolerance / 2 and fresh:
                work.points += fresh
                program.add(body.rows(fresh))
                continue
            if not fresh:
                node.fineness = fineness
                node.split = self._split(work, found) if mixed - found.value > fineness else None
            break
        node.points = list(dict.fromkeys([*node.active, *work.points[-MOST_POINTS:]]))

    def _glance(self, work: _Work, found: Proposal) -> float:
        """The goal at a proposed mixture, nearly; a new limit if it is lower."""
        row = _mean(found.weights) @ self.stage.body.rows(work.points)
        mixed = float(self._values(row[None])[0])
        if mixed < nearest(self.limit) - work.fineness:
            self._offer(Mixture.near(work.points, found.weights))
        return mixed

    def _price(self, work: _Work, found: Proposal) -> list[int]:
        """Price the function of some multipliers; returns points that refute the value found."""
        body, effort = self.stage.body, self.stage.effort
        direction, constant = work.terms.near(found.multipliers)
        target, known = found.value - constant - work.fineness, set(work.points)
        seen = body.lowest(direction)
        fresh = [k for k, value in seen if value < target and k not in known]
        enough = nearest(self.limit - work.tolerance / 2)
        if fresh and not (body.complete and seen[0].value + constant >= enough):
            return fresh
        effort.prices += 1
        exact, offset = work.terms.function(found.multipliers)
        price = body.least(exact, Fraction(work.fineness), target)
        work.node.raise_by(Cut(exact, price.bound), offset)
        fresh = [k for k in price.points if k not in known]
        return [k for k, v in zip(fresh, body.rows(fresh) @ direction, strict=True) if v < target]

    def _split(self, work: _Work, found: Proposal) -> int | None:
        """The neuron whose chord costs most."""
        if self.stage.relaxed or not work.terms.open:
            return None
        row = _mean(found.weights) @ self.stage.body.rows(work.points)
        z = self.stage.before(row[None])[0]
        return max(work.terms.open, key=lambda j: self._loss(j, Fraction(float(z[j]))))

    def _loss(self, j: int, z: Fraction) -> Fraction:
        return -self._root.costs[j] * self.stage.chord(j).above(z)

    def _settle(self, node: Node) -> bool:
        """Solve a node's program exactly; whether that went well."""
        body = self.stage.body
        terms = self._root.under(node.signs)
        points = sorted(node.active) or node.points[:1]
        while not self.stage.effort.deadline.expired():
            found = settle(terms, points, [body.point(k) for k in points])
            direction, constant = terms.function(found.multipliers)
            price = body.least(direction, ZERO)
            node.raise_by(Cut(direction, price.bound), constant)
            if node.bound >= found.value:
                break
            fresh = [k for k in price.points if k not in points]
            if not fresh:
                return False
            points += fresh
        else:
            return False
        node.settled, node.points, node.split = True, points, None
        self._offer(found.mixture)
        if not self.stage.relaxed and terms.open:
            z = np.dot(self.stage.layer.weight, self.point(found.mixture)) + self.stage.layer.bias
            worst = max(terms.open, key=lambda j: self._loss(j, z[j]))
            node.split = worst if self._loss(worst, z[worst]) > 0 else None
        return True


def _mean(weights: Floats) -> Floats:
    return weights / max(float(weights.sum()), 1e-300)
