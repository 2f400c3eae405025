"""The method `prima`, and k-ReLU without a solver: all rows of groups that are chosen beforehand.

In every layer a rule forms groups of unstable neurons, by their bounds alone; the facets of pairs
and the fast hulls of triples are kept, and the bounds of all later layers are optimised over them
[kReLU §4.1], [PRIMA]. Neurons that read few values are relaxed with these as well. Here the
optimisation is a dual ascent, so that a bound is at most that of the linear program, and nears it
with its steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from hullmark.bounds.aims import both_signs
from hullmark.bounds.alpha import Ascent, ascend_in_pieces
from hullmark.bounds.linear import propagate, unstable_neurons
from hullmark.bounds.methods import ascend_queries
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import certain, faithful_arithmetic
from hullmark.joint.ancestry import Ledger
from hullmark.joint.groups import BLOCK, OVERLAP, Grouping, Groups, by_area, overlapping
from hullmark.joint.mined import Mined
from hullmark.joint.octahedron import Start, octahedral_sums
from hullmark.joint.passing import passing_groups
from hullmark.joint.store import Archive, Block, Layer, LayerRows
from hullmark.relax.fasthull import all_facets, fast_hull

Array = NDArray[Any]

# Groups whose hulls are computed before time is looked at again.
AT_ONCE = 64

NEURONS = Ascent(steps=60, slope_rate=0.2)
FORMS = Ascent(steps=20, slope_rate=0.1)
QUERIES = Ascent(steps=100, slope_rate=0.2)


def area(k: int) -> Grouping:
    """Disjoint groups by the areas of the triangles [kReLU §4.1]."""
    return partial(by_area, k=k)


def prima(k: int = 3, overlap: int = OVERLAP, block: int = BLOCK) -> Grouping:
    """Overlapping groups within blocks of like areas [PRIMA]."""
    return partial(overlapping, k=k, overlap=overlap, block=block)


@dataclass(frozen=True)
class Scheme:
    """What is relaxed jointly, and how long bounds are optimised.

    `grouping`: None for no joint rows, which is alpha-CROWN. `facets`: all facets of the hulls
    of three, as of pairs, instead of the few rows of `fast_hull`. `passing`: whether groups with
    passing values come after those of the rule. `neurons`, `forms`, `queries`: the ascents for
    every open pre-activation, for the octahedral sums of each group, and for the objective.
    """

    grouping: Grouping | None
    facets: bool = False
    passing: bool = True
    neurons: Ascent = NEURONS
    forms: Ascent = FORMS
    queries: Ascent = QUERIES


@faithful_arithmetic()
@torch.no_grad()
def krelu_margins(
    program: Program, lower: Tensor, upper: Tensor, objective: Objective, scheme: Scheme
) -> Mined:
    """Bounds of every query of an objective over one box.

    Arguments:
        program: the compiled network.
        lower, upper: the box, `(input_size,)`, of the program's device and precision.
        objective: the queries, batch 1.
        scheme: the groups, and what to spend.

    Trust: every bound holds in real arithmetic on the whole box.
    """
    relaxation = Relaxation(program, lower.unsqueeze(0), upper.unsqueeze(0))
    margins, found = krelu_bounds(relaxation, (objective,), scheme)
    return Mined(margins, {i: len(rows) for i, rows in found.items()}, relaxation)


def krelu_bounds(
    relaxation: Relaxation, parts: Sequence[Objective], scheme: Scheme
) -> tuple[Tensor, dict[int, LayerRows]]:
    """Bounds of every query of all parts, in order, and the rows of each rectifier node.

    Arguments:
        relaxation, scheme: as for `krelu_propagate`.
        parts: objectives of batch 1.

    Trust: every bound holds in real arithmetic on the whole domain.
    """
    found = krelu_propagate(relaxation, scheme)
    bounds = [ascend_queries(relaxation, part, scheme.queries)[0] for part in parts]
    return certain(torch.cat(bounds)), found


def krelu_propagate(relaxation: Relaxation, scheme: Scheme) -> dict[int, LayerRows]:
    """Bound every pre-activation in order, over the joint rows of all layers before it.

    Arguments:
        relaxation: of one domain; gets bounds of every pre-activation and the pools of rows.
        scheme: the groups, and what to spend.

    Returns:
        The rows of each rectifier node.

    Trust: every bound and row holds in real arithmetic on the whole domain.
    """
    program = relaxation.program
    found: dict[int, LayerRows] = {}
    archive = Archive()
    for j in program.pre_activations:
        if j == 0:
            continue
        propagate(relaxation, j, sieve=True)
        neurons = unstable_neurons(relaxation, j)
        start: Start | None = None
        if len(neurons) and any(i < j for i in program.slopes):
            start = _tighten(relaxation, j, neurons, scheme.neurons, archive.ledger)
        for i in program.network.consumers[j]:
            if i in program.slopes and len(neurons) and scheme.grouping is not None:
                rows = LayerRows(Layer.of(program, i), archive=archive)
                groups = _groups_of(relaxation, rows.layer, scheme.grouping, scheme.passing)
                _add_rows(relaxation, rows, groups, scheme, start)
                if len(rows):
                    relaxation.set_pool(i, rows.pool(program))
                    found[i] = rows
    relaxation.advance(len(program.network.nodes) - 1)
    return found


def _tighten(
    relaxation: Relaxation, j: int, neurons: Tensor, ascent: Ascent, ledger: Ledger
) -> Start:
    """Optimised bounds of open pre-activations; where the sums of several start from."""
    relaxation.advance(j)
    seen = ascend_in_pieces(relaxation, both_signs(j, neurons), ascent)
    ledger.refine(relaxation, j, neurons, seen)
    return Start.of(seen, neurons, relaxation.program.network.nodes[j].size)


def _groups_of(
    relaxation: Relaxation, layer: Layer, grouping: Grouping, passing: bool
) -> list[Groups]:
    """The rule's groups of unstable neurons, and those with passing values."""
    chosen = grouping(*relaxation.ends(layer.pre))
    return [chosen, *(passing_groups(relaxation, layer) if passing else ())]


def _add_rows(
    relaxation: Relaxation,
    rows: LayerRows,
    groups: list[Groups],
    scheme: Scheme,
    start: Start | None,
) -> None:
    """The rows of all groups of a layer."""
    layer, ledger = rows.layer, rows.archive.ledger
    pieces = (part[at : at + AT_ONCE] for part in groups for at in range(0, len(part), AT_ONCE))
    for some in pieces:
        # Pairs have few facets, and the few rows miss those that two almost equal neurons need.
        hull = all_facets if scheme.facets or some.shape[1] == 2 else fast_hull
        sums = octahedral_sums(relaxation, layer.pre, some, scheme.forms, start)
        if scheme.forms.stop():
            break
        found = hull(sums.bounds, *layer.slopes(some))
        uses = ledger.completed(layer.pre, some, sums)
        rows.add(Block.of(some, sums.bounds, found, uses=uses))
