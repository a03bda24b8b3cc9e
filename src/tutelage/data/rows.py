"""Some rows of a data set as a data set of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.data.indexed import Batched, batch_of


class Rows(Batched):
    """Some rows of a map-style data set, in a given order; an example keeps the ``index`` that it has in the whole.

    Args:
        examples: a map-style data set of dicts with ``index``, where row i has the index i.
        rows: (n,) int64.
    """

    def __init__(self, examples: Any, rows: Tensor) -> None:
        self.examples = examples
        self.index = rows

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch at once."""
        return batch_of(self.examples, self.index[torch.as_tensor(places, dtype=torch.int64)].tolist())
