"""More facts for the examples of a data set: targets, memberships, a teacher's logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tutelage.data.indexed import Derived, MapStyle, batch_of


class WithColumns(Derived):
    """A data set whose batches hold further tensors, looked up by ``index``.

    Args:
        examples: a map-style data set of dicts with ``index``, such as `Subset` or `TensorData`.
        columns: for each name, a tensor with one row for every ``index``; a name that exists is replaced.
    """

    def __init__(self, examples: MapStyle, **columns: Tensor) -> None:
        super().__init__(examples)
        self.columns = columns

    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch at once."""
        batch = batch_of(self.examples, places)
        return {**batch, **{name: column[batch["index"]] for name, column in self.columns.items()}}
