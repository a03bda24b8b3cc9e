"""Scikit-learn's handwritten digits: 1,797 real images that need no download."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from tutelage.data.table import ImageArray, ImageTable

# The file lists one writer after another, so that the last quarter shares no digit and (but for the writer at the border) no
# hand with the rest.
TEST_SHARE = 0.25
CLASSES = tuple(str(digit) for digit in range(10))


def handwritten_digits() -> ImageTable:
    """Return the digits as uint8 images (3, 8, 8), `label` 0 to 9.

    The last quarter of the file, by other writers, is the split "test"; all else is "unassigned". Ids are places in the file.

    Source: Alpaydin and Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998; the copy
    within scikit-learn.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    count = len(source.target)
    grey = torch.from_numpy((source.images * (255 / 16)).round().astype(np.uint8))[:, None]
    table = pd.DataFrame(
        {"id": [f"digit-{place:04}" for place in range(count)], "label": source.target.astype(np.int64)}
    )
    table["split"] = np.where(table.index < round((1 - TEST_SHARE) * count), "unassigned", "test")
    return ImageTable(ImageArray(grey.expand(-1, 3, -1, -1)), table)
