"""Figures of predicted maps, from the confusion counts of each image."""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]


def mean_iou(confusion: Counts) -> float:
    """Mean intersection over union of the classes that occur, of confusion counts (n, C * C), truth by prediction."""
    side = round(confusion.shape[1] ** 0.5)
    total = confusion.sum(0).reshape(side, side)
    inside, union = np.diag(total), total.sum(0) + total.sum(1) - np.diag(total)
    return float((inside[union > 0] / union[union > 0]).mean())


def pixel_accuracy(confusion: Counts) -> float:
    """Share of the pixels with a known class that got it, of confusion counts (n, C * C)."""
    side = round(confusion.shape[1] ** 0.5)
    total = confusion.sum(0).reshape(side, side)
    return float(np.diag(total).sum() / total.sum())
