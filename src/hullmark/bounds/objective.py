"""What is bounded: for each query the best nonnegative mix of linear rows.

A query is a conjunction `rows . (x, y) - bound <= 0` that must be shown impossible. One row that
stays positive is enough, and so is any convex combination of rows [Farkas]; the combination is
a free choice like the slopes, and is optimised with them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hullmark.bounds.pools import Pool
from hullmark.bounds.program import Program
from hullmark.bounds.relaxation import Relaxation
from hullmark.bounds.rounding import SAFETY, gamma, up
from hullmark.spec.property import Case, Rows


@dataclass(frozen=True, eq=False)
class Objective:
    """`y` `(B|1, Q, m, k)`, `x` `(B|1, Q, m, n)` or None, `bound` and `used` `(B|1, Q, m)`.

    `used` is False for the padding of queries with fewer than m rows. `roundoff` bounds the
    relative distance of the coefficients from the true ones; `bound` is rounded up.
    """

    y: Tensor
    x: Tensor | None
    bound: Tensor
    used: Tensor
    roundoff: float

    @property
    def queries(self) -> int:
        """The number Q of queries a domain has."""
        return self.y.shape[1]

    @property
    def rows(self) -> int:
        """The number m of rows a query has, padding included."""
        return self.y.shape[2]

    def uniform(self) -> Tensor:
        """The mix that weighs all rows of a query alike, shape `(B|1, Q, m)`."""
        weight = self.used.to(self.y.dtype)
        return weight / weight.sum(dim=-1, keepdim=True).clamp(min=1)

    def take(self, queries: Tensor) -> "Objective":
        """One query per domain: `queries` `(B,)` picks it; only for objectives of batch 1."""
        return Objective(
            self.y[0, queries].unsqueeze(1),
            None if self.x is None else self.x[0, queries].unsqueeze(1),
            self.bound[0, queries].unsqueeze(1),
            self.used[0, queries].unsqueeze(1),
            self.roundoff,
        )

    def select(self, queries: Tensor | slice) -> "Objective":
        """Only some of the queries, for all domains alike."""
        return Objective(
            self.y[:, queries],
            None if self.x is None else self.x[:, queries],
            self.bound[:, queries],
            self.used[:, queries],
            self.roundoff,
        )

    def mixed(self, relaxation: Relaxation, mix: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Start and constant of a backward pass for the given mix `(B|1, Q, m)`, mix >= 0.

        Trust: the constant pays for the rounding of the mixing and of the coefficients.
        """
        start, level = self._start(relaxation, mix), (mix * self.bound).sum(-1)
        if not relaxation.charged:
            return start, -level
        kind, last = relaxation.program.dtype, len(relaxation.program.network.nodes) - 1
        # Twice the rows: for their sum, and for that of the mix itself, which need not be 1.
        error = gamma(2 * self.rows + 6, kind) + self.roundoff
        size = (mix.unsqueeze(2) @ self.y.abs()).squeeze(2)
        lost = (size * relaxation.magnitude[last].flatten(1).unsqueeze(1)).sum(-1)
        if self.x is not None:
            size = (mix.unsqueeze(2) @ self.x.abs()).squeeze(2)
            lost = lost + (size * relaxation.magnitude[0].flatten(1).unsqueeze(1)).sum(-1)
        lost = error * (lost + (mix * self.bound.abs()).sum(-1))
        # A coefficient that underflows is lost as often as there are rows.
        return start, -up(level + lost * SAFETY + self.rows * relaxation.lost)

    def _start(self, relaxation: Relaxation, mix: Tensor) -> dict[int, Tensor]:
        nodes = relaxation.program.network.nodes
        y = (mix.unsqueeze(2) @ self.y).squeeze(2)
        start = {len(nodes) - 1: y.reshape(*y.shape[:2], *nodes[-1].shape)}
        if self.x is not None:
            x = (mix.unsqueeze(2) @ self.x).squeeze(2)
            x = x.reshape(*x.shape[:2], *nodes[0].shape)
            # Of a network that is its input, both are coefficients of one node.
            start[0] = start[0] + x if 0 in start else x
        return start

    def cast(self, program: Program) -> "Objective":
        """The same rows in another program's precision, rounded to nearest: to search with."""
        return Objective(
            self.y.to(program.device, program.dtype),
            None if self.x is None else self.x.to(program.device, program.dtype),
            self.bound.to(program.device, program.dtype),
            self.used.to(program.device),
            self.roundoff,
        )

    def assumption(self, relaxation: Relaxation, query: int) -> Pool:
        """What holds at a counterexample to one query, as rows for other bounds to rest on.

        All rows of the query are at most 0; and if every query has one row, its row may be taken
        to be the least of them all: some query's is, and is at most 0 too.

        Trust: holds for the true rows; rounding is charged to the right-hand sides. If at every
        counterexample whose least row is that of query q a bound holds, for every q, then the
        least of these bounds holds for all.
        """
        y, x, level = self._compared(query)
        nodes = relaxation.program.network.nodes
        last = len(nodes) - 1
        # |a - b| may be less than |a| + |b|, which is what the rounding of a - b goes by.
        size = self.y[0].abs().amax(dim=(0, 1)) * 2
        reach = size @ relaxation.magnitude[last].flatten(1).amax(dim=0)
        coefficients = {last: y.reshape(len(y), *nodes[last].shape)}
        if x is not None and self.x is not None:
            part = x.reshape(len(x), *nodes[0].shape)
            coefficients[0] = part + coefficients[0] if last == 0 else part
            size = self.x[0].abs().amax(dim=(0, 1)) * 2
            reach = reach + size @ relaxation.magnitude[0].flatten(1).amax(dim=0)
        error = gamma(8, relaxation.program.dtype) + self.roundoff
        lost = 8 * self.rows * relaxation.lost.amax()
        reach = reach + 2 * self.bound.abs().max()
        return Pool(coefficients, up(level + error * SAFETY * reach + lost))

    def _compared(self, query: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """The rows of a query, and their differences from all others' if each has just one."""
        used = self.used[0, query]
        y, level = self.y[0, query, used], self.bound[0, query, used]
        x = None if self.x is None else self.x[0, query, used]
        if self.rows > 1 or self.queries == 1:
            return y, x, level
        others = torch.arange(self.queries, device=y.device) != query
        y = torch.cat([y, y - self.y[0, others, 0]])
        # Bounds are rounded up, so that of another query may be too large by that much.
        level = torch.cat([level, level - self.bound[0, others, 0]])
        if x is not None and self.x is not None:
            x = torch.cat([x, x - self.x[0, others, 0]])
        return y, x, level

    def margins(self, x: Tensor, y: Tensor) -> Tensor:
        """`rows . (x, y) - bound` per row, `(B, Q, m)`, at points x `(B, Q, n)`, y `(B, Q, k)`."""
        values = (self.y @ y.unsqueeze(-1)).squeeze(-1) - self.bound
        if self.x is not None:
            values = values + (self.x @ x.unsqueeze(-1)).squeeze(-1)
        return values.masked_fill(~self.used, -torch.inf)

    def single(self) -> "Objective":
        """Every row of every query as a query of its own, in order; `(B|1, Q * m)` queries."""
        flat = self.bound.flatten(1)
        return Objective(
            self.y.flatten(1, 2).unsqueeze(2),
            None if self.x is None else self.x.flatten(1, 2).unsqueeze(2),
            flat.unsqueeze(2),
            self.used.flatten(1).unsqueeze(2),
            self.roundoff,
        )


def objective_of(program: Program, cases: tuple[Case, ...]) -> Objective:
    """One query per case of a property, batch 1."""
    found = [case.rows for case in cases]
    count = max(1, *(len(r.bound) for r in found))
    n, k = program.network.input_size, program.network.output_size
    mixed = any(r.x is not None for r in found)
    y = torch.zeros(1, len(found), count, k, dtype=torch.float64)
    x = torch.zeros(1, len(found), count, n, dtype=torch.float64) if mixed else None
    bound = torch.zeros(1, len(found), count, dtype=torch.float64)
    used = torch.zeros(1, len(found), count, dtype=torch.bool)
    for q, rows in enumerate(found):
        m = len(rows.bound)
        y[0, q, :m] = torch.as_tensor(rows.y)
        if x is not None and rows.x is not None:
            x[0, q, :m] = torch.as_tensor(rows.x)
        bound[0, q, :m] = torch.as_tensor(rows.bound)
        used[0, q, :m] = True
    return _placed(program, found, y, x, bound, used)


def _placed(
    program: Program,
    found: list[Rows],
    y: Tensor,
    x: Tensor | None,
    bound: Tensor,
    used: Tensor,
) -> Objective:
    narrow = program.dtype != torch.float64
    level = program.tensor(bound)
    if narrow:
        level = torch.where(level.double() < bound.to(level.device), up(level), level)
    roundoff = max(r.roundoff for r in found)
    if narrow:
        roundoff += torch.finfo(program.dtype).eps
    return Objective(
        program.tensor(y),
        None if x is None else program.tensor(x),
        level,
        used.to(program.device),
        roundoff,
    )


def output_objective(program: Program) -> Objective:
    """Two queries per output: `y_i` and `-y_i` from below."""
    eye = torch.eye(program.network.output_size, dtype=program.dtype, device=program.device)
    y = torch.cat([eye, -eye]).reshape(1, -1, 1, program.network.output_size)
    bound = torch.zeros(y.shape[:3], dtype=program.dtype, device=program.device)
    return Objective(y, None, bound, torch.ones_like(bound, dtype=torch.bool), 0.0)
