"""Hullmark: a sound verifier for neural networks.

Every name here is imported when it is first used, so that `import hullmark` costs nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hullmark.errors import BadInput as BadInput
    from hullmark.errors import HullmarkError as HullmarkError
    from hullmark.errors import ParityError as ParityError
    from hullmark.errors import Unsupported as Unsupported
    from hullmark.errors import VacuousProperty as VacuousProperty
    from hullmark.ladder import Ladder as Ladder
    from hullmark.ladder import Rung as Rung
    from hullmark.ladder import ladder as ladder
    from hullmark.methods.report import Attained as Attained
    from hullmark.methods.report import BoundReport as BoundReport
    from hullmark.network.model import Model as Model
    from hullmark.network.summary import NetworkInfo as NetworkInfo
    from hullmark.spec.load import load_property as load_property
    from hullmark.spec.property import Case as Case
    from hullmark.spec.property import Constraint as Constraint
    from hullmark.spec.property import Property as Property
    from hullmark.spec.robustness import Linf as Linf
    from hullmark.spec.robustness import Polytope as Polytope
    from hullmark.spec.robustness import Robustness as Robustness
    from hullmark.spec.robustness import classified as classified
    from hullmark.spec.robustness import holds as holds
    from hullmark.spec.robustness import robust as robust
    from hullmark.spec.robustness import unsafe as unsafe
    from hullmark.spec.sets import Box as Box
    from hullmark.verdict import Monitor as Monitor
    from hullmark.verdict import Options as Options
    from hullmark.verdict import Progress as Progress
    from hullmark.verdict import Proved as Proved
    from hullmark.verdict import Refuted as Refuted
    from hullmark.verdict import Stats as Stats
    from hullmark.verdict import Unknown as Unknown
    from hullmark.verdict import Verdict as Verdict
    from hullmark.verdict import Witness as Witness
    from hullmark.verify import bound as bound
    from hullmark.verify import info as info
    from hullmark.verify import load as load
    from hullmark.verify import verify as verify
    from hullmark.verify import verify_with as verify_with

__version__ = "0.1.0"

_HOMES = {
    "hullmark.errors": (
        "BadInput",
        "HullmarkError",
        "ParityError",
        "Unsupported",
        "VacuousProperty",
    ),
    "hullmark.ladder": ("Ladder", "Rung", "ladder"),
    "hullmark.methods.report": ("Attained", "BoundReport"),
    "hullmark.network.model": ("Model",),
    "hullmark.network.summary": ("NetworkInfo",),
    "hullmark.spec.load": ("load_property",),
    "hullmark.spec.property": ("Case", "Constraint", "Property"),
    "hullmark.spec.robustness": (
        "Linf",
        "Polytope",
        "Robustness",
        "classified",
        "holds",
        "robust",
        "unsafe",
    ),
    "hullmark.spec.sets": ("Box",),
    "hullmark.verdict": (
        "Monitor",
        "Options",
        "Progress",
        "Proved",
        "Refuted",
        "Stats",
        "Unknown",
        "Verdict",
        "Witness",
    ),
    "hullmark.verify": (
        "bound",
        "info",
        "load",
        "verify",
        "verify_with",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


class _Package(ModuleType):
    """Keeps `hullmark.verify` the function: importing the module of that name would shadow it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
