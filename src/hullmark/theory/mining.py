"""Constraint mining: the bounds of P_1 and M_k on networks too large for their formulations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hullmark.errors import BadInput, Unsupported
from hullmark.exact import round_down, round_up
from hullmark.relax.exact import Array, as_fraction
from hullmark.theory.formulation import ZERO
from hullmark.theory.joint import Choice, Groups
from hullmark.theory.mine_chain import joint_chain, layerwise_chain
from hullmark.theory.mine_node import Cut
from hullmark.theory.mine_real import Descent
from hullmark.theory.mine_tree import Tree
from hullmark.theory.net import ExactNet
from hullmark.theory.polytope import Polytope
from hullmark.theory.pricing import Effort
from hullmark.theory.regions import input_set
from hullmark.verdict import Deadline

Certificate = Literal["attained", "closed", "time"]

MILLIONTH = Fraction(1, 10**6)

MOST_INPUTS = 60
"""So many real inputs are tried at the bound."""

DESCENTS = 4
"""From so many of them, and from the middle of the input set, lower ones are looked for."""

MOST_BITS = 600
"""Numbers multiplied along the network may be so many powers of two away from 1."""

POLISH = 2.0
"""Seconds, and multiples of those spent so far, that may go into closing the gap exactly."""


@dataclass(frozen=True, eq=False)
class Mined:
    """A bound of a relaxation, proved by mined inequalities.

    The relaxation's own bound lies between `bound` and `limit`, whatever the certificate:

    - "attained": the network takes `bound` at `witness`, so that it is the exact optimum;
    - "closed": `bound` and `limit` agree up to the tolerance: nothing that is left to be mined
      would improve on it;
    - "time": the seconds ran out; or, of "mk" with `k`, areas are too nearly equal to tell which
      are the largest. Where these are not known, the others have triangles, and `limit` is
      `value`.

    `bound` holds for every output of the network on the input set, `limit` for every bound that
    the relaxation gives. `witness` and `value`: the best input that was met. `cuts`: the
    inequalities that prove the bound, of the set that the last layer of ReLUs reads (of "mk":
    together with the last group's ReLUs), beside the ranges of that layer's neurons; one for each
    leaf of the search over their signs. `nodes`, `programs` and `prices` count its steps.

    Trust: exact; both sides are proved at any moment.
    """

    relaxation: str
    side: str
    bound: Fraction
    limit: Fraction
    certificate: Certificate
    witness: Array
    value: Fraction
    cuts: tuple[Cut, ...]
    nodes: int
    programs: int
    prices: int
    seconds: float

    @property
    def gap(self) -> Fraction:
        """How far the relaxation's bound may be from the one proved."""
        return abs(self.limit - self.bound)


def mine(  # noqa: PLR0913 (the options of `relax`, and what to stop at)
    net: ExactNet,
    lower: ArrayLike | Polytope,
    upper: ArrayLike | None = None,
    relaxation: str = "p1",
    *,
    k: int | None = None,
    groups: Sequence[Groups] | None = None,
    output: int = 0,
    side: str = "lower",
    tolerance: Any = MILLIONTH,
    seconds: float | None = None,
) -> Mined:
    """Mine the bound of one output under P_1 or M_k [MN-v1 §8].

    Every body, the convex hull of what a layer yields, is known by real points inside and by
    valid inequalities outside. A search over the signs of the next layer's ReLUs proposes the
    inequality that would prove the best bound from the points known; its price, the extreme value
    over the body, is either as hoped, and the bound is proved, or a new point.

    Arguments:
        lower, upper: the ends of a box, `(input_size,)` each; or a `Polytope` alone.
        relaxation: "p1" or "mk".
        k, groups: of "mk", as of `relax`. The k neurons of largest area are found from mined
            ranges, as far as these decide.
        side: "lower" or "upper", the side from which the output is bounded.
        tolerance: at which gap to stop, in units of `max(1, |limit|)`. What is left is then
            closed exactly, if that is quickly done.
        seconds: after which to stop; None for no limit.

    Raises:
        BadInput: for another relaxation or side, an output that there is not, a negative
            tolerance, or a time that is not positive; if a layer has two groups.
        VacuousProperty: if the input set is empty.
        Unsupported: if the input set has too many vertices, or numbers are too large or small for
            floats to search in.

    Trust: exact.
    """
    started = time.perf_counter()
    allowed = as_fraction(tolerance, "tolerance")
    _check_question(net, relaxation, side, output)
    if allowed < 0:
        raise BadInput(f"the tolerance is {tolerance}; it must not be negative")
    if seconds is not None and not seconds > 0:
        raise BadInput(f"seconds is {seconds}; it must be positive")
    if relaxation == "p1" and (k is not None or groups is not None):
        raise BadInput("p1 takes no k and no groups")
    whole = input_set(net, lower, upper)
    _check_sizes(net, whole)
    effort = Effort(Deadline(started, seconds))
    # A lower bound of the output, or of its negative.
    sign = 1 if side == "lower" else -1
    goal = net.selected(output).objective([Fraction(sign)])
    if relaxation == "p1":
        chain = layerwise_chain(goal, whole, effort)
    else:
        chain = joint_chain(goal, whole, Choice(k, groups), effort)
    tree = Tree(chain.stage, chain.row)
    closed = _closed(tree, goal.bias[0], allowed) and chain.decided
    constant = goal.bias[0]
    low = tree.lower + constant
    witness, value = _best_input(goal, whole, tree, low)
    # Limits of a looser relaxation are none of the one asked for; what inputs yield always is.
    high = min(tree.limit + constant, value) if chain.decided else value
    if low < high:
        low, high = Fraction(round_down(low)), Fraction(round_up(high))
    certificate: Certificate = "attained" if value == low else "closed" if closed else "time"
    return Mined(
        relaxation,
        side,
        sign * low,
        sign * high,
        certificate,
        witness,
        sign * value,
        tuple(tree.cuts),
        tree.nodes,
        effort.programs,
        effort.prices,
        time.perf_counter() - started,
    )


def _check_question(net: ExactNet, relaxation: str, side: str, output: int) -> None:
    if relaxation not in ("p1", "mk"):
        raise BadInput(f"mining is for 'p1' and 'mk', not for {relaxation!r}")
    if side not in ("lower", "upper"):
        raise BadInput(f"the side is {side!r}; it must be 'lower' or 'upper'")
    if not 0 <= output < net.output_size:
        raise BadInput(f"there is no output {output}; the network has {net.output_size}")


def _check_sizes(net: ExactNet, whole: Polytope) -> None:
    """Refuse numbers whose products could leave the range of floats."""
    factors = [whole.vertices, *(layer.weight for layer in net.layers), net.weight]
    added = [*(layer.bias for layer in net.layers), net.bias]
    magnitudes = [[*factor.ravel()] for factor in factors] + [[v for b in added for v in b]]
    bits = sum(
        max(
            (abs(v.numerator.bit_length() - v.denominator.bit_length()) for v in part if v),
            default=0,
        )
        for part in magnitudes
    )
    if bits > MOST_BITS:
        raise Unsupported(
            f"the numbers of the network and of the input set span up to 2**{bits}, too far for "
            f"floats to search in (limit 2**{MOST_BITS}); scale them"
        )


class _Real(NamedTuple):
    input: Array
    value: Fraction


def _closed(tree: Tree, constant: Fraction, tolerance: Fraction) -> bool:
    """Mine until the gap is closed up to a tolerance, and a little longer; whether it is."""

    def allowed() -> Fraction:
        return tolerance * max(1, abs(tree.limit + constant))

    effort = tree.stage.effort
    while tree.limit - tree.lower > allowed():
        if not tree.run(allowed()) or effort.deadline.expired():
            break
    if tree.limit - tree.lower > allowed():
        return False
    spent, limit = effort.deadline.elapsed(), effort.deadline.timeout
    more = spent + POLISH * (1 + spent)
    timeout = more if limit is None else min(more, limit)
    effort.deadline = Deadline(effort.deadline.started, timeout)
    tree.run(ZERO)
    return True


def _best_input(goal: ExactNet, whole: Polytope, tree: Tree, bound: Fraction) -> _Real:
    """The best of the inputs behind the points that were mixed, and further down from them."""
    body = tree.stage.body
    tried: list[Array] = []
    for mixture in reversed(tree.mixtures):
        sources = [body.source(index) for index in mixture.points]
        tried += [*sources, mixture.of(sources)]
        if len(tried) > MOST_INPUTS:
            break
    values = goal.evaluate(np.array(tried))[:, 0]
    order = sorted(range(len(tried)), key=values.__getitem__)
    best = _Real(tried[order[0]], values[order[0]])
    starts = [tried[i] for i in order[:DESCENTS]] + [whole.centre()]
    descent = Descent(goal, whole, tree.stage.effort.deadline)
    for start in starts:
        if best.value == bound:
            break
        found = _Real(*descent.lower(start, bound))
        best = min(best, found, key=lambda real: real.value)
    return best
