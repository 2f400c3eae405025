"""Pure geometry of groups of ReLUs: arrays in, inequalities out."""

from hullmark.relax.hull import ReluHull, relu_hull
from hullmark.relax.triangle import relu_triangle

__all__ = ["ReluHull", "relu_hull", "relu_triangle"]
