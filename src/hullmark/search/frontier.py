"""The open subproblems of a search: a table of tensors that grows, with the worst rows first."""

import torch
from torch import Tensor

from hullmark.bounds.rounding import certain

Columns = dict[str, Tensor]


class Frontier:
    """Open subproblems, one row each; a column is a tensor whose first axis counts rows.

    Rows live on the CPU. The column "score" decides the order: `pop` takes the lowest scores,
    which are the worst bounds.
    """

    def __init__(self) -> None:
        self._columns: Columns = {}
        self._free: list[int] = []
        self._capacity = 0

    def __len__(self) -> int:
        return self._capacity - len(self._free)

    @property
    def bytes(self) -> int:
        """The memory that the table occupies."""
        return sum(c.numel() * c.element_size() for c in self._columns.values())

    def lowest(self) -> float:
        """The lowest score; infinity when nothing is open."""
        return float(self._columns["score"].min()) if len(self) else torch.inf

    def push(self, rows: Columns) -> None:
        """Add rows; all pushes carry the same columns."""
        count = len(rows["score"])
        if count == 0:
            return
        if len(self._free) < count:
            self._grow(rows, count - len(self._free))
        places = torch.tensor(self._free[-count:])
        del self._free[-count:]
        for name, values in rows.items():
            self._columns[name][places] = values.detach().to("cpu", self._columns[name].dtype)
        # A score that is no finite number says nothing; infinity is for places that are free.
        self._columns["score"][places] = certain(self._columns["score"][places])

    def pop(self, count: int) -> Columns:
        """Take out the `count` rows with the lowest scores, or all."""
        count = min(count, len(self))
        score = self._columns["score"]
        places = torch.topk(score, count, largest=False).indices
        taken = {name: column[places] for name, column in self._columns.items()}
        score[places] = torch.inf
        self._free.extend(places.tolist())
        return taken

    def _grow(self, rows: Columns, missing: int) -> None:
        extra = max(missing, self._capacity, 256)
        for name, values in rows.items():
            fill = torch.inf if name == "score" else 0
            fresh = torch.full((extra, *values.shape[1:]), fill, dtype=values.dtype)
            old = self._columns.get(name)
            self._columns[name] = fresh if old is None else torch.cat([old, fresh])
        self._free.extend(range(self._capacity, self._capacity + extra))
        self._capacity += extra
