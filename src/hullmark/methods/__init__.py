"""Every named bounding method: the ladder from intervals to hulls of groups with whole layers.

`names` says which there are and what each takes, `ask` bounds the queries of a question by one of
them. Those that treat neurons one by one are `hullmark.bounds.methods`; the others rest on linear
programs (`programs`) or on joint rows in dual bounds (`duals`).
"""

from hullmark.methods.ask import bound_queries
from hullmark.methods.names import JOINT, METHODS, Kind, MethodOptions, check
from hullmark.methods.task import Attained, Bounded, Clock, Task

__all__ = [
    "JOINT",
    "METHODS",
    "Attained",
    "Bounded",
    "Clock",
    "Kind",
    "MethodOptions",
    "Task",
    "bound_queries",
    "check",
]
