"""Grids of handwritten digits of which only one is given as the label: the extreme case of label ambiguity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.images import resized
from tutelage.data.table import ImageArray, ImageTable

SIDE = 3
CENTRE = SIDE * SIDE // 2
CENTRE_SHARE = 0.6
# Shares of scikit-learn's file, which lists one writer after another: no digit, and hardly a hand, is in two parts.
BLOCKS = {"train": (0.0, 0.6), "val": (0.6, 0.75), "test": (0.75, 1.0)}
MNIST_VAL = 10_000  # of MNIST's 60,000 training digits, kept for the validation part's grids


def digit_grids(
    seed: int = 0,
    *,
    mnist: str | Path | None = None,
    cell: int = 8,
    train: int = 20_000,
    val: int = 2_000,
    test: int = 3_000,
) -> tuple[ImageTable, Tensor]:
    """Return images of 3 x 3 digits, each drawn uniformly; the given label is the centre's digit with probability 0.6.

    Otherwise it is one of the other eight cells', each with probability 0.05. The truth is the set of all digits in the grid:
    6.13 of them on the average. Naming one of them has an F1 of 0.286, naming all ten 0.755.

    Args:
        seed: of everything that is drawn.
        mnist: a file ``mnist.npz`` with ``x_train, y_train, x_test, y_test``; scikit-learn's digits where it is None.
        cell: pixels along the side of a digit: 8 is the natural size of scikit-learn's, 28 of MNIST's.
        train, val, test: numbers of grids. The parts share no digit.

    Returns:
        The table, with splits train, val and test, and the truth, bool (N, 10).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a size below 4 pixels.

    Source: Rajeswar et al., *Multi-label Iterated Learning for Image Classification*, CVPR 2022, section 4.3, table 5.
    """
    if cell < 4:
        raise ValueError(f"cell={cell}: a digit needs at least 4 pixels")
    rng = np.random.default_rng([seed, 5])
    pictures, tables, truths = [], [], []
    for split, count in {"train": train, "val": val, "test": test}.items():
        digits_M, drawn_M = _digits(split, mnist)
        small_M = resized(torch.from_numpy(drawn_M)[:, None], cell)[:, 0].numpy()
        chosen_NG = rng.integers(len(digits_M), size=(count, SIDE * SIDE))
        digits_NG = digits_M[chosen_NG]
        place_N = np.where(rng.random(count) < CENTRE_SHARE, CENTRE, _around(count, rng))
        rows = small_M[chosen_NG].reshape(count, SIDE, SIDE, cell, cell).swapaxes(2, 3)
        pictures.append(rows.reshape(count, 1, SIDE * cell, SIDE * cell))
        tables.append(pd.DataFrame({"label": digits_NG[np.arange(count), place_N], "split": split}))
        truths.append((digits_NG[:, :, None] == np.arange(10)).any(1))
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "id", [f"grid-{i}" for i in range(len(table))])
    images = torch.from_numpy(np.concatenate(pictures)).expand(-1, 3, -1, -1)
    return ImageTable(ImageArray(images), table), torch.from_numpy(np.concatenate(truths))


def _around(count: int, rng: np.random.Generator) -> np.ndarray:
    cells = np.delete(np.arange(SIDE * SIDE), CENTRE)
    return cells[rng.integers(len(cells), size=count)]


def _digits(split: str, mnist: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits of a part, (M,), and their pictures, uint8 (M, h, w)."""
    if mnist is None:
        from sklearn.datasets import load_digits

        source = load_digits()
        start, end = (round(at * len(source.target)) for at in BLOCKS[split])
        return source.target[start:end], (source.images[start:end] * (255 / 16)).astype(np.uint8)
    path = Path(mnist)
    if not path.is_file():
        raise FileNotFoundError(f"mnist={str(mnist)!r}: there is no such file")
    with np.load(path, allow_pickle=False) as file:
        kind = "test" if split == "test" else "train"
        digits, pictures = file[f"y_{kind}"].astype(np.int64), file[f"x_{kind}"]
    if split == "test":
        return digits, pictures
    kept = slice(-MNIST_VAL, None) if split == "val" else slice(None, -MNIST_VAL)
    return digits[kept], pictures[kept]
