"""Parts that are drawn at random: of equal shares of each class, whole groups at a time, or where a table names none."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tutelage.data.duplicates import Rows

Names = npt.NDArray[np.object_]

PARTS = ("train", "held_out", "val", "test")
"""The parts of recipes that learn weights on held-out examples."""


def stratified_split(labels: Rows, groups: Rows, shares: Mapping[str, float], seed: int) -> Names:
    """Return a random split by groups in which every part has nearly its share of every class.

    Groups, largest first and shuffled within a size, go one by one to the part that lacks most of their classes. If no
    group mixes classes, a part's count of a class is off its share by less than the largest group of the class: by less
    than 1 where rows stand alone.

    Args:
        labels: int64 (N,), classes; -1 is a class of its own.
        groups: int64 (N,), rows that must not be parted.
        shares: share of each part, by name; they sum to 1.
        seed: of the shuffle; the same arguments give the same split.

    Returns:
        The part of each row (N,).
    """
    _, group_N = np.unique(groups, return_inverse=True)
    _, class_N = np.unique(labels, return_inverse=True)
    sizes_GC = np.zeros((group_N.max(initial=-1) + 1, class_N.max(initial=-1) + 1))
    np.add.at(sizes_GC, (group_N, class_N), 1.0)
    order = np.random.default_rng(seed).permutation(len(sizes_GC))
    order = order[np.argsort(-sizes_GC[order].sum(1), kind="stable")]
    totals_C = sizes_GC.sum(0)
    lacking_PC = np.array(list(shares.values()))[:, None] * totals_C
    part_G = np.zeros(len(sizes_GC), dtype=np.int64)
    for group in order:
        part = np.argmax(lacking_PC @ (sizes_GC[group] / totals_C**2))  # steepest descent of the squared shortfall
        lacking_PC[part] -= sizes_GC[group]
        part_G[group] = part
    return np.array(list(shares), dtype=object)[part_G[group_N]]


def divide(split: Names, labels: Rows, source: str, shares: Mapping[str, float], seed: int) -> None:
    """Give the rows of one split other splits in place, stratified by label; rows that have another split keep it.

    Args:
        split: (N,), the split of each row.
        labels: int64 (N,), classes.
        source: the split whose rows are divided.
        shares: share of each new split, by name; they sum to 1.
        seed: of the draws.
    """
    rows = np.flatnonzero(split == source)
    split[rows] = stratified_split(labels[rows], np.arange(len(rows)), shares, seed)


def draw_parts(
    split: Sequence[str] | Names, shares: Mapping[str, float], seed: int, known: Tensor | None = None
) -> Names:
    """Return one of `PARTS` for each row: those that are given stay, and what is missing is drawn from the training part.

    Args:
        split: a part, or "" (or "unassigned"), which is for training, for each row.
        shares: for each part that is drawn where no row has it, in this order, its share of what is left then.
        seed: of the draws.
        known: (N,) bool, which rows may be drawn; all by default.
    """
    out = np.array([part if part in PARTS else "train" for part in split], dtype=object)
    rng = np.random.default_rng([seed, 11])
    for part, share in shares.items():
        if (out == part).any():
            continue
        free = out == "train"
        rest = rng.permutation(np.flatnonzero(free if known is None else free & known.numpy()))
        out[rest[: round(share * len(rest))]] = part
    return out
