"""From IBP to exact: one quantity of one network, bounded by every relaxation in turn."""

from hullmark.ladder.climb import ladder
from hullmark.ladder.rungs import Ladder, Rung, Skipped

__all__ = ["Ladder", "Rung", "Skipped", "ladder"]
