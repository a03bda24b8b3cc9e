"""More facts for the examples of a data set: targets, memberships, a teacher's logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


class WithColumns:
    """A data set whose batches hold further tensors, looked up by ``index``.

    Args:
        examples: a map-style data set of dicts with ``index`` and ``__getitems__``, such as `Subset` or `TensorData`.
        columns: for each name, a tensor with one row for every ``index``; a name that exists is replaced.
    """

    def __init__(self, examples: Any, **columns: Tensor) -> None:
        self.examples = examples
        self.columns = columns

    @property
    def index(self) -> Tensor | None:
        """The ``index`` of each place, where the data set underneath knows it."""
        return getattr(self.examples, "index", None)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        example = self.examples[place]
        return {**example, **{name: column[example["index"]] for name, column in self.columns.items()}}

    def __getitems__(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return a whole batch at once."""
        batch = self.examples.__getitems__(places)
        return {**batch, **{name: column[batch["index"]] for name, column in self.columns.items()}}
