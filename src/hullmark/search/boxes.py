"""Branch and bound that splits the input box, for inputs of few dimensions.

Boxes are bounded in batches by backward passes. A neuron whose sign a parent box has settled is
never bounded again below it, so that the work per box shrinks with depth. Every row of a case
gives a linear bound over the box; the parts of the box where a row is surely positive cannot
hold a counterexample and are clipped away [Clip-and-verify].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hullmark.bounds.alpha import Ascent, ascend
from hullmark.bounds.linear import Pass, backward, bound_neurons
from hullmark.bounds.objective import Objective
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation, Stopped
from hullmark.bounds.rounding import SAFETY, down, gamma, tiny, up
from hullmark.search.effort import Effort
from hullmark.search.frontier import Columns, Frontier
from hullmark.search.judge import Judge

# Boxes per batch are chosen so that a batch holds about this many numbers per pass.
NUMBERS = 400_000
# Batches between two hunts for a counterexample.
HUNT_EVERY = 4
# Random points tried in a box, at most, and multiplications spent on them in a batch.
MOST_SAMPLES = 64
SAMPLING = 5e7
# Steps of the search for the best mix of rows.
MIX_STEPS = 12
# Steps of the slopes of the rows' own passes; pre-activations keep theirs.
SLOPES = Ascent(steps=6, slope_rate=0.3, decay=0.8)


@dataclass(frozen=True, eq=False)
class Forms:
    """Linear lower bounds over each box: `slope` `(B, m, n)` times x plus `constant` `(B, m)`.

    `lower` `(B, m)` is their least value on the box. All sound in real arithmetic.
    """

    slope: Tensor
    constant: Tensor
    lower: Tensor
    found: Pass


class BoxTree:
    """The search tree over input boxes.

    Arguments:
        program: the compiled network.
        objective: rows per case, batch 1.
        judge: what closes a box.
        effort: the search's counters and deadline.
    """

    def __init__(
        self, program: Program, objective: Objective, judge: Judge, effort: Effort
    ) -> None:
        self._program = program
        self._objective = objective
        self._judge = judge
        self._effort = effort
        self._frontier = Frontier()
        self._stuck = torch.inf
        self._rounds = 0
        self._generator = torch.Generator().manual_seed(0)
        self.margin = torch.inf
        widest = max(n.size for n in program.network.nodes)
        self._batch = max(4, min(2048, NUMBERS // (widest * 64)))
        sizes = [program.network.nodes[j].size for j in program.pre_activations]
        self._places = dict(zip(program.pre_activations, sizes, strict=True))

    def run(self, lower: Tensor, upper: Tensor, case: Tensor) -> bool:
        """Search boxes `(N, n)`, each for its case `(N,)`; True if all were closed.

        Stops early when the judge has finished or the deadline expires; what is then still open
        has its bound in `effort.lower`.
        """
        count = len(lower)
        self._frontier.push(
            {
                "score": torch.full((count,), -torch.inf, dtype=lower.dtype),
                "lower": lower,
                "upper": upper,
                "case": case,
                "sign": torch.zeros(count, sum(self._places.values()), dtype=torch.int8),
            }
        )
        while len(self._frontier):
            if self._judge.finished or self._effort.deadline.expired():
                return False
            if self._frontier.bytes > self._effort.limit:
                raise MemoryError("the open boxes outgrew the memory limit")
            self._effort.lower = min(self._frontier.lowest(), self._stuck, self.margin)
            rows = self._frontier.pop(self._batch)
            try:
                self._expand(rows)
            except Stopped:
                self._frontier.push(rows)
                return False
            except BaseException:
                self._frontier.push(rows)
                raise
            self._effort.open = len(self._frontier)
            self._effort.report("input splitting")
        self._effort.lower = min(self.margin, self._stuck)
        return self._stuck == torch.inf

    def _expand(self, rows: Columns) -> None:
        device = self._program.device
        lower, upper = rows["lower"].to(device), rows["upper"].to(device)
        case = rows["case"].to(device)
        relaxation, sign = self._relax(lower, upper, rows["sign"].to(device))
        objective = self._objective.take(case)
        forms = _forms(relaxation, objective)
        weight, mixed = best_mix(lower, upper, forms, objective)
        bound = torch.maximum(forms.lower.amax(dim=1), mixed)
        self._effort.domains += len(lower)
        self._try_points(relaxation, objective, forms, weight, case)
        threshold = self._judge.threshold
        new_lower, new_upper, empty = clip(lower, upper, forms, threshold)
        closed = (bound > threshold) | empty
        self._effort.leaves += int(closed.sum())
        if bool(closed.any()):
            certain = torch.where(empty, bound.clamp(min=threshold), bound)[closed]
            self.margin = min(self.margin, float(certain.min()))
        keep = ~closed
        if not bool(keep.any()):
            return
        if bool(((new_lower > lower) | (new_upper < upper))[keep].any()):
            # Of what was clipped away no more is known than that it exceeds the threshold.
            self.margin = min(self.margin, threshold)
        score = torch.fmax(bound, rows["score"].to(bound))
        gain = splitting_gains(relaxation, forms.found, weight)
        self._push(
            {
                "score": score[keep],
                "lower": new_lower[keep],
                "upper": new_upper[keep],
                "case": case[keep],
                "sign": sign[keep],
            },
            gain[keep],
        )

    def _push(self, rows: Columns, gain: Tensor) -> None:
        """Halve each box along the input that its bound depends on most, and keep the halves."""
        lower, upper = rows["lower"], rows["upper"]
        middle = lower / 2 + upper / 2
        divisible = (middle > lower) & (middle < upper)
        gain = torch.where(divisible, gain + 1e-30 * (upper - lower), -torch.inf)
        best, axis = gain.max(dim=1)
        stuck = best == -torch.inf
        if bool(stuck.any()):
            self._stuck = min(self._stuck, float(rows["score"][stuck].min()))
        rows = {name: values[~stuck] for name, values in rows.items()}
        axis = axis[~stuck].unsqueeze(1)
        cut = middle[~stuck].gather(1, axis)
        left = rows | {"upper": rows["upper"].scatter(1, axis, cut)}
        right = rows | {"lower": rows["lower"].scatter(1, axis, cut)}
        self._frontier.push({n: torch.cat([left[n], right[n]]) for n in rows})

    def _relax(self, lower: Tensor, upper: Tensor, sign: Tensor) -> tuple[Relaxation, Tensor]:
        """Bound all pre-activations; only neurons whose sign is open take a backward pass."""
        program = self._program
        relaxation = Relaxation(program, lower, upper)
        relaxation.stop = self._effort.deadline.expired
        parts: list[Tensor] = []
        known = dict(zip(self._places, sign.split(list(self._places.values()), dim=1), strict=True))
        first = min(program.nonlinear, default=len(program.kernels))
        for j, before in known.items():
            if j == 0:
                parts.append(before)
                continue
            relaxation.advance(j)
            low, high = (b.flatten(1) for b in relaxation.interval(j))
            low = torch.where(before > 0, low.clamp(min=0), low)
            high = torch.where(before < 0, high.clamp(max=0), high)
            if j > first:
                low, high = self._sharpen(relaxation, j, low, high)
            low = torch.minimum(low, high)
            parts.append((low >= 0).to(torch.int8) - (high <= 0).to(torch.int8))
            shape = (len(lower), *program.network.nodes[j].shape)
            relaxation.set_bounds(j, low.reshape(shape), high.reshape(shape))
        relaxation.advance(len(program.kernels) - 1)
        return relaxation, torch.cat(parts, dim=1) if parts else sign

    def _sharpen(
        self, relaxation: Relaxation, j: int, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        nodes = self._program.network.nodes
        readers = [i for i in self._program.network.consumers[j] if i in self._program.nonlinear]
        if all(i in self._program.slopes for i in readers):
            wanted = (low < 0) & (high > 0)
        else:
            wanted = high > low
        most = int(wanted.sum(dim=1).max())
        if most == 0:
            return low, high
        neurons = torch.topk(wanted.to(torch.int8), most, dim=1).indices
        if most == nodes[j].size:
            neurons = torch.arange(most, device=low.device)
        below, above = bound_neurons(relaxation, j, neurons)
        index = neurons.expand(len(low), -1)
        low = low.scatter_reduce(1, index, below, "amax")
        return low, high.scatter_reduce(1, index, above, "amin")

    def _try_points(
        self,
        relaxation: Relaxation,
        objective: Objective,
        forms: Forms,
        weight: Tensor,
        case: Tensor,
    ) -> None:
        """Offer points of every box: the corner that the mixed bound suggests, the centre, and
        some at random."""
        lower, upper = relaxation.lower.flatten(1), relaxation.upper.flatten(1)
        batch, size = lower.shape
        slope = (weight.unsqueeze(2) * forms.slope).sum(dim=1)
        corner = torch.where(slope > 0, lower, upper)
        some = min(MOST_SAMPLES, int(SAMPLING / (batch * self._program.work[-1])))
        noise = torch.rand(batch, some, size, generator=self._generator).to(lower)
        inside = lower.unsqueeze(1) + noise * (upper - lower).unsqueeze(1)
        points = torch.cat([torch.stack([corner, lower / 2 + upper / 2], dim=1), inside], dim=1)
        fast = self._program.single
        values = fast.evaluate(points.flatten(0, 1).to(fast.dtype)).to(lower)
        queries = points.shape[1]
        margins = objective.margins(points, values.reshape(batch, queries, -1)).amax(dim=-1)
        which = margins.argmin(dim=1).reshape(-1, 1, 1).expand(-1, 1, size)
        chosen = points.gather(1, which).squeeze(1)
        output = self._program.evaluate(chosen).unsqueeze(1)
        best = objective.margins(chosen.unsqueeze(1), output).amax(dim=-1).squeeze(1)
        self._judge.offer(chosen, best, case)
        if self._rounds % HUNT_EVERY == 0:
            self._judge.hunt(chosen, best, case)
        self._rounds += 1


def _forms(relaxation: Relaxation, objective: Objective) -> Forms:
    """Linear lower bounds of every row, with all rounding charged to the constant."""
    single = objective.single()
    ones = torch.ones_like(single.bound)
    risen = ascend(relaxation, single, SLOPES)
    found: Pass = backward(relaxation, *single.mixed(relaxation, ones), risen.best.dual(), True)
    charge = relaxation.charge[0]
    if charge is None:
        raise ValueError("the input has no charge")
    slack = (found.input.abs() @ charge.flatten(1).unsqueeze(2)).squeeze(2) * SAFETY
    used = single.used.squeeze(2)
    lower = found.lower.masked_fill(~used, -torch.inf)
    constant = down(found.constant - slack).masked_fill(~used, -torch.inf)
    batch = relaxation.batch
    return Forms(found.input.expand(batch, -1, -1), constant, lower, found)


def best_mix(
    lower: Tensor, upper: Tensor, forms: Forms, objective: Objective
) -> tuple[Tensor, Tensor]:
    """Weights of the rows, `(B, m)`, and a sound bound of the rows so mixed, `(B,)`.

    A mix of linear bounds is a linear bound of the mix, and can be positive where no row is.
    """
    batch, rows, size = forms.slope.shape
    used = objective.used.squeeze(1)
    start = forms.lower.argmax(dim=1, keepdim=True)
    if rows == 1:
        return torch.ones_like(forms.lower), forms.lower[:, 0]
    constant = forms.constant.masked_fill(~used, 0.0)
    low, high = lower.unsqueeze(2), upper.unsqueeze(2)
    logits = torch.zeros_like(constant).scatter_(1, start, 2.0).masked_fill(~used, -torch.inf)
    scale = forms.lower.masked_fill(~used, 0.0).abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    best = torch.full((batch,), -torch.inf, dtype=lower.dtype, device=lower.device)
    chosen = torch.softmax(logits, dim=1)
    magnitude = torch.maximum(lower.abs(), upper.abs()).unsqueeze(2)
    size_of = constant.abs() + (forms.slope.abs() @ magnitude).squeeze(2)
    # For the values, the mixing, weights that do not quite sum to 1, and corners where the mixed
    # slope is 0 but for rounding.
    error = gamma(4 * rows + size + 8, lower.dtype) * SAFETY
    lost = tiny(lower.dtype) * SAFETY * (rows + 8) * (size + 8)
    for step in range(MIX_STEPS):
        weight = torch.softmax(logits, dim=1)
        slope = (weight.unsqueeze(1) @ forms.slope).squeeze(1)
        corner = torch.where(slope > 0, low.squeeze(2), high.squeeze(2))
        values = (forms.slope @ corner.unsqueeze(2)).squeeze(2) + constant
        bound = (weight * values).sum(dim=1) - error * (weight * size_of).sum(dim=1) - lost
        better = bound > best
        best = torch.where(better, bound, best)
        chosen = torch.where(better.unsqueeze(1), weight, chosen)
        logits = logits + 4.0 / (1 + step) ** 0.5 * values / scale
    return chosen, down(best)


def live_inputs(lower: Tensor, upper: Tensor) -> Tensor:
    """Indices of the inputs that vary on some box `(B, n)` by more than the rounding of a bound."""
    width = (upper - lower).amax(dim=0)
    scale = torch.maximum(lower.abs(), upper.abs()).amax(dim=0)
    return (width > 1e-12 * scale).nonzero().squeeze(1)


def splitting_gains(relaxation: Relaxation, found: Pass, weight: Tensor) -> Tensor:
    """How much halving each input may tighten the bound, `(B, n)`, up to a factor.

    The relaxation of a neuron costs `|a| * h`, with a its coefficient and h the height of the
    triangle; h shrinks with the range of the pre-activation, and the range with every input in
    proportion to the derivative. Only differences between inputs of one box mean anything.
    """
    program = relaxation.program
    nodes = program.network.nodes
    lower, upper = relaxation.lower.flatten(1), relaxation.upper.flatten(1)
    batch, size = lower.shape
    live = live_inputs(lower, upper)
    if len(live) == 0:
        return torch.zeros_like(lower)
    step = torch.zeros(batch, len(live), size, dtype=lower.dtype, device=lower.device)
    step[:, torch.arange(len(live)), live] = (upper - lower)[:, live]
    values = {0: step.reshape(batch * len(live), *nodes[0].shape)}
    total = torch.zeros(batch, len(live), dtype=lower.dtype, device=lower.device)
    for i in range(1, len(nodes)):
        kernel, node = program.kernels[i], nodes[i]
        if kernel is not None:
            values[i] = kernel.forward(*(values[j] for j in node.inputs))
            continue
        if i not in relaxation.lines:
            values[i] = values[node.inputs[0]] + values[node.inputs[1]]
            continue
        lines, j = relaxation.lines[i], node.inputs[0]
        low, high = (b.flatten(1) for b in relaxation.interval(j))
        moved = values[j].reshape(batch, len(live), -1)
        slope = (0.5 * (lines.lower_slope + lines.upper_slope)).flatten(1).unsqueeze(1)
        values[i] = (moved * slope).reshape(-1, *node.shape)
        if i in found.coefficients:
            a = found.coefficients[i].flatten(2)
            a = (weight.unsqueeze(2) * a).sum(dim=1).abs()
            height = (lines.upper_offset - lines.lower_offset).flatten(1)
            cost = a * height / (high - low).clamp(min=1e-30)
            total += (moved.abs() @ cost.unsqueeze(2)).squeeze(2)
    return torch.zeros_like(lower).index_add_(1, live, total)


def clip(
    lower: Tensor, upper: Tensor, forms: Forms, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes without the parts where some row exceeds the threshold, and which are empty.

    Where the row's form `a @ x + c` is at most the threshold t, `a_j > 0` implies
    `x_j <= l_j + (t - L) / a_j` for L the least value of the form on the box.

    Trust: no point of the box at which every row is at most the threshold is lost; every
    operation is rounded outwards.
    """
    for k in range(forms.slope.shape[1]):
        a = forms.slope[:, k]
        low_end = _least(lower, upper, a, forms.constant[:, k])
        room = up(threshold - low_end).clamp(min=0).unsqueeze(1)
        room = torch.where(torch.isfinite(room), room, torch.inf)
        step = up(room / a.abs())
        step = torch.where(
            a == 0, torch.inf, torch.nan_to_num(step, nan=torch.inf, posinf=torch.inf)
        )
        most = torch.where(a > 0, up(lower + step), torch.inf)
        least = torch.where(a < 0, down(upper - step), -torch.inf)
        empty = (low_end > threshold).unsqueeze(1)
        upper = torch.where(empty, upper, torch.minimum(upper, most))
        lower = torch.where(empty, lower, torch.maximum(lower, least))
        upper = torch.where(empty.any(1, keepdim=True), torch.minimum(upper, lower - 1), upper)
    gone = (lower > upper).any(dim=1)
    return lower, upper, gone


def _least(lower: Tensor, upper: Tensor, a: Tensor, c: Tensor) -> Tensor:
    size = lower.shape[1]
    total = (a.clamp(min=0) * lower + a.clamp(max=0) * upper).sum(dim=1) + c
    reach = (a.abs() * torch.maximum(lower.abs(), upper.abs())).sum(dim=1) + c.abs()
    reach = reach * gamma(size + 8, lower.dtype) + tiny(lower.dtype) * (2 * size + 8)
    return down(total - reach * SAFETY)
