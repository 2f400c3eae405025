"""The errors a user can meet. Each carries the exit code that the command line ends with."""

from typing import ClassVar


class HullmarkError(Exception):
    """Something about the question, not about Hullmark: one clear line, no verdict."""

    exit_code: ClassVar[int] = 70


class BadInput(HullmarkError):
    """A file or value that cannot be used as given; the message names it."""

    exit_code: ClassVar[int] = 64


class Unsupported(HullmarkError):
    """A well-formed model or property that uses something Hullmark does not handle."""

    exit_code: ClassVar[int] = 65


class VacuousProperty(BadInput):
    """The input set is empty, so that any claim about it holds and none is made."""

    exit_code: ClassVar[int] = 66


class ParityError(HullmarkError):
    """The imported network and the original runtime disagree; nothing may be concluded."""

    exit_code: ClassVar[int] = 67
