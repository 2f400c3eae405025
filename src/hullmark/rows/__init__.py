"""The row: one linear inequality over values of any layers, where it holds, and why.

Every engine hands over what it found in this form: a bound by backward propagation, a facet of a
k-ReLU hull, a multivariate row of one neuron, a disjunctive cut. A row rests on its parents by a
weak-duality argument, one sign pattern of its kinks at a time, that is checked in rationals.
"""

from hullmark.rows.builders import Group, octahedral_group, row_of_neuron, rows_of_group
from hullmark.rows.names import Indicator, Kink, Name, Split, Terms, Value
from hullmark.rows.row import Assumed, Combined, Defined, Derivation, Propagated, Row, combine

__all__ = [
    "Assumed",
    "Combined",
    "Defined",
    "Derivation",
    "Group",
    "Indicator",
    "Kink",
    "Name",
    "Propagated",
    "Row",
    "Split",
    "Terms",
    "Value",
    "combine",
    "octahedral_group",
    "row_of_neuron",
    "rows_of_group",
]
