"""Networks as linear programs: columns and rows, and the way back to values of the network."""

from hullmark.encode.build import encode
from hullmark.encode.encoding import Encoding, Form, Goal, Kinks
from hullmark.encode.inequalities import Inequalities, Proof
from hullmark.encode.query import Query

__all__ = ["Encoding", "Form", "Goal", "Inequalities", "Kinks", "Proof", "Query", "encode"]
