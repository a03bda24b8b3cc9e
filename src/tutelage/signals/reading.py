"""What is read of a batch and of a model's outputs, checked: classes, numbers and rows, so that an error names the entry.

On an accelerator to look at a number is to wait for it. There what would be refused becomes NaN, so that the example is left
out and counted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.batches import Batch
from tutelage.signals.base import entry


def scores_of(output: Tensor, whose: str) -> Tensor:
    """Return a model's output, one row an example and one column a class, (B, C).

    Raises:
        ValueError: it has another shape.
    """
    if output.dim() != 2:
        cure = ""
        if output.dim() == 1:
            cure = "; end the model in a layer with C outputs, and let no squeeze follow it"
        elif output.dim() == 4:
            cure = "; PixelCrossEntropy judges maps"
        raise ValueError(f"signal {whose!r}: the output is {tuple(output.shape)}; expected (B, C){cure}")
    return output


def classes_of(labels: Tensor, classes: int, key: str, whose: str) -> Tensor:
    """Return class labels as indices, a missing (negative) one as 0.

    On an accelerator a class that the model has not becomes its last one; `known_classes` then says which.

    Args:
        labels: integers.
        classes: C, of the model.
        key: the batch's entry that holds them.
        whose: who asks, for the error.

    Raises:
        ValueError: a class that the model has not.
    """
    if not labels.is_cpu:
        return labels.long().clamp(0, classes - 1)
    if labels.numel() and (highest := int(labels.max())) >= classes:
        raise ValueError(
            f"signal {whose!r}: batch[{key!r}] holds class {highest}, and the model has {classes}, 0 to {classes - 1}; count "
            "classes from 0, or give the model as many outputs as there are; a negative label is ignored"
        )
    return labels.long().clamp_min(0)


def known_classes(losses: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return losses, NaN where a label on an accelerator is a class that the model has not."""
    return losses if labels.is_cpu else torch.where(labels < classes, losses, torch.nan)


def numbers_of(batch: Batch, key: str, whose: str) -> Tensor:
    """Return one finite number, not negative, for each example, (B,); another one on an accelerator is NaN.

    Raises:
        ValueError: another shape, or another number.
    """
    values = entry(batch, key, whose)
    if values.dim() != 1:
        cure = f": batch[{key!r}].squeeze(1)" if values.dim() == 2 and values.shape[1] == 1 else ""
        raise ValueError(
            f"{whose!r} reads batch[{key!r}], which is {tuple(values.shape)}; give one number an example, (B,){cure}"
        )
    good_B = torch.isfinite(values) & (values >= 0)
    if not values.is_cpu:
        return torch.where(good_B, values, torch.nan)
    if not good_B.all():
        row = int((~good_B).nonzero()[0])
        raise ValueError(
            f"{whose!r} reads batch[{key!r}], which is {float(values[row])} in row {row}; give finite numbers that are not "
            "negative, and 0 where the example is not to count"
        )
    return values


def places_of(batch: Batch, size: int, whose: str, argument: str, device: torch.device) -> Tensor:
    """Return ``batch["index"]``, (B,), as rows of what is kept of ``size`` examples, on its device.

    Raises:
        ValueError: an index that is none of theirs.
    """
    index_B = entry(batch, "index", whose)
    if not index_B.is_cpu:  # where torch itself refuses what is too large, and only that
        return torch.where(index_B < 0, size, index_B).to(device)
    least, greatest = (int(end) for end in index_B.aminmax()) if len(index_B) else (0, 0)
    if not 0 <= least <= greatest < size:
        raise ValueError(
            f"signal {whose!r}: batch['index'] goes from {least} to {greatest}, but there are rows 0 to {size - 1}: index is "
            f"the example's place in the whole data set, and {argument} its size"
        )
    return index_B.to(device)
