"""Some rows of a data set as a data set of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Rows:
    """Some rows of a map-style data set, in a given order; an example keeps the ``index`` that it has in the whole.

    Args:
        examples: a map-style data set of dicts with ``index`` and ``__getitems__``, where row i has the index i.
        rows: (n,) int64.
    """

    def __init__(self, examples: Any, rows: Tensor) -> None:
        self.examples = examples
        self.index = rows

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return self.examples[int(self.index[place])]

    def __getitems__(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return a whole batch at once."""
        return self.examples.__getitems__(self.index[torch.as_tensor(places, dtype=torch.int64)].tolist())
