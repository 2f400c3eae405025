"""Branch and bound that splits neurons at 0, for inputs of many dimensions.

Pre-activation bounds are those of the root. A subproblem is the set of its splits; its bound is
a dual ascent over slopes, split multipliers and row mix [beta-CROWN], warm from its parent. The
neuron to split is the one whose relaxation costs the bound most.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hullmark.bounds.alpha import Ascended, Ascent, Multipliers, ascend
from hullmark.bounds.linear import Dual, Pass, backward, primal
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.search.effort import Effort
from hullmark.search.frontier import Columns, Frontier
from hullmark.search.judge import Judge
from hullmark.search.leaf import settle

# Numbers that the subproblems of a batch may hold, over all nodes.
NUMBERS = 400_000
# Batches between two hunts for a counterexample.
HUNT_EVERY = 4
CHILD = Ascent(steps=10, slope_rate=0.1, split_rate=0.1, decay=0.95)


@dataclass(frozen=True, eq=False)
class Layout:
    """Which neurons may be split: flat indices per rectifier, laid side by side in a table.

    `spans[i]` are the columns of rectifier i, `index[i]` the neurons they stand for, and
    `pre[i]` the pre-activation it reads.
    """

    spans: dict[int, slice]
    index: dict[int, Tensor]
    pre: dict[int, int]
    width: int

    @staticmethod
    def of(relaxation: Relaxation) -> "Layout":
        """The unstable rectifiers of a root relaxation of batch 1."""
        spans: dict[int, slice] = {}
        index: dict[int, Tensor] = {}
        pre: dict[int, int] = {}
        width = 0
        for i in relaxation.program.slopes:
            j = relaxation.program.network.nodes[i].inputs[0]
            lower, upper = relaxation.interval(j)
            unstable = ((lower < 0) & (upper > 0)).flatten().nonzero().squeeze(1)
            if j in pre.values():
                # Whatever settles the first rectifier that reads it settles this one as well.
                unstable = unstable[:0]
            spans[i] = slice(width, width + len(unstable))
            index[i], pre[i] = unstable, j
            width += len(unstable)
        return Layout(spans, index, pre, width)

    def spread(self, i: int, table: Tensor, like: Tensor) -> Tensor:
        """Columns of rectifier i scattered into a copy of `like` `(B, *shape)`."""
        flat = like.flatten(1).clone()
        flat[:, self.index[i]] = table[:, self.spans[i]].to(flat.dtype)
        return flat.reshape(like.shape)

    def gather(self, full: dict[int, Tensor], rows: int) -> Tensor:
        """The table `(rows, width)` of values `(rows, [1,] *shape)` per rectifier."""
        parts = [full[i].reshape(rows, -1)[:, self.index[i]] for i in self.spans]
        # An affine network has no rectifiers, and its table no columns.
        return torch.cat(parts, dim=1) if parts else torch.zeros(rows, 0)


class NeuronTree:
    """The search tree over the signs of rectifier inputs.

    Arguments:
        root: relaxation of one box, batch 1, with all bounds.
        objective: rows per case, batch 1.
        judge: what closes a subproblem.
        effort: the search's counters and deadline.
    """

    def __init__(
        self, root: Relaxation, objective: Objective, judge: Judge, effort: Effort
    ) -> None:
        self._root = root
        self._program: Program = root.program
        self._objective = objective
        self._judge = judge
        self._effort = effort
        self._frontier = Frontier()
        self._layout = Layout.of(root)
        self._stuck = torch.inf
        self._rounds = 0
        self._ascent = replace(CHILD, stop=effort.deadline.expired)
        self.margin = torch.inf
        sides = [
            self._layout.gather({i: s[k].unsqueeze(0) for i, s in self._program.slopes.items()}, 1)
            for k in (0, 1)
        ]
        self._negative, self._positive = sides[0][0], sides[1][0]
        total = sum(n.size for n in self._program.network.nodes)
        self._batch = max(1, min(96, NUMBERS // total))

    def run(self, cases: Tensor, found: Ascended) -> bool:
        """Search from the root for each of `cases`; True if all were closed.

        `found` is the root's ascent, one query per case of the objective.
        """
        layout, count = self._layout, len(cases)
        slopes = {i: s[0, cases] for i, s in found.best.slopes.items()}
        mix = self._objective.uniform()[0] if found.best.mix is None else found.best.mix[0]
        self._frontier.push(
            {
                "score": found.lower[0, cases],
                "case": cases,
                "sign": torch.zeros(count, layout.width, dtype=torch.int8),
                "slope": layout.gather(slopes, count).float(),
                "beta": torch.zeros(count, layout.width),
                "mix": mix[cases],
            }
        )
        while len(self._frontier):
            if self._judge.finished or self._effort.deadline.expired():
                return False
            if self._frontier.bytes > self._effort.limit:
                raise MemoryError("the open subproblems outgrew the memory limit")
            self._effort.lower = min(self._frontier.lowest(), self._stuck)
            rows = self._frontier.pop(self._batch)
            try:
                self._expand({n: c.to(self._program.device) for n, c in rows.items()})
            except BaseException:
                self._frontier.push(rows)
                raise
            self._effort.open = len(self._frontier)
            self._effort.report("relu splitting")
        self._effort.lower = min(self.margin, self._stuck)
        return self._stuck == torch.inf

    def _expand(self, rows: Columns) -> None:
        full = (rows["sign"] != 0).all(dim=1)
        if bool(full.any()):
            self._finish({n: c[full] for n, c in rows.items()})
            rows = {n: c[~full] for n, c in rows.items()}
        if len(rows["score"]) == 0:
            return
        columns, above = self._choose(rows)
        children = {n: torch.cat([c, c]) for n, c in rows.items()}
        count = len(columns)
        chosen, columns = torch.arange(2 * count, device=columns.device), columns.repeat(2)
        signs = torch.ones(2 * count, device=columns.device)
        signs[count:] = -1
        # The parent's line of slope s is the exact piece plus a multiplier of the split: with
        # it a child's first bound is its parent's.
        slope = children["slope"][chosen, columns]
        rest = torch.where(
            signs > 0, self._positive[columns] - slope, slope - self._negative[columns]
        )
        children["sign"][chosen, columns] = signs.to(torch.int8)
        children["beta"][chosen, columns] = (above.repeat(2) * rest).to(children["beta"])
        self._bound(children)

    def _bound(self, rows: Columns) -> None:
        """Bound subproblems; close them or put them on the frontier."""
        relaxation, splits = self._relax(rows["sign"], self._program)
        objective = self._objective.take(rows["case"])
        found = ascend(relaxation, objective, self._ascent, self._start(relaxation, splits, rows))
        count = len(rows["score"])
        lower = torch.fmax(found.lower[:, 0], rows["score"].to(found.lower))
        self._effort.domains += count
        self._offer(objective, found.point[:, 0], rows["case"])
        closed = lower > self._judge.threshold
        self._effort.leaves += int(closed.sum())
        if bool(closed.any()):
            self.margin = min(self.margin, float(lower[closed].min()))
        keep = ~closed
        final = found.final
        table = self._layout.gather({i: s[:, 0] for i, s in final.slopes.items()}, count)
        by_rectifier = {i: final.beta[j][:, 0] for i, j in self._layout.pre.items()}
        fresh = {
            "score": lower,
            "case": rows["case"],
            "sign": rows["sign"],
            "slope": table.float(),
            "beta": self._layout.gather(by_rectifier, count).float(),
            "mix": rows["mix"] if final.mix is None else final.mix[:, 0],
        }
        self._frontier.push({n: c[keep] for n, c in fresh.items()})

    def _relax(self, sign: Tensor, program: Program) -> tuple[Relaxation, dict[int, Tensor]]:
        """The root's relaxation under the given splits, and the splits by pre-activation.

        In the root's precision it pays for rounding; in any other it is a sketch.
        """
        root, count = self._root, len(sign)

        def repeat(tensor: Tensor) -> Tensor:
            return tensor.to(program.dtype).expand(count, *tensor.shape[1:])

        ranges = {0: (root.lower, root.upper), **root.bounds}
        ranges = {j: (repeat(lower), repeat(upper)) for j, (lower, upper) in ranges.items()}
        splits: dict[int, Tensor] = {}
        for i, j in self._layout.pre.items():
            lower, upper = ranges[j]
            signs = self._layout.spread(i, sign, torch.zeros_like(lower))
            splits[j] = signs if j not in splits else splits[j] + signs
            ranges[j] = (
                torch.where(signs > 0, lower.clamp(min=0), lower),
                torch.where(signs < 0, upper.clamp(max=0), upper),
            )
        charged = program is self._program
        relaxation = Relaxation(program, *ranges.pop(0), charged=charged)
        for j, (lower, upper) in ranges.items():
            relaxation.set_bounds(j, lower, upper)
        relaxation.advance(len(program.kernels) - 1)
        return relaxation, splits

    def _start(
        self, relaxation: Relaxation, splits: dict[int, Tensor], rows: Columns
    ) -> Multipliers:
        """The multipliers that the rows carry."""
        layout = self._layout
        slopes: dict[int, Tensor] = {}
        beta: dict[int, Tensor] = {}
        for i, j in layout.pre.items():
            fixed = relaxation.lines[i].lower_slope
            slopes[i] = layout.spread(i, rows["slope"], fixed).unsqueeze(1)
            beta.setdefault(j, layout.spread(i, rows["beta"], torch.zeros_like(fixed)).unsqueeze(1))
        signs = {j: s.unsqueeze(1) for j, s in splits.items()}
        return Multipliers(slopes, signs, beta, rows["mix"].unsqueeze(1).to(relaxation.lower))

    def _pass(self, rows: Columns) -> tuple[Relaxation, Pass, Dual]:
        """One pass with the multipliers that the rows carry, for guidance only.

        A neuron that a split has settled keeps its parent's line, which is still below it; so
        no split seems to make a bound worse.
        """
        relaxation, splits = self._relax(rows["sign"], self._program.single)
        start = self._start(relaxation, splits, rows)
        objective = self._objective.take(rows["case"]).cast(relaxation.program)
        mix = rows["mix"].unsqueeze(1).to(relaxation.lower)
        dual = start.dual()
        found = backward(relaxation, *objective.mixed(relaxation, mix), dual, record=True)
        return relaxation, found, dual

    def _choose(self, rows: Columns) -> tuple[Tensor, Tensor]:
        """For each subproblem the column to split next, and its positive coefficient."""
        relaxation, found, dual = self._pass(rows)
        score = self._scores(relaxation, found, dual)
        score = score.masked_fill(rows["sign"] != 0, -torch.inf)
        chosen = score.argmax(dim=1)
        above = self._layout.gather(
            {
                i: found.coefficients[i][:, 0].clamp(min=0)
                if i in found.coefficients
                else torch.zeros_like(relaxation.lines[i].lower_slope)
                for i in self._layout.pre
            },
            relaxation.batch,
        )
        return chosen, above.gather(1, chosen.unsqueeze(1)).squeeze(1)

    def _scores(self, relaxation: Relaxation, found: Pass, dual: Dual) -> Tensor:
        """What each neuron's relaxation costs the bound: at the pass's own point, and at worst (its
        intercept, as in [BaBSR]), weighed."""
        values = primal(relaxation, found, dual)
        count = relaxation.batch
        loss: dict[int, Tensor] = {}
        for i, j in self._layout.pre.items():
            a = found.coefficients.get(i)
            if a is None:
                loss[i] = torch.zeros_like(relaxation.lines[i].lower_slope)
                continue
            a = a.expand(count, *a.shape[1:])[:, 0]
            z, v = values[j][:, 0], values[i][:, 0]
            true = relaxation.program.step(i, [z])
            intercept = -a.clamp(max=0) * relaxation.lines[i].upper_offset
            loss[i] = 0.3 * (a * (true - v)).clamp(min=0) + 0.7 * intercept + 1e-12 * a.abs()
        return self._layout.gather(loss, count)

    def _offer(self, objective: Objective, x: Tensor, case: Tensor) -> None:
        y = self._program.evaluate(x)
        margins = objective.margins(x.unsqueeze(1), y.unsqueeze(1)).amax(dim=-1).squeeze(1)
        self._judge.offer(x, margins, case)
        if self._rounds % HUNT_EVERY == 0:
            self._judge.hunt(x, margins, case)
        self._rounds += 1

    def _finish(self, rows: Columns) -> None:
        """Subproblems whose every neuron has a sign: linear programs."""
        relaxation, splits = self._relax(rows["sign"], self._program)
        objective = self._objective.take(rows["case"])
        lower, points = settle(relaxation, objective, splits)
        lower = torch.fmax(lower, rows["score"].to(lower))
        self._effort.domains += len(lower)
        self._offer(objective, points, rows["case"])
        closed = lower > self._judge.threshold
        self._effort.leaves += int(closed.sum())
        if bool(closed.any()):
            self.margin = min(self.margin, float(lower[closed].min()))
        if not bool(closed.all()):
            self._stuck = min(self._stuck, float(lower[~closed].min()))
