"""How long exact work may take: what is predicted to take longer is refused."""

import time

from hullmark.errors import Unsupported

MOST_SECONDS = 600.0
"""Work that is predicted to take longer is not gone on with."""

# No prediction is made earlier.
_PATIENCE = 5.0


def in_time(started: float, share: float) -> None:
    """Refuse to go on with what would take over `MOST_SECONDS`.

    Arguments:
        started: when the work began, by `time.perf_counter()`.
        share: how much of it is done.

    Raises:
        Unsupported: says how long it would take.
    """
    elapsed = time.perf_counter() - started
    if elapsed > _PATIENCE and elapsed > MOST_SECONDS * share:
        minutes = f"about {elapsed / share / 60:.0f}" if share else "far more than 10"
        raise Unsupported(
            f"too large to be exact: this would take {minutes} minutes (limit "
            f"{MOST_SECONDS / 60:.0f}); take a smaller input set or network, or a weaker relaxation"
        )
