"""Why the rows of the separators hold: what is kept of each, and the row that it gives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hullmark.cuts.disjunctive import Cut, Sources, row_of_cut
from hullmark.cuts.naming import Naming, merged_terms
from hullmark.encode import Proof
from hullmark.lp.program import Indices, Vector
from hullmark.relax.octahedra import octahedral_rows
from hullmark.relax.separate import JointRows
from hullmark.rows import Kink, Row, Value, octahedral_group, row_of_neuron, rows_of_group


@dataclass(frozen=True, eq=False)
class GroupProof:
    """Of a k-ReLU row: its multipliers, on octahedral sums with these bounds `(3^k - 1,)`."""

    kinks: tuple[Kink, ...]
    bounds: Vector
    joint: JointRows

    def row(self) -> Row | None:
        """The row, its octahedral sums as parents; None if one of these has no bound."""
        return self._row

    @cached_property
    def _row(self) -> Row | None:
        joint = self.joint
        if not np.all(np.isfinite(self.bounds)):
            return None
        group = octahedral_group(self.kinks, octahedral_rows(len(self.kinks)), self.bounds)
        pair = (joint.x, joint.y)
        return rows_of_group(group, pair, joint.rhs, joint.members, joint.multipliers)[0]


@dataclass(frozen=True, eq=False)
class NeuronProof:
    """Of a row of one ReLU over its inputs.

    `definition`: the row of the encoding that defines its pre-activation; `columns`: those that it
    reads; `inputs`: the row's coefficients on them, that on the ReLU being 1.
    """

    naming: Naming
    kink: Kink
    definition: int
    columns: tuple[int, ...]
    inputs: Sequence[tuple[Value, float]]
    rhs: float

    def row(self) -> Row | None:
        """The row, the definition and the bounds of what it reads as parents."""
        return self._row

    @cached_property
    def _row(self) -> Row | None:
        definition = self.naming.own(self.definition, 1)
        terms = merged_terms([name for name, _ in self.inputs], [c for _, c in self.inputs])
        if definition is None or terms is None:
            return None
        intervals = [end for c in dict.fromkeys(self.columns) for end in self.naming.interval(c)]
        row = row_of_neuron(self.kink, terms, definition, intervals)
        return None if row is None else replace(row, rhs=self.rhs)


@dataclass(frozen=True, eq=False)
class CutProof:
    """Of a cut of `M_k`: the rows that its multipliers belong to.

    `columns`: of the encoding, which the cut is over; `parents`: for each row the number of one of
    the encoding's, or the proof of one that was added.
    """

    naming: Naming
    cut: Cut
    columns: Indices
    kinks: tuple[Kink, ...]
    parents: tuple[int | Proof | None, ...]

    def row(self) -> Row | None:
        """The row, those of the program and the bounds of its columns as parents; None if one of
        them has no row over columns."""
        return self._row

    @cached_property
    def _row(self) -> Row | None:
        below, above = self._sides(-1), self._sides(1)
        if below is None or above is None:
            return None
        columns = self.columns.tolist()
        names = [self.naming.columns[c] for c in columns]
        intervals = [end for c in columns for end in self.naming.interval(c)]
        apart = (None,) * len(self.kinks)
        return row_of_cut(self.cut, Sources(names, self.kinks, below, above, apart, intervals))

    def _sides(self, sign: int) -> list[Row | None] | None:
        """For each parent its upper (1) or lower side; None for those without multipliers, and
        altogether if one that has a multiplier is missing."""
        found: list[Row | None] = []
        used = np.any(sign * self.cut.multipliers.rows > 0, axis=0)
        for parent, wanted in zip(self.parents, used.tolist(), strict=True):
            row = self._side(parent, sign) if wanted else None
            if wanted and row is None:
                return None
            found.append(row)
        return found

    def _side(self, parent: int | Proof | None, sign: int) -> Row | None:
        if isinstance(parent, int):
            return self.naming.own(parent, sign)
        row = None if parent is None or sign < 0 else parent.row()
        inside = row is not None and all(name in self.naming.known for name, _ in row.terms)
        return row if inside else None
