"""All four turns of a table of images as rows of their own, so that each can be encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tutelage.data.fingerprint import fingerprint
from tutelage.data.indexed import Batched
from tutelage.data.rotation import QUARTERS, turned
from tutelage.data.table import Images, ImageTable


class Quarters:
    """Images, and the same turned by one, two and three quarters: image n turned by q is number ``q * N + n``.

    Args:
        images: N square images.
    """

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return QUARTERS * len(self.images)

    def __getitem__(self, row: int) -> Tensor:
        return self.gather([row])[0]

    def gather(self, rows: Sequence[int]) -> Tensor:
        """Return several images (B, 3, H, W)."""
        places = torch.as_tensor(rows, dtype=torch.int64)
        upright = self.images.gather((places % len(self.images)).tolist())
        return turned(upright, places // len(self.images))

    def pictures(self, rows: Sequence[int]) -> Tensor:
        """Return several images for people to look at, upright."""
        return self.images.pictures([row % len(self.images) for row in rows])

    def key(self, row: int) -> str:
        """Return a hash that tells an image from others; an upright one has its own."""
        quarters, place = divmod(row, len(self.images))
        own = self.images.key(place)
        return own if quarters == 0 else fingerprint(own, quarters)


def in_quarters(table: ImageTable) -> ImageTable:
    """Return a table of N images as one of 4 N, see `Quarters`, so that each of the turns can be encoded."""
    parts = [
        table.table.assign(id=table.table["id"].astype(str) + f" turned {quarters}") for quarters in range(QUARTERS)
    ]
    return ImageTable(Quarters(table.images), pd.concat([table.table, *parts[1:]], ignore_index=True))


class TurnedRows(Batched):
    """As `Turned`, of examples of which all four turns are there, see `in_quarters`: a turn is another row of the table.

    Args:
        examples: a table of 4 N rows.
        rows: those of the N examples that are visited.
        share: as in `Turned`.
    """

    def __init__(self, examples: ImageTable, rows: Tensor, share: float) -> None:
        self.examples = examples
        self.index = rows
        self.share = share

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, places: Sequence[int]) -> dict[str, Any]:
        """Return a whole batch at once."""
        rows_B = self.index[torch.as_tensor(places, dtype=torch.int64)]
        quarters_B = (torch.rand(len(rows_B)) < self.share) * torch.randint(1, QUARTERS, (len(rows_B),))
        batch = self.examples.batch((quarters_B * (len(self.examples) // QUARTERS) + rows_B).tolist())
        return {**batch, "index": rows_B, "rotation": quarters_B}
