"""The names of all methods, and which options each of them takes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from hullmark.bounds.methods import METHODS as SINGLE
from hullmark.errors import BadInput
from hullmark.joint.groups import BLOCK, OVERLAP

SUBSETS = 3
"""Larger groups are replaced by all their subsets of this size [kReLU §3.3]."""


@dataclass(frozen=True)
class Kind:
    """What a method of joint rows is, and what it takes.

    `sizes`: the least, the greatest and the default k, None if it has no groups; `rules`: how
    groups may be chosen, the default first.
    """

    about: str
    sizes: tuple[int, int, int] | None = None
    rules: tuple[str, ...] = ()


JOINT: Mapping[str, Kind] = MappingProxyType(
    {
        "triangle": Kind("chord and both lines of every ReLU; linear programs, layer by layer"),
        "refinezono": Kind("the same from zonotopes"),
        "krelu": Kind(
            "rows of groups of k ReLUs over alpha's bounds; a linear program for each query",
            (1, 6, 3),
            ("area", "overlap", "gain", "adaptive", "random"),
        ),
        "kpoly": Kind(
            "the same, with linear programs for every open pre-activation, layer by layer",
            (1, 6, 3),
            ("area", "overlap", "adaptive", "random"),
        ),
        "prima": Kind(
            "fast hulls of overlapping groups, as multipliers in backward bounds",
            (2, 3, 3),
            ("overlap", "area", "random"),
        ),
        "mined": Kind(
            "rows that the bounds themselves lack, as multipliers in backward bounds",
            (2, 6, 3),
            ("gain",),
        ),
        "multivariate": Kind(
            "the hull of every ReLU over the box of what it reads, alpha's bounds"
        ),
        "mk": Kind(
            "hulls of groups of k ReLUs with all that their layer reads, over kpoly's bounds",
            (1, 4, 2),
            ("area", "overlap", "gain", "random"),
        ),
    }
)

METHODS: Mapping[str, str] = MappingProxyType(
    {**SINGLE, **{name: kind.about for name, kind in JOINT.items()}}
)


@dataclass(frozen=True)
class MethodOptions:
    """What a method is told; None leaves the choice to the method.

    `k`: the size of groups; `groups`: how they are chosen: by "area" of the triangles [kReLU
    §4.1], "overlap" within blocks [PRIMA], "gain" for the queries at hand, "adaptive", the largest
    k with few enough groups of three [kReLU §5], or at "random"; `seconds`: the time limit of the
    whole call; `seed`: of random groups; `overlap`: how many neurons two overlapping groups may
    share; `block`: how many neurons there are in a block of them.
    """

    k: int | None = None
    groups: str | None = None
    seconds: float | None = None
    seed: int = 0
    overlap: int | None = None
    block: int | None = None

    @property
    def size(self) -> int:
        """The size of groups: `k`, or `SUBSETS` of groups that choose it themselves."""
        return SUBSETS if self.k is None else self.k


def check(method: str, options: MethodOptions) -> MethodOptions:
    """The options with the method's defaults filled in.

    Raises:
        BadInput: for an unknown method, or an option that it does not take.
    """
    if method not in METHODS:
        raise BadInput(f"unknown method {method!r}; known are {', '.join(METHODS)}")
    if options.seconds is not None and not options.seconds > 0:
        raise BadInput(f"a time limit must be positive, not {options.seconds}")
    if options.seconds is not None and math.isinf(options.seconds):
        options = replace(options, seconds=None)
    kind = JOINT.get(method, Kind(""))
    if kind.sizes is None:
        given = {name: getattr(options, name) for name in ("k", "groups", "overlap", "block")}
        for name, value in given.items():
            if value is not None:
                raise BadInput(f"method {method} relaxes no groups and takes no {name}")
        return options
    least, greatest, usual = kind.sizes
    k = usual if options.k is None else options.k
    if not least <= k <= greatest:
        raise BadInput(f"method {method} takes a k from {least} to {greatest}, not {k}")
    rule = kind.rules[0] if options.groups is None else options.groups
    if rule not in kind.rules:
        raise BadInput(f"method {method} takes groups by {', '.join(kind.rules)}, not {rule!r}")
    if rule == "adaptive":
        if options.k is not None:
            raise BadInput("groups by adaptive choose k themselves and take none")
        k = None
    if rule != "overlap":
        for name, value in (("overlap", options.overlap), ("block", options.block)):
            if value is not None:
                raise BadInput(f"groups by {rule} take no {name}; groups by overlap do")
        return replace(options, k=k, groups=rule)
    return _overlapping(replace(options, k=k, groups=rule), k or usual)


def _overlapping(options: MethodOptions, k: int) -> MethodOptions:
    """The options with those of overlapping groups of k filled in."""
    overlap = min(OVERLAP, k - 1) if options.overlap is None else options.overlap
    block = BLOCK if options.block is None else options.block
    if not 0 <= overlap < k:
        raise BadInput(f"groups of {k} share from 0 to {k - 1} neurons, not {overlap}")
    if block < k:
        raise BadInput(f"a block of {block} neurons has no groups of {k}")
    return replace(options, overlap=overlap, block=block)
