"""Convex relaxations of small networks in exact arithmetic: bounds, barriers, encodings."""

from hullmark.theory.barrier import Barrier, SmoothBarrier, barrier, l_shape, smooth_barrier
from hullmark.theory.branch import Branching, BranchTree, branch
from hullmark.theory.cpwl import Cpwl
from hullmark.theory.encodings import (
    Difference,
    hanin,
    lattice,
    max_affine_difference,
    nested_max,
    nested_min,
)
from hullmark.theory.expressivity import table1
from hullmark.theory.files import write
from hullmark.theory.lattice import Lattice, lattice_form
from hullmark.theory.mining import Mined, mine
from hullmark.theory.net import ExactNet, Layer, mlp, network
from hullmark.theory.partition import P1Count, structural_p1, structural_single
from hullmark.theory.phantom import PhantomPoint, phantom_point
from hullmark.theory.polytope import Polytope
from hullmark.theory.regions import Region, exact_range, output_set, regions
from hullmark.theory.relaxations import RELAXATIONS, Relaxed, bounds, relax
from hullmark.theory.rewrite import clamped, copied_inputs, lower_exact, upper_exact
from hullmark.theory.univariate import encode, triangle_encodings

__all__ = [
    "RELAXATIONS",
    "Barrier",
    "BranchTree",
    "Branching",
    "Cpwl",
    "Difference",
    "ExactNet",
    "Lattice",
    "Layer",
    "Mined",
    "P1Count",
    "PhantomPoint",
    "Polytope",
    "Region",
    "Relaxed",
    "SmoothBarrier",
    "barrier",
    "bounds",
    "branch",
    "clamped",
    "copied_inputs",
    "encode",
    "exact_range",
    "hanin",
    "l_shape",
    "lattice",
    "lattice_form",
    "lower_exact",
    "max_affine_difference",
    "mine",
    "mlp",
    "nested_max",
    "nested_min",
    "network",
    "output_set",
    "phantom_point",
    "regions",
    "relax",
    "smooth_barrier",
    "structural_p1",
    "structural_single",
    "table1",
    "triangle_encodings",
    "upper_exact",
    "write",
]
