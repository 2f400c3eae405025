"""The simplex method in rational arithmetic, from any basis."""

from flint import fmpq, fmpq_mat

from hullmark.errors import BadInput, Unsupported

Places = list[int]
"""Of columns and then of rows: -1 at the lower side, 1 at the upper one, 0 if basic."""

STALL = 30
"""After so many steps in a row that do not move, entering columns are chosen by Bland's rule."""

STEPS = 20_000
"""No program of the sizes that are meant takes so many exact steps."""

_ZERO = fmpq(0)


class Simplex:
    """The bounded simplex method over the rationals.

    A variable is a column `j < n` or the value of row `i`, numbered `n + i`. Those that are not
    basic stand at a side (`place` -1 or 1), or at 0 if they have none.

    Arguments:
        rows: coefficients by column.
        low, high: the sides of all variables, columns first; None where there is none.
        goal: what is minimised, `(n,)`.

    Trust: exact. After `optimise`, `point` is optimal and `duals` prove it; where `feasible` says
    no, `duals` prove that.
    """

    def __init__(
        self,
        rows: list[dict[int, fmpq]],
        low: list[fmpq | None],
        high: list[fmpq | None],
        goal: list[fmpq],
    ) -> None:
        self.rows, self.low, self.high, self.goal = rows, low, high, goal
        self.n, self.m = len(goal), len(rows)
        self.by_column: list[list[tuple[int, fmpq]]] = [[] for _ in range(self.n)]
        for i, row in enumerate(self.rows):
            for j, value in row.items():
                self.by_column[j].append((i, value))
        self.place: list[int] = []
        self.point: list[fmpq] = []
        self.duals: dict[int, fmpq] = {}
        self.steps = 0
        self.stalled = 0

    def start(self, proposal: Places | None) -> None:
        """Begin at a basis, or where all rows are basic if it is none."""
        if proposal is not None:
            self.place = list(proposal)
            if self._factor():
                return
        self.place = [-1] * self.n + [0] * self.m
        self._factor()

    def _factor(self) -> bool:
        """Take up the basis of `place`; whether it is one."""
        for v, place in enumerate(self.place):
            if place > 0 and self.high[v] is None:
                self.place[v] = -1
            if self.place[v] < 0 and self.low[v] is None and self.high[v] is not None:
                self.place[v] = 1
        self.inside = [j for j in range(self.n) if self.place[j] == 0]
        self.tight = [i for i in range(self.m) if self.place[self.n + i] != 0]
        if len(self.inside) != len(self.tight):
            return False
        where = {j: k for k, j in enumerate(self.inside)}
        size = len(self.inside)
        entries = [_ZERO] * (size * size)
        for k, i in enumerate(self.tight):
            for j, value in self.rows[i].items():
                if j in where:
                    entries[k * size + where[j]] = value
        self.matrix = fmpq_mat(size, size, entries)
        self.transposed = self.matrix.transpose()
        try:
            self._locate()
        except ZeroDivisionError:
            return False
        return True

    def _solve(self, matrix: fmpq_mat, right: list[fmpq]) -> list[fmpq]:
        if not right:
            return []
        return list(matrix.solve(fmpq_mat(len(right), 1, right)).entries())

    def _resting(self, v: int) -> fmpq:
        side = self.high[v] if self.place[v] > 0 else self.low[v]
        return _ZERO if side is None else side

    def _locate(self) -> None:
        """The basic solution."""
        x = [_ZERO if self.place[j] == 0 else self._resting(j) for j in range(self.n)]
        right = [
            self._resting(self.n + i) - sum((v * x[j] for j, v in self.rows[i].items()), _ZERO)
            for i in self.tight
        ]
        for j, value in zip(self.inside, self._solve(self.matrix, right), strict=True):
            x[j] = value
        activity = [sum((v * x[j] for j, v in row.items()), _ZERO) for row in self.rows]
        self.point, self.values = x, x + activity

    def _price(self, goal: list[fmpq]) -> tuple[dict[int, fmpq], list[tuple[int, fmpq]]]:
        """Multipliers of the tight rows, and the reduced costs of variables that are not basic."""
        y = self._solve(self.transposed, [goal[j] for j in self.inside])
        duals = dict(zip(self.tight, y, strict=True))
        reduced: list[tuple[int, fmpq]] = []
        for j in range(self.n):
            if self.place[j] != 0:
                d = goal[j]
                for i, value in self.by_column[j]:
                    if i in duals:
                        d = d - duals[i] * value
                reduced.append((j, d))
        reduced.extend((self.n + i, value) for i, value in duals.items())
        return duals, reduced

    def _violations(self) -> list[int]:
        """For each variable -1 below its lower side, 1 above its upper side, else 0."""
        found: list[int] = []
        for value, low, high in zip(self.values, self.low, self.high, strict=True):
            if low is not None and value < low:
                found.append(-1)
            else:
                found.append(1 if high is not None and value > high else 0)
        return found

    def feasible(self) -> bool:
        """Minimise the sum of violations; whether it vanishes. If not, `duals` proves it."""
        while True:
            wrong = self._violations()
            if not any(wrong):
                return True
            goal = [fmpq(wrong[j]) for j in range(self.n)]
            for i, row in enumerate(self.rows):
                if wrong[self.n + i]:
                    for j, value in row.items():
                        goal[j] = goal[j] + wrong[self.n + i] * value
            duals, reduced = self._price(goal)
            if not self._step(reduced, wrong):
                self.duals = {i: value for i, value in duals.items() if value}
                for i in range(self.m):
                    if wrong[self.n + i]:
                        self.duals[i] = self.duals.get(i, _ZERO) - wrong[self.n + i]
                return False

    def optimise(self) -> None:
        """Minimise the cost, from a feasible basis."""
        while True:
            duals, reduced = self._price(self.goal)
            if not self._step(reduced, [0] * (self.n + self.m)):
                self.duals = {i: value for i, value in duals.items() if value}
                return

    def _entering(self, reduced: list[tuple[int, fmpq]]) -> tuple[int, int] | None:
        """A variable whose change lowers the cost, and the direction; None at an optimum."""
        best: tuple[int, int] | None = None
        size = _ZERO
        for v, d in reduced:
            if not d or (self.low[v] is not None and self.low[v] == self.high[v]):
                continue
            free = self.low[v] is None and self.high[v] is None
            up = d < 0 and (free or self.place[v] < 0)
            down = d > 0 and (free or self.place[v] > 0)
            if (up or down) and abs(d) > size:
                best, size = (v, 1 if up else -1), abs(d)
                if self.stalled > STALL:
                    return best
        return best

    def _step(self, reduced: list[tuple[int, fmpq]], wrong: list[int]) -> bool:
        """One pivot; False if none lowers the cost."""
        entering = self._entering(reduced)
        if entering is None:
            return False
        self.steps += 1
        if self.steps > STEPS:
            raise Unsupported(f"a linear program of {self.m} rows takes over {STEPS} exact steps")
        v, direction = entering
        rates = self._rates(v, direction)
        length: fmpq | None = None
        blocking, side = v, -self.place[v]
        low, high = self.low[v], self.high[v]
        if low is not None and high is not None:
            length = high - low
        for p, rate in rates:
            target = self._target(p, rate, wrong[p])
            if target is None:
                continue
            reach = (target[0] - self.values[p]) / rate
            if length is None or reach < length or (reach == length and p < blocking):
                length, blocking, side = reach, p, target[1]
        if length is None:
            raise BadInput("a linear program has no least value")
        self.stalled = 0 if length else self.stalled + 1
        if blocking == v:
            self.place[v] = side
        else:
            self.place[v], self.place[blocking] = 0, side
        if not self._factor():
            raise Unsupported("a simplex step met a singular basis")
        return True

    def _target(self, p: int, rate: fmpq, wrong: int) -> tuple[fmpq, int] | None:
        """Where a basic variable stops that moves at a rate, and at which side."""
        side = 1 if rate > 0 else -1
        if wrong == side:
            return None
        # One that is on the wrong side stops as soon as it is not.
        end = side if wrong == 0 else -side
        reached = self.high[p] if end > 0 else self.low[p]
        return None if reached is None else (reached, end)

    def _rates(self, v: int, direction: int) -> list[tuple[int, fmpq]]:
        """How fast the basic variables move as one that is not basic does; only those that do."""
        if v < self.n:
            moved = {i: value for i, value in self.by_column[v]}
            right = [-direction * moved.get(i, _ZERO) for i in self.tight]
        else:
            right = [fmpq(direction if self.n + i == v else 0) for i in self.tight]
        x = {
            j: rate
            for j, rate in zip(self.inside, self._solve(self.matrix, right), strict=True)
            if rate
        }
        rates = list(x.items())
        if v < self.n:
            x[v] = fmpq(direction)
        activity: dict[int, fmpq] = {}
        for j, rate in x.items():
            for i, value in self.by_column[j]:
                activity[i] = activity.get(i, _ZERO) + value * rate
        rates.extend(
            (self.n + i, rate)
            for i, rate in sorted(activity.items())
            if rate and self.place[self.n + i] == 0
        )
        return rates
